//! The journal's lines.
//!
//! A journal has no line, one (the intent) or two (the intent, the answer). A line is the first 24 hex digits of the
//! SHA-256 of its JSON, a space, the JSON, a newline. The digest tells a line that was written as a whole from one
//! that was torn by a crash:
//!
//! * A torn intent is no intent: it was not durable yet, and nothing is sent before it is.
//! * A torn answer is no answer: that there was one is known, what it said is not.
//! * An intent that cannot be read *with an answer behind it that can* is damage, and an error: an answer is never
//!   thrown away unseen. The same holds for a whole line anywhere that none belongs.
//!
//! Behind the lines there may be zeros, where the file system has no other way to reserve space.

use std::{borrow::Cow, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    StoreError,
    dto::{Text, text},
};
use crate::{
    ids::Lineage,
    secret::Fingerprint,
    session::{
        RefreshTarget, Revision,
        journal::{Answer, Intent, Journal, MAX_BODY, Spending},
    },
    sys::clock::UnixTime,
};

const VERSION: u64 = 1;
const DIGEST_LEN: usize = Fingerprint::LEN;

/// The longest `Retry-After` that is kept; a valid one has at most 29 characters (RFC 9110 §10.2.3).
const MAX_RETRY_AFTER: usize = 128;

/// The longest answer line: a body of [`MAX_BODY`] in base64, and what is around it.
pub(super) const MAX_ANSWER: u64 = answer_room(MAX_BODY) as u64;

/// At most what is in a line besides a body.
const AROUND: usize = 1024;

/// The longest line of an answer whose body has this many bytes.
const fn answer_room(body: usize) -> usize {
    body.div_ceil(3) * 4 + AROUND
}

#[derive(Serialize, Deserialize)]
struct IntentDto {
    version: u64,
    #[serde(flatten)]
    spending: SpendingDto,
    at: UnixTime,
    token_endpoint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum SpendingDto {
    Refresh {
        #[serde(with = "text")]
        lineage: Lineage,
        generation: u64,
        #[serde(with = "text")]
        fingerprint: Fingerprint,
    },
    Code {
        #[serde(with = "text")]
        state: Fingerprint,
        #[serde(with = "text")]
        code: Fingerprint,
    },
}

#[derive(Serialize, Deserialize)]
struct AnswerDto {
    version: u64,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
    #[serde(with = "text")]
    body: Body,
    at: UnixTime,
}

/// In base64.
struct Body(Zeroizing<Vec<u8>>);

impl Text for Body {
    const EXPECTED: &'static str = "base64";
    fn read(text: Cow<'_, str>) -> Option<Self> {
        Some(Self(Zeroizing::new(STANDARD.decode(text.as_bytes()).ok()?)))
    }
    fn text(&self) -> Cow<'_, str> {
        STANDARD.encode(&self.0).into()
    }
}

/// A journal's content, and where its intent ends.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) journal: Journal,
    pub(super) intent_len: u64,
}

/// The line of an intent.
pub(super) fn intent_line(intent: &Intent) -> Vec<u8> {
    let spending = match intent.spending.clone() {
        Spending::Refresh(RefreshTarget { revision: Revision { lineage, generation }, fingerprint }) => {
            SpendingDto::Refresh { lineage, generation, fingerprint }
        }
        Spending::Code { state, code } => SpendingDto::Code { state, code },
    };
    let dto = IntentDto {
        version: VERSION,
        spending,
        at: intent.at,
        token_endpoint: intent.token_endpoint.clone(),
    };
    line(&dto, AROUND).to_vec()
}

/// The line of an answer, of at most [`MAX_ANSWER`] bytes if its body has at most [`MAX_BODY`].
pub(super) fn answer_line(answer: &Answer) -> Zeroizing<Vec<u8>> {
    let dto = AnswerDto {
        version: VERSION,
        status: answer.status,
        retry_after: answer.retry_after.clone().filter(|text| text.len() <= MAX_RETRY_AFTER),
        body: Body(answer.body.clone()),
        at: answer.at,
    };
    line(&dto, answer_room(answer.body.len()))
}

