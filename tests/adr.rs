//! Checks the decision records: they are numbered, indexed and in one form, their links work, and
//! the tests that they name exist.
//!
//! adr/README.md describes the form. Each rule has a sample below that breaks it.

#![expect(clippy::disallowed_methods, reason = "the test reads the records that it checks")]

#[path = "structure/files.rs"]
mod files;
#[path = "structure/names.rs"]
mod names;
#[path = "structure/test_names.rs"]
mod test_names;

use std::collections::BTreeSet;
use std::path::Path;

/// The sections of a record, in order.
const SECTIONS: &[&str] = &[
    "Status and date",
    "Context",
    "Decision",
    "Options considered",
    "Consequences",
    "Confirmation",
    "When to revisit",
];

/// The statuses of a record; `Superseded by NNNN` names its successor.
const STATUSES: &[&str] = &["Proposed", "Accepted", "Rejected", "Deprecated", "Superseded by"];

/// A record, as read from its file.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    number: usize,
    file: String,
    title: String,
    status: String,
    /// The tests that the section "Confirmation" names; the index shows the first one.
    tests: Vec<String>,
}

/// Reads one record, or returns sentences about the errors in its form.
fn record(file: &str, text: &str) -> Result<Record, Vec<String>> {
    let mut wrong = Vec::new();
    let mut report = |sentence: String| wrong.push(format!("adr/{file}: {sentence}"));
    let number = file.get(..4).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0);
    if number == 0 || file.as_bytes().get(4) != Some(&b'-') {
        report("the name is not NNNN-title.md".to_owned());
    }
    let lines = text.lines().count();
    if !(60..=120).contains(&lines) {
        report(format!("{lines} lines; a record has 60 to 120"));
    }
    let heading = format!("# {number}. ");
    let title = text.lines().next().and_then(|line| line.strip_prefix(&heading)).unwrap_or("");
    if title.is_empty() {
        report(format!("the first line is not `{heading}<title>`"));
    }
    let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    if found != SECTIONS {
        report(format!("the sections are {found:?} instead of {SECTIONS:?}"));
    }
    let standing = section(text, SECTIONS[0]);
    let (status, date) = standing.trim().split_once(", ").unwrap_or((standing.trim(), ""));
    if !STATUSES
        .iter()
        .any(|word| status == *word || (word.ends_with(" by") && status.starts_with(&format!("{word} "))))
    {
        report(format!("the status {status:?} is not one of {STATUSES:?}"));
    }
    if !is_date(date) {
        report(format!("{date:?} is not a date such as 2026-11-22, after the status and a comma"));
    }
    let tests: Vec<String> = section(text, "Confirmation").lines().filter_map(named_test).collect();
    if tests.is_empty() {
        report("the confirmation names no test (`- `name`: its claim`)".to_owned());
    }
    let record =
        Record { number, file: file.to_owned(), title: title.to_owned(), status: status.to_owned(), tests };
    if wrong.is_empty() { Ok(record) } else { Err(wrong) }
}

/// Returns the text of a section, without its heading.
fn section(text: &str, heading: &str) -> String {
    let mut lines = text.lines().skip_while(|line| *line != format!("## {heading}"));
    lines.next();
    let body: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
    body.join("\n")
}

fn is_date(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}

/// Returns the test that a line such as "- `name`: its claim" names.
fn named_test(line: &str) -> Option<String> {
    let (name, _) = line.strip_prefix("- `")?.split_once('`')?;
    Some(name.to_owned())
}

/// Returns the contradictions between the records and their index.
fn index_errors(records: &[Record], index: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (position, record) in records.iter().enumerate() {
        if record.number != position + 1 {
            wrong.push(format!("adr/{}: the next number is {:04}", record.file, position + 1));
        }
    }
    let rows: Vec<&str> = index.lines().filter(|line| line.starts_with("| [")).collect();
    let expected: Vec<String> = records
        .iter()
        .map(|Record { number, file, title, status, tests }| {
            format!("| [{number:04}]({file}) | {title} | {status} | `{}` |", tests[0])
        })
        .collect();
    for row in &expected {
        if !rows.contains(&row.as_str()) {
            wrong.push(format!("adr/README.md lacks the row {row}"));
        }
    }
    for row in rows {
        if !expected.iter().any(|expected| expected == row) {
            wrong.push(format!("adr/README.md has a row that matches no record: {row}"));
        }
    }
    wrong
}

/// Returns the targets of the Markdown links in `text` that point into the repository.
fn relative_links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap_or(target).to_owned())
        .collect()
}

