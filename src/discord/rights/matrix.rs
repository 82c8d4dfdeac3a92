//! Every way into the bot × each kind of list × each kind of user, on the Discord look-alike.
//!
//! The ways are derived from the bot's own tables: commands and completions from the registered
//! definitions, buttons from [`Action`], messages from [`Way`]. A new command takes part by itself.
//! A new button or message way does not compile here until it has a row.
//!
//! All ways share one rule, so the expected results depend on list and user alone. They are written
//! out by hand, and not computed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use threadkey_lookalike::discord::{Answer, Channel, Discord, Guild, Options, Person};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{FRESH, Refusal, Rights};
use crate::{
    agent::{AgentSettings, Capabilities, Isolation, WorkerLimits, Workers},
    broker::{Broker, Revocation, WithoutBot, WorkerTokens},
    discord::{
        Conversations, DiscordSettings,
        bot::BotHandle,
        buttons::{Action, Choice},
        commands,
        conversations::Record,
        gateway::{BotDeps, Prepared},
        has_agents::HasAgents,
        prompts::Way,
        questions::SignInQuestions,
        wire::MODAL_FIELD,
    },
    ids::{Lineage, Snowflake, Tenant},
    net::Trust,
    oauth::{Client, Provider, ProviderSettings, Providers},
    secret::{Scrubber, Secret},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};

/// The kinds of lists, each with the scenarios in which a user is allowed.
const LISTS: [(&str, [bool; 8]); 9] = [
    // member, former, hidden channel: direct and elsewhere, direct, installed, application owner, stranger
    ("none", [false, false, false, false, false, false, true, false]),
    ("everyone", [true, true, true, true, true, true, true, true]),
    ("users", [false, true, false, false, false, false, false, false]),
    ("guilds", [true, false, true, true, true, true, false, false]),
    ("roles", [true, false, true, true, true, true, false, false]),
    ("channels", [true, false, false, false, true, true, false, false]),
    ("guilds, roles and channels", [true, false, false, false, true, true, false, false]),
    ("everyone in channels", [true, true, true, false, true, true, true, true]),
    ("another guild", [false; 8]),
];

/// The place of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A channel of the server.
    Server,
    Direct,
    /// A server without the bot, where the user has installed the application.
    Installed,
}

/// The stage on which all scenarios play.
struct Stage {
    discord: Discord,
    team: Guild,
    general: Channel,
    other: Channel,
    /// The scenarios in the order of [`LISTS`].
    scenarios: Vec<(&'static str, Person, Place, Channel)>,
    role: Snowflake,
}

impl Stage {
    async fn new() -> Self {
        let discord = Discord::start(Options::default()).await;
        let (team, elsewhere) = (discord.guild("team"), discord.guild_without_bot("elsewhere"));
        let (general, other) = (team.channel("general"), team.channel("other"));
        let foreign = elsewhere.channel("foreign");
        let role = team.role("people", 0);
        let mut scenarios = Vec::new();
        for (name, is_member, place) in [
            ("member", true, Place::Server),
            ("former member", false, Place::Direct),
            ("member without the channel, direct", true, Place::Direct),
            ("member without the channel, elsewhere", true, Place::Server),
            ("member, direct", true, Place::Direct),
            ("member, user-installed", true, Place::Installed),
            ("application owner", false, Place::Direct),
            ("stranger, user-installed", false, Place::Installed),
        ] {
            let person = discord.person(name);
            team.join(&person);
            team.give(&person, role);
            if !is_member {
                team.leave(&person);
            }
            if name.contains("without the channel") {
                general.hide_from(person.id);
            }
            let channel = match place {
                Place::Server if name.contains("elsewhere") => other.clone(),
                Place::Server => general.clone(),
                Place::Direct => person.dm(),
                Place::Installed => {
                    elsewhere.join(&person);
                    person.installs_app();
                    foreign.clone()
                }
            };
            scenarios.push((name, person, place, channel));
        }
        discord.owned_by(&scenarios[6].1);
        Self { discord, team, general, other, scenarios, role: Snowflake(role) }
    }

