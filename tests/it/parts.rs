//! What the rigs of several subjects are put together from.

use threadkey::{
    ids::{Principal, Tenant},
    oauth::ProviderSettings,
    secret::{CodeVerifier, State},
    session::{Binding, Pending, Session, Settlement},
    store::{Purpose, Store},
};

use crate::support::authserver::{self, AuthServer};

/// The embedded server as a provider whose grants are renewed, revoked, and known by account.
pub(crate) fn settings(server: &AuthServer) -> ProviderSettings {
    ProviderSettings {
        issuer: Some(server.issuer().into()),
        authorization_endpoint: server.authorization_endpoint(),
        token_endpoint: server.token_endpoint(),
        revocation_endpoint: Some(server.revocation_endpoint()),
        client_id: authserver::CLIENT_ID.into(),
        redirect_uri: authserver::PASTE_REDIRECT_URI.into(),
        scopes: vec!["openid".into(), "offline_access".into()],
        enforces_pkce: true,
        ..ProviderSettings::default()
    }
}

/// The binding of a grant at a provider that nobody asks.
pub(crate) fn binding() -> Binding {
    Binding {
        issuer: None,
        token_endpoint: "https://id.example/token".into(),
        client_id: "threadkey".into(),
        resource: None,
    }
}

/// A sign-in under way there, of the `state` "state".
pub(crate) fn pending(created_at: i64) -> Pending {
    Pending {
        verifier: CodeVerifier::new("verifier"),
        state: State::new("state"),
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at,
        started_by: Principal::Local,
        lineage_seen: None,
        binding: binding(),
        scopes: vec![],
    }
}

/// Commits a sign-in as the holder of its lock.
pub(crate) async fn finish_sign_in(store: &dyn Store, tenant: &Tenant, state: State, session: Box<Session>) {
    let lock = store.try_lock(tenant, Purpose::SignIn).await.expect("lockable");
    let settlement = Settlement::SignIn { state, session };
    let changed = lock.expect("free").settle(settlement).await.expect("writable");
    assert!(changed.applied.took_effect());
}
