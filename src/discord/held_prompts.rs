//! The prompts of users who must sign in first.
//!
//! An agent without any login of its owner can do nothing. So the owner gets the sign-in card, and
//! the prompt waits here until the sign-in is finished, in this process or in another one.
//!
//! Invariants:
//! - A prompt stays in memory alone. It runs once, for the user who wrote it, and not after
//!   [`PENDING_LIFETIME`].
//! - A tenant has one prompt. A newer one replaces it, and its user reads that.
//! - The end of the sign-in without a login drops the prompt. The message of the sign-in reports it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    agent::Conversation,
    ids::{AgentName, Snowflake, Tenant},
    session::PENDING_LIFETIME,
    sys::clock::UnixTime,
};

/// The number of prompts that are kept. Each is at most 4,000 characters long.
const MAX: usize = 500;

/// The place where a prompt runs.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// A conversation in which the prompt is visible already.
    Shown(Conversation),
    /// A conversation in which the prompt must be quoted first.
    Quoted(Conversation),
    /// A channel, in which a thread is opened.
    Channel { guild: Snowflake, channel: Snowflake, agent: Option<AgentName> },
}

/// A prompt that waits for a sign-in.
#[derive(Clone, Debug)]
pub(super) struct HeldPrompt {
    pub(super) user: Snowflake,
    pub(super) destination: Destination,
    pub(super) text: String,
}

/// The meaning of a sign-in's stage for its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptFate {
    /// The user is signed in.
    Run,
    /// The sign-in has ended without a login.
    Drop,
    /// The sign-in goes on.
    Wait,
}

/// The result of [`HeldPrompts::hold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// The prompt waits.
    Held,
    /// The prompt waits, and an earlier one is dropped.
    Replaced,
    /// Too many prompts wait, so this one does not.
    Full,
}

/// All held prompts.
#[derive(Debug, Default)]
pub(super) struct HeldPrompts(Mutex<BTreeMap<Tenant, (HeldPrompt, UnixTime)>>);

impl HeldPrompts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Tenant, (HeldPrompt, UnixTime)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a prompt until the sign-in of `tenant`.
    pub(super) fn hold(&self, tenant: &Tenant, prompt: HeldPrompt, now: UnixTime) -> Holding {
        let mut all = self.lock();
        all.retain(|_, (_, until)| *until > now);
        if all.len() >= MAX && !all.contains_key(tenant) {
            return Holding::Full;
        }
        let until = now.saturating_add(PENDING_LIFETIME.as_secs().try_into().unwrap_or(UnixTime::MAX));
        match all.insert(tenant.clone(), (prompt, until)) {
            Some(_) => Holding::Replaced,
            None => Holding::Held,
        }
    }

    /// Takes the prompt of `tenant`, unless its time is over.
    pub(super) fn take(&self, tenant: &Tenant, now: UnixTime) -> Option<HeldPrompt> {
        let (prompt, until) = self.lock().remove(tenant)?;
        (until > now).then_some(prompt)
    }

    /// Whether a prompt waits for the sign-in of `tenant`.
    pub(super) fn has(&self, tenant: &Tenant, now: UnixTime) -> bool {
        self.lock().get(tenant).is_some_and(|(_, until)| *until > now)
    }

    /// Whether a prompt of this user waits.
    pub(super) fn has_any_of(&self, user: Snowflake) -> bool {
        self.lock().values().any(|(prompt, _)| prompt.user == user)
    }

    /// Drops all prompts of a user. Returns whether there was one.
    pub(super) fn drop_all_of(&self, user: Snowflake) -> bool {
        let mut all = self.lock();
        let before = all.len();
        all.retain(|_, (prompt, _)| prompt.user != user);
        all.len() < before
    }

    /// Returns the tenants with a waiting prompt.
    pub(super) fn tenants(&self) -> Vec<Tenant> {
        self.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(text: &str) -> HeldPrompt {
        let destination = Destination::Channel { guild: Snowflake(1), channel: Snowflake(2), agent: None };
        HeldPrompt { user: Snowflake(5), destination, text: text.to_owned() }
    }

    #[test]
    fn a_tenant_has_one_prompt_which_a_newer_one_replaces_and_time_ends() {
        let held = HeldPrompts::default();
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        assert_eq!(held.hold(&tenant, prompt("one"), 1000), Holding::Held);
        assert_eq!(held.hold(&tenant, prompt("two"), 1001), Holding::Replaced);
        assert!(held.has(&tenant, 1002) && !held.has(&tenant, 1001 + 900));
        assert_eq!(held.take(&tenant, 1002).expect("it waits").text, "two");
        assert!(held.take(&tenant, 1002).is_none(), "it runs once");
        held.hold(&tenant, prompt("three"), 1000);
        assert!(held.take(&tenant, 1000 + 900).is_none(), "its time is over");
        held.hold(&tenant, prompt("four"), 1000);
        assert!(!held.drop_all_of(Snowflake(6)) && held.drop_all_of(Snowflake(5)));
        assert!(held.tenants().is_empty());
    }

    #[test]
    fn the_number_of_held_prompts_is_bounded_and_old_ones_make_room() {
        let held = HeldPrompts::default();
        let tenant = |n: usize| format!("acme/user:{}", n + 1).parse().expect("a tenant");
        for n in 0..MAX {
            assert_eq!(held.hold(&tenant(n), prompt("p"), 1000), Holding::Held);
        }
        assert_eq!(held.hold(&tenant(MAX), prompt("p"), 1000), Holding::Full);
        assert_eq!(held.hold(&tenant(MAX), prompt("p"), 2000), Holding::Held);
    }
}
