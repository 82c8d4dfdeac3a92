//! The crates in two versions.

use std::collections::{BTreeMap, BTreeSet};

use super::files::{read, root};

/// Returns the versions of each crate in Cargo.lock that has several.
fn doubled() -> BTreeMap<String, BTreeSet<String>> {
    let lock: toml::Table = read(&root().join("Cargo.lock")).parse().expect("TOML");
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages") {
        let text = |key: &str| package[key].as_str().expect("a text").to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    versions.retain(|_, versions| versions.len() > 1);
    versions
}

#[test]
fn each_crate_in_two_versions_has_its_reason_in_deny_toml() {
    let rules: toml::Table = read(&root().join("deny.toml")).parse().expect("TOML");
    let skipped = rules["bans"]["skip"].as_array().expect("a list");
    let mut unexplained = doubled();
    for entry in skipped {
        let text = |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("{entry} has no {key}"));
        let (name, version) = text("crate").split_once('@').expect("a version");
        let is_it = |found: &String| found.starts_with(&format!("{version}."));
        let versions = unexplained.get_mut(name).unwrap_or_else(|| panic!("{name} has one version only"));
        let count = versions.len();
        versions.retain(|found| !is_it(found));
        assert_eq!(versions.len() + 1, count, "Cargo.lock has no {name} {version}");
        assert!(!text("reason").is_empty(), "{name} {version}");
    }
    // One version of each crate needs no reason.
    unexplained.retain(|_, versions| versions.len() > 1);
    assert!(unexplained.is_empty(), "without a reason in deny.toml: {unexplained:?}");
}
