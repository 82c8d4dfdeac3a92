//! `threadkey config init`: composes a commented configuration from options, and on a terminal from
//! answers.
//!
//! Nothing here reads or writes a file. A secret is never asked for: the configuration names its
//! place. Each answer is checked when it is given, in a text with stand-ins for the answers that are
//! still missing. So a wrong one costs one question, and not all of them.

use std::fmt::Write as _;

use clap::Args;
use toml::Value;
use url::Url;

use super::{
    Exit, Failure, print_notice,
    prompt::{Echo, ask},
    stdin_is_terminal,
};
use crate::{
    agent::builtin::{PROVIDER_VARIABLE, is_builtin},
    ids::{ProviderId, closest},
    oauth::{Preset, RECOMMENDED_REDIRECT_URI, preset, preset_names},
};

/// The options of `config init`. On a terminal the missing ones are asked for.
#[derive(Debug, Default, Args)]
pub struct InitArgs {
    /// The preset of the provider; `threadkey providers` lists them
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,
    /// The issuer of a provider without a preset, which publishes its endpoints
    #[arg(long, value_name = "URL", conflicts_with = "preset")]
    pub issuer: Option<String>,
    /// The provider's name for users [default: the name of the preset, or of the issuer's host]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A key of the provider's section, such as client_id=abc; repeat it for several keys
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Accept the risk of a client that its vendor made for its own program
    #[arg(long)]
    pub accept_terms_risk: bool,
    /// The variable that holds the Discord token; - leaves the bot out [default: DISCORD_TOKEN]
    #[arg(long, value_name = "VARIABLE")]
    pub discord_token_env: Option<String>,
    /// The command of the agent, with its arguments; - leaves it out [default: threadkey agent]
    #[arg(long, value_name = "COMMAND")]
    pub agent: Option<String>,
}

/// The keys whose values are lists, separated by blanks or commas.
const LISTS: [&str; 3] = ["discovery_hosts", "scopes", "ended_errors"];

/// The keys whose values are tables, as `NAME=VALUE` between commas.
const TABLES: [&str; 4] = ["authorize_params", "login_hints", "token_headers", "token_params"];

/// The keys whose values are `true` or `false`.
const SWITCHES: [&str; 7] = [
    "accept_terms_risk",
    "allow_private",
    "enforces_pkce",
    "pkce",
    "refresh_revokes_access",
    "scope_in_refresh",
    "state_in_exchange",
];

/// The problem of a composed text.
#[derive(Debug)]
pub struct Problem {
    /// The key that the problem is about, or the section.
    pub key: String,
    /// The problem and the way to mend it.
    pub text: String,
}

/// The questions, where the options leave something open.
struct Questions<'a> {
    is_terminal: bool,
    /// Returns the first problem of a text.
    problem: &'a dyn Fn(&str) -> Option<Problem>,
}

impl Questions<'_> {
    /// Returns the answer, or `default` for an empty one. Without a terminal the default counts, and
    /// a question without a default names its option.
    async fn ask(&self, question: &str, default: Option<&str>, option: &str) -> Result<String, Failure> {
        match (self.is_terminal, default) {
            (false, Some(default)) => return Ok(default.to_owned()),
            (false, None) => {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{question} is not given, and standard input is no terminal: add {option}"),
                ));
            }
            (true, _) => {}
        }
        let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        loop {
            let answer = ask(&format!("{question}{shown}:"), Echo::Text, |_| false).await?;
            match (answer.expose(), default) {
                ("", None) => print_notice("An answer is needed. Ctrl-C ends this without writing anything."),
                ("", Some(default)) => return Ok(default.to_owned()),
                (answer, _) => return Ok(answer.to_owned()),
            }
        }
    }

    /// Returns the checked answer. On a terminal, a wrong answer is followed by the same question.
    async fn ask_checked<T>(
        &self,
        question: &str,
        default: Option<&str>,
        option: &str,
        check: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        loop {
            match check(&self.ask(question, default, option).await?) {
                Err(wrong) if self.is_terminal => print_notice(&wrong.text),
                checked => return checked,
            }
        }
    }

    /// Returns the value of a key that is correct between the texts `before` and `after`. Without a
    /// terminal the whole text is checked later.
    async fn ask_key(
        &self,
        (key, question, default): (&str, &str, Option<&str>),
        option: &str,
        (before, after): (&str, &str),
    ) -> Result<String, Failure> {
        let check = |answer: &str| {
            let candidate = format!("{before}{key} = {}\n{after}", written(key, answer));
            let problem = (self.problem)(&candidate).filter(|problem| self.is_terminal && problem.key == key);
            match problem {
                Some(problem) => Err(Failure::new(Exit::Usage, problem.text)),
                None => Ok(answer.to_owned()),
            }
        };
        self.ask_checked(question, default, option, check).await
    }
}

