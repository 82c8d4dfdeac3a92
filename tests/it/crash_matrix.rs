//! The crash matrix: the program that refreshes is killed (-9) before and after each step of the refresh, of the journal and of
//! the write, and the next one goes on by itself.

use crate::support::{
    authserver::{self, AuthServer, Lifetimes},
    browser,
    program::Home,
};

const AN_HOUR: i64 = 3600;

/// Past the pause that an intent without an answer causes, which is 2 s at most.
const A_PAUSE: i64 = 10;

/// The steps up to the request. Whoever dies there has spent nothing.
const UNSENT: [&str; 12] = [
    "open@local.lock",
    "fstat@local.lock#1",
    "try-lock@local.lock",
    "fstat@local.lock#2",
    "stat@local.lock",
    "read@local.lock#1",
    "read@local.lock#2",
    "write@local.lock#1",
    "reserve@local.lock",
    "fsync@local.lock#1",
    "fsync-folder@auth.json.refresh",
    "fsync-folder@threadkey#1",
];

/// The steps after the answer was written down, to the end.
const ANSWERED: [&str; 13] = [
    "fsync@local.lock#2",
    "open@.global.lock",
    "lock@.global.lock",
    "open@.tmp",
    "write@.tmp",
    "fsync@.tmp",
    "rename",
    "fsync-folder@threadkey#2",
    "unlock@.global.lock",
    "fsync-folder@threadkey#3",
    "truncate@local.lock",
    "fsync@local.lock#3",
    "unlock@local.lock",
];

/// One person who is signed in, and time that goes on from one expiry to the next.
struct Rig {
    server: AuthServer,
    home: Home,
    now: i64,
}

impl Rig {
    async fn start() -> Self {
        let server = AuthServer::start(authserver::Options::default()).await;
        let access_token = std::time::Duration::from_secs(3600);
        server.set_lifetimes(Lifetimes { access_token, ..Lifetimes::default() });
        let home = Home::new(&server.config_toml("acme"));
        let rig = Self { server, home, now: 0 };
        rig.sign_in().await;
        rig
    }

    async fn sign_in(&self) {
        let started = self.home.run(&["auth", "start", "acme", "--json"]).await;
        assert_eq!(started.code, 0, "{started:?}");
        let started: serde_json::Value = serde_json::from_str(&started.stdout).unwrap();
        let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), "alice").await;
        let done = self.home.run_with(&["auth", "code", "acme"], &callback.url).await;
        assert_eq!(done.code, 0, "{done:?}");
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        self.home.set_offset(self.now);
    }

    /// The access token expires, and who refreshes it is killed there, in a refresh that begins with an empty journal.
    async fn die(&mut self, failpoint: &str) {
        self.pass(AN_HOUR + 1);
        let well = self.home.run(&["token", "acme"]).await;
        assert_eq!(well.code, 0, "{failpoint}: {well:?}");
        self.pass(AN_HOUR + 1);
        let dying =
            self.home.command(&["token", "acme"]).env("THREADKEY_TEST_FAILPOINTS", failpoint).output();
        let dying = dying.await.expect("the program runs");
        assert_eq!(dying.status.code(), Some(5), "{failpoint}: try again later: {dying:?}");
    }

    /// The next caller gets a token; one that is told to come back does so once.
    async fn go_on(&mut self, failpoint: &str) {
        let mut next = self.home.run(&["token", "acme"]).await;
        if next.code == 5 {
            self.pass(A_PAUSE);
            next = self.home.run(&["token", "acme"]).await;
        }
        assert_eq!(next.code, 0, "{failpoint}: {next:?}");
    }
}

fn before_and_after<'a>(steps: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
    steps.iter().flat_map(|step| [format!("kill-before:{step}"), format!("kill-after:{step}")])
}

#[tokio::test]
async fn killed_at_any_step_before_the_request_nothing_is_spent_and_the_next_caller_refreshes() {
    let mut rig = Rig::start().await;
    for (number, failpoint) in (0..).zip(before_and_after(&UNSENT)) {
        rig.die(&failpoint).await;
        assert_eq!(rig.server.events().total.refreshes, 2 * number + 1, "{failpoint}: it was not sent");
        rig.go_on(&failpoint).await;
        let total = rig.server.events().total;
        assert_eq!((total.refreshes, total.reuses), (2 * number + 2, 0), "{failpoint}");
    }
}

#[tokio::test]
async fn killed_at_any_step_after_the_answer_was_written_down_the_next_caller_has_it_and_sends_nothing() {
    let mut rig = Rig::start().await;
    let mut seen = std::collections::BTreeSet::new();
    let steps =
        std::iter::once("kill-after:write@local.lock#2".to_owned()).chain(before_and_after(&ANSWERED));
    for (number, failpoint) in (0..).zip(steps) {
        rig.die(&failpoint).await;
        let next = rig.home.run(&["token", "acme"]).await;
        assert_eq!(next.code, 0, "{failpoint}: {next:?}");
        assert!(seen.insert(next.stdout), "{failpoint}: a new token");
        let total = rig.server.events().total;
        assert_eq!((total.refreshes, total.reuses), (2 * number + 2, 0), "{failpoint}");
    }
}

#[tokio::test]
async fn killed_between_the_answer_and_its_line_in_the_journal_it_is_told_and_signing_in_again_is_all_it_takes()
 {
    for failpoint in
        ["kill-before:read@local.lock#3", "kill-after:read@local.lock#3", "kill-before:write@local.lock#2"]
    {
        let mut rig = Rig::start().await;
        rig.die(failpoint).await;
        let next = rig.home.run(&["token", "acme"]).await;
        assert_eq!(next.code, 5, "{failpoint}: not followed at once: {next:?}");
        let status = rig.home.run(&["auth", "status", "--json"]).await;
        assert!(status.stdout.contains("ambiguous_no_answer"), "{failpoint}: {status:?}");
        assert_eq!(rig.server.events().total.refreshes, 2, "{failpoint}");
        // This provider has no grace: its verdict is heard once, and nothing is stuck.
        rig.pass(A_PAUSE);
        assert_eq!(rig.home.run(&["token", "acme"]).await.code, 4, "{failpoint}");
        assert_eq!(rig.home.run(&["token", "acme"]).await.code, 4, "{failpoint}");
        assert_eq!(rig.server.events().total.reuses, 1, "{failpoint}: one verdict is enough");
        rig.sign_in().await;
        assert_eq!(rig.home.run(&["token", "acme"]).await.code, 0, "{failpoint}");
    }
}
