//! A command that polls a sign-in is killed (-9) before and after each step of its work, and the next
//! one continues unaided. See [`crash_matrix`](crate::crash_matrix).
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    crash_matrix::{Death, deaths, die, each, journal, record},
    support::{
        program::Home,
        raw::{Ending, RawServer, json as answer},
    },
};

const START: [&str; 4] = ["auth", "start", "acme", "--json"];

/// A sign-in by device code whose first command was killed, at the time of a poll.
struct Case {
    server: RawServer,
    home: Home,
}

impl Case {
    async fn begin() -> Self {
        let server = RawServer::start().await;
        let token_endpoint = server.token_endpoint();
        let home = Home::new(&format!(
            "[providers.acme]\ntoken_endpoint = {token_endpoint:?}\ndevice_authorization_endpoint = {:?}\n\
             client_id = \"threadkey\"\ngrants = [\"device\"]\n",
            token_endpoint.replace("/token", "/device")
        ));
        let code = json!({
            "device_code": "dc-1", "user_code": "AB-12", "verification_uri": "https://id.example/device",
            "expires_in": 600, "interval": 5,
        });
        server.answer(answer(200, &code.to_string()), Ending::Close);
        let mut first = home.command(&START).spawn().unwrap();
        let mut shown = String::new();
        BufReader::new(first.stdout.take().unwrap()).read_line(&mut shown).await.unwrap();
        assert!(shown.contains("AB-12"), "{shown}");
        first.kill().await.unwrap();
        // The first command may have looked for a poll that is due, which makes this folder.
        let _ = std::fs::remove_dir_all(home.store().with_file_name("auth.json.refresh"));
        home.set_offset(30);
        let tokens = json!({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600});
        server.answer(answer(200, &tokens.to_string()), Ending::Close);
        Self { server, home }
    }

    fn polls(&self) -> usize {
        self.server.forms().iter().filter(|form| form.contains_key("grant_type")).count()
    }

    fn is_committed(&self) -> bool {
        let store: Value = serde_json::from_slice(&std::fs::read(self.home.store()).unwrap()).unwrap();
        store["sessions"]["acme/local"].is_object()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_killed_at_any_step_keeps_its_tokens_or_is_repeated() {
    let model = Case::begin().await;
    let deaths = deaths(&record(&model.home, &START, "").await);
    assert!(model.is_committed());
    each(deaths, |_, death| async move { poll(&Case::begin().await, &death).await }).await;
}

#[tokio::test]
async fn serve_finishes_a_sign_in_whose_command_was_killed() {
    let case = Case::begin().await;
    let serving = case.home.start(&["serve"], &[]);
    let finished = async {
        while !case.is_committed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), finished).await.expect("serve polls it");
    assert_eq!(case.home.run(&["token", "acme"]).await.code, 0);
    assert_eq!((case.polls(), case.server.second_uses()), (1, 0));
    assert_eq!(serving.stop().await.code, 0);
}

async fn poll(case: &Case, death: &Death) {
    die(&case.home, &START, "", death).await;
    let (sent, journal) = (case.polls(), journal(&case.home, "acme%2Flocal.signin.lock"));
    let committed = case.is_committed();
    assert!(sent == 0 || journal > 0 || committed, "{death:?}: the request is on record");
    case.home.set_offset(90);
    let lost = sent == 1 && journal == 1 && !committed;
    if !committed {
        let next = case.home.run(&START).await;
        assert_eq!(next.code, if lost { 3 } else { 0 }, "{death:?}: {next:?}");
    }
    assert!(!lost || death.comes_before_the_answer_is_written(), "{death:?}: the answer was written down");
    assert_eq!(case.polls(), 1 + usize::from(lost), "{death:?}");
    let token = case.home.run(&["token", "acme"]).await;
    assert_eq!(token.code, if lost { 3 } else { 0 }, "{death:?}: {token:?}");
    assert_eq!(case.server.second_uses(), 0);
}
