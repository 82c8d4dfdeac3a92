//! One command or subcommand as a row of a table. The row drives both the registration with Discord
//! and the dispatch.

use std::{future::Future, pin::Pin};

use serde_json::{Value, json};
use serenity::all::{CommandDataOption, CommandDataOptionValue};

use super::{bot::BotHandle, has_agents::HasAgents, interaction::Interaction};

/// The handler of a row. It sends the answer itself.
pub(super) type Handler = for<'a> fn(&'a BotHandle, &'a Interaction, &'a Options) -> Answering<'a>;

/// A handler at work.
pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A command without subcommands, or a subcommand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    /// The required options come first, as Discord demands.
    pub(super) options: &'static [OptionRow],
    pub(super) handler: Handler,
}

/// An option of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionRow {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) kind: OptionKind,
}

/// The kind of an option's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum OptionKind {
    /// A text of limited length.
    Text { required: bool, max_length: u16 },
    /// The name of a provider, completed while the user types.
    Provider { required: bool },
    /// The name of an agent, completed while the user types. It is registered only if there are
    /// several.
    Agent,
    /// Yes or no, and no if it is left out.
    Switch,
}

impl Row {
    /// The row as Discord registers it, as a command or as a subcommand alike.
    pub(super) fn definition(&self, has_agents: HasAgents) -> Value {
        let mut row = json!({"type": 1, "name": self.name, "description": self.description});
        let is_registered = |option: &&OptionRow| {
            !matches!(option.kind, OptionKind::Agent) || has_agents == HasAgents::Several
        };
        let options: Vec<_> = self.options.iter().filter(is_registered).map(OptionRow::definition).collect();
        if !options.is_empty() {
            row["options"] = options.into();
        }
        row
    }

    /// Reads the options of a call. Returns `None` if a required one is missing, as while Discord
    /// still has old definitions.
    pub(super) fn read(&self, options: &[CommandDataOption]) -> Option<Options> {
        let options = Options(options.iter().map(|o| (o.name.clone(), o.value.clone())).collect());
        let is_complete =
            self.options.iter().all(|row| !row.is_required() || options.text(row.name).is_some());
        is_complete.then_some(options)
    }
}

impl OptionRow {
    fn is_required(&self) -> bool {
        match self.kind {
            OptionKind::Text { required, .. } | OptionKind::Provider { required } => required,
            OptionKind::Agent | OptionKind::Switch => false,
        }
    }

    fn definition(&self) -> Value {
        let mut option =
            json!({"name": self.name, "description": self.description, "required": self.is_required()});
        match self.kind {
            OptionKind::Text { max_length, .. } => {
                option["type"] = json!(3);
                option["max_length"] = json!(max_length);
            }
            OptionKind::Provider { .. } | OptionKind::Agent => {
                option["type"] = json!(3);
                option["max_length"] = json!(64);
                option["autocomplete"] = json!(true);
            }
            OptionKind::Switch => option["type"] = json!(5),
        }
        option
    }
}

/// The options of one call; all required ones are present.
#[derive(Debug, Default)]
pub(super) struct Options(Vec<(String, CommandDataOptionValue)>);

impl Options {
    fn value(&self, name: &str) -> Option<&CommandDataOptionValue> {
        self.0.iter().find(|(option, _)| option == name).map(|(_, value)| value)
    }

    /// Returns the value of a text option.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str()
    }

    /// Returns the value of a required text option. [`Row::read`] has checked that it is present.
    pub(super) fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// Returns the position of a switch, or `None` if the user left it out.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.value(name)?.as_bool()
    }

    /// Whether a switch is on.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.switch(name).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row {
        name: "row",
        description: "A row",
        options: &[
            OptionRow { name: "provider", description: "P", kind: OptionKind::Provider { required: true } },
            OptionRow {
                name: "code",
                description: "C",
                kind: OptionKind::Text { required: false, max_length: 9 },
            },
            OptionRow { name: "shared", description: "S", kind: OptionKind::Switch },
        ],
        handler: |_, _, _| Box::pin(async {}),
    };

    #[test]
    fn a_row_is_registered_with_all_its_options() {
        assert_eq!(
            ROW.definition(HasAgents::One),
            json!({"type": 1, "name": "row", "description": "A row", "options": [
                {"type": 3, "name": "provider", "description": "P", "required": true, "autocomplete": true, "max_length": 64},
                {"type": 3, "name": "code", "description": "C", "required": false, "max_length": 9},
                {"type": 5, "name": "shared", "description": "S", "required": false},
            ]})
        );
        assert!(Row { options: &[], ..ROW }.definition(HasAgents::One).get("options").is_none());
    }

    #[test]
    fn a_call_without_a_required_option_is_not_read() {
        let option = |name: &str, value: Value| -> CommandDataOption {
            let kind = if value.is_boolean() { 5 } else { 3 };
            serde_json::from_value(json!({"name": name, "type": kind, "value": value})).expect("an option")
        };
        assert!(ROW.read(&[option("shared", json!(true))]).is_none());
        let options = ROW.read(&[option("provider", json!("acme")), option("shared", json!(true))]);
        let options = options.expect("the required option is present");
        assert_eq!((options.required("provider"), options.text("code")), ("acme", None));
        assert!(options.is_set("shared") && !options.is_set("provider"));
    }
}
