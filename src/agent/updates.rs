//! Translates an agent's session updates into our own [`Update`]s.

use std::collections::HashMap;

use agent_client_protocol::v1::schema::{
    ContentBlock, EmbeddedResourceResource, Plan, PlanEntryStatus, SessionUpdate, ToolCallStatus,
};

use super::{Update, question::KnownDetails, worker_secrets::WorkerSecrets};

/// How many of a turn's tool calls are remembered.
const MAX_TOOLS: usize = 256;
/// The longest title, in characters.
const MAX_TITLE: usize = 256;
/// The longest id, in characters.
const MAX_ID: usize = 128;
/// The longest text of one update, in bytes.
pub(super) const MAX_PIECE: usize = 16 * 1024;
/// How many entries of a plan are shown.
const MAX_PLAN: usize = 20;

/// A turn's tool calls. An update of a call names only the changed fields.
#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    /// The title and status of each call, as they are shown.
    shown: HashMap<String, (String, String)>,
    /// The details of the calls, for questions about them.
    pub(super) details: KnownDetails,
}

impl ToolCalls {
    fn change(&mut self, id: &str, title: Option<String>, status: Option<ToolCallStatus>) -> Update {
        let id: String = id.chars().take(MAX_ID).collect();
        if self.shown.len() >= MAX_TOOLS && !self.shown.contains_key(&id) {
            self.shown.clear();
        }
        let known = self.shown.entry(id.clone()).or_insert_with(|| ("Tool".to_owned(), "pending".to_owned()));
        if let Some(title) = title {
            known.0 = short(&title);
        }
        if let Some(status) = status {
            known.1 = tool_status(status).to_owned();
        }
        Update::Tool { id, title: known.0.clone(), status: known.1.clone() }
    }
}

/// Splits a long text, so that the updates that wait for their reader are short. Nothing is lost: a
/// worker that sends more than its reader takes has to wait.
pub(super) fn in_pieces(update: Update) -> Vec<Update> {
    let Update::Text(mut rest) = update else { return vec![update] };
    let mut pieces = Vec::new();
    while rest.len() > MAX_PIECE {
        let at = (0..=MAX_PIECE).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or_default();
        pieces.push(Update::Text(rest[..at].to_owned()));
        rest.drain(..at);
    }
    rest.shrink_to_fit();
    pieces.push(Update::Text(rest));
    pieces
}

/// Returns the visible part of a session update. Thoughts, modes and accounting are left out.
pub(super) fn updates_of(
    update: SessionUpdate,
    tool_calls: &mut ToolCalls,
    secrets: &WorkerSecrets,
) -> Vec<Update> {
    match update {
        SessionUpdate::AgentMessageChunk(chunk) => {
            text(chunk.content).map(|text| Update::Text(secrets.scrub(&text))).into_iter().collect()
        }
        SessionUpdate::ToolCall(call) => {
            tool_calls.details.remember(&call);
            vec![tool_calls.change(
                &call.tool_call_id.to_string(),
                Some(secrets.scrub(&call.title)),
                Some(call.status),
            )]
        }
        SessionUpdate::ToolCallUpdate(call) => {
            tool_calls.details.remember(&call);
            let title = call.fields.title.map(|title| secrets.scrub(&title));
            vec![tool_calls.change(&call.tool_call_id.to_string(), title, call.fields.status)]
        }
        SessionUpdate::Plan(plan) => steps(plan, secrets),
        _ => Vec::new(),
    }
}

/// Returns one tool call for each entry of a plan.
fn steps(plan: Plan, secrets: &WorkerSecrets) -> Vec<Update> {
    let step = |(at, entry): (usize, agent_client_protocol::v1::schema::PlanEntry)| Update::Tool {
        id: format!("plan:{at}"),
        title: short(&secrets.scrub(&entry.content)),
        status: match entry.status {
            PlanEntryStatus::InProgress => "in_progress",
            PlanEntryStatus::Completed => "completed",
            _ => "pending",
        }
        .to_owned(),
    };
    plan.entries.into_iter().take(MAX_PLAN).enumerate().map(step).collect()
}

fn text(content: ContentBlock) -> Option<String> {
    match content {
        ContentBlock::Text(text) => Some(text.text),
        ContentBlock::ResourceLink(link) => Some(format!("[{}]({})", link.name, link.uri)),
        ContentBlock::Resource(embedded) => match embedded.resource {
            EmbeddedResourceResource::TextResourceContents(resource) => Some(resource.text),
            _ => None,
        },
        ContentBlock::Image(_) => Some("(an image)".to_owned()),
        ContentBlock::Audio(_) => Some("(a recording)".to_owned()),
        _ => None,
    }
}

fn tool_status(status: ToolCallStatus) -> &'static str {
    match status {
        ToolCallStatus::InProgress => "in_progress",
        ToolCallStatus::Completed => "completed",
        ToolCallStatus::Failed => "failed",
        _ => "pending",
    }
}

fn short(title: &str) -> String {
    let line = title.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let mut short: String = line.chars().take(MAX_TITLE).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn shown(updates: &[serde_json::Value]) -> Vec<String> {
        let mut tool_calls = ToolCalls::default();
        let secrets = WorkerSecrets::new([Secret::new("s3cr3t")]);
        let updates = updates.iter().map(|json| serde_json::from_value(json.clone()).expect("an ACP update"));
        let all = updates.flat_map(|update| updates_of(update, &mut tool_calls, &secrets));
        all.map(|update| match update {
            Update::Text(text) => text,
            Update::Tool { id, title, status } => format!("{id} {title:?} {status}"),
            other => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn an_update_of_a_tool_call_keeps_the_fields_that_it_leaves_out() {
        let all = [
            serde_json::json!({"sessionUpdate": "tool_call", "toolCallId": "a", "title": "Read x\nand y", "status": "in_progress"}),
            serde_json::json!({"sessionUpdate": "tool_call_update", "toolCallId": "a", "status": "completed"}),
            serde_json::json!({"sessionUpdate": "tool_call_update", "toolCallId": "b", "title": "s3cr3t"}),
        ];
        assert_eq!(
            shown(&all),
            ["a \"Read x\" in_progress", "a \"Read x\" completed", "b \"[secret removed]\" pending"]
        );
    }

    #[test]
    fn a_long_text_is_split_between_characters_and_loses_nothing() {
        let text = "ü€🙂x".repeat(10_000);
        let pieces: Vec<_> = in_pieces(Update::Text(text.clone()))
            .into_iter()
            .map(|update| match update {
                Update::Text(text) => text,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.capacity() <= MAX_PIECE));
        assert_eq!(pieces.concat(), text);
        assert_eq!(in_pieces(Update::Text("short".into())).len(), 1);
    }

    #[test]
    fn text_links_and_plans_are_shown_and_thoughts_are_not() {
        let all = [
            serde_json::json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "it is s3cr3t"}}),
            serde_json::json!({"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "hm"}}),
            serde_json::json!({"sessionUpdate": "agent_message_chunk",
                "content": {"type": "resource_link", "name": "log", "uri": "file:///log"}}),
            serde_json::json!({"sessionUpdate": "plan",
                "entries": [{"content": "think", "priority": "high", "status": "completed"}]}),
        ];
        assert_eq!(
            shown(&all),
            ["it is [secret removed]", "[log](file:///log)", "plan:0 \"think\" completed"]
        );
    }
}
