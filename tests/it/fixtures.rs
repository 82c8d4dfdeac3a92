//! Settings and records that several subjects share.

use threadkey::{
    ids::{Principal, Tenant},
    oauth::{Exchange, ExchangeSettings, ProviderSettings},
    secret::{CodeVerifier, State},
    session::{Binding, Pending, Session, Settlement},
    store::{Purpose, Store},
};

use crate::support::authserver::{self, AuthServer};

/// Returns the settings of the embedded server, with refresh, revocation, and accounts.
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

/// Returns a provider whose tokens come by exchange from the sign-in at `from`, for an audience of the same
/// name.
pub(crate) fn exchange(name: &str, from: &str) -> Exchange {
    let settings = ExchangeSettings {
        from: from.parse().unwrap(),
        audience: vec![name.to_owned()],
        resource: Vec::new(),
        scopes: Vec::new(),
        requested_token_type: None,
        requested_issuer: None,
        token_params: Default::default(),
        client_id: None,
        client_auth: None,
        client_secret: None,
        client_key: None,
    };
    Exchange::new(name.parse().unwrap(), settings).unwrap()
}

/// Returns the binding of a grant at a provider that gets no request.
pub(crate) fn binding() -> Binding {
    Binding {
        issuer: None,
        token_endpoint: "https://id.example/token".into(),
        revocation_endpoint: None,
        userinfo_endpoint: None,
        probe_endpoint: None,
        client_id: "threadkey".into(),
        resource: None,
    }
}

/// Returns a pending sign-in at that provider, with the `state` "state".
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
        wrong_codes: None,
        browser: None,
        polling: None,
    }
}

/// Commits a sign-in as the holder of its lock.
pub(crate) async fn finish_sign_in(store: &dyn Store, tenant: &Tenant, state: State, session: Box<Session>) {
    let lock = store.try_lock(tenant, Purpose::SignIn).await.expect("lockable");
    let settlement = Settlement::SignIn { state, session };
    let changed = lock.expect("free").settle(settlement).await.expect("writable");
    assert!(changed.applied.took_effect());
}
