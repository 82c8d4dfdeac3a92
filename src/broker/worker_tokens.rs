//! The rule that decides which token a worker may have.
//!
//! A worker presents a capability. Its [`Holder`] names the conversation and the providers that the
//! worker may use. The conversation names its owner. It names a server as well if sharing is on and
//! the owner is a member. For one provider the rule is:
//!
//! 1. A provider outside the holder's list is refused, whether or not it is configured.
//! 2. A provider on the list that the configuration lacks is refused by name.
//! 3. An owner who may no longer use the bot gets no token ([`OwnerRights`]). The right is checked
//!    again when the token leaves, because a refresh takes a while.
//! 4. The worker gets the token of the owner's own session, `user:<owner>`.
//!    A token of the environment that the configuration gives to `user:<owner>` takes its place. A
//!    token by exchange comes from that principal's session at the other provider.
//! 5. If the owner has no session, the conversation names a server of which the owner is still a
//!    member, and that server has a session, the worker gets the token of that session,
//!    `guild:<server>`.
//! 6. If neither session exists, the owner's tenant counts, so that the error asks the owner to
//!    sign in. A request that may wait asks by the bot ([`WorkerTokens::owner_wait`]), and each later attempt of it
//!    follows this rule anew.
//! 7. A worker that has reported a token does not get it again for ten minutes. Others still do,
//!    until the report is confirmed. A conversation forces at most one refresh in ten minutes, and
//!    its further reports in that time do nothing. A 401 that the injecting proxy meets is a report
//!    that takes the token from no request: one endpoint may refuse every token.
//! 8. The scrubber knows every token before it leaves, so that no text and no log shows it.
//! 9. A request that the injecting proxy forwards uses the token until its answer ends. It ends
//!    earlier once the owner or the server loses the right of rule 3 or 5, or the session that it
//!    began with is gone or replaced ([`GrantInUse`]).
//!
//! Operator keys have scopes of their own, and of this rule the limits of 7 alone.
//!
//! No other code decides this: the token API, the workers' environment, the background refresh and
//! `/auth status` all use this file. Whether a conversation names a server is decided where the
//! worker is started, in `discord::ask`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use tokio_util::sync::CancellationToken;

use super::{
    Broker, DEFAULT_MIN_TTL, Lease, OwnerQuestions, OwnerRights, RightsError, TokenError, WithoutBot,
    reports::{Reporter, Reports},
};
use crate::{
    agent::{Conversation, Holder, Served, TokenChanges, TokenRefusal, TokenSource},
    ids::{Lineage, Principal, ProviderId, Tenant, UnixTime},
    secret::{AccessToken, Fingerprint, Scrubber},
    session::Wish,
    store::{ChangeNotices, StoreError},
    sys::clock::Clock,
    tools::TokenValues,
};

/// Hands out tokens to workers, by the rule of this file. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct WorkerTokens {
    broker: Broker,
    reports: Arc<Reports>,
    rights: Arc<dyn OwnerRights>,
    questions: Arc<dyn OwnerQuestions>,
    /// Ends the waits for owners.
    ending: CancellationToken,
}

/// The right of one worker to one tenant's tokens. Only [`WorkerTokens::entitlement`] creates it.
pub struct Entitlement<'a> {
    tokens: &'a WorkerTokens,
    tenant: Tenant,
    /// The conversation of the worker. A command in a terminal has none.
    conversation: Option<Conversation>,
}

/// The grant that a forwarded request of a worker uses: a sign-in of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantInUse {
    tenant: Tenant,
    /// The sign-in; `None` for a token of the environment.
    lineage: Option<Lineage>,
}

/// The reason why a worker gets no token.
#[derive(Debug, thiserror::Error)]
pub enum WorkerTokenError {
    /// The holder's list does not have this provider.
    #[error("agents may not use the provider {0}: see agent.providers")]
    ProviderNotAllowed(ProviderId),
    /// The owner has lost the right.
    #[error(
        "the owner of this conversation may no longer use the bot here: a membership, a role or a channel has changed. The operator or a manager of the server can give it back"
    )]
    NotEntitled,
    /// The owner's right is unknown.
    #[error(
        "Discord has not confirmed for too long that the owner of this conversation may use the bot: try again in {} s", retry_after.as_secs()
    )]
    RightsUnknown {
        /// The time to wait.
        retry_after: Duration,
    },
    /// The broker refused.
    #[error(transparent)]
    Token(#[from] TokenError),
}

