//! The secrets that are known, the places where they must not be, and the search.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::support::{discord::Discord, program::Ended};

/// Keys of the store whose values are secrets.
const SECRET_KEYS: [&str; 5] = ["access_token", "refresh_token", "verifier", "state", "nonce"];

/// What must not be seen, and where it was looked for.
#[derive(Default)]
pub(super) struct Hunt {
    /// By the secret: what it is.
    secrets: BTreeMap<String, String>,
    places: BTreeSet<(String, String)>,
}

impl Hunt {
    /// One more secret, as it is and as HTTP Basic would show it (RFC 7617 §2).
    pub(super) fn secret(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 16, "{what} is too short to be told from other text");
        self.secrets.insert(secret.to_owned(), what.to_owned());
        self.secrets.insert(STANDARD.encode(format!("threadkey:{secret}")), format!("{what}, in Base64"));
    }

    pub(super) fn knows(&self, secret: &str) -> bool {
        self.secrets.contains_key(secret)
    }

    /// Every token, verifier, state and nonce in a store.
    pub(super) fn secrets_of_store(&mut self, store: &str) {
        let store: Value = serde_json::from_str(store).expect("the store is JSON");
        for section in ["sessions", "pending", "candidates"] {
            for entry in store[section].as_object().into_iter().flat_map(|entries| entries.values()) {
                for key in SECRET_KEYS {
                    if let Some(secret) = entry[key].as_str() {
                        self.secret(key, secret);
                    }
                }
            }
        }
    }

    /// The tokens of all interactions: who has one can answer in the bot's name.
    pub(super) fn secrets_of_discord(&mut self, discord: &Discord) {
        for token in discord.interaction_tokens() {
            self.secret("an interaction's token", &token);
        }
    }

    /// A text that others see.
    pub(super) fn place(&mut self, what: &str, text: &str) {
        self.places.insert((what.to_owned(), text.to_owned()));
    }

    /// Which secret is where.
    pub(super) fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, text) in &self.places {
            for (secret, what) in self.secrets.iter().filter(|(secret, _)| text.contains(secret.as_str())) {
                let line = text.lines().find(|line| line.contains(secret.as_str())).unwrap_or_default();
                found.push(format!("{what} in {place}: {line}"));
            }
        }
        found
    }

    #[track_caller]
    pub(super) fn assert_clean(&self) {
        assert!(
            self.secrets.len() > 40 && self.places.len() > 20,
            "there was something to look for, and where"
        );
        let found = self.found();
        assert!(found.is_empty(), "{} of them:\n{}", found.len(), found.join("\n"));
    }
}

/// Runs a command to its end with this on its standard input.
pub(super) async fn run(mut command: tokio::process::Command, input: &str) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), child.wait_with_output()).await;
    let output = output.expect("it ends within two minutes").expect("its output can be read");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// The arguments of all processes of this machine that can be seen, a process per line.
pub(super) fn arguments_of_all_processes() -> String {
    let folders = std::fs::read_dir("/proc").expect("there is /proc");
    let lines = folders.filter_map(|folder| {
        let path = folder.ok()?.path().join("cmdline");
        Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).replace('\0', " "))
    });
    lines.collect::<Vec<_>>().join("\n")
}
