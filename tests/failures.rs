//! Checks the table in tests/README.md: each failure of shared logins has its row, in order, and
//! each row names existing tests.

#![expect(clippy::disallowed_methods, reason = "the test reads the table that it checks")]

#[path = "structure/files.rs"]
mod files;
#[path = "structure/names.rs"]
mod names;

use std::collections::BTreeSet;

/// The numbers of the rows, in order.
fn numbers() -> impl Iterator<Item = usize> {
    1..=54
}

/// Returns the errors of the table in `text`, given the existing tests.
fn table_errors(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells[0].parse::<usize>().is_ok())
        .collect();
    let numbers: Vec<&str> = rows.iter().map(|cells| cells[0]).collect();
    let expected: Vec<String> = self::numbers().map(|number| number.to_string()).collect();
    if numbers != expected {
        wrong.push(format!("the rows are {numbers:?} instead of {expected:?}"));
    }
    for cells in rows {
        let named: Vec<&str> =
            cells.last().copied().unwrap_or_default().split('`').skip(1).step_by(2).collect();
        if cells.len() != 4 || cells[1].is_empty() || cells[2].is_empty() || named.is_empty() {
            wrong.push(format!("row {} does not name a failure, the behaviour here, and tests", cells[0]));
        }
        let lost = named.iter().filter(|name| !tests.contains(**name));
        wrong.extend(lost.map(|name| format!("row {}: no test is called `{name}`", cells[0])));
    }
    wrong
}

#[test]
fn every_failure_row_names_existing_tests() {
    let wrong = table_errors(&files::read(&files::root().join("tests/README.md")), &names::all_tests());
    assert!(wrong.is_empty(), "tests/README.md is out of order:\n  {}", wrong.join("\n  "));
}

#[test]
fn a_missing_row_an_empty_cell_and_a_missing_test_are_reported() {
    let tests = BTreeSet::from(["a_test".to_owned()]);
    let row = |number: usize| format!("| {number} | a failure | the behaviour here | `a_test` |\n");
    let good: String = numbers().map(row).collect();
    assert_eq!(table_errors(&good, &tests), Vec::<String>::new());
    for (bad, words) in [
        (good.replace(&row(7), ""), "instead of"),
        (good.replace(&row(7), "| 7 | a failure | | `a_test` |\n"), "row 7 does not name"),
        (
            good.replace(&row(7), "| 7 | a failure | the behaviour here | see there |\n"),
            "row 7 does not name",
        ),
        (
            good.replace(&row(7), "| 7 | a | b | `a_test`, `another` |\n"),
            "row 7: no test is called `another`",
        ),
    ] {
        let wrong = table_errors(&bad, &tests);
        assert!(wrong.len() == 1 && wrong[0].contains(words), "{words}: {wrong:?}");
    }
}
