//! The secrets of a session go to the endpoints that its sign-in bound, whatever the configuration
//! names later.

use std::net::TcpListener;

use threadkey::{
    broker::{Broker, GrantEnd, LoggedOut, RefreshState, Revocation, TokenError},
    oauth::{Endpoint, Pasted, ProviderSettings, Withheld},
};

use super::{ALICE, MINUTE, Rig, settings, tenant, with_settings};
use crate::{
    choice::expect_undecided,
    support::{
        authserver::{LifeState, Reply},
        browser,
    },
};

/// A server that belongs to an attacker, and never gets a connection.
struct Trap(TcpListener);

impl Trap {
    fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.0.local_addr().unwrap())
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert!(self.0.accept().is_err(), "a request reached the attacker");
    }
}

/// The settings of the rig's provider, with a userinfo endpoint.
fn whole(rig: &Rig) -> ProviderSettings {
    ProviderSettings { userinfo_endpoint: Some(rig.server.userinfo_endpoint()), ..settings(&rig.server) }
}

fn broker_with(rig: &Rig, settings: ProviderSettings) -> Broker {
    with_settings(settings, rig.store.clone(), &rig.clock)
}

/// Signs alice in at a provider that has all endpoints.
async fn signed_in() -> Rig {
    let mut rig = Rig::start().await;
    rig.broker = broker_with(&rig, whole(&rig));
    rig.sign_in(ALICE, "alice").await;
    rig
}

fn changed(withheld: &LoggedOut) -> bool {
    matches!(withheld, LoggedOut::CannotRevoke(Withheld::Changed { .. }))
}

#[tokio::test]
async fn a_sign_in_binds_every_endpoint_into_its_session() {
    let rig = signed_in().await;
    let binding = rig.session(ALICE).await.binding;
    assert_eq!(binding.token_endpoint, rig.server.token_endpoint());
    assert_eq!(binding.revocation_endpoint, Some(rig.server.revocation_endpoint()));
    assert_eq!(binding.userinfo_endpoint, Some(rig.server.userinfo_endpoint()));
}

#[tokio::test]
async fn a_changed_revocation_endpoint_gets_no_token_at_a_logout() {
    let (rig, trap) = (signed_in().await, Trap::set());
    let hostile =
        broker_with(&rig, ProviderSettings { revocation_endpoint: Some(trap.url("r")), ..whole(&rig) });
    let done = hostile.logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap();
    assert!(changed(&done), "{done:?}");
    assert!(rig.store.read(&tenant(ALICE)).await.unwrap().session.is_none(), "it is logged out all the same");
    trap.assert_untouched();
}

#[tokio::test]
async fn a_changed_revocation_endpoint_gets_no_token_of_a_late_refresh() {
    let (mut rig, trap) = (signed_in().await, Trap::set());
    rig.broker =
        broker_with(&rig, ProviderSettings { revocation_endpoint: Some(trap.url("r")), ..whole(&rig) });
    rig.expire();
    rig.server.hold();
    let asking = rig.spawn_token_call(ALICE);
    rig.server.wait_for_held(1).await;
    let done = rig.broker.logout(&tenant(ALICE), Revocation::Revoke).await.unwrap();
    assert!(changed(&done), "{done:?}");
    rig.server.release();
    asking.await.unwrap().unwrap_err();
    rig.broker.drained().await;
    trap.assert_untouched();
}

#[tokio::test]
async fn a_changed_revocation_endpoint_gets_no_token_of_an_unchosen_sign_in() {
    let (rig, trap) = (signed_in().await, Trap::set());
    let undecided = expect_undecided(rig.finish_as(ALICE, "bob").await);
    let hostile =
        broker_with(&rig, ProviderSettings { revocation_endpoint: Some(trap.url("r")), ..whole(&rig) });
    let kept = hostile.keep(&tenant(ALICE), undecided.lineage).await.unwrap();
    assert_eq!(kept.unchosen.grant, GrantEnd::MayLiveOn);
    trap.assert_untouched();
}

#[tokio::test]
async fn a_changed_userinfo_endpoint_gets_no_reported_token() {
    let (rig, trap) = (signed_in().await, Trap::set());
    let hostile =
        broker_with(&rig, ProviderSettings { userinfo_endpoint: Some(trap.url("u")), ..whole(&rig) });
    let token = rig.session(ALICE).await.access_token;
    let same = serde_json::json!({"access_token": token.expose(), "expires_in": 3600});
    rig.server.script([Reply::Json(200, same)]);
    let error = hostile.rejected(&tenant(ALICE), &token).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "the report stays open: {error}");
    trap.assert_untouched();
}

#[tokio::test]
async fn a_userinfo_endpoint_that_changed_during_a_sign_in_gets_no_token() {
    let (rig, trap) = (signed_in().await, Trap::set());
    let plain = ProviderSettings { scopes: vec!["offline_access".into()], ..whole(&rig) };
    let started = broker_with(&rig, plain.clone()).start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "bob").await;
    let hostile = broker_with(&rig, ProviderSettings { userinfo_endpoint: Some(trap.url("u")), ..plain });
    let done = hostile.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert_eq!(expect_undecided(done).account, None);
    trap.assert_untouched();
}

