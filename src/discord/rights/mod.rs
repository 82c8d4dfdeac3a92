//! Rights: which user may use the bot, where, and for how long that is known.
//!
//! [`rule`] is the one rule, a function of the lists and of facts. [`facts`] holds the facts with
//! their age. [`Rights`] brings both together: it asks Discord for the facts that the rule needs.
//!
//! # How old a fact may be
//!
//! - At each interaction, each turn and each token, a fact is at most [`FRESH`] old, counted from the
//!   moment at which it was requested.
//! - While Discord gives no answer, the last one counts for [`GRACE`]. After that the right is unknown,
//!   and the request is refused.
//! - A form and a completion are answered from memory, however old within `GRACE`: they must be answered
//!   at once. The submitted form and the command are checked as usual.
//!
//! # The end of a right
//!
//! Events change the facts at once, and workers whose owners have lost their rights are ended
//! (`discord::ended_rights`). Without the intent GUILD_MEMBERS there are no events about members, and the
//! check at the next token has the same effect.

mod application;
mod ended;
mod facts;
mod rule;
mod words;

#[cfg(test)]
mod matrix;

pub use application::Application;
pub(super) use facts::{Channel, Fact, Found, Guild};
pub(super) use rule::{Place, Refusal, Request};
pub use words::{RightsInWords, rights_in_words};

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ended::Ended;
use facts::{Facts, View};
use futures_util::future::join_all;
use rule::{Lists, Verdict};
use tracing::debug;

use super::{DiscordSettings, rest::Rest};
use crate::{
    agent::Conversation,
    broker::{OwnerRights, RightsError, Standing},
    ids::{ConversationId, Principal, Snowflake},
    sys::clock::Clock,
};

/// The age up to which a fact needs no new request.
const FRESH: Duration = Duration::from_secs(60);
/// The age up to which a fact counts while Discord gives no answer.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// How long an interaction waits for facts. It must be acknowledged within three seconds.
const INTERACTION_WAIT: Duration = Duration::from_millis(1500);
/// How long a token request waits for facts.
const TOKEN_WAIT: Duration = Duration::from_secs(5);
/// The pause after a request that Discord did not answer.
const PAUSE: Duration = Duration::from_secs(5);
/// The number of rounds of requests for one decision: the channel, the member, the server, and one
/// more because another fact can become too old meanwhile.
const ROUNDS: usize = 4;

/// The rights of all users. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Rights(Arc<Inner>);

struct Inner {
    lists: Lists,
    clock: Clock,
    facts: Mutex<Facts>,
    /// Set once Discord has accepted the token. Before that no fact can be requested.
    rest: OnceLock<Arc<Rest>>,
    /// Held while facts are requested, so that each is requested once. It holds the end of the pause
    /// after a request without an answer.
    requesting: tokio::sync::Mutex<Duration>,
    ended: Ended,
}

// === impl Rights ===

