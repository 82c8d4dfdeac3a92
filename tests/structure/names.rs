//! The names of all tests, for the documents that mention them.

use std::collections::BTreeSet;

use super::files;

/// The names of all tests of this repository.
pub(crate) fn all_tests() -> BTreeSet<String> {
    let paths = ["src", "tests", "lookalike/src", "playground/src"]
        .iter()
        .flat_map(|folder| files::below(&files::root().join(folder), "rs"));
    paths.flat_map(|path| of_tests(&files::read(&path))).collect()
}

/// The names of all functions in `source` with a test attribute.
pub(crate) fn of_tests(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut attributed = false;
    for line in source.lines().map(str::trim_start) {
        let line = line.strip_prefix("async ").unwrap_or(line);
        if line.starts_with("#[") {
            attributed |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else if let Some(name) = line.strip_prefix("fn ") {
            if attributed {
                names.extend(name.split(['(', '<']).next().map(str::to_owned));
            }
            attributed = false;
        }
    }
    names
}
