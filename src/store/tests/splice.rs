//! Changes against a model: whatever the form of the text, it says what the model says, and what no change is about stays byte
//! for byte.
//!
//! The texts and the changes are drawn from a seed, which is printed; `THREADKEY_TEST_SEED` repeats a run,
//! `THREADKEY_SPLICE_TEXTS` says how many texts there are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{random::Random, *};
use crate::{
    secret::Fingerprint,
    session::{Ended, Retry},
    store::{codec::Document, index::Index, section::SECTIONS},
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

/// What a foreign program might write.
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

fn store(random: &mut Random) -> Value {
    let (mut sections, mut none) = (Vec::new(), Map::new());
    for section in &SECTIONS {
        if random.one_in(5) {
            continue;
        }
        let mut members = Map::new();
        for _ in 0..random.below(5) {
            let tenant = pick(random, &TENANTS);
            let entry = entry(random, &Entry::default());
            if let Some(mut member) = (section.object)(&entry) {
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
        sections.push((section.name, Value::Object(members)));
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
    session.issued_at = NOW - random.below(3_000) as i64;
    session.account = random.one_in(2).then(|| "bob".to_owned());
    session.retry = random.one_in(2).then(|| Retry {
        set_at: NOW,
        not_before: NOW + 5,
        attempts: 1,
        code: "connect".into(),
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
            pending.created_at = NOW - random.below(3_000) as i64;
            pending.scopes.truncate(random.below(3) as usize);
            new.pending = Some(pending);
        }
    }
    new
}

/// `ours` over `theirs`: what is ours goes or is replaced, at each level, and the rest stays.
fn over(theirs: &Value, ours: &Map<String, Value>, fields: &[&str]) -> Value {
    let Value::Object(theirs) = theirs else { panic!("a member is an object") };
    let mut result = theirs.clone();
    for field in fields {
        let (old, new) = (result.remove(*field), ours.get(*field));
        let new = match (old, new) {
            (Some(old @ Value::Object(_)), Some(Value::Object(new))) => {
                let inner = ["fingerprint", "at", "set_at", "not_before", "attempts", "code", "notified_at"];
                over(&old, new, &inner)
            }
            (_, Some(new)) => new.clone(),
            (_, None) => continue,
        };
        result.insert((*field).to_owned(), new);
    }
    Value::Object(result)
}

/// Does to the model what the store is asked to do, and says which members it is about.
fn apply(model: &mut Value, old: &Entry, new: &Entry, tenant: &Tenant) -> BTreeSet<(&'static str, String)> {
    let lineage = |session: &Option<Session>| session.as_ref().map(|session| session.lineage);
    let state = |pending: &Option<Pending>| pending.as_ref().map(|pending| pending.state.clone());
    let continued = [
        match lineage(&new.session) {
            session if session == lineage(&old.session) => Some("sessions"),
            session if session == lineage(&old.candidate) => Some("candidates"),
            _ => None,
        },
        (state(&old.pending) == state(&new.pending)).then_some("pending"),
        (lineage(&old.candidate) == lineage(&new.candidate)).then_some("candidates"),
    ];
    let (before, tenant) = (model.clone(), tenant.to_string());
    let mut touched = BTreeSet::new();
    for (section, continued) in SECTIONS.iter().zip(continued) {
        let ours = (section.object)(new);
        if (section.object)(old) == ours {
            continue;
        }
        touched.insert((section.name, tenant.clone()));
        let root = model.as_object_mut().expect("an object");
        if ours.is_none() && !root.contains_key(section.name) {
            continue;
        }
        let members =
            root.entry(section.name).or_insert_with(|| json!({})).as_object_mut().expect("an object");
        let theirs = continued.and_then(|section| before.get(section)?.get(&tenant));
        match (ours, theirs) {
            (None, _) => drop(members.remove(&tenant)),
            (Some(ours), Some(theirs)) => {
                members.insert(tenant.clone(), over(theirs, &ours, section.fields));
            }
            (Some(ours), None) => {
                members.insert(tenant.clone(), Value::Object(ours));
            }
        }
    }
    touched
}

// === what is compared ===

/// The members of the sections and of the rest of the root, as they are written.
fn members(text: &[u8]) -> BTreeMap<(String, String), Vec<u8>> {
    let index = Index::of(text);
    let slice = |member: &crate::store::index::Member| text[member.key..member.end].to_vec();
    let name = |text: &[u8]| {
        let one = [b"{", text, b"}"].concat();
        serde_json::from_slice::<Map<String, Value>>(&one)
            .expect("a member")
            .into_iter()
            .next()
            .expect("one")
            .0
    };
    let mut all = BTreeMap::new();
    let is_section = |name: &str| SECTIONS.iter().any(|section| section.name == name);
    for member in &index.root {
        let text = slice(member);
        let name = name(&text);
        if !is_section(&name) {
            all.insert((String::new(), name), text);
        }
    }
    for (number, section) in SECTIONS.iter().enumerate() {
        for member in index.section(number).into_iter().flat_map(|section| &section.members) {
            let text = slice(member);
            all.insert((section.name.into(), name(&text)), text);
        }
    }
    all
}

fn assert_in_form(random: &mut Random, text: &str, form: Form) {
    if form != Form::ByHand {
        let mut again = String::new();
        render(random, &serde_json::from_str(text).expect("JSON"), form, 0, &mut again);
        assert_eq!(text.trim_end(), again, "{form:?} stays {form:?}");
    }
}

#[test]
fn whatever_the_form_of_a_text_it_says_what_the_changes_made_of_it_and_all_else_stays_byte_for_byte() {
    let mut random = Random::from_variable("THREADKEY_TEST_SEED");
    let texts = std::env::var("THREADKEY_SPLICE_TEXTS").map_or(400, |texts| texts.parse().expect("a number"));
    for _ in 0..texts {
        let form = pick(&mut random, &FORMS);
        let mut model = store(&mut random);
        let mut text = String::new();
        render(&mut random, &model, form, 0, &mut text);
        text.push_str(pick(&mut random, &["", "\n", "\n\n"]));
        let mut document = Document::decode(Path::new("auth.json"), text.as_bytes()).expect(&text);
        for _ in 0..6 {
            let before = text.clone();
            let mut touched = BTreeSet::new();
            let mut now: BTreeMap<Tenant, Entry> = (**document.records()).clone();
            let mut new = BTreeMap::new();
            for _ in 0..random.below(4) {
                let tenant: Tenant = pick(&mut random, &TENANTS).parse().expect("a tenant");
                let entry = entry(&mut random, &document.entry(&tenant));
                document.put(&tenant, entry.clone());
                new.insert(tenant, entry);
            }
            if random.one_in(2) {
                document.sweep(NOW);
                for (tenant, old) in &now {
                    new.entry(tenant.clone()).or_insert_with(|| old.clone());
                }
                for Entry { pending, candidate, .. } in new.values_mut() {
                    let is_recent = |at: i64| at > NOW - 1500;
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

            let encoded = document.encode();
            text = String::from_utf8(encoded.text().to_vec()).expect("UTF-8");
            document = encoded.settle();
            assert_eq!(**document.records(), now, "{before}\n→ {text}");
            let again = Document::decode(Path::new("auth.json"), text.as_bytes()).expect(&text);
            assert!(again == document, "what is known of it is what is read anew: {before}\n→ {text}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect(&text), model, "{before}\n→ {text}");
            let untouched = |text: &str| {
                let mut members = members(text.as_bytes());
                members.retain(|(section, name), _| !touched.contains(&(section.as_str(), name.clone())));
                members
            };
            assert_eq!(untouched(&before), untouched(&text), "{before}\n→ {text}");
            assert_in_form(&mut random, &text, form);
            if touched.is_empty() {
                assert_eq!(before, text);
            }
        }
    }
}
