//! Stores in any layout are read and changed without loss.
//!
//! One test has texts that are written by hand. The other compares changes with a model. Its texts
//! and changes are drawn from a seed, which is printed: `THREADKEY_TEST_SEED` repeats a run, and
//! `THREADKEY_LAYOUT_TEXTS` is the number of texts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json, value::RawValue};

use super::{random::Random, *};
use crate::{
    secret::Fingerprint,
    session::{Ended, Retry},
    store::{
        codec::{ChangedRecords, Document},
        section::Section,
    },
};

const TENANTS: [&str; 7] = [
    "acme/local",
    "acme/user:1",
    "acme/user:2",
    "codex/guild:3",
    "codex/local",
    "codex/user:803",
    "z-1._/user:9",
];

/// How a text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// In lines, with this step and line break.
    Lines(&'static str, &'static str),
    OneLine,
    /// White space of all sorts between everything.
    ByHand,
}

const FORMS: [Form; 7] = [
    Form::Lines("  ", "\n"),
    Form::Lines("    ", "\n"),
    Form::Lines("\t", "\n"),
    Form::Lines("", "\n"),
    Form::Lines("  ", "\r\n"),
    Form::OneLine,
    Form::ByHand,
];

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len() as u64) as usize]
}

// === the text ===

/// `value` in this form. Names are spelled with escapes now and then where that is done by hand.
fn render(random: &mut Random, value: &Value, form: Form, depth: usize, to: &mut String) {
    let (open, close, members): (_, _, Vec<(Option<&String>, &Value)>) = match value {
        Value::Object(map) => ('{', '}', map.iter().map(|(name, value)| (Some(name), value)).collect()),
        Value::Array(values) => ('[', ']', values.iter().map(|value| (None, value)).collect()),
        other => return to.push_str(&other.to_string()),
    };
    let gap = |random: &mut Random, depth: usize, to: &mut String| match form {
        Form::Lines(step, line_break) => {
            to.push_str(line_break);
            to.push_str(&step.repeat(depth));
        }
        Form::OneLine => {}
        Form::ByHand => to.push_str(pick(random, &["", "", " ", "\n", "\n ", "\r\n   ", "\t", "\n\n     "])),
    };
    to.push(open);
    for (number, (name, value)) in members.iter().enumerate() {
        if number > 0 {
            if form == Form::ByHand {
                gap(random, depth, to);
            }
            to.push(',');
        }
        gap(random, depth + 1, to);
        if let Some(name) = name {
            let name = json!(name).to_string();
            let escape = form == Form::ByHand && random.one_in(6);
            to.push_str(&if escape { name.replace('a', "\\u0061") } else { name });
            match form {
                Form::Lines(..) => to.push_str(": "),
                Form::OneLine => to.push(':'),
                Form::ByHand => to.push_str(pick(random, &[":", ": ", " : ", "\n:"])),
            }
        }
        render(random, value, form, depth + 1, to);
    }
    if !members.is_empty() || form == Form::ByHand {
        gap(random, depth, to);
    }
    to.push(close);
}

/// A value that another program might write.
fn foreign(random: &mut Random) -> Value {
    let texts = ["", "\"}, {\"x\": [", "\\", "\\\\\"", "\u{1F511} ü\n\r\t\u{1}", "\"acme/local\": {"];
    match random.below(7) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([]),
        3 => json!([1, -2.5, true, { "a\"b": [] }]),
        4 => json!({ "access_token": "not ours", "sessions": { "acme/local": 1 } }),
        _ => json!(pick(random, &texts)),
    }
}

/// The record of an entry in a section, as it is written.
fn object(section: Section, entry: &Entry) -> Option<Map<String, Value>> {
    Some(serde_json::from_str(&section.text(entry)?).expect("an object"))
}

