//! Where the members of a store's text are, and how a new text is composed of them.
//!
//! A new text has the old one's members in their order. A member that no change touches is copied
//! byte for byte: its name and its value are slices of the old text. In a changed member the new
//! record is laid over the old text: see [`lay_over`]. The layout is fixed, with one member on a
//! line and an indentation of two spaces. Only the white space between members is not kept.
//!
//! A new text is collected as slices first and then copied into one buffer that is long enough, and
//! is zeroed when it is dropped. So no copy of a secret stays behind in freed memory.

use std::{collections::BTreeMap, ops::Range};

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    section::Section,
    strict_json::{Members, name},
};
use crate::ids::Tenant;

/// Where the members of the root and of its sections are, in the order of the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout(Vec<RootMember>);

#[derive(Debug, PartialEq, Eq)]
enum RootMember {
    /// A section and its members.
    Section(Section, Range<usize>, Vec<Member>),
    /// A member that is kept as it is.
    Other(Range<usize>, Range<usize>),
}

/// A member of a section.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    /// With the quotation marks.
    name: Range<usize>,
    value: Range<usize>,
    /// `None` for a member that only another version of threadkey understands.
    tenant: Option<Tenant>,
}

/// New records of tenants in the form of the file; `None` removes a record.
pub(super) type Changes = BTreeMap<(Section, Tenant), Option<Zeroizing<String>>>;

/// Parses the name of a member. It must be written exactly as threadkey writes a tenant: otherwise
/// one tenant could have two records.
pub(super) fn tenant(name: &str) -> Option<Tenant> {
    name.parse().ok().filter(|tenant: &Tenant| tenant.to_string() == name)
}

// === impl Layout ===

impl Layout {
    /// Finds the members of a text that was checked, and whose sections are objects.
    pub(super) fn of(text: &str) -> Self {
        let place = |slice: &RawValue| {
            let start = slice.get().as_ptr().addr() - text.as_ptr().addr();
            start..start + slice.get().len()
        };
        let of_root = |(name, value): (&RawValue, &RawValue)| match section(name) {
            Some(section) => {
                let members = members(value.get()).0.into_iter().map(|(name, value)| Member {
                    tenant: tenant(&self::name(name)),
                    name: place(name),
                    value: place(value),
                });
                RootMember::Section(section, place(name), members.collect())
            }
            None => RootMember::Other(place(name), place(value)),
        };
        Self(members(text).0.into_iter().map(of_root).collect())
    }

    /// Counts the members of sections whose tenant this version does not know.
    pub(super) fn foreign(&self) -> usize {
        Section::ALL.iter().flat_map(|section| self.members(*section)).filter(|m| m.tenant.is_none()).count()
    }

    /// The tenants that have a member in the section.
    pub(super) fn tenants(&self, section: Section) -> impl Iterator<Item = &Tenant> {
        self.members(section).iter().filter_map(|member| member.tenant.as_ref())
    }

    /// Finds the section of clients.
    pub(super) fn clients(&self, text: &str) -> Option<Range<usize>> {
        self.0.iter().find_map(|member| match member {
            RootMember::Other(name, value) if is_clients(&text[name.clone()]) => Some(value.clone()),
            _ => None,
        })
    }

    /// Finds the value of a tenant's member.
    pub(super) fn value(&self, section: Section, tenant: &Tenant) -> Option<Range<usize>> {
        let member = self.members(section).iter().find(|member| member.tenant.as_ref() == Some(tenant))?;
        Some(member.value.clone())
    }

    fn members(&self, wanted: Section) -> &[Member] {
        let members = self.0.iter().find_map(|member| match member {
            RootMember::Section(section, _, members) if *section == wanted => Some(members),
            _ => None,
        });
        members.map_or(&[], Vec::as_slice)
    }

