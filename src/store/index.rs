//! Where the members of a store's text are.
//!
//! The text was checked before: it is JSON, its root is an object, and so is each section. So a member is found by telling strings,
//! brackets and white space apart, and nothing else has to be understood. Positions are in bytes and lie on the borders of
//! characters, for what they point at is ASCII.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    section::{COUNT, SECTIONS},
    text::{Edit, Moves},
};
use crate::ids::Tenant;

/// A member of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Where the quotation mark is that its name begins with.
    pub(super) key: usize,
    /// Where its value begins.
    pub(super) value: usize,
    /// Where its value ends.
    pub(super) end: usize,
}

/// Where the members of the root and of its sections are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// In the order of the text.
    pub(super) root: Vec<Member>,
    sections: [Option<Section>; COUNT],
}

/// A section that is in the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Which member of the root it is.
    pub(super) at: usize,
    /// In the order of the text.
    pub(super) members: Vec<Member>,
    /// Whose they are, as far as they are of tenants that this version knows.
    pub(super) tenants: BTreeMap<Tenant, usize>,
}

/// What is taken out of each section, by the numbers of the members in order.
pub(super) type Removed = [Vec<usize>; COUNT];

// === impl Index ===

impl Index {
    /// Of a text that was checked.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut root = Vec::new();
        let start = Scan { text, at: 0 }.space() + 1;
        members(text, start, |_, member| root.push(member));
        let name = |member: &Member| string(&text[member.key..=closing_quote(text, member)]);
        let names: Vec<_> = root.iter().map(name).collect();
        let sections = SECTIONS.each_ref().map(|section| {
            let at = names.iter().position(|name| name == section.name)?;
            let mut found = Section { at, members: Vec::new(), tenants: BTreeMap::new() };
            found.read_on(text, root[at].value + 1);
            Some(found)
        });
        Self { root, sections }
    }

    /// The section of this number, if it is there.
    pub(super) fn section(&self, number: usize) -> Option<&Section> {
        self.sections[number].as_ref()
    }

    /// How many members of sections are of tenants that this version does not know.
    pub(super) fn foreign(&self) -> usize {
        self.sections.iter().flatten().map(|section| section.members.len() - section.tenants.len()).sum()
    }

    /// Follows `edits` to `text`, which they led to. Each of them replaces one member's value, takes out members in `removed`, or puts
    /// in members behind all others of their section.
    pub(super) fn follow(&mut self, text: &[u8], edits: &[Edit], removed: &Removed) {
        let moves = Moves::new(edits);
        self.root.iter_mut().for_each(|member| member.follow(&moves));
        for (section, removed) in self.sections.iter_mut().zip(removed) {
            let Some(section) = section else { continue };
            section.forget(removed);
            section.members.iter_mut().for_each(|member| member.follow(&moves));
            let known = section.members.last().map_or(self.root[section.at].value + 1, |member| member.end);
            section.read_on(text, known);
        }
    }
}

// === impl Section ===

impl Section {
    /// Takes in the members from `at` on: behind the opening bracket, or behind a member.
    fn read_on(&mut self, text: &[u8], at: usize) {
        members(text, at, |key, member| {
            if let Some(tenant) = tenant(&key) {
                self.tenants.insert(tenant, self.members.len());
            }
            self.members.push(member);
        });
    }

    fn forget(&mut self, removed: &[usize]) {
        if removed.is_empty() {
            return;
        }
        let is_removed = |number: &usize| removed.binary_search(number).is_ok();
        self.tenants.retain(|_, number| {
            let stays = !is_removed(number);
            *number -= removed.partition_point(|removed| removed < number);
            stays
        });
        let mut numbers = 0..;
        self.members.retain(|_| !numbers.next().is_some_and(|number| is_removed(&number)));
    }
}

// === impl Member ===

impl Member {
    fn follow(&mut self, moves: &Moves<'_>) {
        *self = Self { key: moves.start(self.key), value: moves.start(self.value), end: moves.end(self.end) };
    }
}

/// Where the name of `member` ends: between its last quotation mark and the value there are a colon and white space.
pub(super) fn closing_quote(text: &[u8], member: &Member) -> usize {
    let name = &text[member.key..member.value];
    member.key + name.iter().rposition(|byte| *byte == b'"').expect("a member begins with its name")
}

/// A key that is exactly how we write a tenant: another spelling would make two records of one.
pub(super) fn tenant(key: &str) -> Option<Tenant> {
    key.parse().ok().filter(|tenant: &Tenant| tenant.to_string() == key)
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Gives `found` the members of an object from `at` on: behind its opening bracket, or behind a member.
fn members<'a>(text: &'a [u8], at: usize, mut found: impl FnMut(Cow<'a, str>, Member)) {
    let mut scan = Scan { text, at };
    loop {
        if text[scan.space()] == b',' {
            scan.at += 1;
            scan.space();
        }
        if text[scan.at] == b'}' {
            return;
        }
        let key = scan.at;
        let name = string(&text[key..scan.string()]);
        scan.space();
        scan.at += 1;
        let value = scan.space();
        let end = scan.value();
        found(name, Member { key, value, end });
    }
}

/// What a text in quotation marks says.
fn string(quoted: &[u8]) -> Cow<'_, str> {
    const CHECKED: &str = "the text was checked before its index is made";
    if quoted.contains(&b'\\') {
        return Cow::Owned(serde_json::from_slice(quoted).expect(CHECKED));
    }
    Cow::Borrowed(std::str::from_utf8(&quoted[1..quoted.len() - 1]).expect(CHECKED))
}

/// Goes through a checked text, from one byte to another. Each step says where it ends.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn space(&mut self) -> usize {
        while is_space(self.text[self.at]) {
            self.at += 1;
        }
        self.at
    }

    fn string(&mut self) -> usize {
        self.at += 1;
        loop {
            match self.text[self.at] {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.at
    }

    fn value(&mut self) -> usize {
        let mut depth = 0_usize;
        loop {
            match self.text[self.at] {
                b'"' => drop(self.string()),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                _ if depth > 0 => self.at += 1,
                // A number, or a word.
                _ => {
                    while !matches!(self.text[self.at], b',' | b'}' | b']') && !is_space(self.text[self.at]) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return self.at;
            }
        }
    }
}
