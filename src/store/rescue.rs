//! The form of a rescue file: the line `threadkey rescue 1 <tenant>`, then the two lines of a
//! journal.

use std::path::Path;

use zeroize::Zeroizing;

use super::{StoreError, journal};
use crate::{
    ids::Tenant,
    session::journal::{Answer, Intent, Journal},
};

const HEAD: &str = "threadkey rescue 1 ";

/// Returns the text of a rescue file.
pub fn rescue_text(tenant: &Tenant, intent: &Intent, answer: &Answer) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(format!("{HEAD}{tenant}\n").into_bytes());
    text.extend_from_slice(&journal::intent_line(intent));
    text.extend_from_slice(&journal::answer_line(answer));
    text
}

/// Reads a rescue file's text; `path` is for messages.
///
/// # Errors
/// [`StoreError::Unsuitable`] when it is not a rescue file, or not whole.
pub fn read_rescue(path: &Path, text: &[u8]) -> Result<(Tenant, Intent, Answer), StoreError> {
    let unfit = |what: &str| StoreError::Unsuitable { path: path.into(), what: what.into() };
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let head = std::str::from_utf8(&text[..end]).ok().and_then(|head| head.strip_prefix(HEAD));
    let tenant = head.and_then(|tenant| tenant.parse().ok());
    let tenant = tenant.ok_or_else(|| unfit("it does not begin as a rescue file of this version does"))?;
    match journal::read(path, text.get(end + 1..).unwrap_or_default())?.journal {
        Journal::Answered(intent, answer) => Ok((tenant, intent, answer)),
        Journal::Empty | Journal::Intended(_) => Err(unfit("the answer in it is not whole")),
    }
}
