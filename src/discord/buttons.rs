//! The actions of the bot's buttons and modals. A custom_id is random and carries no meaning: its
//! action stays here, in memory, together with the one user who may press it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::bounded_map::BoundedMap;
use crate::{
    broker::Revocation,
    ids::{Lineage, Snowflake, Tenant},
    sys::random,
};

/// The number of buttons that are remembered. A press on a forgotten one is answered with the
/// commands to use instead.
const MAX: usize = 10_000;

/// The channel for the reply to an agent's permission question. The first press takes it.
pub(super) type PermissionReply = Arc<Mutex<Option<oneshot::Sender<String>>>>;

/// The action of a press.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Opens the form for the code of this sign-in, and finishes the sign-in when the form is
    /// submitted.
    EnterCode(Tenant),
    /// As [`Action::EnterCode`], for the digits of our own page.
    EnterDigits(Tenant),
    /// Starts a sign-in.
    SignIn(Tenant),
    /// Declines to sign in for an agent.
    DeclineSignIn(Tenant),
    /// Refreshes a stuck session at once.
    TryAgain(Tenant),
    /// Decides about a sign-in as another account.
    Choose {
        /// The tenant of the sign-in.
        tenant: Tenant,
        /// The lineage of the sign-in.
        lineage: Lineage,
        /// The decision.
        choice: Choice,
    },
    /// Logs out, after the question about other sign-ins with the same account.
    LogOut {
        /// The tenant.
        tenant: Tenant,
        /// The user's choice about the grant.
        revocation: Revocation,
    },
    /// Answers an agent's permission question.
    Permit {
        /// The agent's id of the choice. Without one the request is cancelled.
        option: Option<String>,
        /// Our words for the choice.
        label: String,
        /// The question's text.
        asked: Arc<str>,
        /// The channel to the agent.
        reply: PermissionReply,
    },
}

impl Action {
    /// The tenant that the action is for.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::EnterCode(tenant)
            | Self::EnterDigits(tenant)
            | Self::SignIn(tenant)
            | Self::DeclineSignIn(tenant)
            | Self::TryAgain(tenant)
            | Self::Choose { tenant, .. }
            | Self::LogOut { tenant, .. } => Some(tenant),
            Self::Permit { .. } => None,
        }
    }
}

/// The decision about a sign-in as another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The new sign-in replaces the session.
    Switch,
    /// The session stays, and the new sign-in is dropped.
    Keep,
}

/// All buttons that can be pressed.
#[derive(Debug)]
pub(super) struct Buttons(Mutex<BoundedMap<String, (Snowflake, Action)>>);

/// The reason why a press has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PressError {
    /// The button is from before a restart, or too many newer ones exist.
    Unknown,
    /// The button belongs to another user.
    OtherUser,
}

impl Buttons {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX)))
    }

    fn lock(&self) -> MutexGuard<'_, BoundedMap<String, (Snowflake, Action)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a custom_id for an action that this user alone may take.
    pub(super) fn add(&self, user: Snowflake, action: Action) -> String {
        let id = random::token();
        self.lock().insert(id.clone(), (user, action));
        id
    }

    /// Returns the action of `custom_id` if this user may press it.
    pub(super) fn pressed(&self, custom_id: &str, user: Snowflake) -> Result<Action, PressError> {
        match self.lock().get(&custom_id.to_owned()) {
            Some((owner, action)) if *owner == user => Ok(action.clone()),
            Some(_) => Err(PressError::OtherUser),
            None => Err(PressError::Unknown),
        }
    }

    /// Forgets these buttons.
    pub(super) fn remove(&self, custom_ids: &[String]) {
        let mut all = self.lock();
        for id in custom_ids {
            all.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_ids_are_random_and_short_and_work_for_their_own_user_alone() {
        let buttons = Buttons::new();
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        let one = buttons.add(Snowflake(5), Action::EnterCode(tenant.clone()));
        let two = buttons.add(Snowflake(5), Action::EnterCode(tenant.clone()));
        assert_ne!(one, two);
        assert_eq!(one.len(), 43, "256 bits, and under Discord's 100 characters");
        assert!(matches!(buttons.pressed(&one, Snowflake(5)), Ok(Action::EnterCode(t)) if t == tenant));
        assert_eq!(buttons.pressed(&one, Snowflake(6)).expect_err("not theirs"), PressError::OtherUser);
        assert_eq!(
            buttons.pressed("acme/user:5", Snowflake(5)).expect_err("no such id"),
            PressError::Unknown
        );
        buttons.remove(std::slice::from_ref(&one));
        assert_eq!(buttons.pressed(&one, Snowflake(5)).expect_err("gone"), PressError::Unknown);
    }
}
