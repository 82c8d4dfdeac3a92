//! The newest interaction token of each user, with which the bot can still send messages that this
//! user alone sees.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{bounded_map::BoundedMap, rest::InteractionToken};
use crate::ids::Snowflake;

/// Discord's own limit: it accepts an interaction token for 15 minutes. The last seconds are left
/// for the request.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60 - 15);
/// The number of users whose token is remembered.
const MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct InteractionTokens(Mutex<BoundedMap<Snowflake, (InteractionToken, Instant)>>);

impl InteractionTokens {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX)))
    }

    /// Records the token of an interaction that this user has just started.
    pub(super) fn remember(&self, user: Snowflake, token: InteractionToken) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(user, (token, Instant::now()));
    }

    /// Returns the newest token of this user if Discord still accepts it.
    pub(super) fn newest(&self, user: Snowflake) -> Option<InteractionToken> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, at) = all.get(&user)?;
        (at.elapsed() < TOKEN_LIFETIME).then(|| token.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[tokio::test(start_paused = true)]
    async fn the_newest_token_is_returned_until_discord_rejects_it() {
        let tokens = InteractionTokens::new();
        let alice = Snowflake(1);
        tokens.remember(alice, InteractionToken(Secret::new("one")));
        tokio::time::advance(Duration::from_secs(600)).await;
        tokens.remember(alice, InteractionToken(Secret::new("two")));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(tokens.newest(alice).expect("10 minutes old").0.expose(), "two");
        tokio::time::advance(Duration::from_secs(290)).await;
        assert!(tokens.newest(alice).is_none());
        assert!(tokens.newest(Snowflake(2)).is_none());
    }
}