    /// Composes `text`, which has this layout, anew with the changes, and returns where its members
    /// are. `clients` is the new section of clients, if it changes. `spare` is an empty buffer, which is used if it is long enough.
    pub(super) fn compose(
        &self,
        text: &str,
        changes: &Changes,
        clients: Option<&str>,
        spare: Zeroizing<String>,
    ) -> (Zeroizing<String>, Self) {
        let names: BTreeMap<_, _> =
            changes.keys().map(|(_, tenant)| (tenant, format!("\"{tenant}\""))).collect();
        let mut new = Pieces::default();
        let mut layout = Vec::with_capacity(self.0.len());
        new.open();
        for member in &self.0 {
            layout.push(match member {
                RootMember::Section(section, name, members) => {
                    let name = new.name(&text[name.clone()]);
                    RootMember::Section(*section, name, new.section(*section, text, members, changes, &names))
                }
                RootMember::Other(name, value) => {
                    let changed = clients.filter(|_| is_clients(&text[name.clone()]));
                    let value = changed.unwrap_or(&text[value.clone()]);
                    RootMember::Other(new.name(&text[name.clone()]), new.push(value))
                }
            });
        }
        for section in Section::ALL {
            let is_there = |m: &RootMember| matches!(m, RootMember::Section(there, ..) if *there == section);
            let has_new = |((of, _), new): (&(Section, Tenant), &Option<_>)| *of == section && new.is_some();
            if !layout.iter().any(is_there) && changes.iter().any(has_new) {
                let name = new.name(section.quoted_name());
                layout.push(RootMember::Section(
                    section,
                    name,
                    new.section(section, text, &[], changes, &names),
                ));
            }
        }
        if let Some(clients) = clients.filter(|_| self.clients(text).is_none()) {
            layout.push(RootMember::Other(new.name(CLIENTS), new.push(clients)));
        }
        new.close();
        new.push("\n");
        (new.into_text(spare), Self(layout))
    }
}

/// Lays a record over the text of its member, and returns the member's new text.
///
/// `theirs` is the old text, `before` the old record and `after` the new one as we write them. A
/// member of `after` takes the place of the one in `theirs`. A member that only `before` has is
/// removed. All others are not ours, and stay byte for byte. The same holds within an object that
/// all of them have.
pub(super) fn lay_over(theirs: &str, before: &str, after: &str) -> Zeroizing<String> {
    lay_over_at(2, theirs, before, after)
}

/// The same for an object at this depth.
pub(super) fn lay_over_at(depth: usize, theirs: &str, before: &str, after: &str) -> Zeroizing<String> {
    let mut new = Pieces { depth, ..Pieces::default() };
    new.lay_over(theirs, before, after);
    new.into_text(Zeroizing::default())
}

/// The name of the section of clients, with the quotation marks.
const CLIENTS: &str = "\"clients\"";

fn is_clients(written: &str) -> bool {
    serde_json::from_str::<String>(written).is_ok_and(|name| name == "clients")
}

/// A text as the slices that it consists of.
#[derive(Default)]
struct Pieces<'a> {
    pieces: Vec<&'a str>,
    len: usize,
    /// How many objects are open.
    depth: usize,
    /// Whether the innermost of them has a member.
    has_member: bool,
}

/// A line break and the deepest indentation: of a member in an object in a session that waits for its
/// digits.
const LINE: &str = "\n                    ";
/// Between two members of a section.
const BETWEEN: &str = ",\n    ";
/// Between a name and its value.
const COLON: &str = ": ";

// === impl Pieces ===

impl<'a> Pieces<'a> {
    /// Appends `piece`, and returns where it is.
    fn push(&mut self, piece: &'a str) -> Range<usize> {
        let start = self.len;
        self.pieces.push(piece);
        self.len += piece.len();
        start..self.len
    }

    fn line(&mut self) {
        self.push(&LINE[..1 + 2 * self.depth]);
    }

    fn open(&mut self) {
        self.push("{");
        self.depth += 1;
        self.has_member = false;
    }

    fn close(&mut self) {
        self.depth -= 1;
        if self.has_member {
            self.line();
        }
        self.push("}");
        self.has_member = true;
    }

