//! What telling people something takes: the newest interaction token of each, with which they can be told what only they see, and
//! whom nothing has reached yet.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{bounded::Bounded, rest::InteractionToken};
use crate::ids::Snowflake;

/// Discord honours an interaction token for 15 minutes; the last seconds are left for the way.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60 - 15);
/// How many people are remembered, of each kind.
const MAX: usize = 10_000;

/// The newest interaction token of each person.
#[derive(Debug)]
pub(super) struct People(Mutex<Bounded<Snowflake, (InteractionToken, Instant)>>);

impl People {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Bounded::new(MAX)))
    }

    /// Notes that this person has just used this interaction.
    pub(super) fn seen(&self, person: Snowflake, token: InteractionToken) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(person, (token, Instant::now()));
    }

    /// A token that still works.
    pub(super) fn token(&self, person: Snowflake) -> Option<InteractionToken> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, at) = all.get(&person)?;
        (at.elapsed() < TOKEN_LIFE).then(|| token.clone())
    }
}

/// People whom nothing has reached yet.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<BTreeSet<Snowflake>>);

impl Waiting {
    /// Notes that this person has to be told, or has been.
    pub(super) fn set(&self, person: Snowflake, waits: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waits && all.len() < MAX {
            all.insert(person);
        } else if !waits {
            all.remove(&person);
        }
    }

    /// Whether this person has to be told at their command.
    pub(super) fn has(&self, person: Snowflake) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[tokio::test(start_paused = true)]
    async fn the_newest_token_is_used_and_none_older_than_discord_allows() {
        let people = People::new();
        let alice = Snowflake(1);
        people.seen(alice, InteractionToken(Secret::new("one")));
        tokio::time::advance(Duration::from_secs(600)).await;
        people.seen(alice, InteractionToken(Secret::new("two")));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(people.token(alice).expect("10 minutes old").0.expose(), "two");
        tokio::time::advance(Duration::from_secs(290)).await;
        assert!(people.token(alice).is_none());
        assert!(people.token(Snowflake(2)).is_none());
    }
}
