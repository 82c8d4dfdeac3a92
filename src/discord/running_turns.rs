//! The running turns, so that `/new` can end one.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::ids::ConversationId;

/// See the module.
#[derive(Debug)]
pub(super) struct RunningTurns(Mutex<BTreeMap<ConversationId, (u64, CancellationToken)>>);

impl RunningTurns {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ConversationId, (u64, CancellationToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a turn of this conversation. Returns its number, and the token that stops it.
    pub(super) fn begin(&self, id: ConversationId) -> (u64, CancellationToken) {
        let mut all = self.lock();
        let number = all.get(&id).map_or(0, |(number, _)| number + 1);
        let turn = (number, CancellationToken::new());
        all.insert(id, turn.clone());
        turn
    }

    /// Forgets a turn that has ended by itself, unless a later one has begun.
    pub(super) fn finished(&self, id: ConversationId, number: u64) {
        let mut all = self.lock();
        if all.get(&id).is_some_and(|(current, _)| *current == number) {
            all.remove(&id);
        }
    }

    /// Stops the output of the running turn.
    pub(super) fn abandon(&self, id: ConversationId) {
        if let Some((_, stop)) = self.lock().remove(&id) {
            stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Snowflake;

    #[test]
    fn abandon_stops_the_running_turn_and_not_the_next_one() {
        let turns = RunningTurns::new();
        let id = ConversationId(Snowflake(1));
        let (first, stop) = turns.begin(id);
        turns.abandon(id);
        assert!(stop.is_cancelled());
        let (second, next) = turns.begin(id);
        turns.finished(id, first.wrapping_add(7));
        assert!(!next.is_cancelled());
        turns.finished(id, second);
        turns.abandon(id);
        assert!(!next.is_cancelled(), "the turn had already finished");
    }
}
