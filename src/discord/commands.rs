//! The table of all commands: from it come the registration with Discord and the dispatch, so that
//! they cannot differ.

use serde_json::{Value, json};
use serenity::all::{CommandData, CommandDataOptionValue};

use super::{
    ask, auth,
    command::{OptionKind, OptionRow, Options, Row},
    has_agents::HasAgents,
    help,
};
/// Choices that an autocompletion may offer.
const MAX_CHOICES: usize = 25;

/// A command of the bot.
enum Command {
    /// `/auth`, whose subcommands are rows. It works in every channel, also where only the user has
    /// installed the app. Its answers are visible to the user alone, so that each call is deferred
    /// before its handler runs.
    Auth { description: &'static str, subcommands: &'static [Row] },
    /// A command that works in every channel. Its handler acknowledges at once.
    Everywhere(Row),
    /// A command about conversations. It needs the bot as a member, and its handler acknowledges.
    Conversation(Row),
}

/// All commands.
const COMMANDS: &[Command] = &[
    Command::Auth {
        description: "Sign in to providers, and see where you are signed in",
        subcommands: auth::SUBCOMMANDS,
    },
    Command::Conversation(Row {
        name: "ask",
        description: "Ask an agent that works with your sign-ins",
        options: &[
            OptionRow {
                name: "prompt",
                description: "The task for the agent",
                kind: OptionKind::Text { required: true, max_length: 4000 },
            },
            OptionRow {
                name: "agent",
                description: "The agent of a new conversation",
                kind: OptionKind::Agent,
            },
        ],
        handler: |bot, interaction, options| {
            Box::pin(ask::ask(bot, interaction, options.required("prompt"), options.text("agent")))
        },
    }),
    Command::Conversation(Row {
        name: "stop",
        description: "Stop the agent's current work in this conversation",
        options: &[],
        handler: |bot, interaction, _| Box::pin(ask::stop(bot, interaction)),
    }),
    Command::Conversation(Row {
        name: "new",
        description: "Start this conversation again with a new agent",
        options: &[
            OptionRow {
                name: "clean",
                description: "Remove all files of the agent in this conversation",
                kind: OptionKind::Switch,
            },
            OptionRow {
                name: "agent",
                description: "The agent that works here from now on",
                kind: OptionKind::Agent,
            },
        ],
        handler: |bot, interaction, options| {
            Box::pin(ask::new(bot, interaction, options.is_set("clean"), options.text("agent")))
        },
    }),
    Command::Everywhere(Row {
        name: "help",
        description: "See what I do, my commands, and who sees what",
        options: &[],
        handler: |bot, interaction, _| {
            Box::pin(async move { help::help(bot, interaction, &overview(bot.workers.is_some())).await })
        },
    }),
];

/// The moment at which a call is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// The call is deferred before its handler runs.
    BeforeHandler,
    /// The handler acknowledges, because its first answer may be public.
    ByHandler,
}

/// A call of a command, with its options.
pub(super) struct Call {
    pub(super) row: &'static Row,
    pub(super) options: Options,
    pub(super) acknowledgement: Acknowledgement,
}

impl Call {
    /// Finds the row of a call. Returns `None` for an unknown one, as while Discord still has old
    /// definitions.
    pub(super) fn read(data: &CommandData) -> Option<Self> {
        let name = data.name.as_str();
        COMMANDS.iter().find_map(|command| match command {
            Command::Auth { subcommands, .. } if name == "auth" => {
                let subcommand = data.options.first()?;
                let CommandDataOptionValue::SubCommand(options) = &subcommand.value else { return None };
                let row = subcommands.iter().find(|row| row.name == subcommand.name)?;
                let options = row.read(options)?;
                Some(Self { row, options, acknowledgement: Acknowledgement::BeforeHandler })
            }
            Command::Everywhere(row) | Command::Conversation(row) if name == row.name => {
                let options = row.read(&data.options)?;
                Some(Self { row, options, acknowledgement: Acknowledgement::ByHandler })
            }
            Command::Auth { .. } | Command::Everywhere(_) | Command::Conversation(_) => None,
        })
    }
}

