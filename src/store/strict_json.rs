//! JSON without its ambiguities, and words for what is wrong with it that repeat nothing of it.
//!
//! Also reading it into a tree: serde_json's own [`Value`] takes an object with one certain name in it for a thing of serde_json's, once any crate
//! of the program has asked for the feature `raw_value`. What others wrote under that name would come back as something else, or fail.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, error::Category};

/// Checks that `text` is one object. A name that appears twice in an object, at any level, is an error, and so is a whole number
/// too large to be kept as it is. Nothing of the text is kept.
pub(super) fn check(text: &str) -> serde_json::Result<()> {
    match serde_json::from_str(text)? {
        Strict { is_object: true } => Ok(()),
        Strict { is_object: false } => Err(de::Error::custom("expected an object")),
    }
}

/// The members of an object, as they are written.
pub(super) fn object(text: &[u8]) -> serde_json::Result<Map<String, Value>> {
    match serde_json::from_slice(text)? {
        Tree(Value::Object(members)) => Ok(members),
        Tree(_) => Err(de::Error::custom("expected an object")),
    }
}

/// What is wrong, without the place and without any value of the text.
pub(super) fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    if error.classify() != Category::Data {
        // serde_json's own words for syntax are fixed ones.
        return text.to_owned();
    }
    // "invalid type: string \"…\", expected i64": what comes last is ours, what comes before it is the file's.
    if let Some((_, expected)) = text.rsplit_once("expected ") {
        // Rust's names for it say nothing to whoever mends the file.
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

/// A value that was checked.
struct Strict {
    is_object: bool,
}

const OBJECT: Strict = Strict { is_object: true };
const OTHER: Strict = Strict { is_object: false };

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(OTHER)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
        Ok(OTHER)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
        Ok(OTHER)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
        Ok(OTHER)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Strict, E> {
        // serde_json makes a float of an integer beyond 64 bits.
        if value.abs() >= 9.2e18 { Err(E::custom(TOO_LARGE)) } else { Ok(OTHER) }
    }

    fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
        Ok(OTHER)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Strict, A::Error> {
        while from.next_element::<Strict>()?.is_some() {}
        Ok(OTHER)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Strict, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(Name(name)) = from.next_key()? {
            if !names.insert(name) {
                return Err(de::Error::custom(DUPLICATE));
            }
            from.next_value::<Strict>()?;
        }
        Ok(OBJECT)
    }
}

/// A name in an object, copied only where it is spelled with escapes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name<'a>(Cow<'a, str>);

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

/// A value, as it is written.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TreeVisitor).map(Self)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(TOO_LARGE))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Tree(value)) = from.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = from.next_key()? {
            let Tree(value) = from.next_value()?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}