// === impl WorkerTokens ===

impl WorkerTokens {
    /// Takes the broker, and the rights of the owners. No owner can be asked to sign in.
    pub fn new(broker: Broker, rights: Arc<dyn OwnerRights>) -> Self {
        let (questions, ending) = (Arc::new(WithoutBot), CancellationToken::new());
        Self { broker, reports: Arc::default(), rights, questions, ending }
    }

    /// The same, which asks owners to sign in.
    #[must_use]
    pub fn asking(self, questions: Arc<dyn OwnerQuestions>) -> Self {
        Self { questions, ..self }
    }

    pub(super) fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(super) fn questions(&self) -> &dyn OwnerQuestions {
        &*self.questions
    }

    /// Decides which tenant's tokens a worker of `holder` gets for `provider`. The decision is a
    /// snapshot: it is made again for each request.
    ///
    /// # Errors
    /// [`WorkerTokenError::ProviderNotAllowed`] by rule 1, [`TokenError::UnknownProvider`] by rule
    /// 2, [`WorkerTokenError::NotEntitled`] or [`WorkerTokenError::RightsUnknown`] by rule 3, or the
    /// store's error.
    pub async fn entitlement(
        &self,
        holder: &Holder,
        provider: &ProviderId,
    ) -> Result<Entitlement<'_>, WorkerTokenError> {
        let candidates = Candidates::of(holder, provider)
            .ok_or_else(|| WorkerTokenError::ProviderNotAllowed(provider.clone()))?;
        if !self.broker.providers().contains(provider) {
            return Err(TokenError::UnknownProvider(provider.clone()).into());
        }
        let shares = self.rights.of(&holder.conversation).await?.shares;
        let candidates = Candidates { shared: candidates.shared.filter(|_| shares), ..candidates };
        let tenant = candidates.choose(&self.broker).await.map_err(TokenError::from)?;
        Ok(Entitlement { tokens: self, tenant, conversation: Some(holder.conversation.clone()) })
    }

    /// The same for any party with a port of the injecting proxy. A command in a terminal has the login
    /// that its user named, and who may start it may read the store: Discord's rights do not matter.
    ///
    /// # Errors
    /// As [`WorkerTokens::entitlement`].
    pub async fn entitlement_of(
        &self,
        served: &Served,
        provider: &ProviderId,
    ) -> Result<Entitlement<'_>, WorkerTokenError> {
        match served {
            Served::Worker(holder) => self.entitlement(holder, provider).await,
            Served::Terminal { providers, .. } if !providers.contains(provider) => {
                Err(WorkerTokenError::ProviderNotAllowed(provider.clone()))
            }
            Served::Terminal { principal, .. } => {
                let tenant = Tenant::new(provider.clone(), *principal);
                Ok(Entitlement { tokens: self, tenant, conversation: None })
            }
        }
    }

    /// Checks that a party may still use a grant. A later sign-in of the same tenant is another grant.
    ///
    /// # Errors
    /// The reason why it may not, or the store's error.
    pub async fn check_grant(&self, served: &Served, grant: &GrantInUse) -> Result<(), WorkerTokenError> {
        let GrantInUse { tenant, lineage } = grant;
        let conversation = match served {
            Served::Worker(holder) => Some(&holder.conversation),
            Served::Terminal { .. } => None,
        };
        self.check_right(conversation, tenant).await?;
        if self.lineage(tenant).await? == *lineage {
            return Ok(());
        }
        Err(TokenError::NoSession(tenant.clone()).into())
    }

    /// Checks the right of a conversation's owner to a tenant's tokens. A command in a terminal has no
    /// conversation, and its user may read the store.
    async fn check_right(
        &self,
        conversation: Option<&Conversation>,
        tenant: &Tenant,
    ) -> Result<(), WorkerTokenError> {
        let Some(conversation) = conversation else { return Ok(()) };
        let standing = self.rights.of(conversation).await?;
        if matches!(tenant.principal, Principal::Guild(_)) && !standing.shares {
            return Err(WorkerTokenError::NotEntitled);
        }
        Ok(())
    }

    /// The clock of the rights and the sessions.
    pub fn clock(&self) -> &Clock {
        self.broker.clock()
    }

    /// Subscribes to the changes after which a grant may be gone.
    pub fn changes(&self) -> ChangeNotices {
        self.broker.changes()
    }

    /// The sign-in that the tenant's tokens come from; `None` for a token of the environment.
    async fn lineage(&self, tenant: &Tenant) -> Result<Option<Lineage>, TokenError> {
        if self.broker.environment_variable(tenant).is_some() {
            return Ok(None);
        }
        let records = self.broker.inner.store.list().await?;
        let entry = records.get(&self.broker.source_of(tenant));
        let session = entry.and_then(|entry| entry.session.as_ref());
        Ok(Some(session.ok_or_else(|| TokenError::NoSession(tenant.clone()))?.lineage))
    }

    /// Whether a worker of `holder` gets the tokens of `tenant`.
    ///
    /// # Errors
    /// The store's error.
    pub async fn uses(broker: &Broker, holder: &Holder, tenant: &Tenant) -> Result<bool, StoreError> {
        match Candidates::of(holder, &tenant.provider) {
            Some(candidates) if candidates.contains(tenant) => {
                Ok(candidates.choose(broker).await? == *tenant)
            }
            _ => Ok(false),
        }
    }

    /// Returns the tenant that the owner of a conversation has to sign in before a worker can work,
    /// if there is one: the first of the `required` providers without a login, or the first
    /// provider of the holder if none has a login.
    ///
    /// # Errors
    /// The store's error.
    pub async fn missing_login(
        broker: &Broker,
        holder: &Holder,
        required: &[ProviderId],
    ) -> Result<Option<Tenant>, StoreError> {
        let mut first = None;
        let mut has_any = false;
        for provider in holder.providers.iter().filter(|id| broker.providers().contains(id)) {
            let Some(candidates) = Candidates::of(holder, provider) else { continue };
            // A token by exchange needs the sign-in at the other provider.
            let own = broker.source_of(&candidates.own);
            if broker.has_login(&candidates.choose(broker).await?).await? {
                has_any = true;
            } else if required.contains(provider) {
                return Ok(Some(own));
            } else {
                first = first.or(Some(own));
            }
        }
        Ok(first.filter(|_| !has_any))
    }

    /// Returns the sorted tenants whose tokens the workers of these holders may get, now or after a
    /// sign-in or logout.
    pub fn in_use(holders: &[Holder]) -> Vec<Tenant> {
        let candidates = holders.iter().flat_map(|holder| {
            holder.providers.iter().filter_map(|provider| Candidates::of(holder, provider))
        });
        let mut tenants: Vec<Tenant> =
            candidates.flat_map(|Candidates { own, shared }| [Some(own), shared]).flatten().collect();
        tenants.sort();
        tenants.dedup();
        tenants
    }

    /// Returns a token for a program with this operator key, whose scope covers the tenant.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn operators_token(
        &self,
        key: &str,
        tenant: &Tenant,
        min_ttl: Duration,
    ) -> Result<Lease, TokenError> {
        self.token_of(&Reporter::OperatorKey(key.to_owned()), tenant, min_ttl).await
    }

    /// The same for a program that cannot report a rejected token: it is tried at the provider first.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn operators_probed_token(
        &self,
        key: &str,
        tenant: &Tenant,
        min_ttl: Duration,
    ) -> Result<Lease, TokenError> {
        self.probed_token_of(&Reporter::OperatorKey(key.to_owned()), tenant, min_ttl).await
    }

    /// Takes the report of a program with this operator key, whose scope covers the tenant. The limits
    /// are those of a conversation.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn rejected_by_operator(
        &self,
        key: &str,
        tenant: &Tenant,
        token: &AccessToken,
    ) -> Result<Lease, TokenError> {
        let reporter = Reporter::OperatorKey(key.to_owned());
        self.report(&reporter, tenant, token, Some(token.fingerprint())).await
    }

    async fn token_of(
        &self,
        reporter: &Reporter,
        tenant: &Tenant,
        min_ttl: Duration,
    ) -> Result<Lease, TokenError> {
        let refused = self.reports.refused(reporter, tenant, self.broker.inner.now());
        self.token_for(reporter, tenant, Wish { min_ttl, refused, ..Wish::default() }).await
    }

    /// A refusal by the provider is no caller's word, so the limits of rule 7 on reports do not apply to it.
    async fn probed_token_of(
        &self,
        reporter: &Reporter,
        tenant: &Tenant,
        min_ttl: Duration,
    ) -> Result<Lease, TokenError> {
        let refused = self.reports.refused(reporter, tenant, self.broker.inner.now());
        self.reports.settled(reporter, tenant).await;
        self.broker.probed_token_for(tenant, Wish { min_ttl, refused, ..Wish::default() }).await
    }

    async fn token_for(&self, reporter: &Reporter, tenant: &Tenant, wish: Wish) -> Result<Lease, TokenError> {
        self.reports.settled(reporter, tenant).await;
        self.broker.token_for(tenant, wish).await
    }

    /// Reports a token, refuses `refused` to the reporter from then on, and returns a newer token.
    async fn report(
        &self,
        reporter: &Reporter,
        tenant: &Tenant,
        token: &AccessToken,
        refused: Option<Fingerprint>,
    ) -> Result<Lease, TokenError> {
        let Self { broker, reports, .. } = self;
        let now = broker.inner.now();
        let another =
            Wish { min_ttl: DEFAULT_MIN_TTL, refused: Some(token.fingerprint()), ..Wish::default() };
        if !broker.is_stored(tenant) {
            // No session has the token, so the report costs no refresh. Its reporter gets another one or
            // none.
            drop(reports.record(reporter, tenant, refused, now));
            return self.token_for(reporter, tenant, another).await;
        }
        let session = broker.session(tenant).await?;
        if session.is_none_or(|session| session.access_token != *token) {
            // An older token: the report costs nothing.
            return self.token_of(reporter, tenant, DEFAULT_MIN_TTL).await;
        }
        let Some(reporting) = reports.record(reporter, tenant, refused, now) else {
            return self.token_for(reporter, tenant, another).await;
        };
        // A task of its own: without the report in the store, the caller's leaving would cost its
        // fellow reporters the token for ten minutes.
        let (broker, of, token) = (broker.clone(), tenant.clone(), token.clone());
        let reported = tokio::spawn(async move {
            let _reporting = reporting;
            broker.rejected(&of, &token).await
        });
        reported.await.map_err(|_| TokenError::Internal(tenant.clone()))?
    }
}

