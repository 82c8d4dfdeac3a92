//! JSON that other programs may have written: checked strictly, and described without repeating it.
//!
//! [`check`] accepts one object in which no object, at any level, has a name twice, and in which
//! every number can be kept. After it each name stands for one value, so reading the text a second
//! time, as records or as [`Members`], finds the same.
//!
//! No such text is read into serde_json's own `Value`. That type takes an object with one certain
//! name for a raw value of serde_json's, and would return other content than the text has.
//! [`Members`] and the check read that name like any other.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

/// Checks that `text` is one object, without doubled names and without numbers that are too large.
/// Nothing of the text is kept.
pub(super) fn check(text: &str) -> serde_json::Result<()> {
    match serde_json::from_str(text)? {
        Checked::Object => Ok(()),
        Checked::Other => Err(de::Error::custom("expected an object")),
    }
}

/// The members of an object in their order, as slices of its text.
pub(super) struct Members<'a>(pub(super) Vec<(&'a RawValue, &'a RawValue)>);

/// Decodes a name of [`Members`], which is written with its quotation marks.
pub(super) fn name(written: &RawValue) -> Cow<'_, str> {
    let written = written.get();
    if written.contains('\\') {
        return Cow::Owned(serde_json::from_str(written).expect("a checked text has valid names"));
    }
    Cow::Borrowed(&written[1..written.len() - 1])
}

/// Describes an error without its place and without any value of the text.
pub(super) fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    if error.classify() != Category::Data {
        // serde_json has fixed words for errors of syntax.
        return text.to_owned();
    }
    // In "invalid type: string \"…\", expected i64" the first part repeats the text, and the last
    // part is ours.
    if let Some((_, expected)) = text.rsplit_once("expected ") {
        // The operator who repairs the file does not know Rust's names for an object.
        let is_object = expected.starts_with("struct ") || expected == "a map";
        return format!("expected {}", if is_object { "an object" } else { expected });
    }
    let ours = ["missing field `", "duplicate field `", DUPLICATE, TOO_LARGE];
    if ours.iter().any(|start| text.starts_with(start)) {
        return text.to_owned();
    }
    "not of the expected form".to_owned()
}

const DUPLICATE: &str = "a name that is in this object already";
const TOO_LARGE: &str = "a number too large to be kept exactly";

/// A value that passed the check.
enum Checked {
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CheckedVisitor)
    }
}

struct CheckedVisitor;

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked::Other)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Checked, E> {
        // serde_json reads an integer beyond 64 bits as a float.
        if value.abs() >= 9.2e18 { Err(E::custom(TOO_LARGE)) } else { Ok(Checked::Other) }
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Checked, A::Error> {
        while from.next_element::<Checked>()?.is_some() {}
        Ok(Checked::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Checked, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(Name(name)) = from.next_key()? {
            if !names.insert(name) {
                return Err(de::Error::custom(DUPLICATE));
            }
            from.next_value::<Checked>()?;
        }
        Ok(Checked::Object)
    }
}

/// A decoded name in an object. It is copied only where it is written with escapes.
pub(super) struct Name<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(name.into()))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(name.to_owned().into()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = from.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
