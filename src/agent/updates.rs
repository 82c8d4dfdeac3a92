//! What an agent says during a turn, as our own [`Update`]s.

use std::collections::HashMap;

use agent_client_protocol::v1::schema::{
    ContentBlock, EmbeddedResourceResource, Plan, PlanEntryStatus, SessionUpdate, ToolCallStatus,
    ToolCallUpdate,
};

use super::{Update, scrub::Scrubber};

/// How many of a turn's tool calls are remembered.
const MAX_TOOLS: usize = 256;
/// The longest title, in characters.
const MAX_TITLE: usize = 256;
/// The longest id, in characters.
const MAX_ID: usize = 128;
/// How many entries of a plan are shown.
const MAX_PLAN: usize = 20;

/// Title and status of a turn's tool calls: an update to one names only what changed.
#[derive(Debug, Default)]
pub(super) struct Tools(HashMap<String, (String, String)>);

impl Tools {
    fn change(&mut self, id: &str, title: Option<String>, status: Option<ToolCallStatus>) -> Update {
        let id: String = id.chars().take(MAX_ID).collect();
        if self.0.len() >= MAX_TOOLS && !self.0.contains_key(&id) {
            self.0.clear();
        }
        let known = self.0.entry(id.clone()).or_insert_with(|| ("Tool".to_owned(), "pending".to_owned()));
        if let Some(title) = title {
            known.0 = short(&title);
        }
        if let Some(status) = status {
            known.1 = tool_status(status).to_owned();
        }
        Update::Tool { id, title: known.0.clone(), status: known.1.clone() }
    }
}

/// What of it people are shown; thoughts, modes and accounting are not.
pub(super) fn of(update: SessionUpdate, tools: &mut Tools, scrubber: &Scrubber) -> Vec<Update> {
    match update {
        SessionUpdate::AgentMessageChunk(chunk) => {
            text(chunk.content).map(|text| Update::Text(scrubber.scrub(&text))).into_iter().collect()
        }
        SessionUpdate::ToolCall(call) => {
            vec![tools.change(
                &call.tool_call_id.to_string(),
                Some(scrubber.scrub(&call.title)),
                Some(call.status),
            )]
        }
        SessionUpdate::ToolCallUpdate(call) => {
            let title = call.fields.title.map(|title| scrubber.scrub(&title));
            vec![tools.change(&call.tool_call_id.to_string(), title, call.fields.status)]
        }
        SessionUpdate::Plan(plan) => steps(plan, scrubber),
        _ => Vec::new(),
    }
}

/// The title of a question about a tool call.
pub(super) fn question(call: &ToolCallUpdate, tools: &Tools) -> String {
    let known = || {
        let id: String = call.tool_call_id.to_string().chars().take(MAX_ID).collect();
        tools.0.get(&id).map(|(title, _)| title.clone())
    };
    call.fields
        .title
        .as_deref()
        .map(short)
        .or_else(known)
        .unwrap_or_else(|| "The agent asks for permission".to_owned())
}

/// A plan is shown like tool calls, one for each of its entries.
fn steps(plan: Plan, scrubber: &Scrubber) -> Vec<Update> {
    let step = |(at, entry): (usize, agent_client_protocol::v1::schema::PlanEntry)| Update::Tool {
        id: format!("plan:{at}"),
        title: short(&scrubber.scrub(&entry.content)),
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
        let mut tools = Tools::default();
        let scrubber = Scrubber::new([Secret::new("s3cr3t")]);
        let updates = updates.iter().map(|json| serde_json::from_value(json.clone()).expect("an ACP update"));
        let all = updates.flat_map(|update| of(update, &mut tools, &scrubber));
        all.map(|update| match update {
            Update::Text(text) => text,
            Update::Tool { id, title, status } => format!("{id} {title:?} {status}"),
            other => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn an_update_of_a_tool_call_keeps_what_it_does_not_name() {
        let all = [
            serde_json::json!({"sessionUpdate": "tool_call", "toolCallId": "a", "title": "Read x\nand y", "status": "in_progress"}),
            serde_json::json!({"sessionUpdate": "tool_call_update", "toolCallId": "a", "status": "completed"}),
            serde_json::json!({"sessionUpdate": "tool_call_update", "toolCallId": "b", "title": "s3cr3t"}),
        ];
        assert_eq!(shown(&all), ["a \"Read x\" in_progress", "a \"Read x\" completed", "b \"…\" pending"]);
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
        assert_eq!(shown(&all), ["it is …", "[log](file:///log)", "plan:0 \"think\" completed"]);
    }
}
