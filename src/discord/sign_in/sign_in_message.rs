//! How a sign-in came to its end, on the messages about it that are out.

use tracing::warn;

use super::super::{asked::Asked, bot::Bot, sign_ins::OpenSignIn, wire::Message};
use crate::ids::Tenant;

/// How a sign-in came to its end.
#[derive(Clone, Debug)]
pub(in crate::discord) enum Outcome {
    /// In words of its own: it is the session, or waits for a choice, or was not chosen.
    Told(Message),
    Cancelled,
    Expired,
    Replaced,
    LoggedOut,
}

impl Outcome {
    /// Of the buttons that the message then has.
    pub(super) fn custom_ids(&self) -> Vec<String> {
        match self {
            Self::Told(message) => message.custom_ids(),
            _ => Vec::new(),
        }
    }

    fn message(&self, tenant: &Tenant) -> Message {
        let provider = &tenant.provider;
        Message::text(match self {
            Self::Told(message) => return message.clone(),
            Self::Cancelled => format!("This sign-in to `{provider}` was cancelled."),
            Self::Expired => format!(
                "This sign-in to `{provider}` has expired: it was open for 15 minutes. `/auth start` gives a new link."
            ),
            Self::Replaced => format!(
                "This link to sign in to `{provider}` is no longer good: another sign-in was started in its place. `/auth start` says how that one stands."
            ),
            Self::LoggedOut => format!(
                "This sign-in to `{provider}` is dropped, because `{provider}` was logged out here. `/auth start` gives a new link."
            ),
        })
    }
}

/// Gives the answer to `asked`, and follows it from then on.
pub(super) async fn show(bot: &Bot, asked: &Asked, entry: OpenSignIn, message: &Message) {
    let writing = entry.writing.clone();
    let _writing = writing.lock().await;
    bot.open.add(entry);
    bot.finish(asked, message).await;
}

/// Updates the messages of a tenant's sign-in that show its link: link and buttons go.
pub(in crate::discord) async fn close(bot: &Bot, tenant: &Tenant, outcome: &Outcome) {
    close_all(bot, bot.open.links_of(tenant), outcome).await;
}

/// Updates these.
pub(in crate::discord) async fn close_all(bot: &Bot, open: Vec<OpenSignIn>, outcome: &Outcome) {
    for entry in open {
        bot.buttons.remove(&entry.custom_ids);
        let _writing = entry.writing.lock().await;
        let tenant = entry.shown.tenant();
        if let Err(error) = bot.rest.edit_original(&entry.token, &outcome.message(tenant)).await {
            warn!(%error, %tenant, "a sign-in message could not be updated");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_has_expired_says_so() {
        let tenant: Tenant = "acme/user:1".parse().expect("a tenant");
        assert!(Outcome::Expired.message(&tenant).content.contains("has expired"));
    }
}
