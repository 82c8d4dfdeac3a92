//! The floor plan: a module imports only the floors below it, and some crates belong to one module.
//!
//! The rules are those of adr/0001. Each rule has a sample below that breaks it, so that a broken
//! scanner cannot pass for a tidy tree.

#![expect(clippy::disallowed_methods, reason = "the test reads the sources that it judges")]

#[path = "structure/circles.rs"]
mod circles;
#[path = "structure/files.rs"]
mod files;
#[path = "structure/source.rs"]
mod source;

use std::path::PathBuf;

use source::{Named, paths, tokens};

/// The modules by floor, lowest first. `main.rs` stands above all of them.
const FLOORS: &[&[&str]] = &[
    &["ids", "secret"],
    &["sys", "session", "net", "tools"],
    &["store", "oauth", "agent"],
    &["broker"],
    &["discord", "api", "cli", "hooks"],
    &["config", "app"],
    &["entry"],
];

/// Crates that only one module may use. The keyword `unsafe` belongs to `sys` too.
const OWNED: &[(&str, &str)] = &[
    ("serenity", "discord"),
    ("oauth2", "oauth"),
    ("landlock", "sys"),
    ("libc", "sys"),
    ("inotify", "sys"),
    ("rustix", "sys"),
    ("rustls", "net"),
    ("tokio_rustls", "net"),
    ("tokio_socks", "net"),
    ("rustls_native_certs", "net"),
];

/// The greatest length of a source file, in lines.
const MAX_LINES: usize = 600;

/// The folders of the workspace's other packages.
const MEMBERS: &[&str] = &["client", "lookalike", "playground"];

/// The entries that the repository's top folder may have.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
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
    "client",
    "clippy.toml",
    "deploy",
    "docs",
    "fuzz",
    "lookalike",
    "playground",
    "rustfmt.toml",
    "src",
    "target",
    "tests",
];

/// A file's position: its top module (none for `lib.rs`) and its path below `crate`.
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

/// The top module that a path leads to, if it leads into this crate.
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

/// All violations in one source file, as sentences.
fn violations_in(relative: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        violations
            .push(format!("src/{relative} has {lines} lines; split it: at most {MAX_LINES} are allowed"));
    }
    let place = place(relative);
    if let Some(top) = &place.top
        && floor(top).is_none()
    {
        violations.push(format!("src/{relative}: `{top}` is on no floor; add it to the floor plan"));
    }
    for named in paths(text) {
        violations.extend(import_violation(relative, &place, &named));
        violations.extend(crate_violation(relative, &place, &named));
    }
    if place.top.as_deref() != Some("sys") {
        let unsafes = tokens(text).into_iter().filter(|token| token.text == "unsafe");
        violations.extend(
            unsafes.map(|token| format!("src/{relative}:{}: `unsafe` belongs to sys/ only", token.line)),
        );
    }
    violations.dedup();
    violations
}

fn import_violation(relative: &str, place: &Place, named: &Named) -> Option<String> {
    let own = place.top.as_deref()?;
    let other = target(place, named)?;
    let (own_floor, other_floor) = (floor(own)?, floor(&other)?);
    let line = named.line;
    if other == own || other_floor < own_floor {
        None
    } else if other_floor == own_floor {
        Some(format!(
            "src/{relative}:{line}: `{own}` imports its sibling `{other}`; siblings on floor \
             {own_floor} do not import each other"
        ))
    } else {
        Some(format!(
            "src/{relative}:{line}: `{own}` (floor {own_floor}) imports `{other}` (floor \
             {other_floor}); a module imports only floors below it"
        ))
    }
}

fn crate_violation(relative: &str, place: &Place, named: &Named) -> Option<String> {
    let first = named.segments.first()?;
    let (used, owner) = OWNED.iter().find(|(used, _)| used == first)?;
    (place.top.as_deref() != Some(*owner))
        .then(|| format!("src/{relative}:{}: the crate `{used}` belongs to {owner}/ only", named.line))
}

fn top_level_violation(name: &str) -> Option<String> {
    (!TOP_LEVEL.contains(&name))
        .then(|| format!("`{name}` is not an agreed entry of the top folder; move it into one of them"))
}

