//! The end of a right in the middle of a request: the request ends with it, on both sides.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use threadkey::{
    broker::{OwnerRights, Revocation, RightsError, Standing, WorkerTokenError},
    ids::Tenant,
};
use tokio::sync::Notify;

use super::*;

/// The rights of an owner, which the test ends.
#[derive(Default)]
struct Revocable(AtomicBool);

#[async_trait]
impl OwnerRights for Revocable {
    async fn of(&self, _conversation: &Conversation) -> Result<Standing, RightsError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(RightsError::NotEntitled);
        }
        Ok(Standing { shares: false })
    }

    async fn of_principal(&self, _principal: Principal) -> Result<(), RightsError> {
        Ok(())
    }

    async fn manages(&self, _guild: Snowflake, _user: Snowflake) -> Result<(), RightsError> {
        Ok(())
    }
}

/// Opens a stream, and reads its first part.
async fn begin(rig: &Rig, access: &InjectAccess) -> (Wire, tokio::sync::mpsc::UnboundedSender<Part>) {
    let parts = rig.upstream.stream();
    let mut wire = Wire::open(access).await;
    wire.send(head(access, "GET /inject/acme/stream", "").as_bytes()).await;
    parts.send(Part::Bytes("data: one\n\n")).expect("it streams");
    wire.until("data: one").await;
    (wire, parts)
}

/// The stream breaks off on the worker's side, and the upstream's one has ended.
async fn assert_broken(rig: &Rig, mut wire: Wire) {
    let _ = wire.read_whole().await;
    assert!(!wire.text.ends_with("0\r\n\r\n"), "a broken answer must not look whole: {}", wire.text);
    timeout(WAIT, rig.upstream.wait_for_ended(1)).await.expect("the upstream's stream ends");
}

fn alices() -> Tenant {
    Tenant::new("acme".parse().expect("a name"), Principal::User(ALICE))
}

#[tokio::test]
async fn a_logout_breaks_the_streams_of_the_login_and_stops_their_upstream() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let (wire, _parts) = begin(&rig, &access).await;
    rig.api.broker.logout(&alices(), Revocation::Keep).await.expect("it is logged out");
    assert_broken(&rig, wire).await;
}

#[tokio::test]
async fn a_new_sign_in_breaks_the_streams_of_the_login_that_it_replaces() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let (wire, _parts) = begin(&rig, &access).await;
    rig.api.sign_in(Principal::User(ALICE), "alice").await;
    assert_broken(&rig, wire).await;
}

