//! Collects the names of all tests, for the documents that name them.

use std::collections::BTreeSet;

use super::files;

/// Returns the names of all tests of this repository, in every member of the workspace.
pub(crate) fn all_tests() -> BTreeSet<String> {
    let root = files::root();
    let names = files::names(root).into_iter().filter(|name| !name.starts_with('.') && name != "target");
    let folders = names.map(|name| root.join(name)).filter(|path| path.is_dir());
    let paths = folders.flat_map(|folder| files::below(&folder, "rs"));
    paths.flat_map(|path| of_tests(&files::read(&path))).collect()
}

/// Returns the names of all functions in `source` that have a test attribute.
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