/// All files of `src/`: each file's path below it, with `/` between the parts, and its text.
fn sources() -> Vec<(String, String)> {
    let src = files::root().join("src");
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(&src).expect("the file was found below src/");
        let relative = relative.to_str().expect("source files have plain names").replace('\\', "/");
        (relative, files::read(&path))
    };
    files::below(&src, "rs").into_iter().map(source).collect()
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "the floor plan is broken:\n  {}", violations.join("\n  "));
}

#[test]
fn every_module_imports_only_floors_below_it() {
    let sources = sources();
    assert!(sources.iter().any(|(relative, _)| relative == "main.rs"), "no sources found in src/");
    let violations: Vec<String> =
        sources.iter().flat_map(|(relative, text)| violations_in(relative, text)).collect();
    assert_none(&violations);
}

#[test]
fn no_source_files_depend_on_each_other_in_a_circle() {
    let sources = sources();
    assert!(!sources.is_empty(), "no sources found in src/");
    let circles = circles::circles(&sources);
    assert!(
        circles.is_empty(),
        "these files use each other; move the shared items into a file below both:\n  {}",
        circles.join("\n  ")
    );
}

/// The first place where a source of the look-alike names threadkey's library.
fn use_of_threadkey(text: &str) -> Option<usize> {
    paths(text).iter().find(|named| named.segments[0] == "threadkey").map(|named| named.line)
}

#[test]
fn the_look_alike_does_not_use_the_library_that_it_tests() {
    let sources = files::below(&files::root().join("lookalike/src"), "rs");
    assert!(!sources.is_empty(), "no sources found in lookalike/src/");
    for path in sources {
        let line = use_of_threadkey(&files::read(&path));
        assert_eq!(line, None, "{} uses the library `threadkey`", path.display());
    }
    assert_eq!(use_of_threadkey("use std::fmt;\nuse threadkey::ids::Tenant;"), Some(2));
    assert_eq!(use_of_threadkey("// threadkey::ids\nuse threadkey_lookalike::discord;"), None);
}

#[test]
fn no_source_of_another_package_is_too_long() {
    for member in MEMBERS {
        let sources = files::below(&files::root().join(member), "rs");
        assert!(!sources.is_empty(), "no sources found in {member}/");
        for path in sources {
            let lines = files::read(&path).lines().count();
            assert!(
                lines <= MAX_LINES,
                "{} has {lines} lines; at most {MAX_LINES} are allowed",
                path.display()
            );
        }
    }
}

#[test]
fn the_top_folder_holds_only_the_agreed_entries() {
    let names = files::names(files::root());
    let violations: Vec<String> = names.iter().filter_map(|name| top_level_violation(name)).collect();
    assert_none(&violations);
}

#[test]
fn the_docker_build_receives_every_path_that_it_copies() {
    let read = |name: &str| {
        std::fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).expect("it is there")
    };
    let (recipe, given) = (read("Dockerfile"), read("Dockerfile.dockerignore"));
    let copies =
        recipe.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--"));
    let copied: Vec<&str> = copies.flat_map(|line| line.split(' ').rev().skip(1)).collect();
    for needed in [&["src"][..], MEMBERS].concat() {
        assert!(copied.contains(&needed), "deploy/Dockerfile does not copy {needed}: {copied:?}");
    }
    for name in copied {
        assert!(
            given.lines().any(|line| line == format!("!{name}")),
            "deploy/Dockerfile.dockerignore leaves out {name}"
        );
    }
}

/// Asserts that there is exactly one violation and that it contains `words`.
fn assert_reported(relative: &str, text: &str, words: &str) {
    let violations = violations_in(relative, text);
    assert_eq!(violations.len(), 1, "{relative}: {text}: {violations:?}");
    assert!(violations[0].contains(words), "{words:?} is not in {violations:?}");
}

fn assert_allowed(relative: &str, text: &str) {
    assert_eq!(violations_in(relative, text), Vec::<String>::new(), "{relative}: {text}");
}

#[test]
fn an_import_of_a_higher_floor_is_reported_in_every_spelling() {
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
        assert_reported("sys/disk.rs", text, above);
    }
    assert_reported("sys/mod.rs", "use super::broker::Broker;", above);
    assert_reported("broker/mod.rs", "\n\nuse crate::app;", "src/broker/mod.rs:3: `broker` (floor 3)");
}

#[test]
fn an_import_of_a_sibling_is_reported() {
    assert_reported("store/file.rs", "use crate::oauth::Outcome;", "imports its sibling `oauth`");
    assert_reported("cli/mod.rs", "use crate::api::Server;", "imports its sibling `api`");
    assert_reported("ids.rs", "use crate::secret::Secret;", "imports its sibling `secret`");
}