#[async_trait]
impl TokenSource for WorkerTokens {
    async fn token(&self, holder: &Holder, provider: &ProviderId) -> Result<TokenValues, TokenRefusal> {
        let lease = async { self.entitlement(holder, provider).await?.token(DEFAULT_MIN_TTL).await };
        let lease = lease.await.map_err(|error| {
            let is_final = error.is_final();
            let reason = match error {
                // The error names the store's path, which is for the operator and not for the owner of
                // a worker.
                WorkerTokenError::Token(TokenError::Store(error)) => {
                    tracing::error!(%error, "a worker gets no token because the store cannot be used");
                    "the store cannot be used at the moment: threadkey's log has the reason".to_owned()
                }
                error => error.to_string(),
            };
            TokenRefusal { reason, is_final }
        })?;
        let id_token = match self.broker.session(&lease.tenant).await {
            Ok(Some(session)) if session.access_token == lease.access_token => session.id_token,
            _ => None,
        };
        let Lease { access_token, expires_at, account, scope, .. } = lease;
        Ok(TokenValues { access_token, expires_at, account, scope, id_token })
    }

    fn changes(&self) -> Box<dyn TokenChanges> {
        Box::new(self.broker.changes())
    }

    fn now(&self) -> UnixTime {
        self.broker.now()
    }
}