/// Returns all records, in order. A record with a wrong form fails the calling test.
fn records() -> Vec<Record> {
    let folder = files::root().join("adr");
    let names = files::names(&folder);
    let names = names.iter().filter(|name| *name != "README.md");
    let (mut records, mut wrong) = (Vec::new(), Vec::new());
    for name in names {
        match record(name, &files::read(&folder.join(name))) {
            Ok(record) => records.push(record),
            Err(sentences) => wrong.extend(sentences),
        }
    }
    assert_none(&wrong);
    assert!(!records.is_empty(), "there are no records in adr/");
    records
}

fn assert_none(errors: &[String]) {
    assert!(errors.is_empty(), "the records are out of order:\n  {}", errors.join("\n  "));
}

#[test]
fn every_decision_has_the_agreed_form_and_is_in_the_index() {
    let index = files::read(&files::root().join("adr/README.md"));
    assert_none(&index_errors(&records(), &index));
}

#[test]
fn every_test_that_a_decision_names_exists() {
    let existing = names::all_tests();
    let mut missing = Vec::new();
    for record in records() {
        let lost = record.tests.iter().filter(|test| !existing.contains(*test));
        missing.extend(lost.map(|test| format!("adr/{}: no test is called `{test}`", record.file)));
    }
    assert_none(&missing);
}

#[test]
fn every_relative_link_has_a_target() {
    let root = files::root();
    let mut pages: Vec<_> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].iter().map(|name| root.join(name)).collect();
    pages.extend(["adr", "docs", "tests"].iter().flat_map(|folder| files::below(&root.join(folder), "md")));
    let mut broken = Vec::new();
    for page in pages {
        let folder = page.parent().unwrap_or(Path::new(""));
        let links = relative_links(&files::read(&page));
        let lost = links.iter().filter(|link| !folder.join(link).exists());
        broken.extend(lost.map(|link| format!("{} links to {link}", page.display())));
    }
    assert_none(&broken);
}

/// Returns a record in the right form.
fn sample() -> String {
    let mut text = "# 1. Doors open inwards\n".to_owned();
    for heading in SECTIONS {
        let body = match *heading {
            "Status and date" => "Accepted, 2026-11-22",
            "Confirmation" => "- `a_door_opens_inwards`: the hinge is inside",
            _ => "words",
        };
        text.push_str(&format!("\n## {heading}\n\n{body}\n\n\n\n\n\n"));
    }
    text
}

const SAMPLE: &str = "0001-doors-open-inwards.md";

#[test]
fn a_record_out_of_form_is_reported() {
    let good = sample();
    assert_eq!(record(SAMPLE, &good).map(|record| record.tests.len()), Ok(1));
    for (from, to, words) in [
        ("# 1. Doors", "# 2. Doors", "the first line is not"),
        ("## Decision", "## Resolution", "the sections are"),
        ("## Context\n", "", "the sections are"),
        ("Accepted,", "Agreed,", "is not one of"),
        ("2026-11-22", "22 November", "is not a date"),
        ("- `a_door_opens_inwards`", "- see there", "names no test"),
        ("words", "words\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", "a record has 60 to 120"),
    ] {
        let wrong = record(SAMPLE, &good.replace(from, to)).expect_err(words);
        assert!(wrong.iter().any(|sentence| sentence.contains(words)), "{words}: {wrong:?}");
    }
    assert!(record("doors.md", &good).is_err());
}

#[test]
fn a_gap_in_the_numbers_and_a_wrong_index_are_reported() {
    let first = || record(SAMPLE, &sample()).expect("the sample is in form");
    let second = Record { number: 3, file: "0003-b.md".to_owned(), ..first() };
    let row =
        "| [0001](0001-doors-open-inwards.md) | Doors open inwards | Accepted | `a_door_opens_inwards` |";
    assert_eq!(index_errors(&[first()], row), Vec::<String>::new());
    assert!(index_errors(&[first(), second], row)[0].contains("the next number is 0002"));
    assert!(index_errors(&[first()], "")[0].contains("lacks the row"));
    let stale = row.replace("Accepted", "Proposed");
    assert!(index_errors(&[first()], &stale)[1].contains("matches no record"));
    assert_eq!(index_errors(&[first()], &format!("{row}\n| [0002](b.md) | B | Accepted | `b` |")).len(), 1);
}

#[test]
fn only_functions_with_a_test_attribute_are_tests() {
    let source =
        "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test(start_paused = true)]\n#[cfg(unix)]\nasync fn c() {}";
    assert_eq!(names::of_tests(source), BTreeSet::from(["a".to_owned(), "c".to_owned()]));
    let links = relative_links("[a](b.md#c) [d](https://e.example/f) [g](#h) [i](../j)");
    assert_eq!(links, ["b.md", "../j"]);
}