#[test]
fn imports_of_lower_floors_and_of_the_own_module_are_allowed() {
    assert_allowed("broker/flight.rs", "use crate::{store::Store, sys::Clock, broker::Event};");
    assert_allowed("broker/flight.rs", "use super::{Event, app}; mod tests { use super::*; }");
    assert_allowed("main.rs", "use threadkey::{app, config, cli};");
    assert_allowed("lib.rs", "pub mod app; pub use crate::broker::Broker;");
}

#[test]
fn comments_and_strings_are_not_read_as_imports() {
    assert_allowed("sys/mod.rs", "//! See crate::broker::Broker.\n/* a /* b */ crate::app::run */");
    assert_allowed("sys/mod.rs", r##"const S: &str = "\" unsafe crate::app::run"; const C: char = '"';"##);
    assert_allowed("ids.rs", "const S: &str = r#\"a \" crate::app::run\"#; fn f<'a>(s: &'a str) {}");
    assert_reported("sys/mod.rs", "const C: char = '\\''; use crate::app::run;", "imports `app`");
}

#[test]
fn a_crate_used_outside_the_module_that_owns_it_is_reported() {
    assert_reported("app/mod.rs", "use serenity::all::Client;", "`serenity` belongs to discord/ only");
    assert_reported("app/mod.rs", "extern crate serenity;", "`serenity` belongs to discord/ only");
    assert_reported("main.rs", "fn f(c: ::serenity::Client) {}", "`serenity` belongs to discord/");
    assert_reported("broker/mod.rs", "use {std::fmt, oauth2::PkceCodeVerifier};", "belongs to oauth/ only");
    assert_reported("agent/spawn.rs", "use landlock::Ruleset;", "`landlock` belongs to sys/ only");
    assert_reported("store/file.rs", "fn f() -> i32 { libc::LOCK_EX }", "`libc` belongs to sys/ only");
    assert_allowed("discord/mod.rs", "use serenity::all::Client;");
    assert_allowed("oauth/mod.rs", "use oauth2::PkceCodeVerifier;");
    assert_allowed("sys/flock.rs", "use libc::flock;");
}

#[test]
fn unsafe_outside_sys_is_reported() {
    assert_reported("store/file.rs", "fn f() { unsafe { g() } }", "`unsafe` belongs to sys/ only");
    assert_allowed("sys/flock.rs", "#![expect(unsafe_code)] fn f() { unsafe { g() } }");
    assert_allowed("store/file.rs", "#![deny(unsafe_code)]");
}

#[test]
fn a_circle_of_files_is_reported_by_its_names() {
    let circles = |files: &[(&str, &str)]| {
        let sources: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        circles::circles(&sources)
    };
    let reported = ["store/a.rs -> store/b.rs (B) -> store/a.rs (A)"];
    let a = ("store/a.rs", "use super::b::B; pub(super) struct A(B);");
    assert_eq!(circles(&[a, ("store/b.rs", "fn b(_: super::a::A) {}")]), reported);
    assert_eq!(circles(&[a, ("store/b.rs", "use crate::{ids::Tenant, store::a::{A as C, D}};")]), reported);
    assert_eq!(circles(&[a, ("store/b.rs", "mod c { use super::super::a::A; }")]), reported);
    let face = ("store/mod.rs", "mod a; mod b; pub use a::A; pub(crate) use self::b::B;");
    assert_eq!(circles(&[face, a, ("store/b.rs", "use super::A;")]), reported, "through a re-export");
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
fn files_that_use_only_files_below_them_are_allowed() {
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
fn a_file_that_is_too_long_is_reported() {
    assert_allowed("ids.rs", &"\n".repeat(MAX_LINES));
    assert_reported("ids.rs", &"\n".repeat(MAX_LINES + 1), "split it");
}

#[test]
fn a_module_on_no_floor_and_a_stray_top_level_entry_are_reported() {
    assert_reported("util.rs", "", "`util` is on no floor");
    assert_reported("helpers/mod.rs", "", "`helpers` is on no floor");
    assert!(top_level_violation("scripts").is_some_and(|violation| violation.contains("`scripts`")));
    assert_eq!(top_level_violation("src"), None);
}
