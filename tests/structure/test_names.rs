//! Checks that the name of each test can be read as a sentence, in one line.

use std::collections::BTreeSet;

use super::names;

/// The length of the longest permitted name, in characters.
const MAX_LENGTH: usize = 80;

/// Returns the names that are too long, each with its length.
fn too_long(names: &BTreeSet<String>) -> Vec<String> {
    let lengths = names.iter().map(|name| (name, name.chars().count()));
    let long = lengths.filter(|(_, length)| *length > MAX_LENGTH);
    long.map(|(name, length)| format!("{name} has {length} characters")).collect()
}

#[test]
fn no_test_name_is_longer_than_80_characters() {
    let errors = too_long(&names::all_tests());
    assert!(errors.is_empty(), "shorten these test names to {MAX_LENGTH}:\n  {}", errors.join("\n  "));
}

#[test]
fn a_test_name_of_81_characters_is_reported() {
    let names = BTreeSet::from(["a".repeat(MAX_LENGTH), "b".repeat(MAX_LENGTH + 1)]);
    assert_eq!(too_long(&names), [format!("{} has 81 characters", "b".repeat(81))]);
}