fn store(random: &mut Random) -> Value {
    let (mut sections, mut none) = (Vec::new(), Map::new());
    for section in Section::ALL {
        if random.one_in(5) {
            continue;
        }
        let mut members = Map::new();
        for _ in 0..random.below(5) {
            let tenant = pick(random, &TENANTS);
            let entry = entry(random, &Entry::default());
            if let Some(mut member) = object(section, &entry) {
                for _ in 0..random.below(3) {
                    member.insert(pick(random, &["x", "\u{e4}\"", "zz"]).to_string(), foreign(random));
                }
                for inner in ["retry", "ended"] {
                    if let Some(Value::Object(inner)) = member.get_mut(inner) {
                        inner.insert("x_inner".into(), foreign(random));
                    }
                }
                let key = if random.one_in(6) { "later/team:9" } else { tenant };
                members.insert(key.into(), Value::Object(member));
            }
        }
        sections.push((section.name(), Value::Object(members)));
    }
    sections.push(("version", json!(1)));
    for name in ["x_foreign", "clients", "y"] {
        if random.one_in(2) {
            sections.push((name, if name == "clients" { json!({"i u": {}}) } else { foreign(random) }));
        }
    }
    while !sections.is_empty() {
        let at = random.below(sections.len() as u64) as usize;
        let (name, value) = sections.swap_remove(at);
        none.insert(name.into(), value);
    }
    Value::Object(none)
}

// === the changes ===

fn session(random: &mut Random) -> Session {
    let mut session = test_session(NOW, 3600);
    session.lineage = Lineage([random.below(3) as u8; 16]);
    session.access_token = AccessToken::new("a".repeat(random.below(400) as usize) + "\"\\\u{e9}");
    session.issued_at = NOW - random.below(4 * 86_400) as i64;
    session.account = random.one_in(2).then(|| "bob".to_owned());
    session.retry = random.one_in(2).then(|| Retry {
        set_at: NOW,
        not_before: NOW + 5,
        attempts: 1,
        code: "connect".into(),
        refused: None,
    });
    session.ended = random.one_in(2).then(|| Ended {
        at: NOW,
        code: "invalid_grant".into(),
        fingerprint: Fingerprint::of("x"),
        notified_at: None,
    });
    session
}

/// Something that `old` could become.
fn entry(random: &mut Random, old: &Entry) -> Entry {
    let mut new = old.clone();
    for part in [&mut new.session, &mut new.candidate] {
        match random.below(4) {
            0 => *part = None,
            1 => {}
            _ => *part = Some(session(random)),
        }
    }
    if random.one_in(4) && new.candidate.is_some() {
        new.session = new.candidate.take();
    }
    match random.below(4) {
        0 => new.pending = None,
        1 => {}
        _ => {
            let mut pending = pending(&format!("state-{}", random.below(3)));
            pending.created_at = NOW - random.below(4 * 86_400) as i64;
            pending.scopes.truncate(random.below(3) as usize);
            new.pending = Some(pending);
        }
    }
    new
}

/// Lays `after` over `theirs`: members that `before` or `after` has are ours.
fn over(theirs: &Value, before: &Value, after: &Value) -> Value {
    let (Value::Object(theirs), Value::Object(after)) = (theirs, after) else { return after.clone() };
    let mut result = Map::new();
    for (name, value) in theirs {
        match (before.get(name), after.get(name)) {
            (_, Some(new)) => drop(result.insert(name.clone(), over(value, &before[name.as_str()], new))),
            (Some(_), None) => {}
            (None, None) => drop(result.insert(name.clone(), value.clone())),
        }
    }
    for (name, new) in after {
        result.entry(name.clone()).or_insert_with(|| new.clone());
    }
    Value::Object(result)
}

/// Makes the change in the model, and returns the members that it touches.
fn apply(model: &mut Value, old: &Entry, new: &Entry, tenant: &Tenant) -> BTreeSet<(&'static str, String)> {
    let lineage = |session: &Option<Session>| session.as_ref().map(|session| session.lineage);
    let state = |pending: &Option<Pending>| pending.as_ref().map(|pending| pending.state.clone());
    let continued = [
        match lineage(&new.session) {
            session if session == lineage(&old.session) => Some(Section::Sessions),
            session if session == lineage(&old.candidate) => Some(Section::Candidates),
            _ => None,
        },
        (state(&old.pending) == state(&new.pending)).then_some(Section::Pending),
        (lineage(&old.candidate) == lineage(&new.candidate)).then_some(Section::Candidates),
    ];
    let (before, tenant) = (model.clone(), tenant.to_string());
    let mut touched = BTreeSet::new();
    for (section, continued) in Section::ALL.into_iter().zip(continued) {
        let ours = object(section, new);
        if object(section, old) == ours {
            continue;
        }
        touched.insert((section.name(), tenant.clone()));
        let root = model.as_object_mut().expect("an object");
        if ours.is_none() && !root.contains_key(section.name()) {
            continue;
        }
        let members =
            root.entry(section.name()).or_insert_with(|| json!({})).as_object_mut().expect("an object");
        let continued = continued
            .and_then(|section| Some((before.get(section.name())?.get(&tenant)?, object(section, old)?)));
        match (ours.map(Value::Object), continued) {
            (None, _) => drop(members.remove(&tenant)),
            (Some(ours), Some((theirs, before))) => {
                members.insert(tenant.clone(), over(theirs, &Value::Object(before), &ours));
            }
            (Some(ours), None) => drop(members.insert(tenant.clone(), ours)),
        }
    }
    touched
}

