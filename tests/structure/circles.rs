//! Finds files that depend on each other in a circle.
//!
//! A file depends on another if it names an item of it, by `use` or in place. A re-export (`pub
//! use`) in a `mod.rs` counts as the item's own file, and the `mod.rs` depends on that file only if
//! it needs the name itself. Method calls are not seen, because only a compiler knows which type a
//! method belongs to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    place,
    source::{How, Named, paths, tokens},
};

/// How many re-exports are followed for one name.
const MAX_REEXPORTS: usize = 8;

/// One file and the paths that it names.
struct File {
    /// The path below `src/`.
    name: String,
    named: Vec<Named>,
    /// The result of [`words`].
    words: BTreeSet<String>,
}

/// The files of a tree, by the paths of their modules.
struct Tree(BTreeMap<Vec<String>, File>);

/// Returns each circle, as `a.rs -> b.rs (Name) -> a.rs (Name)`. A source is its path below `src/`
/// and its text. Files of unit tests are left out, because they use the file that they test.
pub(crate) fn circles(sources: &[(String, String)]) -> Vec<String> {
    let code = sources.iter().filter(|(name, _)| !is_test(name) && !place(name).is_main);
    let tree = Tree(
        code.map(|(name, text)| {
            let file = File { name: name.clone(), named: paths(text), words: words(text) };
            (place(name).module, file)
        })
        .collect(),
    );
    let dependencies: BTreeMap<_, _> =
        tree.0.keys().map(|module| (module.clone(), tree.dependencies(module))).collect();
    let mut reported = BTreeSet::new();
    let mut circles = Vec::new();
    for start in tree.0.keys() {
        if let Some(circle) = way_back(start, &dependencies)
            && !circle.iter().any(|(module, _)| reported.contains(module))
        {
            let steps = circle.iter().map(|(module, name)| format!(" -> {} ({name})", tree.0[module].name));
            circles.push(format!("{}{}", tree.0[start].name, steps.collect::<String>()));
            reported.extend(circle.into_iter().map(|(module, _)| module));
        }
    }
    circles
}

fn is_test(name: &str) -> bool {
    name.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// All words of a source, except those in a `use` and the names of its modules.
fn words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut tokens = tokens(text).into_iter().map(|token| token.text);
    while let Some(word) = tokens.next() {
        match word.as_str() {
            "use" => drop(tokens.find(|text| text == ";")),
            "mod" => drop(tokens.next()),
            _ => drop(words.insert(word)),
        }
    }
    words
}

/// For each module, the modules that it depends on, each with the first name that it uses.
type Dependencies = BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>>;

/// The shortest way from a module over its dependencies back to itself: each step's module and the
/// name used.
fn way_back(start: &[String], dependencies: &Dependencies) -> Option<Vec<(Vec<String>, String)>> {
    let mut ways = VecDeque::from([vec![(start.to_vec(), String::new())]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let (at, _) = way.last()?;
        for (module, name) in &dependencies[at] {
            let mut longer = way.clone();
            longer.push((module.clone(), name.clone()));
            if module == start {
                longer.remove(0);
                return Some(longer);
            }
            if seen.insert(module.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

impl Tree {
    /// The other modules that this one depends on, each with the first name that it uses.
    fn dependencies(&self, module: &[String]) -> BTreeMap<Vec<String>, String> {
        let file = &self.0[module];
        let mut dependencies = BTreeMap::new();
        for named in &file.named {
            let last = named.segments.iter().rfind(|segment| *segment != "self").map_or("", String::as_str);
            if named.how == How::Reexported && !file.words.contains(last) {
                continue;
            }
            let found = self.absolute(module, named).and_then(|path| self.home(&path, MAX_REEXPORTS));
            if let Some(home) = found.filter(|home| home != module) {
                dependencies.entry(home).or_insert_with(|| last.to_owned());
            }
        }
        dependencies
    }

    /// The path from the crate's root, if it leads into this crate.
    fn absolute(&self, module: &[String], named: &Named) -> Option<Vec<String>> {
        let segments = &named.segments;
        let (base, rest) = match segments.first()?.as_str() {
            "crate" => (&[][..], &segments[1..]),
            "self" => (module, &segments[1..]),
            "super" => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let base = module.len().checked_sub(ups.saturating_sub(named.inline_depth))?;
                (&module[..base], &segments[ups..])
            }
            first => {
                let child = [module, &[first.to_owned()]].concat();
                self.0.contains_key(&child).then_some((module, &segments[..]))?
            }
        };
        let rest = rest.iter().filter(|segment| *segment != "self");
        Some(base.iter().chain(rest).cloned().collect())
    }

    /// The module whose file defines the item at `path`, found through at most `hops` re-exports.
    fn home(&self, path: &[String], hops: usize) -> Option<Vec<String>> {
        let known = (1..=path.len()).rev().find(|len| self.0.contains_key(&path[..*len]))?;
        let (module, rest) = path.split_at(known);
        let handed = rest.first().filter(|_| hops > 0).and_then(|name| {
            let brings = |named: &&Named| {
                named.how != How::InPlace && named.inline_depth == 0 && named.segments.last() == Some(name)
            };
            let named = self.0[module].named.iter().find(brings)?;
            let further = [&self.absolute(module, named)?, &rest[1..]].concat();
            self.home(&further, hops - 1)
        });
        handed.or_else(|| Some(module.to_vec()))
    }
}
