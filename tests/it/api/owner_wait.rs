//! Requests that wait for an owner: their places, and the callers whom no owner serves.

use std::sync::Mutex;

use async_trait::async_trait;
use threadkey::broker::{OwnerQuestions, OwnerRefusal};
use tokio::sync::watch;

use super::*;

/// Questions that no owner answers.
#[derive(Clone, Default)]
struct Unanswered(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    questions: watch::Sender<Option<OwnerRefusal>>,
    tenants: Vec<Tenant>,
}

#[async_trait]
impl OwnerQuestions for Unanswered {
    async fn ask(
        &self,
        _: &Conversation,
        tenant: &Tenant,
    ) -> Result<watch::Receiver<Option<OwnerRefusal>>, OwnerRefusal> {
        let mut asked = self.0.lock().unwrap();
        asked.tenants.push(tenant.clone());
        Ok(asked.questions.subscribe())
    }
}

impl Unanswered {
    /// Waits until this many requests wait.
    async fn waiting(&self, count: usize) {
        let reached = async {
            while self.0.lock().unwrap().questions.receiver_count() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), reached).await.expect("they wait");
    }
}

/// Opens a connection whose request waits.
async fn wait(rig: &Rig, capability: &Capability) -> UnixStream {
    let mut stream = UnixStream::connect(&rig.socket).await.unwrap();
    let request = format!(
        "GET /v1/token/acme?wait=300 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        capability.expose()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn waits_without_number_of_one_worker_keep_no_other_caller_out() {
    /// The number of waits that have a place.
    const PLACES: usize = 256;
    let questions = Unanswered::default();
    let rig = Rig::asking(questions.clone()).await;
    rig.sign_in(Principal::User(BOB), "bob").await;
    let (hostile, patient, honest) =
        (rig.worker(1, ALICE, None), rig.worker(2, ALICE, None), rig.worker(3, BOB, None));
    let first = wait(&rig, &patient).await;
    questions.waiting(1).await;
    let mut all = Vec::new();
    for _ in 0..PLACES + 50 {
        all.push(wait(&rig, &hostile).await);
    }
    questions.waiting(PLACES).await;
    let mut displaced = String::new();
    let mut oldest = all.remove(0);
    while !displaced.contains("too_many_requests") {
        let mut bytes = [0; 1024];
        let read = oldest.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "{displaced}");
        displaced.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert_eq!(rig.get("/v1/token/acme", Some(&honest)).await.status, 200);
    assert_eq!(rig.get("/healthz", None).await.status, 200);
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let mut served = first;
    let mut answer = [0; 15];
    served.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK", "the patient worker kept its place");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_own_wait_alone() {
    let questions = Unanswered::default();
    let rig = Rig::asking(questions.clone()).await;
    let worker = rig.worker(1, ALICE, None);
    let (one, two) = (wait(&rig, &worker).await, wait(&rig, &worker).await);
    questions.waiting(2).await;
    drop(one);
    questions.waiting(1).await;
    drop(two);
    questions.waiting(0).await;
}

#[tokio::test]
async fn a_token_by_exchange_asks_for_the_sign_in_at_its_source() {
    let questions = Unanswered::default();
    let rig = Rig::asking(questions.clone()).await;
    let late = rig.get("/v1/token/docs?wait=1", Some(&rig.worker(1, ALICE, Some(GUILD)))).await;
    assert_problem(&late, 408, "authorization_timeout");
    assert_eq!(questions.0.lock().unwrap().tenants, ["acme/user:803".parse().unwrap()]);
}

#[tokio::test]
async fn a_shared_session_of_the_server_ends_the_wait_too() {
    let questions = Unanswered::default();
    let rig = Rig::asking(questions.clone()).await;
    let worker = rig.worker(1, ALICE, Some(GUILD));
    let (answer, ()) = tokio::join!(rig.get("/v1/token/acme?wait=300", Some(&worker)), async {
        questions.waiting(1).await;
        rig.sign_in(Principal::Guild(GUILD), "team").await;
    });
    assert_eq!((answer.status, &answer.body["principal"]), (200, &json!("guild:9")), "{answer:?}");
}

#[tokio::test]
async fn the_shutdown_ends_all_waits_at_once() {
    let questions = Unanswered::default();
    let rig = Rig::asking(questions.clone()).await;
    let worker = rig.worker(1, ALICE, None);
    let (answer, ()) = tokio::join!(rig.get("/v1/token/acme?wait=300", Some(&worker)), async {
        questions.waiting(1).await;
        rig.shutdown.cancel();
    });
    assert_problem(&answer, 408, "authorization_timeout");
    tokio::time::timeout(std::time::Duration::from_secs(30), rig.served).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_wait_without_the_bot_answers_at_once_that_no_owner_can_be_asked() {
    let rig = Rig::start().await;
    let answer = rig.get("/v1/token/acme?wait=300", Some(&rig.worker(1, ALICE, None))).await;
    assert_problem(&answer, 404, "no_session");
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("without its Discord bot"), "{detail}");
    let answer = rig.get("/v1/token/acme?wait=301", Some(&rig.worker(1, ALICE, None))).await;
    assert_problem(&answer, 400, "invalid_request");
}

#[tokio::test]
async fn requests_for_a_token_disturb_no_sign_in() {
    let rig = Rig::start().await;
    for owner in 803..808 {
        let worker = rig.worker(owner, Snowflake(owner), None);
        let asking = async { while rig.get("/v1/token/acme", Some(&worker)).await.status != 200 {} };
        // The helper panics if the code is not taken at once.
        let signing_in = rig.sign_in(Principal::User(Snowflake(owner)), "alice");
        tokio::join!(signing_in, asking, async {
            while rig.get("/v1/token/acme", Some(&worker)).await.status != 200 {}
        });
    }
}
