//! The error of a sign-in that could not be finished. Each text names the next step.

use std::time::Duration;

use super::error::{is_from_a_wrong_endpoint, no_client_secret, settings_of, undiscovered, unknown_provider};
use crate::{
    ids::ProviderId,
    net::Unreachable,
    oauth::{DiscoveryError, PasteError},
    session::{PENDING_LIFETIME, in_words},
    store::StoreError,
    sys::{lock_holder::LockHolder, secret_source::NoSecret},
};

/// A sign-in that could not be finished. Unless a variant states otherwise, the sign-in stays open and
/// nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    UnknownProvider(ProviderId),
    /// The provider's endpoints are not known, and they cannot be fetched now. The code was not used.
    #[error("{}", undiscovered(provider, problem, "your code was not used, and the sign-in is still open"))]
    Undiscovered {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: DiscoveryError,
    },
    /// The user has no sign-in in progress.
    #[error("you have no sign-in in progress{} (one stays open for {} at most): begin with /auth start, or threadkey auth start in a terminal", for_provider(provider.as_ref()), in_words(PENDING_LIFETIME))]
    NothingPending {
        /// The provider that was asked about.
        provider: Option<ProviderId>,
    },
    /// No sign-in is in progress, but there is a session: most likely the code was used before.
    #[error("there is no sign-in in progress for {provider}, and you are signed in{}: a code works once, and yours was used", as_account(account.as_deref()))]
    AlreadyDone {
        /// The provider.
        provider: ProviderId,
        /// The account.
        account: Option<String>,
    },
    /// No sign-in is in progress, but one waits for a choice: most likely the code was used for it.
    #[error("you have already signed in at {provider}{}, and that sign-in waits for your choice: /auth status on Discord, or threadkey auth status in a terminal, asks again", as_account(account.as_deref()))]
    AwaitsChoice {
        /// The provider.
        provider: ProviderId,
        /// The account.
        account: Option<String>,
    },
    /// The sign-in has expired.
    #[error(
        "that sign-in for {0} has expired (it was open for {open_for}): start a new one and use its link",
        open_for = in_words(*.1)
    )]
    Expired(ProviderId, Duration),
    /// Several are in progress, and the paste does not name one.
    #[error("you have several sign-ins in progress ({}): name the provider", list(.0))]
    Ambiguous(Vec<ProviderId>),
    /// The sign-in is a server's, and its user does not manage that server here and now.
    #[error(
        "that sign-in for {0} is for a whole server, so nothing was sent: finish it in that server, as a member with the permission Manage Server. A manager of the server can give it to you"
    )]
    ManagersOnly(ProviderId),
    /// The paste belongs to another sign-in (RFC 6749 §10.12).
    #[error("{}", PasteError::StateMismatch)]
    StateMismatch,
    /// The paste contains no code, several codes, or a denial.
    #[error(transparent)]
    Paste(PasteError),
    /// The sign-in comes back through our own pages, so a paste could bring another user's answer.
    #[error(
        "the sign-in for {0} goes through its link, so nothing was sent: a pasted address could be another user's. Open the link of /auth start, and type the six digits that its last page shows"
    )]
    ByBrowser(ProviderId),
    /// The sign-in waits for its digits.
    #[error(
        "the sign-in for {0} waits for the six digits of its last page: type only them. If you do not have them, use /auth cancel and start again"
    )]
    DigitsExpected(ProviderId),
    /// Other digits than those of the page.
    #[error("those are not the digits of the page for {provider}: look at it again. You have {}", attempts(*left))]
    WrongDigits {
        /// The provider.
        provider: ProviderId,
        /// The attempts that are left.
        left: u32,
    },
    /// The digits are those of none of the pages that wait. It counts against each.
    #[error("those are not the digits of any of your pages ({}): look at them again, and name the provider. You have {}", list(providers), attempts(*left))]
    WrongDigitsOfSeveral {
        /// The providers.
        providers: Vec<ProviderId>,
        /// The attempts that are left for the last of them.
        left: u32,
    },
    /// Other digits were typed too often.
    #[error(
        "those digits are wrong too, so the sign-in for {provider} is dropped{}. Begin again with /auth start", if *is_revoked { ", and its access has ended" } else { ". Its access may still work there: remove it in that account" }
    )]
    DigitsUsedUp {
        /// The provider.
        provider: ProviderId,
        /// Whether the provider has ended the grant.
        is_revoked: bool,
    },
    /// A bare code where the state is needed.
    #[error("for {0} the code alone is not enough: paste the whole address of the page that you ended on")]
    StateNeeded(ProviderId),
    /// The answer comes from another server (RFC 9207).
    #[error(
        "that answer comes from {got}, and the sign-in was started at {expected}: nothing was sent. Start again and use the new link"
    )]
    IssuerMismatch {
        /// The issuer of the sign-in.
        expected: String,
        /// The issuer of the answer.
        got: String,
    },
    /// The answer names no issuer, and the provider's answers always do (RFC 9207 §2.4).
    #[error(
        "that answer does not name {0} as its issuer, and answers of {0} always do: nothing was sent. Paste the whole address of the page that you ended on; if it has no iss, it comes from another server"
    )]
    IssuerMissing(ProviderId),
    /// Another process is exchanging a code for it.
    #[error("a code for {0} is being exchanged: wait for that answer")]
    Busy(ProviderId),
    /// As [`FinishError::Busy`], and the other process is known.
    #[error("a code for {provider} is being exchanged by {holder}: {}", holder.next_step())]
    Held {
        /// The provider.
        provider: ProviderId,
        /// The process that holds the tenant's sign-in lock, or the stopped one that it waits for.
        holder: LockHolder,
    },
    /// The provider has accepted the code, and its answer cannot be saved as a session so far. It is
    /// tried again.
    #[error(
        "{0} has accepted your code, and the sign-in cannot be saved yet; it is not lost, so do not sign in again. \
         Look at the status in a moment"
    )]
    NotSaved(ProviderId),
    /// This code was sent before, or was about to be sent, and its outcome is unknown.
    #[error(
        "that code may have been sent to {0} before, and no answer came back; a code works once, so follow the link again and paste the new one"
    )]
    CodeSpent(ProviderId),
    /// The provider refuses the code.
    #[error(
        "{provider} does not accept that code ({code}): codes are short-lived and work once. Your sign-in is still open: follow the link again and paste the new code"
    )]
    Refused {
        /// The provider.
        provider: ProviderId,
        /// The provider's error code.
        code: String,
    },
    /// The provider did not accept several codes of this sign-in.
    #[error(
        "{provider} did not accept several codes, so the next one is sent only after a pause: follow the link again, and paste the new code in {} s. Your sign-in is still open",
        retry_after.as_secs()
    )]
    TooManyCodes {
        /// The provider.
        provider: ProviderId,
        /// The pause.
        retry_after: Duration,
    },
    /// No connection to the provider: the code was not used.
    #[error(
        "{provider} cannot be reached ({code}{}); your code was not used, and the sign-in is still open: send it again in a moment. If it stays so, the operator must check the network of this machine and the endpoints of providers.{provider}",
        cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
    )]
    Unreachable {
        /// The provider.
        provider: ProviderId,
        /// The failed step: `dns`, `connect`, `tls` or `proxy`.
        code: String,
        /// The cause, if this process knows it.
        cause: Option<Unreachable>,
    },
    /// The address of the token endpoint is most likely wrong: the code was not used.
    #[error(
        "{endpoint} is most likely not the token endpoint of {provider} ({code}): the operator must check providers.{provider}.token_endpoint. Your code was not used, and the sign-in is still open"
    )]
    WrongEndpoint {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
        /// The configured token endpoint.
        endpoint: String,
    },
    /// The provider refuses the authorization request (RFC 6749 §4.1.2.1). It sent no code.
    #[error(
        "{provider} refuses threadkey's sign-in request ({error}{}): the operator must check {} of providers.{provider}",
        description.as_deref().map(|d| format!(": {d}")).unwrap_or_default(), settings_of(error)
    )]
    RequestRefused {
        /// The provider.
        provider: ProviderId,
        /// The error code.
        error: String,
        /// The provider's description, cleaned for display.
        description: Option<String>,
    },
    /// The provider could not process the request: the code was not used.
    #[error(
        "{provider} cannot finish the sign-in now ({code}); your code was not used, and the sign-in is still open: send it again in a moment"
    )]
    Unavailable {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// The request went out and no answer came.
    #[error("{}", uncertain(provider, code))]
    Uncertain {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// The operator must correct the configuration.
    #[error(
        "{provider} refuses threadkey's client ({code}): the operator must check {} of providers.{provider}",
        settings_of(code)
    )]
    Misconfigured {
        /// The provider.
        provider: ProviderId,
        /// The error code.
        code: String,
    },
    /// The secret of threadkey's client cannot be read. The code was not sent.
    #[error("{}", no_client_secret(provider, problem))]
    NoClientSecret {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: NoSecret,
    },
    /// The tokens are for another sign-in.
    #[error(
        "{provider} answered for another sign-in (the id token's {claim} does not match), so its tokens were dropped: start again"
    )]
    Mismatch {
        /// The provider.
        provider: ProviderId,
        /// The claim.
        claim: &'static str,
    },
    /// The id token proves no account.
    #[error(
        "{provider} answered with an id token that is refused, so its tokens were dropped: {problem}. Then start again"
    )]
    IdTokenRefused {
        /// The provider.
        provider: ProviderId,
        /// The claim or the fault of the signature, and who mends it.
        problem: String,
    },
    /// The id token does not name its sign-in.
    #[error(
        "{0} answered with an id token that has no nonce, so its tokens were dropped: they may belong to another sign-in. If {0} enforces PKCE, the operator can set providers.{0}.enforces_pkce = true; then start again"
    )]
    NonceMissing(ProviderId),
    /// Cancelled, logged out or started again during the exchange; the result was dropped.
    #[error("that sign-in for {0} was cancelled or started again meanwhile; its result was dropped")]
    Superseded(ProviderId),
    /// The configuration names another endpoint or client than when the sign-in was started.
    #[error("the configuration of {0} has changed since the sign-in was started: start again")]
    BindingChanged(ProviderId),
    /// The sign-in needs no code: it is polled.
    #[error(
        "your sign-in at {0} needs no code here: allow the access on the provider's own page or device, and it finishes by itself"
    )]
    NoCodeNeeded(ProviderId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task ended without a result.
    #[error("the exchange for {0} ended without a result. This is a defect of threadkey: start again")]
    Internal(ProviderId),
}

impl From<PasteError> for FinishError {
    fn from(error: PasteError) -> Self {
        match error {
            PasteError::StateMismatch => Self::StateMismatch,
            error => Self::Paste(error),
        }
    }
}

fn uncertain(provider: &ProviderId, code: &str) -> String {
    if is_from_a_wrong_endpoint(code) {
        return format!(
            "{provider} answered without a token ({code}), so the code may have been used. Follow the link again and paste a new code. If \
             this repeats, the operator must check providers.{provider}.token_endpoint"
        );
    }
    format!(
        "{provider} did not answer ({code}), so the code may have been used. Follow the link again and paste a new code"
    )
}

/// The attempts that are left, as a user reads them.
fn attempts(left: u32) -> String {
    match left {
        1 => "one attempt left".to_owned(),
        left => format!("{left} attempts left"),
    }
}

fn for_provider(provider: Option<&ProviderId>) -> String {
    provider.map(|p| format!(" for {p}")).unwrap_or_default()
}

fn as_account(account: Option<&str>) -> String {
    account.map(|a| format!(" as {a}")).unwrap_or_default()
}

fn list(providers: &[ProviderId]) -> String {
    providers.iter().map(ProviderId::as_str).collect::<Vec<_>>().join(", ")
}