/// All commands as Discord registers them.
pub(super) fn definitions(agents: HasAgents) -> Value {
    let definition = |command: &Command| match command {
        Command::Auth { description, subcommands } => json!({
            "type": 1, "name": "auth", "description": description,
            "integration_types": [0, 1], "contexts": [0, 1, 2],
            "options": subcommands.iter().map(|row| row.definition(agents)).collect::<Vec<_>>(),
        }),
        Command::Everywhere(row) => {
            let mut definition = row.definition(agents);
            definition["integration_types"] = json!([0, 1]);
            definition["contexts"] = json!([0, 1, 2]);
            definition
        }
        Command::Conversation(row) => {
            let mut definition = row.definition(agents);
            definition["integration_types"] = json!([0]);
            definition["contexts"] = json!([0, 1]);
            definition
        }
    };
    COMMANDS.iter().map(definition).collect()
}

/// Returns the name and the description of each command and subcommand. Without agents those about
/// conversations are left out.
pub(super) fn overview(has_agents: bool) -> Vec<(String, &'static str)> {
    let lines = |command: &Command| match command {
        Command::Auth { subcommands, .. } => {
            subcommands.iter().map(|row| (format!("auth {}", row.name), row.description)).collect()
        }
        Command::Conversation(_) if !has_agents => Vec::new(),
        Command::Everywhere(row) | Command::Conversation(row) => {
            vec![(row.name.to_owned(), row.description)]
        }
    };
    COMMANDS.iter().flat_map(lines).collect()
}