/// Returns a line with a correct value of a key, in place of an answer that is still missing.
fn stand_in(key: &str) -> String {
    let value = match key {
        "redirect_uri" => RECOMMENDED_REDIRECT_URI,
        "host" => "id.example.com",
        "client_secret_env" => "CLIENT_SECRET",
        "token_headers" => "X-Name=value",
        _ => "missing",
    };
    format!("{key} = {}\n", written(key, value))
}

/// Returns the text of a configuration. `problem` returns the first problem of a text.
///
/// # Errors
/// An unknown preset, a wrong option, an interrupted question, or a missing option without a
/// terminal.
pub async fn compose(args: &InitArgs, problem: impl Fn(&str) -> Option<Problem>) -> Result<String, Failure> {
    let questions = Questions { is_terminal: stdin_is_terminal(), problem: &problem };
    let model = chosen_model(args, &questions).await?;
    let name = match &args.name {
        Some(name) => provider_name(name)?,
        None => {
            let question = "Name of the provider for users";
            questions.ask_checked(question, model.name().as_deref(), "--name NAME", provider_name).await?
        }
    };
    let mut text = "# The configuration of threadkey. `threadkey config check` checks it.\n".to_owned();
    discord(&mut text, args, &questions).await?;
    provider(&mut text, args, &questions, &model, &name).await?;
    agent(&mut text, args, &questions, &name).await?;
    Ok(text)
}

/// The source of a provider's settings.
enum Model {
    Preset(Box<Preset>),
    /// A server that publishes its endpoints.
    Issuer(String),
}

impl Model {
    /// Returns the name that the provider gets without another one: that of the preset, or the part of
    /// the issuer's host before its last dot that is most likely the name of the service.
    fn name(&self) -> Option<String> {
        let issuer = match self {
            Self::Preset(preset) => return Some(preset.name.clone()),
            Self::Issuer(issuer) => Url::parse(issuer).ok()?,
        };
        let labels: Vec<_> = issuer.domain()?.split('.').collect();
        let name = labels.len().checked_sub(2).and_then(|at| labels.get(at)).or(labels.first())?;
        name.parse::<ProviderId>().ok().map(|id| id.to_string())
    }

    /// Returns the keys that the operator adds.
    fn needs(&self) -> Vec<String> {
        match self {
            Self::Preset(preset) => preset.about.needs.clone(),
            Self::Issuer(_) => vec!["client_id".to_owned(), "redirect_uri".to_owned()],
        }
    }

    fn title(&self) -> &str {
        match self {
            Self::Preset(preset) => &preset.about.title,
            Self::Issuer(issuer) => issuer,
        }
    }
}

async fn chosen_model(args: &InitArgs, questions: &Questions<'_>) -> Result<Model, Failure> {
    if let Some(issuer) = &args.issuer {
        return Ok(Model::Issuer(issuer.clone()));
    }
    if let Some(name) = &args.preset {
        return known_preset(name);
    }
    if questions.is_terminal {
        let names: Vec<&str> = preset_names().collect();
        print_notice(&format!("Presets: {}", names.join(", ")));
    }
    let known = |answer: &str| {
        if !answer.contains("://") {
            return known_preset(answer);
        }
        let line = format!("issuer = {}\n", Value::from(answer));
        let text = format!("[providers.x]\n{line}{}{}", stand_in("client_id"), stand_in("redirect_uri"));
        match (questions.problem)(&text).filter(|problem| problem.key == "issuer") {
            Some(problem) => Err(Failure::new(Exit::Usage, problem.text.trim_start_matches("providers.x."))),
            None => Ok(Model::Issuer(answer.to_owned())),
        }
    };
    let question = "The preset of the provider, or the https:// address of its issuer";
    questions.ask_checked(question, None, "--preset PRESET or --issuer URL", known).await
}

