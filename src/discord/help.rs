//! `/help`: a short account of the bot for its users. The commands come from the table of all
//! commands.

use super::wire::Response;
use super::{bot::Bot, interaction::Interaction, wire::Message};

const INTRODUCTION: &str = "I sign you in to providers, and run agents that work with your sign-ins. \
An agent gets short-lived access tokens of you alone, and never your password.";

const PRIVACY: &str = "**Privacy.** Only you see the links, codes and states of your sign-ins. Only your own \
messages are prompts for your agent. My operator keeps your sign-ins on their machine, and could read them. \
A prompt goes to the agent, and to the services that the agent uses. `/auth logout` removes a sign-in from \
here. If another person asks you to paste a code or an address for them, do not do it.";

/// Answers with the help, visible to its user alone.
pub(super) async fn help(bot: &Bot, interaction: &Interaction) {
    let text = text(&super::commands::overview(bot.workers.is_some()));
    bot.respond(interaction, &Response::Message(Message::text(text).ephemeral())).await;
}

fn text(commands: &[(String, &'static str)]) -> String {
    let lines: String =
        commands.iter().map(|(name, description)| format!("`/{name}` {description}\n")).collect();
    format!("{INTRODUCTION}\n\n{lines}\n{PRIVACY}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discord::{commands, wire::MAX_CONTENT};

    #[test]
    fn the_help_names_each_registered_command_and_fits_into_one_message() {
        let text = text(&commands::overview(true));
        assert!(text.encode_utf16().count() <= MAX_CONTENT, "{text}");
        let definitions = commands::definitions();
        for command in definitions.as_array().expect("a list") {
            let name = command["name"].as_str().expect("a name");
            assert!(text.contains(&format!("`/{name}")), "{name}: {text}");
        }
        assert!(text.contains("`/auth start` ") && text.contains("`/auth logout` "), "{text}");
    }

    #[test]
    fn the_help_of_a_bot_without_agents_names_no_command_for_them() {
        let text = text(&commands::overview(false));
        assert!(text.contains("`/auth start` ") && !text.contains("`/ask`"), "{text}");
    }
}