#[async_trait]
impl TokenChanges for ChangeNotices {
    async fn next(&mut self) {
        Self::next(self).await;
    }
}

impl WorkerTokenError {
    /// Whether the worker has no right to a token now: the owner's right or the session has ended, or
    /// is not known. Otherwise the reason passes by itself.
    fn is_final(&self) -> bool {
        match self {
            Self::ProviderNotAllowed(_) | Self::NotEntitled | Self::RightsUnknown { .. } => true,
            Self::Token(error) => error.is_final(),
        }
    }
}

// === impl GrantInUse ===

impl GrantInUse {
    /// The grant that a token comes from.
    pub fn of(lease: &Lease) -> Self {
        Self { tenant: lease.tenant.clone(), lineage: lease.lineage }
    }
}

// === impl Entitlement ===

impl Entitlement<'_> {
    /// The tenant whose tokens the worker gets.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Returns a token, as [`Broker::token`] does.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self, min_ttl: Duration) -> Result<Lease, WorkerTokenError> {
        self.hand_out(self.tokens.token_of(&self.reporter(), &self.tenant, min_ttl).await?).await
    }

    /// The same for a program that cannot report a rejected token: it is tried at the provider first.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn probed_token(&self, min_ttl: Duration) -> Result<Lease, WorkerTokenError> {
        self.hand_out(self.tokens.probed_token_of(&self.reporter(), &self.tenant, min_ttl).await?).await
    }

    /// Reports a token that a resource rejected, and returns a newer one, as [`Broker::rejected`]
    /// does.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn rejected(&self, token: &AccessToken) -> Result<Lease, WorkerTokenError> {
        self.report(token, Some(token.fingerprint())).await
    }

    /// The same for a token that an upstream of the injecting proxy rejected. Without a newer one, the
    /// worker still gets this token for its next request.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn rejected_by_upstream(&self, token: &AccessToken) -> Result<Lease, WorkerTokenError> {
        self.report(token, None).await
    }

    async fn report(
        &self,
        token: &AccessToken,
        refused: Option<Fingerprint>,
    ) -> Result<Lease, WorkerTokenError> {
        let lease = self.tokens.report(&self.reporter(), &self.tenant, token, refused).await?;
        self.hand_out(lease).await
    }

    fn reporter(&self) -> Reporter {
        match &self.conversation {
            Some(conversation) => Reporter::Conversation(conversation.id),
            None => Reporter::Terminal,
        }
    }

    /// Reports that a resource demands more scopes, as [`Broker::insufficient_scope`] does.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn insufficient_scope(
        &self,
        challenges: &[String],
    ) -> Result<Option<Vec<String>>, WorkerTokenError> {
        Ok(self.tokens.broker.insufficient_scope(&self.tenant, challenges).await?)
    }

    /// Rules 3 and 8.
    async fn hand_out(&self, lease: Lease) -> Result<Lease, WorkerTokenError> {
        self.tokens.check_right(self.conversation.as_ref(), &self.tenant).await?;
        Scrubber::of_process().note(lease.access_token.expose());
        Ok(lease)
    }
}

