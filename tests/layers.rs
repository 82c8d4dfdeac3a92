//! The floor plan, kept: a module imports only the floors below it, and what belongs to one place
//! stays there.
//!
//! The rules are those of adr/0001. Each rule has a sample below that breaks it, so that a scan
//! which finds nothing any more cannot pass for a tidy tree.

#![expect(clippy::disallowed_methods, reason = "the test reads the sources that it judges")]

#[path = "structure/circles.rs"]
mod circles;
#[path = "structure/files.rs"]
mod files;
#[path = "structure/source.rs"]
mod source;

use std::path::PathBuf;

use source::{Named, paths, tokens};

/// The modules by floor, lowest first. `main.rs` stands above them all.
const FLOORS: &[&[&str]] = &[
    &["ids", "secret"],
    &["sys", "session"],
    &["store", "oauth", "agent"],
    &["broker"],
    &["discord", "api", "cli"],
    &["config", "app"],
];

/// Crates that one module alone may use; the keyword `unsafe` is for `sys` too.
const OWNED: &[(&str, &str)] =
    &[("serenity", "discord"), ("oauth2", "oauth"), ("landlock", "sys"), ("libc", "sys"), ("inotify", "sys")];

/// The longest file that a reader is asked to take in.
const MAX_LINES: usize = 600;

/// What may lie in the repository's top folder.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".dockerignore",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "adr",
    "benches",
    "build.rs",
    "clippy.toml",
    "deploy",
    "docs",
    "examples",
    "fuzz",
    "rustfmt.toml",
    "src",
    "target",
    "tests",
];

/// Where a file stands: its top module (none for `lib.rs`) and its path below `crate`.
struct Place {
    /// `lib.rs` and `main.rs` may name every floor.
    top: Option<String>,
    module: Vec<String>,
    is_main: bool,
}

/// `relative` is the path below `src/`, with `/` between its parts.
fn place(relative: &str) -> Place {
    let mut module: Vec<String> = relative.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let is_main = relative == "main.rs";
    if module.len() == 1 && (is_main || relative == "lib.rs") {
        return Place { top: None, module: Vec::new(), is_main };
    }
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    Place { top: module.first().cloned(), module, is_main: false }
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The top module of our own that a path leads to, if it leads to one.
fn target(place: &Place, named: &Named) -> Option<String> {
    let first = named.segments.first()?.as_str();
    let rest = &named.segments[1..];
    match first {
        "crate" => rest.first().cloned(),
        "threadkey" if place.is_main => rest.first().cloned(),
        "super" => {
            let ups = named.segments.iter().take_while(|segment| *segment == "super").count();
            let depth = place.module.len() + named.inline_depth;
            if ups < depth { None } else { named.segments.get(ups).cloned() }
        }
        _ => None,
    }
}

/// Every sentence that there is to say against one source file.
fn against(relative: &str, text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        sentences.push(format!("src/{relative} has {lines} lines; split it: {MAX_LINES} at most"));
    }
    let place = place(relative);
    if let Some(top) = &place.top
        && floor(top).is_none()
    {
        sentences.push(format!("src/{relative}: `{top}` is on no floor; add it to the floor plan"));
    }
    for named in paths(text) {
        sentences.extend(against_import(relative, &place, &named));
        sentences.extend(against_crate(relative, &place, &named));
    }
    if place.top.as_deref() != Some("sys") {
        let unsafes = tokens(text).into_iter().filter(|token| token.text == "unsafe");
        sentences.extend(
            unsafes.map(|token| format!("src/{relative}:{}: `unsafe` is for sys/ alone", token.line)),
        );
    }
    sentences.dedup();
    sentences
}

fn against_import(relative: &str, place: &Place, named: &Named) -> Option<String> {
    let own = place.top.as_deref()?;
    let other = target(place, named)?;
    let (own_floor, other_floor) = (floor(own)?, floor(&other)?);
    let line = named.line;
    if other == own || other_floor < own_floor {
        None
    } else if other_floor == own_floor {
        Some(format!(
            "src/{relative}:{line}: `{own}` imports its sibling `{other}`; siblings on floor \
             {own_floor} do not know each other"
        ))
    } else {
        Some(format!(
            "src/{relative}:{line}: `{own}` (floor {own_floor}) imports `{other}` (floor \
             {other_floor}); a module imports only floors below it"
        ))
    }
}

fn against_crate(relative: &str, place: &Place, named: &Named) -> Option<String> {
    let first = named.segments.first()?;
    let (used, owner) = OWNED.iter().find(|(used, _)| used == first)?;
    (place.top.as_deref() != Some(*owner))
        .then(|| format!("src/{relative}:{}: the crate `{used}` is used in {owner}/ alone", named.line))
}