#[tokio::test]
async fn a_refresh_and_the_logout_of_another_owner_leave_a_stream_alone() {
    let rig = Rig::start().await;
    rig.api.sign_in(Principal::User(BOB), "bob").await;
    let (access, his) = (rig.open().await, rig.open_for(2, BOB).await);
    let (mut wire, parts) = begin(&rig, &access).await;
    rig.kill_token();
    assert!(ask(&access, "GET /inject/acme/v1", "").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(rig.refreshes(), 1);
    let (hers, his) = (wire, begin(&rig, &his).await);
    wire = hers;
    let bobs = Tenant::new("acme".parse().expect("a name"), Principal::User(BOB));
    rig.api.broker.logout(&bobs, Revocation::Keep).await.expect("it is logged out");
    assert_broken(&rig, his.0).await;
    parts.send(Part::Bytes("data: last\n\n")).expect("the upstream still streams");
    drop(parts);
    let answer = wire.read_whole().await.expect("a whole answer");
    assert!(answer.contains("data: last") && answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_owner_who_loses_the_right_to_the_bot_loses_the_stream() {
    let mut rig = Rig::start().await;
    let rights = Arc::new(Revocable::default());
    let tokens = WorkerTokens::new(rig.api.broker.clone(), rights.clone());
    rig.server = InjectServer::new(vec![route(rig.upstream.base())], tokens).expect("TLS is in order");
    let access = rig.open().await;
    let (wire, _parts) = begin(&rig, &access).await;
    rights.0.store(true, Ordering::SeqCst);
    // No event reports it.
    let time = async {
        loop {
            rig.api.clock.advance(6);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = assert_broken(&rig, wire) => {}
        () = time => {}
    }
    assert_problem(&ask(&access, "GET /inject/acme/v1", "").await, 403, "not_entitled");
}

/// Rights whose second check waits: the one at which a token leaves.
#[derive(Default)]
struct Slow {
    checks: AtomicUsize,
    reached: Notify,
    go_on: Notify,
}

#[async_trait]
impl OwnerRights for Slow {
    async fn of(&self, _conversation: &Conversation) -> Result<Standing, RightsError> {
        if self.checks.fetch_add(1, Ordering::SeqCst) == 1 {
            self.reached.notify_one();
            self.go_on.notified().await;
        }
        Ok(Standing { shares: false })
    }

    async fn of_principal(&self, _principal: Principal) -> Result<(), RightsError> {
        Ok(())
    }

    async fn manages(&self, _guild: Snowflake, _user: Snowflake) -> Result<(), RightsError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_token_of_a_login_that_is_replaced_before_it_leaves_is_not_sent() {
    let mut rig = Rig::start().await;
    let rights = Arc::new(Slow::default());
    let tokens = WorkerTokens::new(rig.api.broker.clone(), rights.clone());
    rig.server = InjectServer::new(vec![route(rig.upstream.base())], tokens).expect("TLS is in order");
    let access = rig.open().await;
    let replace = async {
        timeout(WAIT, rights.reached.notified()).await.expect("the token is about to leave");
        rig.api.broker.logout(&alices(), Revocation::Keep).await.expect("it is logged out");
        rig.api.sign_in(Principal::User(ALICE), "alice").await;
        rights.go_on.notify_one();
    };
    let (answer, ()) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), replace);
    assert_problem(&answer, 404, "no_session");
    assert!(rig.upstream.seen().is_empty(), "{:?}", rig.upstream.seen());
    assert!(ask(&access, "GET /inject/acme/v1", "").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_owner_who_loses_the_right_during_a_refresh_gets_no_token() {
    let rig = Rig::start().await;
    let rights = Arc::new(Revocable::default());
    let tokens = WorkerTokens::new(rig.api.broker.clone(), rights.clone());
    let id = ConversationId(Snowflake(1));
    let conversation = Conversation { id, owner: ALICE, shared_guild: None, agent: None };
    let acme = "acme".parse().expect("a name");
    let holder = Holder { conversation, providers: vec![alices().provider] };
    rig.api.clock.advance(86_400);
    rig.api.server.hold();
    let asked = async { tokens.entitlement(&holder, &acme).await?.token(Duration::from_secs(60)).await };
    let lose = async {
        timeout(WAIT, rig.api.server.wait_for_held(1)).await.expect("the refresh begins");
        rights.0.store(true, Ordering::SeqCst);
        rig.api.server.release();
    };
    let (answer, ()) = tokio::join!(asked, lose);
    assert!(matches!(answer, Err(WorkerTokenError::NotEntitled)), "{answer:?}");
}

/// Rights of an owner who may use a server's login until the test ends that.
#[derive(Default)]
struct Sharing(AtomicBool);

#[async_trait]
impl OwnerRights for Sharing {
    async fn of(&self, _conversation: &Conversation) -> Result<Standing, RightsError> {
        Ok(Standing { shares: !self.0.load(Ordering::SeqCst) })
    }

    async fn of_principal(&self, _principal: Principal) -> Result<(), RightsError> {
        Ok(())
    }

    async fn manages(&self, _guild: Snowflake, _user: Snowflake) -> Result<(), RightsError> {
        Ok(())
    }
}

#[tokio::test]
async fn an_owner_who_leaves_a_server_during_a_refresh_gets_no_token_of_it() {
    let rig = Rig::start().await;
    let guild = Snowflake(9);
    rig.api.sign_in(Principal::Guild(guild), "team").await;
    let rights = Arc::new(Sharing::default());
    let tokens = WorkerTokens::new(rig.api.broker.clone(), rights.clone());
    let id = ConversationId(Snowflake(2));
    let conversation = Conversation { id, owner: BOB, shared_guild: Some(guild), agent: None };
    let acme = "acme".parse().expect("a name");
    let holder = Holder { conversation, providers: vec![alices().provider] };
    rig.api.clock.advance(86_400);
    rig.api.server.hold();
    let asked = async { tokens.entitlement(&holder, &acme).await?.token(Duration::from_secs(60)).await };
    let leave = async {
        timeout(WAIT, rig.api.server.wait_for_held(1)).await.expect("the refresh begins");
        rights.0.store(true, Ordering::SeqCst);
        rig.api.server.release();
    };
    let (answer, ()) = tokio::join!(asked, leave);
    assert!(matches!(answer, Err(WorkerTokenError::NotEntitled)), "{answer:?}");
}

#[tokio::test]
async fn a_command_in_a_terminal_gets_the_providers_that_exec_names_alone() {
    let rig = Rig::start().await;
    let tokens = WorkerTokens::new(rig.api.broker.clone(), Arc::new(WithoutBot));
    let acme = alices().provider;
    let serves = |providers| Served::Terminal { principal: Principal::User(ALICE), providers };
    let named = serves(vec![acme.clone()]);
    assert!(tokens.entitlement_of(&named, &acme).await.is_ok());
    let other = serves(vec!["other".parse().expect("a name")]);
    let refused = tokens.entitlement_of(&other, &acme).await.err();
    assert!(matches!(refused, Some(WorkerTokenError::ProviderNotAllowed(_))), "{refused:?}");
}

#[tokio::test]
async fn an_upload_without_an_answer_ends_with_its_right() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let rig = Rig::with(|_| vec![route(&format!("http://{address}"))]).await;
    let access = rig.open().await;
    let mut wire = Wire::open(&access).await;
    let more = "Transfer-Encoding: chunked\r\n";
    wire.send(format!("{}3\r\nabc\r\n", head(&access, "POST /inject/acme/v1", more)).as_bytes()).await;
    let (mut upstream, _) =
        timeout(WAIT, listener.accept()).await.expect("in time").expect("the proxy connects");
    let mut text = String::new();
    let mut read = async |text: &mut String| {
        let mut bytes = [0; 4096];
        let count = timeout(WAIT, upstream.read(&mut bytes)).await.expect("in time").unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        count
    };
    while !text.ends_with("abc\r\n") {
        assert!(read(&mut text).await > 0, "the upload begins: {text}");
    }
    rig.api.broker.logout(&alices(), Revocation::Keep).await.expect("it is logged out");
    wire.until("\"code\":\"no_session\"").await;
    assert!(wire.text.starts_with("HTTP/1.1 404 "), "{}", wire.text);
    while read(&mut text).await > 0 {}
    assert!(!text.ends_with("0\r\n\r\n"), "the upload must not look whole: {text}");
}
