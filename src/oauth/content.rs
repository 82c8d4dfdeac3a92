//! The content of an answer, whatever its frame: one JSON object, or a form.
//!
//! Invariant: no beginning of a body yields a token that the whole body does not. So a JSON object
//! counts only once its last brace has arrived, and the bytes after it never count. A form has no
//! such end, so a form counts only if its frame is known to be whole.

use std::{collections::BTreeMap, fmt, io::Read as _, mem};

use flate2::bufread::GzDecoder;
use serde::{
    Deserialize as _, Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::session::journal::{Answer, MAX_BODY};

/// How a body begins that is compressed by gzip (RFC 1952 §2.3.1, with the only method there is).
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// The media type of a form (RFC 6749 appendix B).
const FORM: &str = "application/x-www-form-urlencoded";

/// A body that can be read, as the text of a JSON object or array. It may go on after that.
pub(super) struct Content(Zeroizing<String>);

/// The members of a JSON object. If a name occurs twice, the last value counts that is not one for an
/// absent member.
#[derive(Clone, Default)]
pub(super) struct Object<'a>(BTreeMap<String, &'a RawValue>);

/// A member that should be a text.
pub(super) enum Text {
    /// It is missing, blank, or a value that stands for nothing.
    Absent,
    /// It is another value, or a text of which some was lost. So it is useless.
    Damaged,
    /// The text.
    Whole(String),
}

// === impl Content ===

impl Content {
    /// Reads an answer. Returns `None` if it holds neither a whole JSON object or array nor a whole
    /// form. The content type matters for a form alone.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let body = unpacked(&answer.body)?;
        let form = (!answer.cut && is_form(answer.content_type.as_deref())).then(|| form_as_json(&body));
        let text = text_of(body);
        if starts_with_whole_json(&text) { Some(Self(text)) } else { form.flatten().map(Self) }
    }

    /// Returns the members, if the content is an object.
    pub(super) fn object(&self) -> Option<Object<'_>> {
        Object::parse(&self.0)
    }

    /// Returns the values of the content, if it is an array. An unreadable one is `Null`.
    pub(super) fn array(&self) -> Option<Vec<Value>> {
        let mut from = serde_json::Deserializer::from_str(json(&self.0));
        let values = Vec::<&RawValue>::deserialize(&mut from).ok()?;
        Some(values.into_iter().map(value_of).collect())
    }
}

/// Whether these bytes already hold a whole JSON object. Then the rest of the body has no effect.
pub(super) fn has_whole_object(body: &[u8]) -> bool {
    unpacked(body).is_some_and(|body| Object::parse(&text_of(body)).is_some())
}

/// Whether these bytes, cut or not, have a member with this plain name and a text: as JSON, as JSON
/// inside a JSON text, or as a form. A page has none.
pub(super) fn names_token(body: &[u8], plain_name: &str) -> bool {
    let unpacked = unpacked(body);
    let body = unpacked.as_deref().map_or(body, Vec::as_slice);
    if body.trim_ascii_start().first() == Some(&b'<') {
        return false;
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(body.len()));
    let is_kept = |byte: &&u8| !byte.is_ascii_whitespace() && !b"_-\\".contains(byte);
    plain.extend(body.iter().filter(is_kept).map(u8::to_ascii_lowercase));
    let has_after = |name: String, end: u8| {
        let mut places = plain.windows(name.len() + 1);
        places.any(|part| part.starts_with(name.as_bytes()) && part[name.len()] != end)
    };
    has_after(format!("\"{plain_name}\":\""), b'"') || has_after(format!("{plain_name}="), b'&')
}

/// Undoes gzip, whether it is announced or not. Returns `None` unless the first member is whole and
/// its checksum and length are right (RFC 1952 §2.3.1).
fn unpacked(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Room for the longest content at once: a vector that grows leaves copies of tokens in memory.
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_BODY + 1));
    if body.starts_with(&GZIP) {
        GzDecoder::new(body).take(MAX_BODY as u64 + 1).read_to_end(&mut plain).ok()?;
    } else {
        plain.extend_from_slice(body);
    }
    (plain.len() <= MAX_BODY).then_some(plain)
}

/// Decodes a body as UTF-8. A byte of another encoding damages only the member that it is in.
fn text_of(mut body: Zeroizing<Vec<u8>>) -> Zeroizing<String> {
    String::from_utf8(mem::take(&mut *body)).map(Zeroizing::new).unwrap_or_else(|error| {
        let body = Zeroizing::new(error.into_bytes());
        Zeroizing::new(String::from_utf8_lossy(&body).into_owned())
    })
}

