//! The known secrets, the texts that must not contain them, and the search.

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

/// The secrets, and the texts in which they are searched.
#[derive(Default)]
pub(super) struct SecretSearch {
    /// Describes each secret, by its value.
    secrets: BTreeMap<String, String>,
    texts: BTreeSet<(String, String)>,
}

impl SecretSearch {
    /// Adds a secret, as it is and as HTTP Basic would encode it (RFC 7617 §2).
    pub(super) fn secret(&mut self, description: &str, secret: &str) {
        assert!(secret.len() >= 16, "{description} is too short to be distinct from other text");
        self.secrets.insert(secret.to_owned(), description.to_owned());
        self.secrets
            .insert(STANDARD.encode(format!("threadkey:{secret}")), format!("{description}, in Base64"));
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

    /// Adds the tokens of all interactions: the owner of one can answer in the bot's name.
    pub(super) fn secrets_of_discord(&mut self, discord: &Discord) {
        for token in discord.interaction_tokens() {
            self.secret("an interaction's token", &token);
        }
    }

    /// Adds a text that others can read.
    pub(super) fn add_text(&mut self, place: &str, text: &str) {
        self.texts.insert((place.to_owned(), text.to_owned()));
    }

    /// Lists each secret with the text that contains it.
    pub(super) fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, text) in &self.texts {
            for (secret, description) in
                self.secrets.iter().filter(|(secret, _)| text.contains(secret.as_str()))
            {
                let line = text.lines().find(|line| line.contains(secret.as_str())).unwrap_or_default();
                found.push(format!("{description} in {place}: {line}"));
            }
        }
        found
    }

    #[track_caller]
    pub(super) fn assert_clean(&self) {
        assert!(self.secrets.len() > 40 && self.texts.len() > 20, "there are secrets and texts to search");
        let found = self.found();
        assert!(found.is_empty(), "{} of them:\n{}", found.len(), found.join("\n"));
    }
}

/// Runs a command to its end with this standard input.
pub(super) async fn run(mut command: tokio::process::Command, input: &str) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // The program may end without reading.
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

/// Returns the arguments of all visible processes of this machine, one process per line.
pub(super) fn arguments_of_all_processes() -> String {
    let folders = std::fs::read_dir("/proc").expect("there is /proc");
    let lines = folders.filter_map(|folder| {
        let path = folder.ok()?.path().join("cmdline");
        Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).replace('\0', " "))
    });
    lines.collect::<Vec<_>>().join("\n")
}