impl From<RightsError> for WorkerTokenError {
    fn from(error: RightsError) -> Self {
        match error {
            RightsError::NotEntitled => Self::NotEntitled,
            RightsError::Unknown { retry_after } => Self::RightsUnknown { retry_after },
        }
    }
}

// === impl Candidates ===

/// The tenants that may serve a worker for one provider.
pub(super) struct Candidates {
    pub(super) own: Tenant,
    pub(super) shared: Option<Tenant>,
}

impl Candidates {
    /// Rule 1, and the tenants of rules 4 and 5.
    pub(super) fn of(holder: &Holder, provider: &ProviderId) -> Option<Self> {
        if !holder.providers.contains(provider) {
            return None;
        }
        let tenant = |principal| Tenant::new(provider.clone(), principal);
        let own = tenant(Principal::User(holder.conversation.owner));
        let shared = holder.conversation.shared_guild.map(|guild| tenant(Principal::Guild(guild)));
        Some(Self { own, shared })
    }

    fn contains(&self, tenant: &Tenant) -> bool {
        self.own == *tenant || self.shared.as_ref() == Some(tenant)
    }

    /// Rules 4 to 6.
    async fn choose(self, broker: &Broker) -> Result<Tenant, StoreError> {
        let Some(shared) = self.shared else { return Ok(self.own) };
        if has_session(broker, &self.own).await? || !has_session(broker, &shared).await? {
            return Ok(self.own);
        }
        Ok(shared)
    }
}

async fn has_session(broker: &Broker, tenant: &Tenant) -> Result<bool, StoreError> {
    let has_environment = broker.environment_variable(tenant).is_some();
    Ok(has_environment || broker.inner.store.read(&broker.source_of(tenant)).await?.session.is_some())
}

#[cfg(test)]
mod tests;