impl Rights {
    /// Takes the lists. No fact is known until the bot has reached Discord.
    pub fn new(settings: &DiscordSettings, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            lists: Lists::new(settings),
            clock,
            facts: Mutex::new(Facts::new()),
            rest: OnceLock::new(),
            requesting: tokio::sync::Mutex::default(),
            ended: Ended::default(),
        }))
    }

    /// Begins to request facts.
    pub(super) fn connect(&self, rest: Arc<Rest>, application: Application) {
        // A second bot of one process would share the first one's requests, which have the same token.
        let _ = self.0.rest.set(rest);
        self.learn(Found::Application(application));
    }

    /// Whether a request is allowed. Its own facts count as reported now.
    pub(super) async fn check(&self, request: &Request) -> Result<(), Refusal> {
        self.learn_from(request);
        let verdict = self.resolve(INTERACTION_WAIT, |view| of(self.0.lists.decide(request, view))).await;
        verdict.unwrap_or(Err(Refusal::Unchecked))
    }

    /// As [`Rights::check`], but from memory alone. An unknown right is [`Refusal::Unchecked`], and its
    /// facts are requested for the next call.
    pub(super) fn check_from_memory(&self, request: &Request) -> Result<(), Refusal> {
        self.learn_from(request);
        match self.view(GRACE, |view| of(self.0.lists.decide(request, view))) {
            Ok(verdict) => verdict,
            Err(_) => {
                let (rights, request) = (self.clone(), request.clone());
                tokio::spawn(async move { rights.check(&request).await });
                Err(Refusal::Unchecked)
            }
        }
    }

    /// Whether a user is a member of a server, or `None` if Discord gives no answer.
    pub(super) async fn is_member(&self, guild: Snowflake, user: Snowflake) -> Option<bool> {
        let member = |view: &View<'_>| match view.member(guild, user) {
            Some(member) => Ok(member.is_some()),
            None => Err([Fact::Member(guild, user)].into()),
        };
        self.resolve(TOKEN_WAIT, member).await
    }

    /// Whether a user is a member of a server and manages it, or `None` if Discord gives no answer.
    pub(super) async fn manages(&self, guild: Snowflake, user: Snowflake) -> Option<bool> {
        let manages = |view: &View<'_>| {
            let missing = |fact| BTreeSet::from([fact]);
            let Some(member) = view.member(guild, user) else {
                return Err(missing(Fact::Member(guild, user)));
            };
            let Some(roles) = member else { return Ok(false) };
            match view.guild(guild) {
                Some(known) => Ok(known.is_some_and(|known| facts::may_manage(known, guild, user, roles))),
                None => Err(missing(Fact::Guild(guild))),
            }
        };
        self.resolve(INTERACTION_WAIT, manages).await
    }

    /// Returns a server by its id, or `None` if the bot is not in it or Discord gives no answer.
    pub(super) async fn guild(&self, id: Snowflake) -> Option<Guild> {
        let guild =
            |view: &View<'_>| view.guild(id).map(Option::<&Guild>::cloned).ok_or([Fact::Guild(id)].into());
        self.resolve(TOKEN_WAIT, guild).await.flatten()
    }

    /// Whether the bot is in this server.
    pub(super) fn is_in(&self, guild: Snowflake) -> bool {
        self.facts().is_in(guild)
    }

    /// Returns the servers that the bot is in, as far as the gateway has reported them.
    pub(super) fn own_guilds(&self) -> BTreeSet<Snowflake> {
        self.facts().own_guilds()
    }

    /// Asks for the end of a conversation's worker.
    pub(super) fn end(&self, conversation: ConversationId) {
        self.0.ended.add(conversation);
    }

    /// Waits for conversations whose workers must end.
    pub(super) async fn next_ended(&self) -> BTreeSet<ConversationId> {
        self.0.ended.next().await
    }

    /// Forgets a fact, so that its next reader requests it.
    pub(super) fn forget(&self, fact: Fact) {
        self.facts().forget(fact);
    }

    /// Forgets all memberships in a server.
    pub(super) fn forget_members(&self, guild: Snowflake) {
        self.facts().forget_members(guild);
    }

    /// Records that the bot is in a server with these roles.
    pub(super) fn joined(&self, guild: Snowflake, roles: Vec<Snowflake>) {
        self.facts().joined(guild, roles);
    }

    /// Records that the bot is no longer in a server.
    pub(super) fn left(&self, guild: Snowflake) {
        let now = self.0.clock.elapsed();
        self.facts().left(guild, now);
    }

    /// Applies a rule to facts that are fresh. Requests those that are missing, and waits for them at
    /// most for the given time. If Discord gives no answer, older facts count. Returns `None` if these
    /// are missing too.
    async fn resolve<T>(
        &self,
        within: Duration,
        rule: impl Fn(&View<'_>) -> Result<T, BTreeSet<Fact>>,
    ) -> Option<T> {
        if let Ok(result) = self.view(FRESH, &rule) {
            return Some(result);
        }
        let _ = tokio::time::timeout(within, self.request_needed(&rule)).await;
        self.view(FRESH, &rule).or_else(|_| self.view(GRACE, &rule)).ok()
    }

    async fn request_needed<T>(&self, rule: impl Fn(&View<'_>) -> Result<T, BTreeSet<Fact>>) {
        let Some(rest) = self.0.rest.get() else { return };
        let mut resting_until = self.0.requesting.lock().await;
        for _ in 0..ROUNDS {
            // Another caller may have requested them.
            let Err(needs) = self.view(FRESH, &rule) else { return };
            let now = self.0.clock.elapsed();
            if now < *resting_until {
                return;
            }
            // A caller that gives up drops this future here. The pause then holds for the next one.
            *resting_until = now + PAUSE;
            let mut is_unanswered = false;
            let asked = needs.iter().filter(|fact| !self.learn_if_hidden(**fact));
            for found in join_all(asked.map(|fact| rest.find(*fact))).await {
                match found {
                    Ok(found) => self.facts().learn(found, now),
                    Err(error) => {
                        debug!(%error, "Discord does not answer a question about rights");
                        is_unanswered = true;
                    }
                }
            }
            if is_unanswered {
                return;
            }
            *resting_until = Duration::ZERO;
        }
    }

    /// Records the absence of a fact about a server that does not have the bot, and returns whether it
    /// did. Discord would refuse the request.
    fn learn_if_hidden(&self, fact: Fact) -> bool {
        let absent = match fact {
            Fact::Guild(guild) if !self.is_in(guild) => Found::Guild(guild, None),
            Fact::Member(guild, user) if !self.is_in(guild) => Found::Member(guild, user, None),
            Fact::Application | Fact::Guild(_) | Fact::Channel(_) | Fact::Member(..) => return false,
        };
        self.learn(absent);
        true
    }

    fn view<T>(&self, max_age: Duration, rule: impl Fn(&View<'_>) -> T) -> T {
        let now = self.0.clock.elapsed();
        rule(&self.facts().view(now, max_age))
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a fact as reported now.
    pub(super) fn learn(&self, found: Found) {
        let now = self.0.clock.elapsed();
        self.facts().learn(found, now);
    }

    fn learn_from(&self, request: &Request) {
        if let Some((guild, roles)) = &request.member {
            self.learn(Found::Member(*guild, request.user, Some(roles.clone())));
        }
    }
}

/// A verdict as the result of a rule.
fn of(verdict: Verdict) -> Result<Result<(), Refusal>, BTreeSet<Fact>> {
    match verdict {
        Verdict::Entitled => Ok(Ok(())),
        Verdict::Refused(refusal) => Ok(Err(refusal)),
        Verdict::Needs(needs) => Err(needs),
    }
}

#[async_trait]
impl OwnerRights for Rights {
    async fn of(&self, conversation: &Conversation) -> Result<Standing, RightsError> {
        let owner = conversation.owner;
        let entitled = |view: &View<'_>| of(self.0.lists.entitlement(owner, None, view));
        let unknown = RightsError::Unknown { retry_after: PAUSE };
        match self.resolve(TOKEN_WAIT, entitled).await {
            Some(Ok(())) => {}
            Some(Err(_)) => {
                self.0.ended.add(conversation.id);
                return Err(RightsError::NotEntitled);
            }
            None => return Err(unknown),
        }
        let shares = match conversation.shared_guild {
            Some(guild) => self.is_member(guild, owner).await.ok_or(unknown)?,
            None => false,
        };
        Ok(Standing { shares })
    }

    async fn manages(&self, guild: Snowflake, user: Snowflake) -> Result<(), RightsError> {
        match Self::manages(self, guild, user).await {
            Some(true) => Ok(()),
            Some(false) => Err(RightsError::NotEntitled),
            None => Err(RightsError::Unknown { retry_after: PAUSE }),
        }
    }

    async fn of_principal(&self, principal: Principal) -> Result<(), RightsError> {
        let unknown = Err(RightsError::Unknown { retry_after: PAUSE });
        match principal {
            Principal::Local => Ok(()),
            Principal::User(user) => {
                let entitled = |view: &View<'_>| of(self.0.lists.entitlement(user, None, view));
                match self.resolve(TOKEN_WAIT, entitled).await {
                    Some(Ok(())) => Ok(()),
                    Some(Err(_)) => Err(RightsError::NotEntitled),
                    None => unknown,
                }
            }
            Principal::Guild(guild) if !self.0.lists.allow_guild(guild) => Err(RightsError::NotEntitled),
            // The gateway reports the bot's servers one by one after a start, so a missing one may
            // still come.
            Principal::Guild(guild) if !self.is_in(guild) => unknown,
            Principal::Guild(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
