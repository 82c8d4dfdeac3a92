//! One tenant's session out of the store's text, without reading the other records.
//!
//! `threadkey token` prints one token and ends. It reads the text up to the end of that session and
//! passes over everything before it. Only the session itself is checked and becomes a record.
//! Nothing is ever written from here.
//!
//! The result is a session only if `"version": 1` comes before `sessions`, and `sessions` has a
//! valid session of this tenant. In all other cases the result is `None`, and the caller reads the
//! whole file ([`super::codec`]), which finds the session or reports the error.
//!
//! # A damaged file
//!
//! Damage after the session goes unseen, a second session of the same name included. So does this
//! before it, in the values that are passed over: a doubled name, a value of the wrong type, a
//! missing member, half a surrogate, and a number that is too large. The full reading would refuse
//! such a file. The session that was found is served all the same: it was checked like any other,
//! and damage elsewhere does not make its access token invalid. Every process that refreshes, signs
//! in, logs out or prints the status reads the whole file and reports the damage.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    codec::VERSION,
    dto::Record,
    section::Section,
    strict_json::{self, Name},
};
use crate::{ids::Tenant, session::Session};

/// Finds the tenant's session in the text of a store.
pub(super) fn find_session(text: &[u8], tenant: &Tenant) -> Option<Session> {
    let mut found = None;
    let root = Root { tenant: tenant.to_string(), found: &mut found };
    // The visitors stop with an error, also when they have found the session.
    let _ = serde_json::Deserializer::from_slice(text).deserialize_map(root);
    let text = found?;
    strict_json::check(text).ok()?;
    let Record(session) = serde_json::from_str(text).ok()?;
    Some(session)
}

/// The root object.
struct Root<'a, 'de> {
    tenant: String,
    found: &'a mut Option<&'de str>,
}

impl<'de> Visitor<'de> for Root<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        let mut is_ours = false;
        while let Some(Name(name)) = from.next_key()? {
            if name == "version" {
                is_ours = !is_ours && from.next_value::<u64>()? == VERSION;
                if !is_ours {
                    return stop();
                }
            } else if name == Section::Sessions.name() {
                if !is_ours {
                    return stop();
                }
                from.next_value_seed(Sessions(self))?;
                return stop();
            } else {
                from.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The object of the sessions.
struct Sessions<'a, 'de>(Root<'a, 'de>);

impl<'de> DeserializeSeed<'de> for Sessions<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sessions<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sessions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = from.next_key()? {
            if name == self.0.tenant {
                *self.0.found = Some(from.next_value::<&RawValue>()?.get());
                return stop();
            }
            from.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Ends the reading.
fn stop<E: Error>() -> Result<(), E> {
    Err(E::custom("the rest is not read"))
}

#[cfg(test)]
mod tests;
