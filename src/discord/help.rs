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

/// Answers with the help about these commands, visible to its user alone.
pub(super) async fn help(bot: &Bot, interaction: &Interaction, commands: &[(String, &'static str)]) {
    let text = text(commands);
    bot.respond(interaction, &Response::Message(Message::text(text).ephemeral())).await;
}

/// Returns the help about these commands.
pub(super) fn text(commands: &[(String, &'static str)]) -> String {
    let lines: String =
        commands.iter().map(|(name, description)| format!("`/{name}` {description}\n")).collect();
    format!("{INTRODUCTION}\n\n{lines}\n{PRIVACY}")
}