/// Returns the names that complete a typed text: first those that begin with it, then those that
/// contain it.
pub(super) fn complete<'a>(names: impl Iterator<Item = &'a str>, typed: &str) -> Vec<String> {
    let typed = typed.trim().to_ascii_lowercase();
    let (first, rest): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with(&typed));
    let containing = rest.into_iter().filter(|id| id.contains(&typed));
    first.into_iter().chain(containing).take(MAX_CHOICES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ProviderId;

    #[test]
    fn completion_prefers_matching_beginnings_and_offers_at_most_25() {
        let ids: Vec<ProviderId> =
            ["acme", "big-acme", "codex", "linear"].iter().map(|id| id.parse().expect("an id")).collect();
        assert_eq!(complete(ids.iter().map(ProviderId::as_str), "AC"), ["acme", "big-acme"]);
        assert_eq!(complete(ids.iter().map(ProviderId::as_str), "ac-"), Vec::<String>::new());
        assert_eq!(complete(ids.iter().map(ProviderId::as_str), "").len(), 4);
        let many: Vec<ProviderId> = (0..40).map(|n| format!("p{n}").parse().expect("an id")).collect();
        assert_eq!(complete(many.iter().map(ProviderId::as_str), "p").len(), 25);
    }

    /// Removes all descriptions.
    fn strip(mut definition: Value) -> Value {
        if let Some(fields) = definition.as_object_mut() {
            fields.remove("description");
            if let Some(options) = fields.get_mut("options").and_then(Value::as_array_mut) {
                options.iter_mut().for_each(|option| *option = strip(option.take()));
            }
        }
        definition
    }

    #[test]
    fn auth_is_registered_everywhere_and_conversations_only_where_the_bot_is_a_member() {
        let definitions = definitions(HasAgents::One);
        let all: Vec<Value> =
            definitions.as_array().expect("a list").iter().map(|one| strip(one.clone())).collect();
        let provider = |required: bool| json!({"type": 3, "name": "provider", "required": required, "autocomplete": true, "max_length": 64});
        let text = |name: &str, required: bool, max_length: u16| json!({"type": 3, "name": name, "required": required, "max_length": max_length});
        let switch = |name: &str| json!({"type": 5, "name": name, "required": false});
        assert_eq!(
            all,
            [
                json!({
                    "type": 1, "name": "auth", "integration_types": [0, 1], "contexts": [0, 1, 2],
                    "options": [
                        {"type": 1, "name": "start", "options": [provider(false), switch("shared"), text("grant", false, 16)]},
                        {"type": 1, "name": "code", "options": [
                            {"type": 3, "name": "code", "required": true, "max_length": 6000}, provider(false),
                        ]},
                        {"type": 1, "name": "status"},
                        {"type": 1, "name": "logout", "options": [provider(false), switch("keep_grant"), switch("shared"), switch("revoke")]},
                        {"type": 1, "name": "cancel"},
                    ],
                }),
                json!({
                    "type": 1, "name": "ask", "integration_types": [0], "contexts": [0, 1],
                    "options": [{"type": 3, "name": "prompt", "required": true, "max_length": 4000}],
                }),
                json!({"type": 1, "name": "stop", "integration_types": [0], "contexts": [0, 1]}),
                json!({
                    "type": 1, "name": "new", "integration_types": [0], "contexts": [0, 1],
                    "options": [switch("clean")],
                }),
                json!({"type": 1, "name": "help", "integration_types": [0, 1], "contexts": [0, 1, 2]}),
            ]
        );
    }

    #[test]
    fn a_call_finds_its_row_and_an_unknown_or_incomplete_one_finds_none() {
        let call = |name: &str, options: Value| {
            let data = json!({"id": "1", "name": name, "type": 1, "options": options});
            let data: CommandData = serde_json::from_value(data).expect("command data");
            Call::read(&data).map(|call| (call.row.name, call.acknowledgement))
        };
        let provider = json!([{"name": "provider", "type": 3, "value": "acme"}]);
        let subcommand = |name: &str, options: &Value| json!([{"name": name, "type": 1, "options": options}]);
        let deferred = Some(("start", Acknowledgement::BeforeHandler));
        assert_eq!(call("auth", subcommand("start", &provider)), deferred);
        assert_eq!(
            call("auth", subcommand("start", &json!([]))),
            deferred,
            "there may be one provider alone"
        );
        assert_eq!(call("auth", subcommand("code", &json!([]))), None, "the code is missing");
        assert_eq!(call("auth", subcommand("removed", &provider)), None);
        assert_eq!(call("stop", json!([])), Some(("stop", Acknowledgement::ByHandler)));
        assert_eq!(call("start", provider), None, "a subcommand is not a command");
    }

    #[test]
    fn names_descriptions_and_options_keep_discords_limits() {
        fn check(option: &Value) {
            let name = option["name"].as_str().expect("a name");
            assert!(
                (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            let text = option["description"].as_str().expect("a description");
            assert!((1..=100).contains(&text.chars().count()), "{text}");
            let options = option["options"].as_array().cloned().unwrap_or_default();
            let required: Vec<bool> =
                options.iter().map(|o| o["required"].as_bool().unwrap_or(false)).collect();
            assert!(required.is_sorted_by(|a, b| a >= b), "required options come first");
            options.iter().for_each(check);
        }
        definitions(HasAgents::Several).as_array().expect("a list").iter().for_each(check);
    }

    #[test]
    fn the_help_names_each_registered_command_and_fits_into_one_message() {
        let text = help::text(&overview(true));
        assert!(text.encode_utf16().count() <= crate::discord::wire::MAX_CONTENT, "{text}");
        let definitions = definitions(HasAgents::One);
        for command in definitions.as_array().expect("a list") {
            let name = command["name"].as_str().expect("a name");
            assert!(text.contains(&format!("`/{name}")), "{name}: {text}");
        }
        assert!(text.contains("`/auth start` ") && text.contains("`/auth logout` "), "{text}");
    }

    #[test]
    fn the_help_of_a_bot_without_agents_names_no_command_for_them() {
        let text = help::text(&overview(false));
        assert!(text.contains("`/auth start` ") && !text.contains("`/ask`"), "{text}");
    }
}
