//! An earlier build of the program shares a store with this one and with Python.
//!
//! `THREADKEY_EARLIER_PROGRAM` names the earlier program, built with the feature `test-util`. Without
//! it the test is skipped, and prints so.
#![expect(clippy::disallowed_methods, reason = "the tests' own processes are not the program's")]

use std::{collections::BTreeSet, ffi::OsString, time::Duration};

use futures_util::future::join_all;
use tokio::process::Child;

use crate::{
    peer,
    support::{
        oidc::{Oidc, OidcOptions},
        program::Home,
    },
};

/// More than the lifetime of an access token.
const PAST_EXPIRY: i64 = 3600 + 60;

/// Each expiry meets this many processes of each kind.
const OF_EACH: usize = 12;

async fn printed(child: Child) -> String {
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn earlier(home: &Home, program: &OsString) -> Child {
    let this = home.command(&["token", "acme"]);
    let mut command = tokio::process::Command::new(program);
    command.args(["token", "acme"]).current_dir(home.path()).env_clear();
    for (name, value) in this.as_std().get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_program_this_one_and_python_spend_each_refresh_token_once() {
    let Some(program) = std::env::var_os("THREADKEY_EARLIER_PROGRAM") else {
        println!("skipped: THREADKEY_EARLIER_PROGRAM names no earlier program");
        return;
    };
    let options = OidcOptions { access_token_ttl: Duration::from_secs(3600), ..OidcOptions::default() };
    let oidc = Oidc::start(options).await;
    let home = peer::signed_in(&oidc.config_toml("acme")).await;
    for round in 1..=7 {
        let offset = round * PAST_EXPIRY;
        home.set_offset(offset);
        let asking: Vec<Child> = (0..3 * OF_EACH)
            .map(|process| match process % 3 {
                0 => earlier(&home, &program),
                1 => home.command(&["token", "acme"]).spawn().unwrap(),
                _ => peer::peer(&home, offset),
            })
            .collect();
        let tokens: BTreeSet<String> = join_all(asking.into_iter().map(printed)).await.into_iter().collect();
        assert_eq!(tokens.len(), 1, "round {round}: all hold one token");
        assert_eq!(
            tokens.first().unwrap().trim_end(),
            peer::stored(&home)["sessions"]["acme/local"]["access_token"]
        );
        let counts = oidc.events().await.of("alice");
        assert_eq!((i64::from(counts.refreshes), counts.reuses, counts.failed), (round, 0, 0));
    }
}