    fn settings(&self, lists: &str, folder: &std::path::Path) -> DiscordSettings {
        let (team, general) = (vec![Snowflake(self.team.id)], vec![Snowflake(self.general.id)]);
        let mut settings = DiscordSettings {
            token: Secret::new("bot-token"),
            api_base: Some(self.discord.api_base().parse().expect("a URL")),
            trust: Trust::default(),
            allow_everyone: false,
            allowed_guilds: vec![],
            allowed_channels: vec![],
            allowed_roles: vec![],
            allowed_users: vec![],
            log_channel: None,
            guild_sessions: true,
            conversations: folder.join(format!("{}.json", lists.len())),
        };
        match lists {
            "none" => {}
            "everyone" => settings.allow_everyone = true,
            "users" => settings.allowed_users = vec![Snowflake(self.scenarios[1].1.id)],
            "guilds" => settings.allowed_guilds = team,
            "roles" => settings.allowed_roles = vec![self.role],
            "channels" => settings.allowed_channels = general,
            "guilds, roles and channels" => {
                settings.allowed_guilds = team;
                settings.allowed_roles = vec![self.role];
                settings.allowed_channels = general;
            }
            "everyone in channels" => {
                settings.allow_everyone = true;
                settings.allowed_channels = general;
            }
            "another guild" => settings.allowed_guilds = vec![Snowflake(1)],
            unknown => panic!("the list {unknown:?} has no settings"),
        }
        settings
    }
}

/// A command's path, with its options and their values.
type Typed = (String, Vec<(String, &'static str)>);

/// The commands with a value for each required option, and the options that are completed.
fn commands() -> (Vec<Typed>, Vec<(String, String)>) {
    let definitions = commands::definitions(HasAgents::One);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for command in list(&definitions) {
        let name = command["name"].as_str().expect("a name").to_owned();
        let nested: Vec<_> = list(&command["options"]).into_iter().filter(|o| o["type"] == 1).collect();
        match nested.is_empty() {
            true => rows.push((name, list(&command["options"]))),
            false => rows.extend(nested.iter().map(|sub| {
                (format!("{name} {}", sub["name"].as_str().expect("a name")), list(&sub["options"]))
            })),
        }
    }
    let name = |option: &Value| option["name"].as_str().expect("a name").to_owned();
    let completed = rows.iter().flat_map(|(path, options)| {
        let completed = options.iter().filter(|option| option["autocomplete"] == true);
        completed.map(|option| (path.clone(), name(option))).collect::<Vec<_>>()
    });
    let completed = completed.collect();
    let typed = rows.iter().map(|(path, options)| {
        let needed = options.iter().filter(|option| option["required"] == true || name(option) == "provider");
        let value = |option: &Value| if name(option) == "provider" { "acme" } else { "x" };
        (path.clone(), needed.map(|option| (name(option), value(option))).collect())
    });
    (typed.collect(), completed)
}

/// All buttons: each one names the next, so that a new one without a row does not compile.
fn actions(tenant: &Tenant) -> Vec<Action> {
    let next = |action: Option<&Action>| -> Option<Action> {
        let tenant = tenant.clone();
        match action {
            None => Some(Action::EnterCode(tenant)),
            Some(Action::EnterCode(_)) => Some(Action::EnterDigits(tenant)),
            Some(Action::EnterDigits(_)) => Some(Action::SignIn(tenant)),
            Some(Action::SignIn(_)) => Some(Action::DeclineSignIn(tenant)),
            Some(Action::DeclineSignIn(_)) => Some(Action::TryAgain(tenant)),
            Some(Action::TryAgain(_)) => {
                Some(Action::Choose { tenant, lineage: Lineage([1; 16]), choice: Choice::Keep })
            }
            Some(Action::Choose { .. }) => Some(Action::LogOut { tenant, revocation: Revocation::Keep }),
            Some(Action::LogOut { .. }) => Some(Action::Permit {
                option: Some("allow".into()),
                label: "Allow".into(),
                asked: "a title".into(),
                reply: Arc::default(),
            }),
            Some(Action::Permit { .. }) => None,
        }
    };
    let mut all: Vec<Action> = Vec::new();
    while let Some(action) = next(all.last()) {
        all.push(action);
    }
    all
}

/// The ways of messages in a place, as [`actions`].
fn ways(place: Place, owner: Snowflake, guild: Snowflake) -> Vec<Way> {
    let record = |owner| Record { owner, guild, parent: Snowflake(0), created_at: 0, agent: None };
    let next = |way: Option<&Way>| match way {
        None => Some(Way::Direct),
        Some(Way::Direct) => Some(Way::OwnThread(record(owner))),
        Some(Way::OwnThread(_)) => Some(Way::OthersThread(record(Snowflake(1)))),
        Some(Way::OthersThread(_)) => Some(Way::Mention(guild)),
        Some(Way::Mention(_)) => None,
    };
    let mut all: Vec<Way> = Vec::new();
    while let Some(way) = next(all.last()) {
        all.push(way);
    }
    all.retain(|way| match way {
        Way::Direct => place == Place::Direct,
        Way::OwnThread(_) | Way::OthersThread(_) | Way::Mention(_) => place == Place::Server,
    });
    all
}

fn is_refusal(text: &str) -> bool {
    let refusals = [Refusal::Guild, Refusal::Channel, Refusal::User, Refusal::Closed];
    assert!(!text.contains(&Refusal::Unchecked.to_string()), "Discord answers here: {text}");
    refusals.iter().any(|refusal| text.contains(&refusal.to_string()))
}

/// One user in one place, with one kind of list.
struct Cell<'a> {
    bot: &'a BotHandle,
    stage: &'a Stage,
    person: &'a Person,
    place: Place,
    channel: &'a Channel,
    /// The results by way: whether it is allowed.
    results: BTreeMap<String, bool>,
}

impl Cell<'_> {
    async fn fill(&mut self) {
        let user = Snowflake(self.person.id);
        for way in ways(self.place, user, Snowflake(self.stage.team.id)) {
            self.message(way).await;
        }
        let (commands, completed) = commands();
        for (path, options) in &commands {
            let options: Vec<_> = options.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            match self.person.send_command(self.channel, path, &options) {
                // Discord offers conversations only where the bot is a member.
                Err(_) if self.place == Place::Installed => {}
                Err(why) => panic!("/{path} cannot be typed: {why}"),
                Ok(_) => {
                    let answer = self.person.command(self.channel, path, &options).await;
                    self.note(format!("/{path}"), !is_refusal(&answer.text()));
                }
            }
        }
        for (path, option) in &completed {
            let choices = self.person.autocomplete(self.channel, path, option, "").await;
            self.note(format!("/{path} {option}…"), !choices.is_empty());
        }
        let message = self.person.says(self.channel, "a message for buttons").id;
        let tenant = format!("acme/user:{user}").parse().expect("a tenant");
        for action in actions(&tenant) {
            let opens_form = matches!(action, Action::EnterCode(_) | Action::EnterDigits(_));
            let name = format!("{action:?}").chars().take(12).collect::<String>();
            let id = self.bot.buttons.add(user, action);
            let allowed = match self.person.forge_press(self.channel, message, &id).await {
                Answer::Modal(_) => true,
                answer => !is_refusal(&answer.message().latest().await.all_text()),
            };
            self.note(format!("button {name}"), allowed);
            if opens_form {
                let fields = [(MODAL_FIELD, "x")];
                let form = self.person.forge_modal(self.channel, Some(message), &id, &fields).await;
                self.note("form".into(), !is_refusal(&form.message().latest().await.all_text()));
            }
        }
    }

    /// Writes a bare mention, which the bot answers with a hint or a refusal, and begins no turn.
    async fn message(&mut self, way: Way) {
        let user = Snowflake(self.person.id);
        let parent = Snowflake(self.channel.id);
        let channel = match way {
            Way::Direct | Way::Mention(_) => self.channel.clone(),
            Way::OwnThread(ref record) | Way::OthersThread(ref record) => {
                let thread = self.bot.rest.create_private_thread(parent, "t").await.expect("a thread");
                self.bot.rest.add_to_thread(thread, user).await.expect("added");
                self.bot
                    .conversations
                    .insert(thread, Record { parent, ..record.clone() })
                    .await
                    .expect("recorded");
                let mut threads = self.person.threads(self.channel).into_iter();
                threads.find(|channel| channel.id == thread.0).expect("visible")
            }
        };
        let bot_id = self.stage.discord.bot_id();
        let before = channel.messages().iter().filter(|m| m.author_id == bot_id).count();
        self.person.says(&channel, "<@bot>");
        let answer =
            channel.wait_for(|seen| seen.iter().filter(|m| m.author_id == bot_id).nth(before).cloned()).await;
        let name = format!("{way:?}").chars().take_while(|c| c.is_alphabetic()).collect::<String>();
        self.note(format!("message {name}"), !is_refusal(&answer.all_text()));
    }

    fn note(&mut self, way: String, is_allowed: bool) {
        self.results.insert(way, is_allowed);
    }
}

async fn start(stage: &Stage, lists: &str, folder: &std::path::Path) -> (BotHandle, CancellationToken) {
    let clock = Clock::system();
    let store = FileStore::open(&folder.join("auth.json"), clock.clone(), FileStoreOptions::default());
    let settings = ProviderSettings {
        authorization_endpoint: "http://127.0.0.1:1/authorize".into(),
        token_endpoint: "http://127.0.0.1:1/token".into(),
        client_id: "threadkey".into(),
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        ..ProviderSettings::default()
    };
    let provider = Provider::new("acme".parse().expect("a name"), settings).expect("a provider");
    let client = Client::new(clock.clone()).expect("a client");
    let broker =
        Broker::new(Arc::new(store.expect("a store")), Providers::new([provider]), client, clock.clone());
    let capabilities = Arc::new(Capabilities::new());
    let tokens = WorkerTokens::new(broker.clone(), Arc::new(WithoutBot));
    let agent = AgentSettings {
        title: "worker".to_owned(),
        command: vec!["no-such-agent".into()],
        providers: vec![],
        isolation: Isolation::None,
        routes: Vec::new(),
        mcp: Vec::new(),
        mcp_by_stdio: false,
        tools: Vec::new(),
        files: Vec::new(),
        env: BTreeMap::new(),
        root: folder.join("agents"),
        socket: folder.join("socket"),
        read: vec![],
        deny: vec![],
        max_workers: 4,
        max_workers_per_user: 4,
        limits: WorkerLimits::default(),
        keep_files: Duration::from_secs(3600),
        idle: Duration::from_secs(60),
        start_within: Duration::from_secs(60),
        max_turn: Duration::from_secs(60),
        max_silence: Duration::from_secs(60),
    };
    let settings = stage.settings(lists, folder);
    let conversations = Conversations::load(settings.conversations.clone()).expect("an empty map");
    let conversations = Arc::new(conversations);
    let workers = Workers::new(agent, capabilities, Arc::new(tokens), conversations.clone());
    let rights = Rights::new(&settings, clock);
    let (scrubber, stop) = (Scrubber::new(), CancellationToken::new());
    let connected = watch::Sender::new(false);
    let (identified, _) = stage.discord.gateway_sessions();
    let deps = BotDeps {
        conversations,
        broker,
        workers: Some(workers),
        scrubber,
        rights,
        questions: SignInQuestions::default(),
    };
    let prepared = Prepared::new(settings, deps, connected, stop.clone()).await;
    let prepared = prepared.expect("accepted").expect("not stopped");
    let bot = prepared.bot.clone();
    tokio::spawn(prepared.run());
    stage.discord.bot_identified(identified + 1).await;
    stage.discord.commands_registered(&["auth", "ask"]).await;
    // The server's own event follows the identification.
    let known = async {
        while bot.rights.view(FRESH, |view| view.homes_of(&[stage.role]).is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.expect("the server is known");
    (bot, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_follows_the_one_rule_for_every_kind_of_list_and_user() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    let mut ways = 0;
    for (lists, expected) in LISTS {
        let (bot, stop) = start(&stage, lists, folder.path()).await;
        let cells = stage.scenarios.iter().map(async |(name, person, place, channel)| {
            let results = BTreeMap::new();
            let mut cell = Cell { bot: &bot, stage: &stage, person, place: *place, channel, results };
            cell.fill().await;
            (*name, cell.results)
        });
        let cells = futures_util::future::join_all(cells).await;
        for ((scenario, results), expected) in cells.into_iter().zip(expected) {
            ways += results.len();
            let differing = results.into_iter().filter(|(_, is_allowed)| *is_allowed != expected);
            wrong.extend(differing.map(|(way, is)| format!("{lists} / {scenario} / {way}: allowed is {is}")));
        }
        stop.cancel();
        bot.tasks.wait().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ways > 9 * 8 * 12, "{ways} cells are too few for all ways");
    let _ = &stage.other;
}
