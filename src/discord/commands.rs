//! The commands, as Discord registers them, and what is read from them.

use serde_json::{Value, json};
use serenity::all::{CommandDataOption, CommandDataOptionValue, CommandInteraction};

use crate::ids::ProviderId;

/// Choices that an autocompletion may offer.
const MAX_CHOICES: usize = 25;

/// All commands. `/auth` works wherever the person is, also where only they have installed the app; the others need the bot
/// itself to be there.
pub(super) fn definitions() -> Value {
    let provider = |required: bool, text: &str| {
        json!({"type": 3, "name": "provider", "description": text, "required": required, "autocomplete": true,
            "max_length": 64})
    };
    let shared = |text: &str| json!({"type": 5, "name": "shared", "description": text, "required": false});
    json!([
        {
            "type": 1, "name": "auth", "description": "Sign in to services, and see where you are signed in",
            "integration_types": [0, 1], "contexts": [0, 1, 2],
            "options": [
                {"type": 1, "name": "start", "description": "Sign in to a service", "options": [
                    provider(true, "Where to sign in"),
                    shared("Sign in for this whole server (server managers only)"),
                ]},
                {"type": 1, "name": "code", "description": "Finish signing in with the code or address you ended on", "options": [
                    {"type": 3, "name": "code", "description": "The code, or the whole address of the page you ended on",
                        "required": true, "max_length": 6000},
                    provider(false, "For which sign-in, if you have several under way"),
                ]},
                {"type": 1, "name": "status", "description": "Where you are signed in, and how that is going"},
                {"type": 1, "name": "logout", "description": "Forget a sign-in", "options": [
                    provider(true, "Where to log out"),
                    {"type": 5, "name": "revoke", "description": "Also end the access at the service itself", "required": false},
                    shared("Log this whole server out (server managers only)"),
                ]},
                {"type": 1, "name": "cancel", "description": "Drop the sign-ins that you have under way"},
            ],
        },
        {
            "type": 1, "name": "ask", "description": "Ask an agent that works with your sign-ins",
            "integration_types": [0], "contexts": [0, 1],
            "options": [{"type": 3, "name": "prompt", "description": "What it should do", "required": true, "max_length": 4000}],
        },
        {
            "type": 1, "name": "stop", "description": "Stop what the agent is doing in this conversation",
            "integration_types": [0], "contexts": [0, 1],
        },
        {
            "type": 1, "name": "new", "description": "Start this conversation afresh with a new agent",
            "integration_types": [0], "contexts": [0, 1],
        },
    ])
}

/// What somebody typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Start { provider: String, shared: bool },
    Code { code: String, provider: Option<String> },
    Status,
    Logout { provider: String, revoke: bool, shared: bool },
    Cancel,
    Ask { prompt: String },
    Stop,
    New,
}

impl Typed {
    /// Reads a command; `None` when it is none of ours, which happens while Discord still has old definitions.
    pub(super) fn read(it: &CommandInteraction) -> Option<Self> {
        let options = &it.data.options;
        match it.data.name.as_str() {
            "auth" => {
                let sub = options.first()?;
                let CommandDataOptionValue::SubCommand(options) = &sub.value else { return None };
                Self::read_auth(&sub.name, options)
            }
            "ask" => Some(Self::Ask { prompt: text(options, "prompt")? }),
            "stop" => Some(Self::Stop),
            "new" => Some(Self::New),
            _ => None,
        }
    }

    fn read_auth(name: &str, options: &[CommandDataOption]) -> Option<Self> {
        Some(match name {
            "start" => {
                Self::Start { provider: text(options, "provider")?, shared: is_set(options, "shared") }
            }
            "code" => Self::Code { code: text(options, "code")?, provider: text(options, "provider") },
            "status" => Self::Status,
            "logout" => Self::Logout {
                provider: text(options, "provider")?,
                revoke: is_set(options, "revoke"),
                shared: is_set(options, "shared"),
            },
            "cancel" => Self::Cancel,
            _ => return None,
        })
    }
}

fn text(options: &[CommandDataOption], name: &str) -> Option<String> {
    options.iter().find(|option| option.name == name)?.value.as_str().map(str::to_owned)
}

fn is_set(options: &[CommandDataOption], name: &str) -> bool {
    let value = options.iter().find(|option| option.name == name).and_then(|option| option.value.as_bool());
    value.unwrap_or(false)
}

/// The providers to offer for what has been typed so far: those that begin with it, then those that hold it.
pub(super) fn complete<'a>(ids: impl Iterator<Item = &'a ProviderId>, typed: &str) -> Vec<String> {
    let typed = typed.trim().to_ascii_lowercase();
    let (first, rest): (Vec<_>, Vec<_>) = ids.map(ProviderId::as_str).partition(|id| id.starts_with(&typed));
    let holding = rest.into_iter().filter(|id| id.contains(&typed));
    first.into_iter().chain(holding).take(MAX_CHOICES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_prefers_beginnings_and_offers_at_most_25() {
        let ids: Vec<ProviderId> =
            ["acme", "big-acme", "codex", "linear"].iter().map(|id| id.parse().expect("an id")).collect();
        assert_eq!(complete(ids.iter(), "AC"), ["acme", "big-acme"]);
        assert_eq!(complete(ids.iter(), "ac-"), Vec::<String>::new());
        assert_eq!(complete(ids.iter(), "").len(), 4);
        let many: Vec<ProviderId> = (0..40).map(|n| format!("p{n}").parse().expect("an id")).collect();
        assert_eq!(complete(many.iter(), "p").len(), 25);
    }

    #[test]
    fn auth_works_everywhere_and_the_conversation_where_the_bot_is() {
        let all = definitions();
        let find = |name: &str| {
            all.as_array().expect("a list").iter().find(|c| c["name"] == name).expect("the command").clone()
        };
        assert_eq!(find("auth")["contexts"], json!([0, 1, 2]));
        assert_eq!(find("auth")["integration_types"], json!([0, 1]));
        for name in ["ask", "stop", "new"] {
            assert_eq!(find(name)["contexts"], json!([0, 1]));
            assert_eq!(find(name)["integration_types"], json!([0]));
        }
        let auth = find("auth");
        let subs: Vec<_> = auth["options"].as_array().expect("a list").iter().map(|o| &o["name"]).collect();
        assert_eq!(subs, ["start", "code", "status", "logout", "cancel"]);
    }

    #[test]
    fn texts_and_options_keep_discords_limits() {
        fn check(option: &Value) {
            let name = option["name"].as_str().expect("a name");
            assert!((1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase()));
            let text = option["description"].as_str().expect("a description");
            assert!((1..=100).contains(&text.chars().count()), "{text}");
            let options = option["options"].as_array().cloned().unwrap_or_default();
            let required: Vec<bool> =
                options.iter().map(|o| o["required"].as_bool().unwrap_or(false)).collect();
            assert!(required.is_sorted_by(|a, b| a >= b), "required options come first");
            options.iter().for_each(check);
        }
        definitions().as_array().expect("a list").iter().for_each(check);
    }
}
