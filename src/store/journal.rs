//! The journal's lines.
//!
//! A journal has no line, one (the intent) or two (the intent and its answer). A line is the first
//! 24 hex digits of the SHA-256 of its JSON, a space, the JSON, and a newline. The digest
//! distinguishes a whole line from a line that a crash tore:
//!
//! * A torn intent is not an intent. It was not durable yet, and nothing is sent before it is.
//! * A torn answer is not an answer. The request was sent, and its result is unknown.
//! * An intent that cannot be read, *with a whole answer after it*, is damage and an error. So is a
//!   whole line anywhere else: an answer is never discarded unread.
//!
//! Zeros may follow the lines, where the file system has no other way to reserve space.
//!
//! # Versions
//!
//! An intent has version 1. An answer is written in version 2, and read in versions 1 and 2:
//! version 1 has neither `content_type` nor `content_encoding` nor `cut`. A line of any other
//! version is an error, and nothing is sent for the tenant. So a program that knows only version 1
//! leaves an answer of version 2 to the program that wrote it.

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

const INTENT_VERSION: u64 = 1;
/// The version in which an answer is written.
const ANSWER_VERSION: u64 = 2;
const DIGEST_LEN: usize = Fingerprint::LEN;

/// The longest `Retry-After` that is saved; a longer one is dropped. A valid one has at most 29
/// characters (RFC 9110 §10.2.3).
const MAX_RETRY_AFTER: usize = 128;

/// The longest part of `Content-Type` and `Content-Encoding` that is saved. A media type or coding
/// stands at the beginning of its header.
const MAX_HEADER: usize = 256;

/// The most bytes that a line has besides its body. JSON writes a byte of a header in at most six.
const AROUND: usize = 6 * (MAX_RETRY_AFTER + 2 * MAX_HEADER) + 512;

/// The longest answer line: a body of [`MAX_BODY`] in base64, and the rest of the line.
pub(super) const MAX_ANSWER: u64 = answer_room(MAX_BODY) as u64;

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    #[serde(with = "text")]
    body: Body,
    at: UnixTime,
}

/// A body, written in base64.
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

/// A journal's content, and where its lines end.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) journal: Journal,
    /// Where the intent ends.
    pub(super) intent_len: u64,
    /// Where the last whole line ends.
    pub(super) len: usize,
}

/// Returns the line of an intent.
pub(super) fn intent_line(intent: &Intent) -> Vec<u8> {
    let spending = match intent.spending.clone() {
        Spending::Refresh(RefreshTarget { revision: Revision { lineage, generation }, fingerprint }) => {
            SpendingDto::Refresh { lineage, generation, fingerprint }
        }
        Spending::Code { state, code } => SpendingDto::Code { state, code },
    };
    let dto = IntentDto {
        version: INTENT_VERSION,
        spending,
        at: intent.at,
        token_endpoint: intent.token_endpoint.clone(),
    };
    line(&dto, AROUND).to_vec()
}

/// Returns the line of an answer. It has at most [`MAX_ANSWER`] bytes if the body has at most
/// [`MAX_BODY`].
pub(super) fn answer_line(answer: &Answer) -> Zeroizing<Vec<u8>> {
    let dto = AnswerDto {
        version: ANSWER_VERSION,
        status: answer.status,
        retry_after: answer.retry_after.clone().filter(|text| text.len() <= MAX_RETRY_AFTER),
        content_type: answer.content_type.as_deref().map(beginning),
        content_encoding: answer.content_encoding.as_deref().map(beginning),
        cut: answer.cut,
        body: Body(answer.body.clone()),
        at: answer.at,
    };
    line(&dto, answer_room(answer.body.len()))
}

/// Reads the content of the lock file at `path`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Read, StoreError> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let second = lines.next().unwrap_or_default();
    let answer = json(second);
    if let Some(stray) = lines.position(|line| json(line).is_some()) {
        return Err(damaged(path, stray + 3, "a whole one where none belongs"));
    }
    let Some(intent) = json(first) else {
        if answer.is_some() || ends_in_a_whole_line(first) {
            return Err(damaged(path, 1, "an intent that cannot be read, with an answer after it"));
        }
        return Ok(Read { journal: Journal::Empty, intent_len: 0, len: 0 });
    };
    let intent = parse(path, 1, intent, INTENT_VERSION, intent_from)?;
    let (journal, len) = match answer {
        Some(answer) => {
            let answer = parse(path, 2, answer, ANSWER_VERSION, answer_from)?;
            (Journal::Answered(intent, answer), first.len() + second.len())
        }
        None => (Journal::Intended(intent), first.len()),
    };
    Ok(Read { journal, intent_len: first.len() as u64, len })
}

/// Returns the beginning of a header, at most [`MAX_HEADER`] bytes.
fn beginning(header: &str) -> String {
    let is_end = |at: &usize| header.is_char_boundary(*at);
    let end = (0..=header.len().min(MAX_HEADER)).rev().find(is_end).unwrap_or(0);
    header[..end].to_owned()
}

/// Returns the line of `dto`. `room` must be enough for its JSON if that holds a secret, because a
/// vector that grows leaves copies in freed memory.
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

/// Returns the JSON of a whole line.
fn json(line: &[u8]) -> Option<&str> {
    let (digits, rest) = line.split_at_checked(DIGEST_LEN)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let json = std::str::from_utf8(json).ok()?;
    (digits == digest(json.as_bytes()).as_bytes()).then_some(json)
}

/// Whether a damaged line and the whole line after it have become one, because the newline between
/// them was damaged.
fn ends_in_a_whole_line(line: &[u8]) -> bool {
    // A space and a brace stand between a digest and its JSON. Eight places are enough: threadkey
    // writes no file with more of them.
    let spaces = line.windows(2).enumerate().filter(|(_, two)| *two == b" {").take(8);
    spaces.filter_map(|(at, _)| line.get(at.checked_sub(DIGEST_LEN)?..)).any(|rest| json(rest).is_some())
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    crate::ids::hex(&sha2::Sha256::digest(bytes)[..DIGEST_LEN / 2])
}

/// Reads a whole line of a version up to `newest`. A newer program wrote any other line, and
/// nothing touches that.
fn parse<'a, D: Deserialize<'a>, T>(
    path: &Path,
    number: usize,
    json: &'a str,
    newest: u64,
    build: impl FnOnce(D) -> T,
) -> Result<T, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    if let Ok(Version { version }) = serde_json::from_str(json)
        && !(1..=newest).contains(&version)
    {
        return Err(StoreError::Unsuitable {
            path: path.into(),
            what: format!(
                "its journal has version {version}, which this threadkey does not know: let the newer threadkey that \
                 wrote it finish, or update this one"
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
    let AnswerDto { version: _, status, retry_after, content_type, content_encoding, cut, body, at } = dto;
    Answer { status, retry_after, content_type, content_encoding, cut, body: body.0, at }
}

fn damaged(path: &Path, line: usize, what: &str) -> StoreError {
    StoreError::Unsuitable {
        path: path.into(),
        what: format!(
            "line {line} of the journal is {what}. It may hold the only copy of a new refresh token, so nothing is sent \
             for this tenant: update threadkey, or move the file away and sign in again"
        ),
    }
}
