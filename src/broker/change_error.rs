//! The errors of the operations that end or choose a sign-in or a session.

use super::error::exchanged;
use crate::{
    ids::{ProviderId, Tenant},
    store::StoreError,
};

/// A sign-in that could not be cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A choice between two accounts that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// It was made before, or the sign-in was replaced by a newer one or has expired.
    #[error(
        "no sign-in for {0} waits for your choice: it was decided, replaced or dropped. To use another account, sign in again"
    )]
    Gone(Tenant),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A session that could not be logged out.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// There is nothing to remove.
    #[error("{0} is not signed in, so there is nothing to log out")]
    NoSession(Tenant),
    /// The provider has no sessions, because its tokens come by exchange.
    #[error("{}", exchanged(id, from, "Log out"))]
    Exchanged {
        /// The provider.
        id: ProviderId,
        /// The provider with the sign-in.
        from: ProviderId,
    },
    /// There is no session, but a token of the environment.
    #[error(
        "{tenant} has no session to log out: its token comes from the variable {variable} of threadkey's environment. Unset it, or remove it from providers.{}.token_env",
        tenant.provider
    )]
    FromEnvironment {
        /// The tenant.
        tenant: Tenant,
        /// The variable.
        variable: String,
    },
    /// Other sessions have the same account, and some providers end all grants of an account at
    /// once. Nothing was changed: the user decides.
    #[error(
        "{} may have the same account at {}, and ending the grant of {tenant} may sign it out too: nothing was changed",
        tenant_list(others), tenant.provider
    )]
    Shared {
        /// The tenant that was to be logged out.
        tenant: Tenant,
        /// The tenants of the other sessions.
        others: Vec<Tenant>,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn tenant_list(tenants: &[Tenant]) -> String {
    tenants.iter().map(Tenant::to_string).collect::<Vec<_>>().join(", ")
}
