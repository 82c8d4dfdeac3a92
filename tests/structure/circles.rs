//! Which files take something from each other in a circle.
//!
//! A file takes from another what it names there, by `use` or in place. What a `mod.rs` hands on by `pub use` counts as taken from the file
//! where it is written, and ties the `mod.rs` to that file only if it needs the name itself. Methods are not seen: whose they are takes a
//! compiler.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    place,
    source::{How, Named, paths, tokens},
};

/// How often a name that is handed on is looked up further.
const MAX_HANDS: usize = 8;

/// What one file names, by its module's path.
struct File {
    /// Below `src/`.
    name: String,
    named: Vec<Named>,
    /// What [`words`] gives.
    words: BTreeSet<String>,
}

/// The files of a tree, by the paths of their modules.
struct Tree(BTreeMap<Vec<String>, File>);

/// Each circle, as `a.rs -> b.rs (Name) -> a.rs (Name)`, among the sources that are given as path below `src/` and text. Files of unit
/// tests are left out: they look at what they test.
pub(crate) fn circles(sources: &[(String, String)]) -> Vec<String> {
    let code = sources.iter().filter(|(name, _)| !is_test(name) && !place(name).is_main);
    let tree = Tree(
        code.map(|(name, text)| {
            let file = File { name: name.clone(), named: paths(text), words: words(text) };
            (place(name).module, file)
        })
        .collect(),
    );
    let taken: BTreeMap<_, _> = tree.0.keys().map(|module| (module.clone(), tree.taken(module))).collect();
    let mut told = BTreeSet::new();
    let mut sentences = Vec::new();
    for start in tree.0.keys() {
        if let Some(circle) = way_back(start, &taken)
            && !circle.iter().any(|(module, _)| told.contains(module))
        {
            let steps = circle.iter().map(|(module, name)| format!(" -> {} ({name})", tree.0[module].name));
            sentences.push(format!("{}{}", tree.0[start].name, steps.collect::<String>()));
            told.extend(circle.into_iter().map(|(module, _)| module));
        }
    }
    sentences
}

fn is_test(name: &str) -> bool {
    name.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// All words of a source but those in a `use`, and the names of its modules.
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

/// What a module takes, by the modules that it takes it from.
type Taken = BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>>;

/// The shortest way from a module over what it takes back to itself: each step's module, and what is taken from it.
fn way_back(start: &[String], taken: &Taken) -> Option<Vec<(Vec<String>, String)>> {
    let mut ways = VecDeque::from([vec![(start.to_vec(), String::new())]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let (at, _) = way.last()?;
        for (module, name) in &taken[at] {
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
    /// From which other modules this one takes what; of each the first name.
    fn taken(&self, module: &[String]) -> BTreeMap<Vec<String>, String> {
        let file = &self.0[module];
        let mut taken = BTreeMap::new();
        for named in &file.named {
            let last = named.segments.iter().rfind(|segment| *segment != "self").map_or("", String::as_str);
            if named.how == How::HandedOn && !file.words.contains(last) {
                continue;
            }
            let found = self.absolute(module, named).and_then(|path| self.home(&path, MAX_HANDS));
            if let Some(home) = found.filter(|home| home != module) {
                taken.entry(home).or_insert_with(|| last.to_owned());
            }
        }
        taken
    }

    /// The path from the crate's root on, if it leads to a place of our own.
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

    /// The module in whose file that is written, looked up through at most `hands` that hand it on.
    fn home(&self, path: &[String], hands: usize) -> Option<Vec<String>> {
        let known = (1..=path.len()).rev().find(|len| self.0.contains_key(&path[..*len]))?;
        let (module, rest) = path.split_at(known);
        let handed = rest.first().filter(|_| hands > 0).and_then(|name| {
            let brings = |named: &&Named| {
                named.how != How::InPlace && named.inline_depth == 0 && named.segments.last() == Some(name)
            };
            let named = self.0[module].named.iter().find(brings)?;
            let further = [&self.absolute(module, named)?, &rest[1..]].concat();
            self.home(&further, hands - 1)
        });
        handed.or_else(|| Some(module.to_vec()))
    }
}