// === the comparison ===

type Slices = BTreeMap<String, Box<RawValue>>;

/// The members of the sections and of the rest of the root, as they are written.
fn members(text: &str) -> BTreeMap<(String, String), String> {
    let mut all = BTreeMap::new();
    for (name, value) in serde_json::from_str::<Slices>(text).expect("an object") {
        if Section::ALL.iter().any(|section| section.name() == name) {
            for (key, value) in serde_json::from_str::<Slices>(value.get()).expect("an object") {
                all.insert((name.clone(), key), value.get().to_owned());
            }
        } else {
            all.insert((String::new(), name), value.get().to_owned());
        }
    }
    all
}

/// One session with another program's members, and one of a tenant of another version.
const BY_HAND: &str = r#"{
  "x_first": {"sessions": {"codex/user:803": 1}},
  "pending": {"codex/user:9": {"verifier": "v", "state": "s", "redirect_uri": "http://127.0.0.1:1/callback",
    "created_at": 1795358672, "started_by": "user:9", "token_endpoint": "https://id.example/token",
    "client_id": "c", "scopes": ["read"], "x_pending": 1.50}},
  "clients": {"https://id.example http://127.0.0.1:1/callback": {"client_id": "c-1", "x_client": [ ]}},
  "version": 1,
  "sessions": {
    "later/team:9": {"access_token": "a", "token_type": "Bearer", "issued_at": 1, "expires_at": 2,
      "lineage": "09090909090909090909090909090909", "generation": 1,
      "token_endpoint": "https://id.example/token", "client_id": "c", "x_later": {"é": "é"}},
    "codex/user:803": {"x_before": {"a": 1}, "access_token": "access-7", "refresh_token": "refresh-7",
      "token_type": "Bearer", "issued_at": 1795358672, "expires_at": 253402300799,
      "lineage": "07070707070707070707070707070707", "generation": 7, "account": "alice@example.com",
      "token_endpoint": "https://id.example/token", "client_id": "threadkey",
      "rejected": {"x_rejected": 1, "fingerprint": "884db3c2eda8aa56b53ac6cc", "at": 1795358612},
      "retry": {"set_at": 1, "not_before": 2, "attempts": 3, "code": "connect", "x_retry": 1e2},
      "ended": {"at": 3, "x_ended": [1,  2], "code": "invalid_grant", "fingerprint": "70733995b14403143d062779"},
      "x_after": 12345678.90}
  },
  "x_last": [1, 2,
    3]
}
"#;

/// [`BY_HAND`] in seven layouts.
fn layouts() -> Vec<(&'static str, String)> {
    let value: Value = serde_json::from_str(BY_HAND).expect("JSON");
    let indented = |step: &str| {
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(step.as_bytes());
        let mut to = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&value, &mut to).expect("writable");
        String::from_utf8(text).expect("UTF-8")
    };
    vec![
        ("by hand, unknown members first", BY_HAND.to_owned()),
        ("compact", value.to_string()),
        ("two spaces", indented("  ") + "\n"),
        ("four spaces", indented("    ")),
        ("tabs", indented("\t") + "\n\n"),
        ("no indentation", indented("")),
        ("CRLF", BY_HAND.replace('\n', "\r\n")),
    ]
}