    /// Begins a member, and returns where its name is.
    fn name(&mut self, name: &'a str) -> Range<usize> {
        if self.has_member {
            self.push(",");
        }
        self.line();
        self.has_member = true;
        let name = self.push(name);
        self.push(COLON);
        name
    }

    fn section(
        &mut self,
        section: Section,
        text: &'a str,
        members: &[Member],
        changes: &'a Changes,
        names: &'a BTreeMap<&Tenant, String>,
    ) -> Vec<Member> {
        let mut changes: BTreeMap<&Tenant, &Option<Zeroizing<String>>> = changes
            .iter()
            .filter(|((of, _), _)| *of == section)
            .map(|((_, tenant), new)| (tenant, new))
            .collect();
        let mut layout = Vec::with_capacity(members.len() + changes.len());
        self.open();
        for Member { name, value, tenant } in members {
            let (name, value) = match tenant.as_ref().and_then(|tenant| changes.remove(tenant)) {
                None => self.unchanged(text, name, value),
                Some(Some(new)) => (self.name(&text[name.clone()]), self.push(new)),
                Some(None) => continue,
            };
            layout.push(Member { name, value, tenant: tenant.clone() });
        }
        for (tenant, new) in changes {
            let Some(new) = new else { continue };
            let (name, value) = (self.name(&names[tenant]), self.push(new));
            layout.push(Member { name, value, tenant: Some(tenant.clone()) });
        }
        self.close();
        layout
    }

    /// Appends a member of a section as it is in `text`, and returns where its name and its value
    /// are.
    fn unchanged(
        &mut self,
        text: &'a str,
        name: &Range<usize>,
        value: &Range<usize>,
    ) -> (Range<usize>, Range<usize>) {
        // In a text that threadkey wrote, the member and the white space before it are one slice.
        // So a commit in a large store copies few slices.
        if self.has_member && text[..name.start].ends_with(BETWEEN) && text[name.end..value.start] == *COLON {
            let start = self.push(&text[name.start - BETWEEN.len()..value.end]).start + BETWEEN.len();
            return (start..start + name.len(), self.len - value.len()..self.len);
        }
        (self.name(&text[name.clone()]), self.push(&text[value.clone()]))
    }

    fn lay_over(&mut self, theirs: &'a str, before: &'a str, after: &'a str) {
        let before = by_name(before);
        let mut after = members(after).0;
        self.open();
        for (written, value) in members(theirs).0 {
            let name = name(written);
            let new = after.iter().position(|(new, _)| self::name(new) == name).map(|at| after.remove(at).1);
            let old = before.get(&name);
            match (new, old) {
                (None, Some(_)) => {}
                (None, None) => {
                    self.name(written.get());
                    self.push(value.get());
                }
                (Some(new), old) => {
                    self.name(written.get());
                    if is_object(value) && is_object(new) {
                        let old = old.copied().filter(|old| is_object(old)).map_or("{}", RawValue::get);
                        self.lay_over(value.get(), old, new.get());
                    } else {
                        self.push(new.get());
                    }
                }
            }
        }
        for (name, value) in after {
            self.name(name.get());
            self.push(value.get());
        }
        self.close();
    }

    fn into_text(self, spare: Zeroizing<String>) -> Zeroizing<String> {
        let mut text = spare;
        if text.capacity() < self.len {
            text = Zeroizing::new(String::with_capacity(self.len + self.len / 16));
        }
        self.pieces.iter().for_each(|piece| text.push_str(piece));
        text
    }
}

fn section(name: &RawValue) -> Option<Section> {
    let name = self::name(name);
    Section::ALL.into_iter().find(|section| section.name() == name)
}

fn members(object: &str) -> Members<'_> {
    serde_json::from_str(object).expect("a checked text, in which this is an object")
}

fn by_name(object: &str) -> BTreeMap<std::borrow::Cow<'_, str>, &RawValue> {
    members(object).0.into_iter().map(|(written, value)| (name(written), value)).collect()
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}
