//! One tenant's session out of the file's text, without taking in the others.
//!
//! For a program that prints one token and ends. The text's syntax is checked to its end, and the tenant's own session in
//! full; other tenants' records are passed over, so that one of them that makes no sense keeps nobody else from a token. Whatever
//! is not plainly a session found gives `None`: then the whole is read ([`super::codec`]), and that says what is wrong. Nothing is
//! ever written from here.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::dto::SessionDto;
use crate::{ids::Tenant, session::Session};

/// The tenant's session, if the text is a store and holds one.
pub(super) fn session(text: &str, tenant: &Tenant) -> Option<Session> {
    let key = tenant.to_string();
    let mut json = serde_json::Deserializer::from_str(text);
    let found = json.deserialize_map(File { key: &key }).ok()?;
    json.end().ok()?;
    found.map(Session::from)
}

struct File<'a> {
    key: &'a str,
}

impl<'de> Visitor<'de> for File<'_> {
    type Value = Option<SessionDto>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let (mut version, mut sessions) = (None, None);
        while let Some(name) = from.next_key::<String>()? {
            match name.as_str() {
                "version" => once(&mut version, from.next_value::<u64>()?)?,
                "sessions" => once(&mut sessions, from.next_value_seed(Sessions { key: self.key })?)?,
                _ => {
                    from.next_value::<IgnoredAny>()?;
                }
            }
        }
        if version.is_none_or(|version| version == 0) {
            return Err(A::Error::custom("no version"));
        }
        Ok(sessions.flatten())
    }
}

struct Sessions<'a> {
    key: &'a str,
}

impl<'de> DeserializeSeed<'de> for Sessions<'_> {
    type Value = Option<SessionDto>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sessions<'_> {
    type Value = Option<SessionDto>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(ours) = from.next_key_seed(Is(self.key))? {
            if ours {
                once(&mut found, from.next_value()?)?;
            } else {
                from.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a name is this one.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// A second one of a name is an error: one of the two would be taken for the other.
fn once<T, E: serde::de::Error>(place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a name that is in this object already")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::Document;

    const OURS: &str = r#""codex/local": {"access_token": "a", "token_type": "Bearer", "issued_at": 1, "expires_at": 2,
        "lineage": "07070707070707070707070707070707", "generation": 3, "token_endpoint": "https://id.example/token",
        "client_id": "threadkey", "later": {"x": 1}}"#;

    fn tenant() -> Tenant {
        "codex/local".parse().expect("a tenant")
    }

    fn file(sessions: &str) -> String {
        format!(r#"{{"version": 1, "later": [1.5e3], "sessions": {{{sessions}}}}}"#)
    }

    #[test]
    fn it_is_the_session_that_the_whole_file_has() {
        let text = file(&format!(r#""codex/user:1": {{"not": ["ours", "é", null]}}, {OURS}"#));
        assert_eq!(session(&text, &tenant()).map(|session| session.generation), Some(3));
        let text = file(OURS);
        let whole = Document::decode("auth.json".as_ref(), text.as_bytes()).expect("a store");
        assert_eq!(session(&text, &tenant()), whole.entry(&tenant()).session);
    }

    #[test]
    fn whatever_is_not_plainly_a_session_found_is_left_to_the_whole_reading() {
        let twice = file(&format!("{OURS}, {OURS}"));
        let escaped = file(&format!(r"{OURS}, {}", OURS.replace("codex", "cod\\u0065x")));
        let two_sections = file(OURS).replace(r#""later": [1.5e3]"#, r#""sessions": {}"#);
        let refused = [
            String::new(),
            "[]".into(),
            file(""),
            twice,
            escaped,
            two_sections,
            file(OURS).replace("\"version\": 1", "\"version\": 0"),
            file(OURS).replace("\"version\": 1,", ""),
            file(OURS).replace("\"generation\": 3", "\"generation\": \"3\""),
            file(&format!("{OURS}, \"codex/user:1\": {{")),
            file(OURS) + "x",
            file(OURS).replace("[1.5e3]", "[1.5e3"),
        ];
        for text in refused {
            assert_eq!(session(&text, &tenant()), None, "{text}");
        }
    }
}
