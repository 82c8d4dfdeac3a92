//! Bad input on the command line and on Discord: each is reported in a clear sentence and loses
//! nothing.

mod operator;
mod settings;
mod sign_in;
mod store;

use crate::{
    support::program::{Ended, Home},
    team::Team,
};

/// The two interfaces, on which users do the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    CommandLine,
    Discord,
}

const ROUTES: [Route; 2] = [Route::CommandLine, Route::Discord];

impl Route {
    /// Starts a sign-in; returns its link.
    async fn start(self, team: &Team) -> String {
        match self {
            Self::CommandLine => start(&team.home).await,
            Self::Discord => team.start(&team.alice).await.1,
        }
    }

    /// Pastes wrong input and returns the answer, without Discord's markup. The command line exits
    /// with `exit`.
    async fn paste(self, team: &Team, pasted: &str, exit: i32) -> String {
        match self {
            Self::CommandLine => {
                let ended = team.home.run_with(&["auth", "code"], pasted).await;
                assert_eq!((ended.code, ended.stdout.as_str()), (exit, ""), "{ended:?}");
                ended.stderr
            }
            Self::Discord => team.paste(&team.alice, pasted).await.text().replace(['\\', '\u{200b}'], ""),
        }
    }

    /// Pastes correct input.
    async fn finish(self, team: &Team, pasted: &str, account: &str) {
        let answer = match self {
            Self::CommandLine => {
                let ended = team.home.run_with(&["auth", "code"], pasted).await;
                assert_eq!(ended.code, 0, "{ended:?}");
                ended.stderr
            }
            Self::Discord => team.paste(&team.alice, pasted).await.text(),
        };
        assert!(answer.contains("Signed in") && answer.contains(account), "{self:?}: {answer}");
    }
}

/// Runs `threadkey auth start acme`; returns the link.
async fn start(home: &Home) -> String {
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    assert_eq!(started.code, 0, "{started:?}");
    let started: serde_json::Value = serde_json::from_str(&started.stdout).expect("it is JSON");
    started["authorize_url"].as_str().expect("a link").to_owned()
}

/// Asserts that the text contains all the words.
#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

/// Asserts this exit code, an empty standard output, and these words on standard error.
#[track_caller]
fn assert_fails(ended: &Ended, exit: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (exit, ""), "{ended:?}");
    assert_says(&ended.stderr, words);
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("defect"), "{ended:?}");
}