/// Skips a byte order mark, as RFC 8259 §8.1 permits.
fn json(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn starts_with_whole_json(text: &str) -> bool {
    let text = json(text);
    let is_container = text.trim_ascii_start().starts_with(['{', '[']);
    is_container && IgnoredAny::deserialize(&mut serde_json::Deserializer::from_str(text)).is_ok()
}

fn is_form(content_type: Option<&str>) -> bool {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(FORM)
}

/// Returns a form as a JSON object, or `None` for another body.
fn form_as_json(body: &[u8]) -> Option<Zeroizing<String>> {
    let looks_like_a_form = body.contains(&b'=') && body.trim_ascii_start().first() != Some(&b'<');
    // A gateway that escapes a form for HTML writes `&amp;` between its members.
    let pairs = form_urlencoded::parse(body.trim_ascii());
    let members = || {
        let named = pairs.map(|(name, value)| (name.trim_start_matches("amp;").to_owned(), value));
        named.filter(|(_, value)| !value.is_empty()).collect::<BTreeMap<_, _>>()
    };
    looks_like_a_form.then(|| serde_json::to_string(&members()).ok().map(Zeroizing::new)).flatten()
}

/// Whether a value is one of those that vendors write for an absent member.
fn is_nothing(raw: &RawValue) -> bool {
    match serde_json::from_str(raw.get()) {
        Ok(Value::Null | Value::Bool(false)) => true,
        Ok(Value::Number(number)) => number.as_f64() == Some(0.0),
        Ok(Value::String(text)) => text.is_empty(),
        Ok(Value::Array(values)) => values.is_empty(),
        Ok(Value::Object(members)) => members.is_empty(),
        Ok(Value::Bool(true)) | Err(_) => false,
    }
}

/// Reads a value; `Null` if it cannot be read.
fn value_of(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

// === impl Object ===

impl<'a> Object<'a> {
    /// Reads the object at the beginning of a text. The bytes after it do not count.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::Deserializer::from_str(json(text)).deserialize_map(Members).ok()
    }

    /// Returns a member as it is written; `None` if it is missing or null.
    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// Whether there is such a member, and it is not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// Returns a member; `Null` if it is missing or cannot be read.
    pub(super) fn value(&self, name: &str) -> Value {
        self.raw(name).map(value_of).unwrap_or_default()
    }

    /// Returns the members with these names, and those that are objects or lists. An unreadable one
    /// is `Null`.
    pub(super) fn parsed(&self, is_wanted: impl Fn(&str) -> bool) -> Map<String, Value> {
        let is_container = |raw: &RawValue| raw.get().starts_with(['{', '[']);
        let wanted = self.0.iter().filter(|(name, raw)| is_wanted(name) || is_container(raw));
        wanted.map(|(name, raw)| (name.clone(), value_of(raw))).collect()
    }

    /// Returns a member that is an object.
    pub(super) fn object(&self, name: &str) -> Option<Object<'a>> {
        Object::parse(self.raw(name)?.get())
    }

    /// Returns a member that should be a text.
    pub(super) fn text(&self, name: &str) -> Text {
        let Some(raw) = self.raw(name) else { return Text::Absent };
        if !raw.get().starts_with('"') {
            return if is_nothing(raw) { Text::Absent } else { Text::Damaged };
        }
        match serde_json::from_str::<String>(raw.get()) {
            Ok(text) if text.contains(char::REPLACEMENT_CHARACTER) => Text::Damaged,
            Ok(text) if text.trim().is_empty() => Text::Absent,
            Ok(text) => Text::Whole(text),
            Err(_) => Text::Damaged,
        }
    }

    /// Returns a member that is an identifier: a text, or a whole number as it is written.
    pub(super) fn identifier(&self, name: &str) -> Option<String> {
        let raw = self.raw(name)?.get();
        let is_whole_number = raw.bytes().all(|byte| byte.is_ascii_digit()) && raw != "0";
        if is_whole_number { Some(raw.to_owned()) } else { self.text(name).whole() }
    }

    /// Returns a member that should be a token (RFC 6749 appendix A.12). Letter case, `_` and `-` of
    /// its name do not matter, and white space around it is not a part of it. A token with a control
    /// character is damaged, because no request can hold it.
    pub(super) fn token(&self, name: &str) -> Text {
        let text = match self.text(name) {
            Text::Absent => {
                let others = self.0.keys().filter(|there| plain_name(there) == plain_name(name));
                let mut texts = others.map(|other| self.text(other));
                texts.find(|text| !matches!(text, Text::Absent)).unwrap_or(Text::Absent)
            }
            text => text,
        };
        match text {
            Text::Whole(text) if text.trim_ascii().contains(char::is_control) => Text::Damaged,
            Text::Whole(text) if text.trim_ascii().len() < text.len() => {
                Text::Whole(text.trim_ascii().to_owned())
            }
            text => text,
        }
    }

    /// Returns a member that is a number, or the text of one.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        number(self.raw(name)?.get().trim_matches('"'))
    }

    /// Whether the answer reports an error: it has an `error` with content, or `ok` is false.
    pub(super) fn reports_error(&self) -> bool {
        let is_false = |raw: &RawValue| ["false", "\"false\""].contains(&raw.get());
        let error = self.raw("error");
        error.is_some_and(|raw| !is_nothing(raw)) || self.raw("ok").is_some_and(is_false)
    }
}

/// Returns the name of a member without its letter case, `_` and `-`.
pub(super) fn plain_name(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Reads a finite number.
pub(super) fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

// === impl Text ===

impl Text {
    /// Returns the text, if it is whole.
    pub(super) fn whole(self) -> Option<String> {
        match self {
            Self::Whole(text) => Some(text),
            Self::Absent | Self::Damaged => None,
        }
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = from.next_entry::<String, &RawValue>()? {
            // `"refresh_token":"rt","refresh_token":null` must not hide the token.
            if name == "ok" || !is_nothing(value) || !members.contains_key(&name) {
                members.insert(name, value);
            }
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
pub(super) mod tests;