#[tokio::test]
async fn a_userinfo_endpoint_that_changed_before_a_recovery_gets_no_token() {
    let (mut rig, trap) = (Rig::start().await, Trap::set());
    rig.broker = broker_with(&rig, whole(&rig));
    rig.leave_an_answered_exchange(ALICE, "").await;
    let hostile =
        broker_with(&rig, ProviderSettings { userinfo_endpoint: Some(trap.url("u")), ..whole(&rig) });
    let lease = hostile.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!((lease.access_token.expose(), lease.account), ("saved", None));
    trap.assert_untouched();
}

#[tokio::test]
async fn a_changed_token_endpoint_gets_neither_refresh_token_nor_code() {
    let (rig, trap) = (signed_in().await, Trap::set());
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let hostile = broker_with(&rig, ProviderSettings { token_endpoint: trap.url("t"), ..whole(&rig) });
    let code = hostile.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
    assert!(code.to_string().contains("has changed since the sign-in was started"), "{code}");
    rig.expire();
    let error = hostile.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(error.to_string().contains("(binding_changed), so nothing was sent: sign in again"), "{error}");
    let done = hostile.logout(&tenant(ALICE), Revocation::Revoke).await.unwrap();
    assert!(changed(&done), "another token endpoint revokes nothing either: {done:?}");
    trap.assert_untouched();
}

#[tokio::test]
async fn a_session_of_a_former_endpoint_is_refreshed_and_revoked_at_the_present_ones() {
    let rig = Rig::start().await;
    // The provider had another address when alice signed in.
    let trap = Trap::set();
    rig.sign_in(ALICE, "alice").await;
    let text = read(&rig).replace(&rig.server.token_endpoint(), &trap.url("token"));
    write(&rig, &text.replace(&rig.server.revocation_endpoint(), &trap.url("revoke")));
    rig.expire();
    let unaware = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(&unaware, TokenError::Ended { code, .. } if code == "binding_changed"), "{unaware}");
    let formerly = vec![trap.url("token"), trap.url("revoke")];
    let broker = broker_with(&rig, ProviderSettings { formerly, ..settings(&rig.server) });
    broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    let done = broker.logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap();
    assert_eq!(done, LoggedOut::Revoked);
    assert!(rig.server.lives().iter().all(|life| life.state != LifeState::Live));
    trap.assert_untouched();
}

#[tokio::test]
async fn an_old_session_is_revoked_on_the_token_endpoints_server_alone() {
    for is_foreign in [true, false] {
        let (rig, trap) = (signed_in().await, Trap::set());
        // Earlier versions bound neither of the two. The field of a later version stays.
        let mut store: serde_json::Value = serde_json::from_str(&read(&rig)).unwrap();
        let session = store["sessions"]["acme/user:803"].as_object_mut().unwrap();
        session.remove("revocation_endpoint").unwrap();
        session.remove("userinfo_endpoint").unwrap();
        session.insert("later".into(), "kept".into());
        write(&rig, &store.to_string());
        let broker = match is_foreign {
            true => broker_with(
                &rig,
                ProviderSettings { revocation_endpoint: Some(trap.url("r")), ..whole(&rig) },
            ),
            false => broker_with(&rig, whole(&rig)),
        };
        rig.expire();
        broker.token(&tenant(ALICE), MINUTE).await.unwrap();
        let kept: serde_json::Value = serde_json::from_str(&read(&rig)).unwrap();
        assert_eq!(kept["sessions"]["acme/user:803"]["later"], "kept");
        let done = broker.logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap();
        let unbound = |done: &LoggedOut| {
            matches!(done, LoggedOut::CannotRevoke(Withheld::Unbound { endpoint: Endpoint::Revocation, .. }))
        };
        assert_eq!((unbound(&done), done == LoggedOut::Revoked), (is_foreign, !is_foreign), "{done:?}");
        trap.assert_untouched();
    }
}

#[tokio::test]
async fn a_sign_in_without_bound_endpoints_keeps_its_link_after_an_update() {
    let rig = Rig::start().await;
    let first = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let mut store: serde_json::Value = serde_json::from_str(&read(&rig)).unwrap();
    let pending = store["pending"]["acme/user:803"].as_object_mut().unwrap();
    assert_eq!(pending.remove("revocation_endpoint").unwrap(), rig.server.revocation_endpoint());
    write(&rig, &store.to_string());
    let again = rig.another().start(&tenant(ALICE), ALICE).await.unwrap();
    assert!(again.resumed && again.link().unwrap() == first.link().unwrap());
    let moved = ProviderSettings {
        revocation_endpoint: Some("http://127.0.0.1:1/r".into()),
        ..settings(&rig.server)
    };
    let third = broker_with(&rig, moved).start(&tenant(ALICE), ALICE).await.unwrap();
    assert!(third.resumed, "it binds no revocation endpoint, so none is wrong");
}

#[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
fn read(rig: &Rig) -> String {
    std::fs::read_to_string(&rig.path).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
fn write(rig: &Rig, text: &str) {
    // A new file, because a process with a snapshot compares the identity of the file.
    let new = rig.path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&new, &rig.path).unwrap();
}

#[tokio::test]
async fn a_refresh_token_that_is_bound_elsewhere_is_not_shown_as_ready() {
    let rig = signed_in().await;
    let principals = [tenant(ALICE).principal];
    let state =
        async |settings| broker_with(&rig, settings).status(&principals).await.unwrap()[0].refresh.clone();
    assert_eq!(state(whole(&rig)).await, RefreshState::Ready);
    let other = ProviderSettings { client_id: "another".into(), ..whole(&rig) };
    assert_eq!(state(other).await, RefreshState::Withheld);
}