#[tokio::test]
async fn a_change_in_each_of_seven_layouts_keeps_every_byte_of_other_members() {
    for (layout, text) in layouts() {
        let f = Fixture::new();
        f.put(&text);
        let session = f.store.read(&alice()).await.expect(layout).session.expect("a session");
        assert_eq!(session.expires_at, crate::session::UNKNOWN_EXPIRY, "{layout}");
        f.clock.advance(1);
        let change = Change::Notified(session.lineage);
        assert_eq!(f.store.change(&alice(), change).await.expect(layout).applied, Applied::Done);
        let mut expected: Value = serde_json::from_str(&text).expect("JSON");
        expected["sessions"]["codex/user:803"]["ended"]["notified_at"] = json!(NOW + 1);
        assert_eq!(f.value(), expected, "{layout}");
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&f.value()), names(&expected), "{layout}: the order of the root's members");
        let rest = |text: &str| {
            let mut members = members(text);
            members.remove(&("sessions".to_owned(), "codex/user:803".to_owned()));
            members
        };
        assert_eq!(rest(&f.text()), rest(&text), "{layout}: other members");
        // In the changed record too, unknown members keep their spelling.
        let foreign = |text: &str| {
            let record = &members(text)[&("sessions".to_owned(), "codex/user:803".to_owned())];
            let mut members: Slices = serde_json::from_str(record).expect("an object");
            members.retain(|name, _| name.starts_with("x_"));
            members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(foreign(&f.text()), foreign(&text), "{layout}: unknown members of the session");
        if text == BY_HAND {
            for spelling in
                ["\"x_retry\": 1e2", "\"x_ended\": [1,  2]", "12345678.90", "1.50", "[1, 2,\n    3]"]
            {
                assert!(f.text().contains(spelling), "{spelling}: {}", f.text());
            }
        }
        let written = f.text();
        f.store.change(&alice(), Change::Notified(session.lineage)).await.expect(layout);
        assert_eq!(f.text(), written, "{layout}: the layout of a written text stays");
    }
}

fn decode(text: &str) -> Result<Document, StoreError> {
    Document::decode(Path::new("auth.json"), Zeroizing::new(text.as_bytes().to_vec()))
}

#[test]
fn a_changed_store_has_the_models_content_and_every_byte_of_other_members() {
    let mut random = Random::from_variable("THREADKEY_TEST_SEED");
    let texts = std::env::var("THREADKEY_LAYOUT_TEXTS").map_or(400, |texts| texts.parse().expect("a number"));
    for _ in 0..texts {
        let form = pick(&mut random, &FORMS);
        let mut model = store(&mut random);
        let mut text = String::new();
        render(&mut random, &model, form, 0, &mut text);
        text.push_str(pick(&mut random, &["", "\n", "\n\n"]));
        let mut document = decode(&text).expect(&text);
        for _ in 0..6 {
            let before = text.clone();
            let mut touched = BTreeSet::new();
            let mut now: BTreeMap<Tenant, Entry> = (**document.records()).clone();
            let mut new = BTreeMap::new();
            let mut changed = ChangedRecords::default();
            for _ in 0..random.below(4) {
                let tenant: Tenant = pick(&mut random, &TENANTS).parse().expect("a tenant");
                let entry = entry(&mut random, &changed.entry(&document, &tenant));
                changed.put(&tenant, entry.clone());
                new.insert(tenant, entry);
            }
            if random.one_in(2) {
                changed.sweep(&document, NOW);
                for (tenant, old) in &now {
                    new.entry(tenant.clone()).or_insert_with(|| old.clone());
                }
                for Entry { pending, candidate, .. } in new.values_mut() {
                    let is_recent = |at: i64| at > NOW - 900 - 2 * DAY;
                    *pending = pending.take().filter(|pending| is_recent(pending.created_at));
                    *candidate = candidate.take().filter(|candidate| is_recent(candidate.issued_at));
                }
            }
            for (tenant, entry) in new {
                let old = now.get(&tenant).cloned().unwrap_or_default();
                touched.append(&mut apply(&mut model, &old, &entry, &tenant));
                now.insert(tenant, entry);
            }
            now.retain(|_, entry| *entry != Entry::default());

            let revised = document.revise(changed, Zeroizing::default());
            text = revised.text().to_owned();
            document = revised.into_document(document.records().clone());
            assert_eq!(**document.records(), now, "{before}\n→ {text}");
            let again = decode(&text).expect(&text);
            assert!(again == document, "what is known of it is what is read anew: {before}\n→ {text}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect(&text), model, "{before}\n→ {text}");
            let untouched = |text: &str| {
                let mut members = members(text);
                members.retain(|(section, name), _| !touched.contains(&(section.as_str(), name.clone())));
                members
            };
            assert_eq!(untouched(&before), untouched(&text), "{before}\n→ {text}");
        }
    }
}
