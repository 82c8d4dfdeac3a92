//! JSON without its ambiguities, and words for what is wrong with it that repeat nothing of it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};

/// The one object that `text` is. A name that appears twice in an object is an error, and so is a whole number too
/// large to be kept as it is.
pub(super) fn object(text: &str) -> serde_json::Result<Map<String, Value>> {
    match serde_json::from_str(text)? {
        Strict(Value::Object(map)) => Ok(map),
        Strict(_) => Err(de::Error::custom("expected an object")),
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

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
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
        // serde_json makes a float of an integer beyond 64 bits.
        if value.abs() >= 9.2e18 { Err(E::custom(TOO_LARGE)) } else { Ok(value.into()) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = from.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(de::Error::custom(DUPLICATE));
            }
            let Strict(value) = from.next_value()?;
            map.insert(name, value);
        }
        Ok(map.into())
    }
}