fn against_top_level(name: &str) -> Option<String> {
    (!TOP_LEVEL.contains(&name)).then(|| {
        format!("`{name}` is not among the agreed entries of the top folder; put it where it belongs")
    })
}

/// All files of `src/`, by their paths there, with `/` between the parts.
fn sources() -> Vec<(String, String)> {
    let src = files::root().join("src");
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(&src).expect("the file was found below src/");
        let relative = relative.to_str().expect("source files have plain names").replace('\\', "/");
        (relative, files::read(&path))
    };
    files::below(&src, "rs").into_iter().map(source).collect()
}

fn assert_nothing_against(sentences: &[String]) {
    assert!(sentences.is_empty(), "the floor plan is broken:\n  {}", sentences.join("\n  "));
}

#[test]
fn every_module_imports_only_floors_below_it() {
    let sources = sources();
    assert!(sources.iter().any(|(relative, _)| relative == "main.rs"), "no sources found in src/");
    let sentences: Vec<String> =
        sources.iter().flat_map(|(relative, text)| against(relative, text)).collect();
    assert_nothing_against(&sentences);
}

#[test]
fn no_files_take_from_each_other_in_a_circle() {
    let sources = sources();
    assert!(!sources.is_empty(), "no sources found in src/");
    let circles = circles::circles(&sources);
    assert!(
        circles.is_empty(),
        "these files take from each other; what both need goes below both:\n  {}",
        circles.join("\n  ")
    );
}

#[test]
fn the_top_folder_holds_only_the_agreed_entries() {
    let names = files::names(files::root());
    let sentences: Vec<String> = names.iter().filter_map(|name| against_top_level(name)).collect();
    assert_nothing_against(&sentences);
}

/// One sentence is said, and it has these words in it.
#[test]
fn the_container_s_build_is_given_all_that_it_copies() {
    let read = |name: &str| {
        std::fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).expect("it is there")
    };
    let (recipe, given) = (read("Dockerfile"), read("Dockerfile.dockerignore"));
    let copies =
        recipe.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--"));
    let copied: Vec<&str> = copies.flat_map(|line| line.split(' ').rev().skip(1)).collect();
    assert!(copied.contains(&"src"), "{copied:?}");
    for name in copied {
        assert!(
            given.lines().any(|line| line == format!("!{name}")),
            "deploy/Dockerfile.dockerignore leaves out {name}"
        );
    }
}

fn assert_said(relative: &str, text: &str, words: &str) {
    let sentences = against(relative, text);
    assert_eq!(sentences.len(), 1, "{relative}: {text}: {sentences:?}");
    assert!(sentences[0].contains(words), "{words:?} is not in {sentences:?}");
}

fn assert_unsaid(relative: &str, text: &str) {
    assert_eq!(against(relative, text), Vec::<String>::new(), "{relative}: {text}");
}

#[test]
fn an_import_of_a_higher_floor_is_told_however_it_is_written() {
    let above = "floor 1) imports `broker` (floor 3)";
    for text in [
        "use crate::broker::Broker;",
        "use crate::{ids::Tenant, broker};",
        "use crate::{ids::{Tenant, Principal}, broker::{Broker as B, *}};",
        "pub(crate) use super::super::broker::Broker;",
        "fn f() -> crate::broker::Broker { g() }",
        "mod tests { use super::super::super::broker::Broker; }",
        "mod a { } use super::super::broker::Broker;",
    ] {
        assert_said("sys/disk.rs", text, above);
    }
    assert_said("sys/mod.rs", "use super::broker::Broker;", above);
    assert_said("broker/mod.rs", "\n\nuse crate::app;", "src/broker/mod.rs:3: `broker` (floor 3)");
}

#[test]
fn an_import_of_a_sibling_is_told() {
    assert_said("store/file.rs", "use crate::oauth::Outcome;", "imports its sibling `oauth`");
    assert_said("cli/mod.rs", "use crate::api::Server;", "imports its sibling `api`");
    assert_said("ids.rs", "use crate::secret::Secret;", "imports its sibling `secret`");
}

#[test]
fn imports_of_lower_floors_and_of_the_own_module_are_let_pass() {
    assert_unsaid("broker/flight.rs", "use crate::{store::Store, sys::Clock, broker::Event};");
    assert_unsaid("broker/flight.rs", "use super::{Event, app}; mod tests { use super::*; }");
    assert_unsaid("main.rs", "use threadkey::{app, config, cli};");
    assert_unsaid("lib.rs", "pub mod app; pub use crate::broker::Broker;");
}

