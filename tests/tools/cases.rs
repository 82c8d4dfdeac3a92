//! The tools, how each gets its token, and its three turns.
//!
//! The first turn has the token of the sign-in. In the second one the vendor ends it early: a model does so
//! as it asks for a shell call. Before the third one the token expires by the clock.

use std::path::{Path, PathBuf};

use crate::{
    rig::Way,
    vendors::{ASKS_FOR_A_SHELL_CALL, PLAIN_ANSWER, SHELL_ANSWER, Vendors},
};

/// The folders of the installed packages.
pub(crate) struct Packages {
    /// npm's `node_modules`.
    pub(crate) node: PathBuf,
    /// A virtual environment of Python.
    pub(crate) python: PathBuf,
    /// The unpacked package of gh.
    pub(crate) gh: PathBuf,
}

impl Packages {
    /// Reads the folders from the variables that tests/tools/run sets.
    pub(crate) fn from_environment() -> Self {
        let folder = |name: &str| {
            let path =
                std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: start tests/tools/run"));
            PathBuf::from(path)
        };
        Self { node: folder("TOOLS_NODE"), python: folder("TOOLS_PYTHON"), gh: folder("TOOLS_GH") }
    }

    /// The value of `PATH`: the tools before the system's programs.
    pub(crate) fn path(&self) -> String {
        let own = [self.node.join(".bin"), self.python.join("bin"), self.gh.join("usr/bin")];
        let own: Vec<_> = own.iter().map(|folder| folder.to_string_lossy()).collect();
        format!("{}:/usr/local/bin:/usr/bin:/bin", own.join(":"))
    }

    fn folders(&self) -> [&Path; 3] {
        [&self.node, &self.python, &self.gh]
    }
}

/// The turns of a tool.
pub(crate) enum Turns {
    /// The tool is an ACP agent, and this command starts it.
    Acp(&'static str),
    /// A shell runs one of these commands for each turn.
    Commands([String; 3]),
}

/// A tool in one of its ways.
pub(crate) struct Case {
    pub(crate) tool: &'static str,
    pub(crate) how: &'static str,
    /// Whether it runs in the short form.
    pub(crate) is_short: bool,
    pub(crate) way: Way,
    pub(crate) turns: Turns,
    /// The text that the output of each turn has.
    pub(crate) answers: [&'static str; 3],
    /// Whether the end of the token in the second turn is the model's doing.
    pub(crate) has_model: bool,
    /// The sections of threadkey.toml: the routes, and the variables of the agent.
    routes: fn(&Vendors) -> String,
    env: &'static [(&'static str, &'static str)],
}

impl Case {
    /// The name by which it is chosen.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.tool, self.how)
    }

