//! The configuration. An error has the line or the variable, and repeats no value that may be a
//! secret. An accepted configuration shows no secret of the environment, and sends no secret
//! without TLS.
//!
//! The text up to a line `%%` is threadkey.toml. The lines after it are variables, as `NAME=value`.
#![no_main]

use std::{collections::BTreeMap, ffi::OsString, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use threadkey::config::{Config, ConfigError, Place, Variables};
use threadkey_fuzz::{CANARY, assert_no_canary};

/// The value of the variables that hold secrets.
const SECRET: &str = "s3cret-0f-the-envir0nment";

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    // The text can name a file that holds a secret. It must not be a device, which may never end.
    if input.contains(SECRET)
        || ["/dev", "/proc", "/sys", "..", "~", "\\"].iter().any(|part| input.contains(part))
    {
        return;
    }
    let (text, lines) = input.split_once("%%\n").unwrap_or((input, ""));
    let path = FOLDER.path().join("threadkey.toml");
    std::fs::write(&path, text).expect("the file can be written");
    match Config::load(Some(&path), FOLDER.path(), &variables(lines)) {
        Ok(config) => assert_sound(&config),
        Err(error) => assert_located(&error, &path, text, lines),
    }
});

fn variables(lines: &str) -> Variables {
    let ours = [("HOME", FOLDER.path().as_os_str().to_owned())];
    let secrets = ["ACME_SECRET", "DISCORD_TOKEN"].map(|name| (name, OsString::from(SECRET)));
    let given = lines
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("THREADKEY_"));
    let given = given.map(|(name, value)| (name, OsString::from(value)));
    let all: BTreeMap<_, _> = given.chain(ours).chain(secrets).collect();
    all.into_iter().map(|(name, value)| (OsString::from(name), value)).collect()
}

fn assert_sound(config: &Config) {
    // The Discord token is not read: a command of the input would run.
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
    for id in config.providers.ids() {
        let provider = config.providers.get(id).expect("the provider exists");
        let url = provider.token_endpoint();
        let here = matches!(url.host_str(), Some("localhost" | "[::1]"))
            || url.host_str().is_some_and(|host| host.starts_with("127."));
        assert!(url.scheme() == "https" || here, "secrets would go to {url}");
    }
}

/// Checks that the error names an existing line or variable, and repeats no secret.
fn assert_located(error: &ConfigError, path: &Path, text: &str, lines: &str) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
    match error {
        ConfigError::Invalid { place: Place::File { path: at, at: place }, .. } => {
            assert_eq!(at, path);
            match *place {
                Some((line, column)) => assert_exists(text, line, column, error),
                // A missing key has no line if its section comes from variables alone.
                None => assert!(lines.contains("THREADKEY_"), "the error has no line: {error}"),
            }
        }
        ConfigError::Invalid { place: Place::Variable(name), .. } => {
            assert!(lines.lines().any(|line| line.starts_with(name.as_str())), "{name} is not set");
        }
        error => panic!("the file exists: {error}"),
    }
    if !is_a_name(text) {
        assert_no_canary(&shown);
    }
}

fn assert_exists(text: &str, line: usize, column: usize, error: &ConfigError) {
    let there = text.split('\n').nth(line - 1).unwrap_or_else(|| panic!("there is no such line: {error}"));
    assert!((1..=there.chars().count() + 1).contains(&column), "there is no such column: {error}");
}

/// Whether the canary stands in the place of a name: a key, a section, or an entry of
/// `agent.providers` or of `scopes`. An error repeats a name so that the operator can correct it.
fn is_a_name(text: &str) -> bool {
    fn has(table: &toml::Table) -> bool {
        let named = |key: &str| key.to_ascii_lowercase().contains(CANARY);
        table.iter().any(|(key, value)| match value {
            _ if named(key) => true,
            toml::Value::Table(inner) => has(inner),
            toml::Value::Array(list) => {
                ["providers", "scopes"].contains(&key.as_str())
                    || list.iter().filter_map(toml::Value::as_table).any(has)
            }
            _ => false,
        })
    }
    text.parse::<toml::Table>().map_or(true, |table| has(&table))
}