/// Reads what the lock file at `path` holds.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Read, StoreError> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let answer = lines.next().and_then(json);
    if let Some(stray) = lines.position(|line| json(line).is_some()) {
        return Err(damaged(path, stray + 3, "a whole one where none belongs"));
    }
    let Some(intent) = json(first) else {
        if answer.is_some() || ends_in_a_whole_line(first) {
            return Err(damaged(path, 1, "an intent that cannot be read, with an answer behind it"));
        }
        return Ok(Read { journal: Journal::Empty, intent_len: 0 });
    };
    let intent = parse(path, 1, intent, intent_from)?;
    let journal = match answer {
        Some(answer) => Journal::Answered(intent, parse(path, 2, answer, answer_from)?),
        None => Journal::Intended(intent),
    };
    Ok(Read { journal, intent_len: first.len() as u64 })
}

/// `room` is enough for it, if it holds a secret: a vector that grows leaves copies behind.
fn line(dto: &impl Serialize, room: usize) -> Zeroizing<Vec<u8>> {
    let mut json = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *json, dto).expect("texts and numbers can be written as JSON");
    let mut line = Zeroizing::new(Vec::with_capacity(DIGEST_LEN + 1 + json.len() + 1));
    line.extend_from_slice(digest(&json).as_bytes());
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    line
}

/// The JSON of a line that is whole.
fn json(line: &[u8]) -> Option<&str> {
    let (digits, rest) = line.split_at_checked(DIGEST_LEN)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let json = std::str::from_utf8(json).ok()?;
    (digits == digest(json.as_bytes()).as_bytes()).then_some(json)
}

/// Whether a damaged line and the whole one behind it have become one, because the newline between them is what was damaged.
fn ends_in_a_whole_line(line: &[u8]) -> bool {
    // Between a digest and its JSON stands the first of these; a file that is full of them is none of ours.
    let spaces = line.windows(2).enumerate().filter(|(_, two)| *two == b" {").take(8);
    spaces.filter_map(|(at, _)| line.get(at.checked_sub(DIGEST_LEN)?..)).any(|rest| json(rest).is_some())
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    crate::ids::hex(&sha2::Sha256::digest(bytes)[..DIGEST_LEN / 2])
}

/// Reads a whole line. What this version cannot read was written by a newer one, and is not touched.
fn parse<'a, D: Deserialize<'a>, T>(
    path: &Path,
    number: usize,
    json: &'a str,
    build: impl FnOnce(D) -> T,
) -> Result<T, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    if let Ok(Version { version }) = serde_json::from_str(json)
        && version != VERSION
    {
        return Err(StoreError::Unsuitable {
            path: path.into(),
            what: format!(
                "its journal has version {version}, which this threadkey does not know: let the newer one that wrote it \
                 finish, or update this one"
            ),
        });
    }
    let dto = serde_json::from_str(json).ok();
    dto.map(build)
        .ok_or_else(|| damaged(path, number, "a journal line of a kind that this threadkey does not know"))
}

fn intent_from(dto: IntentDto) -> Intent {
    let spending = match dto.spending {
        SpendingDto::Refresh { lineage, generation, fingerprint } => {
            Spending::Refresh(RefreshTarget { revision: Revision { lineage, generation }, fingerprint })
        }
        SpendingDto::Code { state, code } => Spending::Code { state, code },
    };
    Intent { spending, at: dto.at, token_endpoint: dto.token_endpoint }
}

fn answer_from(dto: AnswerDto) -> Answer {
    let AnswerDto { version: _, status, retry_after, body: Body(body), at } = dto;
    Answer { status, retry_after, body, at, ..Answer::default() }
}

fn damaged(path: &Path, line: usize, what: &str) -> StoreError {
    StoreError::Unsuitable {
        path: path.into(),
        what: format!(
            "line {line} of the journal is {what}. It may tell of the only copy of a new refresh token, so nothing is sent \
             for this tenant: update threadkey, or move the file away and sign in again"
        ),
    }
}
