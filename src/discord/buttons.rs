//! What our buttons and modals mean. Their custom_ids are random and say nothing; the meaning stays here, in memory,
//! together with the one person who may press them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::bounded::Bounded;
use crate::{
    ids::{Lineage, Snowflake, Tenant},
    sys::random,
};

/// How many are remembered; a forgotten one tells its person what to do instead.
const MAX: usize = 10_000;

/// An answer to an agent's question, which whoever presses first takes.
pub(super) type Answer = Arc<Mutex<Option<oneshot::Sender<String>>>>;

/// What a press does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Opens the form for the code of this sign-in; also what that form brings.
    EnterCode(Tenant),
    /// Starts a sign-in.
    SignIn(Tenant),
    /// Decides about a sign-in as another account.
    Choose {
        /// For whom.
        tenant: Tenant,
        /// Which sign-in.
        lineage: Lineage,
        /// How.
        choice: Choice,
    },
    /// Answers an agent.
    Permit {
        /// The choice.
        option: String,
        /// Its words.
        label: String,
        /// What was asked.
        title: String,
        /// To whom it goes.
        answer: Answer,
    },
}

/// What to do with a sign-in as another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It takes the session's place.
    Switch,
    /// It goes.
    Keep,
}

/// All buttons that are out.
#[derive(Debug)]
pub(super) struct Buttons(Mutex<Bounded<String, (Snowflake, Action)>>);

/// Why a press does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Void {
    /// It was made before a restart, or too many have been made since.
    Unknown,
    /// It is for somebody else.
    Foreign,
}

impl Buttons {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Bounded::new(MAX)))
    }

    fn lock(&self) -> MutexGuard<'_, Bounded<String, (Snowflake, Action)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new custom_id for this action of this person.
    pub(super) fn add(&self, person: Snowflake, action: Action) -> String {
        let id = random::token();
        self.lock().insert(id.clone(), (person, action));
        id
    }

    /// What this person's press of `custom_id` means.
    pub(super) fn pressed(&self, custom_id: &str, person: Snowflake) -> Result<Action, Void> {
        match self.lock().get(&custom_id.to_owned()) {
            Some((owner, action)) if *owner == person => Ok(action.clone()),
            Some(_) => Err(Void::Foreign),
            None => Err(Void::Unknown),
        }
    }

    /// They mean nothing any more.
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
    fn ids_are_random_and_fit_and_only_their_person_can_use_them() {
        let buttons = Buttons::new();
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        let one = buttons.add(Snowflake(5), Action::EnterCode(tenant.clone()));
        let two = buttons.add(Snowflake(5), Action::EnterCode(tenant.clone()));
        assert_ne!(one, two);
        assert_eq!(one.len(), 43, "256 bits, and under Discord's 100 characters");
        assert!(matches!(buttons.pressed(&one, Snowflake(5)), Ok(Action::EnterCode(t)) if t == tenant));
        assert_eq!(buttons.pressed(&one, Snowflake(6)).expect_err("not theirs"), Void::Foreign);
        assert_eq!(buttons.pressed("acme/user:5", Snowflake(5)).expect_err("no such id"), Void::Unknown);
        buttons.remove(std::slice::from_ref(&one));
        assert_eq!(buttons.pressed(&one, Snowflake(5)).expect_err("gone"), Void::Unknown);
    }
}