    /// The sections for a worker.
    pub(crate) fn config(&self, vendors: &Vendors, packages: &Packages) -> String {
        let command = match &self.turns {
            Turns::Acp(command) => (*command).to_owned(),
            Turns::Commands(_) => crate::script::script(RUN_ONE_STEP),
        };
        let mut text = (self.routes)(vendors);
        let read: Vec<_> =
            packages.folders().iter().map(|path| format!("{:?}", path.display().to_string())).collect();
        text += &format!(
            "[agent]\ncommand = [\"/bin/sh\", \"-c\", {command:?}]\nproviders = [\"acme\"]\ntokens = \"inject\"\nroot = \"workers\"\nread = [{}]\n[agent.env]\nPATH = {:?}\n",
            read.join(", "),
            packages.path(),
        );
        for (name, value) in self.env {
            text += &format!("{name} = {value:?}\n");
        }
        if let Turns::Commands(steps) = &self.turns {
            for (at, step) in steps.iter().enumerate() {
                text += &format!("STEP_{} = {step:?}\n", at + 1);
            }
        }
        text
    }
}

/// The script agent runs the command of the step that the prompt names.
const RUN_ONE_STEP: &str = r#"
n=$(printf '%s' "$line" | sed -E 's/.*step ([0-9]).*/\1/'); eval "step=\$STEP_$n"
if sh -e -c "$step" </dev/null >"step$n" 2>&1; then say "step $n is done"; else say "step $n failed"; fi
done_with end_turn"#;

fn model_route(vendor: &str) -> String {
    format!("[inject.llm]\nprovider = \"acme\"\nupstream = {vendor:?}\n")
}

fn openai(vendors: &Vendors) -> String {
    model_route(&vendors.url("openai/v1"))
}

fn anthropic(vendors: &Vendors) -> String {
    format!("{}preset = \"anthropic\"\n", model_route(&vendors.url("anthropic")))
}

fn gemini(vendors: &Vendors) -> String {
    model_route(&vendors.url("gemini"))
}

fn github(vendors: &Vendors) -> String {
    let (api, git) = (vendors.url("github"), vendors.url("git"));
    format!(
        "[inject.github]\npreset = \"github\"\nprovider = \"acme\"\nupstream = {api:?}\n[inject.git]\npreset = \"github-git\"\nprovider = \"acme\"\nupstream = {git:?}\n"
    )
}

const INJECT: Way = Way { is_worker: true, sees_refusals: false, leaves_tokens: false };

/// The configuration of Codex, which switches off all that it sends elsewhere.
const CODEX_CONFIG: &str = r#"model = "gpt-5"
model_provider = "lo"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[features]
plugins = false
[model_providers.lo]
name = "lo"
base_url = "{inject:llm}"
wire_api = "responses"
env_key = "LO_KEY"
"#;
const CODEX_ENV: &[(&str, &str)] = &[("LO_KEY", "{inject_secret:llm}"), ("CONFIG", CODEX_CONFIG)];

const CLAUDE_ENV: &[(&str, &str)] = &[
    ("ANTHROPIC_BASE_URL", "{inject:llm}"),
    ("ANTHROPIC_AUTH_TOKEN", "{inject_secret:llm}"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
];

const GEMINI_SETTINGS: &str = r#"{"privacy":{"usageStatisticsEnabled":false},"general":{"enableAutoUpdate":false},"security":{"auth":{"selectedType":"gemini-api-key"}}}"#;
const GEMINI_ENV: &[(&str, &str)] = &[
    ("GOOGLE_GEMINI_BASE_URL", "{inject:llm}"),
    ("GEMINI_API_KEY", "{inject_secret:llm}"),
    ("GEMINI_CLI_TRUST_WORKSPACE", "true"),
    ("SETTINGS", GEMINI_SETTINGS),
];

const GIT_ENV: &[(&str, &str)] = &[
    ("GIT_CONFIG_COUNT", "4"),
    ("GIT_CONFIG_KEY_0", "url.{inject:git}/.insteadOf"),
    ("GIT_CONFIG_VALUE_0", "https://github.com/"),
    ("GIT_CONFIG_KEY_1", "http.{inject:git}/.extraHeader"),
    ("GIT_CONFIG_VALUE_1", "Authorization: Bearer {inject_secret:git}"),
    ("GIT_CONFIG_KEY_2", "user.name"),
    ("GIT_CONFIG_VALUE_2", "alice"),
    ("GIT_CONFIG_KEY_3", "user.email"),
    ("GIT_CONFIG_VALUE_3", "alice@example.com"),
    ("GIT_TERMINAL_PROMPT", "0"),
];

const GH_ENV: &[(&str, &str)] = &[
    ("HOSTS", "github.com:\n  user: alice\n  oauth_token: {inject_secret:github}\n  git_protocol: https\n"),
    ("CONFIG", "http_unix_socket: {inject_socket:github}\n"),
    ("GH_NO_UPDATE_NOTIFIER", "1"),
];

/// A prompt for each turn. The arguments are how a tool begins, and how it goes on.
fn prompts(begin: &str, resume: &str) -> [String; 3] {
    [
        format!("{begin} 'Say something.'"),
        format!("{resume} '{ASKS_FOR_A_SHELL_CALL}, please.'"),
        format!("{resume} 'Say something else.'"),
    ]
}

fn git_steps() -> [String; 3] {
    let commit = |name: &str| {
        format!("echo {name} >{name}; git add {name}; git commit -q -m {name}; git push -q origin HEAD:main")
    };
    [
        format!(
            "git clone -q https://github.com/acme/hello.git one; cd one; git checkout -q -B main; {}",
            commit("first")
        ),
        format!("cd one; {}", commit("second")),
        "git clone -q https://github.com/acme/hello.git two; cat two/first two/second; cd one; git fetch -q"
            .to_owned(),
    ]
}

fn gh_steps() -> [String; 3] {
    [
        "mkdir -p \"$HOME/.config/gh\"; printf %s \"$HOSTS\" >\"$HOME/.config/gh/hosts.yml\"; printf %s \"$CONFIG\" >\"$HOME/.config/gh/config.yml\"; gh api user --jq .login".to_owned(),
        "gh api repos/acme/hello/issues -f title=Broken --jq .title".to_owned(),
        "gh api repos/acme/hello --jq .full_name".to_owned(),
    ]
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    const MODEL: [&str; 3] = [PLAIN_ANSWER, SHELL_ANSWER, PLAIN_ANSWER];
    let sdk = |vendor: &str| {
        [1, 2, 3].map(|turn| format!("python3 - {vendor} {turn} <<'SDK'\n{}\nSDK", include_str!("sdk.py")))
    };
    vec![
        Case {
            tool: "codex-acp",
            how: "inject",
            is_short: false,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: openai,
            env: CODEX_ENV,
            turns: Turns::Acp(
                "mkdir -p $HOME/.codex; printf %s \"$CONFIG\" >$HOME/.codex/config.toml; exec codex-acp",
            ),
        },
        Case {
            tool: "claude-agent-acp",
            how: "inject",
            is_short: false,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: anthropic,
            env: CLAUDE_ENV,
            turns: Turns::Acp("exec claude-agent-acp"),
        },
        Case {
            tool: "gemini --acp",
            how: "inject",
            is_short: false,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: gemini,
            env: GEMINI_ENV,
            turns: Turns::Acp(
                "mkdir -p $HOME/.gemini; printf %s \"$SETTINGS\" >$HOME/.gemini/settings.json; exec gemini --acp",
            ),
        },
        Case {
            tool: "codex",
            how: "inject",
            is_short: true,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: openai,
            env: CODEX_ENV,
            turns: Turns::Commands(prompts(
                "mkdir -p $HOME/.codex; printf %s \"$CONFIG\" >$HOME/.codex/config.toml; codex exec --skip-git-repo-check",
                "codex exec --skip-git-repo-check resume --last",
            )),
        },
        Case {
            tool: "claude",
            how: "inject",
            is_short: false,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: anthropic,
            env: CLAUDE_ENV,
            turns: Turns::Commands(prompts(
                "claude -p --allowedTools Bash --",
                "claude -p --continue --allowedTools Bash --",
            )),
        },
        Case {
            tool: "gemini",
            how: "inject",
            is_short: false,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: gemini,
            env: GEMINI_ENV,
            turns: Turns::Commands(prompts(
                "mkdir -p $HOME/.gemini; printf %s \"$SETTINGS\" >$HOME/.gemini/settings.json; gemini -y -m gemini-2.5-flash -p",
                "gemini -y -m gemini-2.5-flash -r latest -p",
            )),
        },
        Case {
            tool: "git",
            how: "inject",
            is_short: true,
            way: INJECT,
            answers: ["", "", "first\nsecond"],
            has_model: false,
            routes: github,
            env: GIT_ENV,
            turns: Turns::Commands(git_steps()),
        },
        Case {
            tool: "gh",
            how: "inject",
            is_short: true,
            way: INJECT,
            answers: ["alice", "Broken", "acme/hello"],
            has_model: false,
            routes: github,
            env: GH_ENV,
            turns: Turns::Commands(gh_steps()),
        },
        Case {
            tool: "openai (Python)",
            how: "inject",
            is_short: true,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: openai,
            env: &[("OPENAI_BASE_URL", "{inject:llm}"), ("OPENAI_API_KEY", "{inject_secret:llm}")],
            turns: Turns::Commands(sdk("openai")),
        },
        Case {
            tool: "anthropic (Python)",
            how: "inject",
            is_short: true,
            way: INJECT,
            answers: MODEL,
            has_model: true,
            routes: anthropic,
            env: &[("ANTHROPIC_BASE_URL", "{inject:llm}"), ("ANTHROPIC_AUTH_TOKEN", "{inject_secret:llm}")],
            turns: Turns::Commands(sdk("anthropic")),
        },
    ]
}
