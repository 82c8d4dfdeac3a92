//! How a sign-in came to its end, on the messages with its link that are out.

use tracing::warn;

use super::super::{bot::Bot, sign_ins::OpenSignIn, wire::Message};
use crate::ids::Tenant;

/// How a sign-in came to its end.
#[derive(Clone, Debug)]
pub(in crate::discord) enum Outcome {
    /// By any way; the message says as whom.
    SignedIn(Message),
    /// It waits for a choice.
    Undecided(Message),
    Cancelled,
    Expired,
}

impl Outcome {
    fn message(&self, tenant: &Tenant) -> Message {
        let provider = &tenant.provider;
        match self {
            Self::SignedIn(message) | Self::Undecided(message) => message.clone(),
            Self::Cancelled => Message::text(format!("This sign-in to `{provider}` was cancelled.")),
            Self::Expired => Message::text(format!(
                "This sign-in to `{provider}` has expired: it was open for 15 minutes. `/auth start` gives a new link."
            )),
        }
    }
}

/// Updates all messages of a tenant's sign-in, link and buttons gone.
pub(in crate::discord) async fn close(bot: &Bot, tenant: &Tenant, outcome: &Outcome) {
    let open = bot.open.take_all(tenant);
    close_all(bot, open, outcome).await;
}

/// Updates these.
pub(in crate::discord) async fn close_all(bot: &Bot, open: Vec<OpenSignIn>, outcome: &Outcome) {
    for entry in open {
        bot.buttons.remove(&entry.custom_ids);
        let _writing = entry.writing.lock().await;
        if let Err(error) = bot.rest.edit_original(&entry.token, &outcome.message(&entry.tenant)).await {
            warn!(%error, tenant = %entry.tenant, "a sign-in message could not be updated");
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