fn known_preset(name: &str) -> Result<Model, Failure> {
    preset(name).map(Box::new).map(Model::Preset).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let similar = closest(name, preset_names()).map(|similar| format!(" Did you mean {similar:?}?"));
        let similar = similar.unwrap_or_default();
        let text = format!("there is no preset {shown:?}.{similar} `threadkey providers` lists the presets");
        Failure::new(Exit::Usage, text)
    })
}

fn provider_name(name: &str) -> Result<String, Failure> {
    let parsed = name.parse::<ProviderId>();
    parsed.map(|id| id.to_string()).map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

async fn discord(text: &mut String, args: &InitArgs, questions: &Questions<'_>) -> Result<(), Failure> {
    let variable = match &args.discord_token_env {
        Some(variable) => variable.clone(),
        None => {
            let question = "Variable with the token of the Discord bot, or - for no bot";
            let option = "--discord-token-env VARIABLE";
            let check = |answer: &str| {
                let section = format!("[discord]\ntoken_env = {}\n", Value::from(answer));
                match (questions.problem)(&section).filter(|_| answer != "-") {
                    Some(problem) => Err(Failure::new(Exit::Usage, problem.text)),
                    None => Ok(answer.to_owned()),
                }
            };
            questions.ask_checked(question, Some("DISCORD_TOKEN"), option, check).await?
        }
    };
    if variable.is_empty() || variable == "-" {
        return Ok(());
    }
    let _ = write!(
        text,
        "\n[discord]\n\
         # The environment variable with the bot's token (https://discord.com/developers/applications, Bot).\n\
         token_env = {}\n",
        Value::from(variable)
    );
    Ok(())
}

async fn provider(
    text: &mut String,
    args: &InitArgs,
    questions: &Questions<'_>,
    model: &Model,
    name: &str,
) -> Result<(), Failure> {
    let _ = writeln!(text, "\n[providers.{}]", Value::from(name));
    let mut taken = Vec::new();
    let about = match model {
        Model::Issuer(issuer) => {
            let _ = write!(
                text,
                "# The server that publishes its endpoints. `threadkey doctor` fetches them.\n\
                 issuer = {}\n",
                Value::from(issuer.as_str())
            );
            taken.push("issuer");
            None
        }
        Model::Preset(preset) => {
            let _ = write!(text, "# {}.", preset.about.title);
            if let Some(page) = &preset.about.register {
                let _ = write!(text, " You register a client at {page}");
            }
            let _ = write!(text, "\npreset = {}\n", Value::from(preset.name.as_str()));
            taken.push("preset");
            Some(&preset.about)
        }
    };
    if let Some(about) = about.filter(|about| about.risk) {
        let terms = about.terms.as_deref().unwrap_or_default();
        let explained =
            format!("This preset uses a client that its vendor made for its own program. {terms}");
        if !args.accept_terms_risk && !questions.is_terminal {
            let text = format!("{explained} If you take that risk, add --accept-terms-risk");
            return Err(Failure::new(Exit::Usage, text));
        }
        let is_accepted = args.accept_terms_risk || {
            let question = format!("{explained}\nType yes to take that risk");
            questions.ask(&question, None, "--accept-terms-risk").await?.eq_ignore_ascii_case("yes")
        };
        if !is_accepted {
            return Err(Failure::new(Exit::Usage, "nothing was written, because the risk was not accepted"));
        }
        let _ = writeln!(text, "# {terms}\naccept_terms_risk = true");
        taken.push("accept_terms_risk");
    }
    let mut given = Vec::new();
    for pair in &args.set {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
            .ok_or_else(|| Failure::new(Exit::Usage, "--set takes KEY=VALUE, such as --set client_id=abc"))?;
        if taken.contains(&key) {
            let what = format!("the options set {key} twice: remove --set {key}=…, or one of them");
            return Err(Failure::new(Exit::Usage, what));
        }
        taken.push(key);
        given.push((key, value));
    }
    let needs: Vec<String> = model
        .needs()
        .into_iter()
        .filter(|need| {
            let is_given = |(given, _): &(&str, &str)| {
                given.starts_with(need.as_str()) || (need == "client_secret" && *given == "client_key_file")
            };
            !given.iter().any(is_given)
        })
        .map(|need| if need == "client_secret" { "client_secret_env".to_owned() } else { need })
        .collect();
    let given: String =
        given.iter().map(|(key, value)| format!("{key} = {}\n", written(key, value))).collect();
    for (at, key) in needs.iter().enumerate() {
        let key = key.as_str();
        let title = model.title();
        let (question, default) = match key {
            "client_id" => {
                let page = about.and_then(|about| about.register.as_deref());
                let page = page.map(|page| format!(" (registered at {page})")).unwrap_or_default();
                (format!("Id of your client at {title}{page}"), None)
            }
            "client_secret_env" => ("Variable with the client's secret".to_owned(), None),
            "redirect_uri" => ("Redirect URI of the client".to_owned(), Some(RECOMMENDED_REDIRECT_URI)),
            "scopes" => ("Scopes, separated by blanks".to_owned(), None),
            "host" => (format!("Host of {title}, without https://"), None),
            "tenant" => (format!("Tenant at {title}, such as a realm"), None),
            key if TABLES.contains(&key) => (format!("{key}, as NAME=VALUE between commas"), None),
            key => (format!("{key} at {title}"), None),
        };
        let later: String = needs[at + 1..].iter().map(|key| stand_in(key)).chain([given.clone()]).collect();
        let asked = (key, question.as_str(), default);
        let value = questions.ask_key(asked, &format!("--set {key}=…"), (text, &later)).await?;
        let _ = writeln!(text, "{key} = {}", written(key, &value));
    }
    text.push_str(&given);
    let variables = about.map(|about| about.vendor_token_env.as_slice()).unwrap_or_default();
    if !variables.is_empty() && !taken.contains(&"token_env") {
        let names = Value::Array(variables.iter().map(|name| Value::from(name.as_str())).collect());
        let _ = write!(
            text,
            "# The vendor's own tools take a token from these variables. threadkey does so only with this line:\n\
             # token_env = {names}\n"
        );
    }
    Ok(())
}

async fn agent(
    text: &mut String,
    args: &InitArgs,
    questions: &Questions<'_>,
    name: &str,
) -> Result<(), Failure> {
    let command = match &args.agent {
        Some(command) => command.clone(),
        None => {
            let question = "Command of the agent, or - for none";
            questions.ask(question, Some("threadkey agent"), "--agent COMMAND").await?
        }
    };
    if command.is_empty() || command == "-" {
        return Ok(());
    }
    let _ = write!(
        text,
        "\n[agent]\n\
         # A program that speaks ACP on standard input and output. `threadkey agent` is built in, for trying.\n\
         command = {}\n\
         # The providers whose tokens the agent may use.\n\
         providers = [{}]\n",
        list(&command, char::is_whitespace),
        Value::from(name)
    );
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if is_builtin(&command) {
        let _ = write!(
            text,
            "\n[agent.env]\n# The provider whose account the built-in agent shows.\n{PROVIDER_VARIABLE} = {}\n",
            Value::from(name)
        );
    }
    Ok(())
}

fn written(key: &str, value: &str) -> Value {
    match value.parse::<bool>() {
        Ok(value) if SWITCHES.contains(&key) => Value::from(value),
        _ if LISTS.contains(&key) => list(value, |c| c.is_whitespace() || c == ','),
        _ if TABLES.contains(&key) => table(value).unwrap_or_else(|| Value::from(value)),
        _ => Value::from(value),
    }
}

/// Returns a table of `NAME=VALUE` between commas. `None` if a part is no pair.
fn table(text: &str) -> Option<Value> {
    let pairs = text.split(',').map(|pair| pair.split_once('='));
    let pairs =
        pairs.map(|pair| pair.map(|(name, value)| (name.trim().to_owned(), Value::from(value.trim()))));
    pairs.collect::<Option<toml::Table>>().map(Value::Table)
}

fn list(text: &str, is_separator: impl Fn(char) -> bool) -> Value {
    let items = text.split(is_separator).filter(|item| !item.is_empty());
    Value::Array(items.map(Value::from).collect())
}
