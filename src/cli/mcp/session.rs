//! The session at the server, and the requests in progress.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{message::Message, tools::Tools};

/// The state of the connection. Versions from 2026-07-28 on use the requests and the tools alone.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// `Mcp-Session-Id`, if the server has given one.
    pub(super) id: Option<String>,
    /// The version that the server has chosen.
    pub(super) version: Option<String>,
    /// The request that began the session, for a new one in place of a lost one.
    pub(super) initialize: Option<String>,
    /// The requests in progress, by their ids.
    pub(super) requests: BTreeMap<String, Request>,
    /// The tools with parameters in headers.
    pub(super) tools: Tools,
}

/// A request in progress.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Ends it without an answer.
    pub(super) cancel: CancellationToken,
    /// Whether a closed stream cancels it.
    pub(super) by_closing: bool,
}

impl Session {
    /// Takes notice of an answer to a request. Returns the answer to pass on if it differs, and the names
    /// of tools that it lacks.
    pub(super) fn learn(&mut self, request: &Message, answer: &str) -> Option<(String, Vec<String>)> {
        match request.method.as_deref()? {
            "initialize" => {
                let answer: Value = serde_json::from_str(answer).ok()?;
                let version = answer.get("result")?.get("protocolVersion")?.as_str()?;
                self.version = Some(version.to_owned());
                self.initialize = Some(request.line.clone());
                None
            }
            "tools/list" if request.has_no_session() => {
                let mut answer: Value = serde_json::from_str(answer).ok()?;
                let wrong = self.tools.learn(answer.get_mut("result")?);
                (!wrong.is_empty()).then(|| (answer.to_string(), wrong))
            }
            _ => None,
        }
    }

    /// Returns the headers of a message.
    pub(super) fn headers(&self, message: &Message) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> =
            message.headers().into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        let is_first = message.method.as_deref() == Some("initialize");
        if let Some(version) = message.version() {
            headers.push(("mcp-protocol-version".to_owned(), version.to_owned()));
        } else if !is_first {
            headers.extend(self.own_headers());
        }
        if message.has_no_session() && message.method.as_deref() == Some("tools/call") {
            headers.extend(self.tools.headers(&message.params));
        }
        headers
    }

    /// Returns the headers of a request that carries no message.
    pub(super) fn own_headers(&self) -> Vec<(String, String)> {
        let id = self.id.iter().map(|id| ("mcp-session-id".to_owned(), id.clone()));
        let version = self.version.iter().map(|version| ("mcp-protocol-version".to_owned(), version.clone()));
        id.chain(version).collect()
    }
}