#[test]
fn comments_and_strings_are_no_imports() {
    assert_unsaid("sys/mod.rs", "//! See crate::broker::Broker.\n/* a /* b */ crate::app::run */");
    assert_unsaid("sys/mod.rs", r##"const S: &str = "\" unsafe crate::app::run"; const C: char = '"';"##);
    assert_unsaid("ids.rs", "const S: &str = r#\"a \" crate::app::run\"#; fn f<'a>(s: &'a str) {}");
    assert_said("sys/mod.rs", "const C: char = '\\''; use crate::app::run;", "imports `app`");
}

#[test]
fn a_crate_used_outside_the_module_that_owns_it_is_told() {
    assert_said("app/mod.rs", "use serenity::all::Client;", "`serenity` is used in discord/ alone");
    assert_said("app/mod.rs", "extern crate serenity;", "`serenity` is used in discord/ alone");
    assert_said("main.rs", "fn f(c: ::serenity::Client) {}", "`serenity` is used in discord/");
    assert_said("broker/mod.rs", "use {std::fmt, oauth2::PkceCodeVerifier};", "used in oauth/ alone");
    assert_said("agent/spawn.rs", "use landlock::Ruleset;", "`landlock` is used in sys/ alone");
    assert_said("store/file.rs", "fn f() -> i32 { libc::LOCK_EX }", "`libc` is used in sys/ alone");
    assert_unsaid("discord/mod.rs", "use serenity::all::Client;");
    assert_unsaid("oauth/mod.rs", "use oauth2::PkceCodeVerifier;");
    assert_unsaid("sys/flock.rs", "use libc::flock;");
}

#[test]
fn unsafe_outside_sys_is_told() {
    assert_said("store/file.rs", "fn f() { unsafe { g() } }", "`unsafe` is for sys/ alone");
    assert_unsaid("sys/flock.rs", "#![expect(unsafe_code)] fn f() { unsafe { g() } }");
    assert_unsaid("store/file.rs", "#![deny(unsafe_code)]");
}

#[test]
fn a_circle_of_files_is_told_by_its_names_however_it_is_closed() {
    let circles = |files: &[(&str, &str)]| {
        let sources: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        circles::circles(&sources)
    };
    let told = ["store/a.rs -> store/b.rs (B) -> store/a.rs (A)"];
    let a = ("store/a.rs", "use super::b::B; pub(super) struct A(B);");
    assert_eq!(circles(&[a, ("store/b.rs", "fn b(_: super::a::A) {}")]), told);
    assert_eq!(circles(&[a, ("store/b.rs", "use crate::{ids::Tenant, store::a::{A as C, D}};")]), told);
    assert_eq!(circles(&[a, ("store/b.rs", "mod c { use super::super::a::A; }")]), told);
    let face = ("store/mod.rs", "mod a; mod b; pub use a::A; pub(crate) use self::b::B;");
    assert_eq!(circles(&[face, a, ("store/b.rs", "use super::A;")]), told, "through what is handed on");
    let needs = ("store/mod.rs", "mod a; pub use a::A; pub struct Store(A);");
    let circle = circles(&[needs, ("store/a.rs", "use super::Store;")]);
    assert_eq!(circle, ["store/mod.rs -> store/a.rs (A) -> store/mod.rs (Store)"]);
    let three = [
        ("cli/mod.rs", "pub mod c;"),
        ("cli/a.rs", "use super::b::b;"),
        ("cli/b.rs", "use crate::cli::c;"),
        ("cli/c/mod.rs", "mod tests; use super::a::a;"),
    ];
    assert_eq!(circles(&three), ["cli/a.rs -> cli/b.rs (b) -> cli/c/mod.rs (c) -> cli/a.rs (a)"]);
}

#[test]
fn files_that_take_from_those_below_them_alone_are_let_pass() {
    let files = [
        ("store/mod.rs", "mod a; mod b; pub use a::A; pub struct Store; #[cfg(test)] mod tests;"),
        ("store/a.rs", "//! See [`super::b::B`].\nuse super::Store; pub struct A; mod m { use super::A; }"),
        ("store/b.rs", "use super::{A, Store}; use std::io; const S: &str = \"crate::store::c::C\";"),
        ("store/tests/mod.rs", "use super::{a::A, b::B}; mod deep;"),
        ("main.rs", "use threadkey::store::A;"),
    ];
    assert_eq!(circles::circles(&files.map(|(name, text)| (name.to_owned(), text.to_owned()))), [""; 0]);
}

#[test]
fn a_file_that_is_too_long_is_told() {
    assert_unsaid("ids.rs", &"\n".repeat(MAX_LINES));
    assert_said("ids.rs", &"\n".repeat(MAX_LINES + 1), "split it");
}

#[test]
fn a_module_on_no_floor_and_a_stray_top_level_entry_are_told() {
    assert_said("util.rs", "", "`util` is on no floor");
    assert_said("helpers/mod.rs", "", "`helpers` is on no floor");
    assert!(against_top_level("scripts").is_some_and(|said| said.contains("`scripts`")));
    assert_eq!(against_top_level("src"), None);
}
