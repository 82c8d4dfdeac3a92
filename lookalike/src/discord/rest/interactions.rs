//! Answers to interactions: the callback, the original answer, followups.

use serde_json::{Value, json};

use super::{Answered, Call, Refusal};
use crate::discord::routes::Route;
use crate::discord::rules;
use crate::discord::world::{EPHEMERAL, Id, Interaction, LOADING, Message, Version, World};

/// An interaction must be acknowledged this soon.
pub(crate) const ACKNOWLEDGE_MS: i64 = 3_000;
/// An interaction's token works for so long.
pub(crate) const TOKEN_MS: i64 = 15 * 60 * 1_000;

/// Interaction types.
pub(crate) const COMMAND: u8 = 2;
pub(crate) const COMPONENT: u8 = 3;
pub(crate) const AUTOCOMPLETE: u8 = 4;
pub(crate) const MODAL_SUBMIT: u8 = 5;

/// Callback types.
pub(crate) const SAY: u8 = 4;
pub(crate) const DEFER: u8 = 5;
pub(crate) const DEFER_UPDATE: u8 = 6;
pub(crate) const UPDATE: u8 = 7;
pub(crate) const CHOICES: u8 = 8;
pub(crate) const MODAL: u8 = 9;

impl Interaction {
    /// Whether Discord takes this kind of answer to it.
    fn takes(&self, callback: u8) -> bool {
        match (self.kind, callback) {
            (COMMAND, SAY | DEFER | MODAL)
            | (COMPONENT, SAY | DEFER | DEFER_UPDATE | UPDATE | MODAL)
            | (MODAL_SUBMIT, SAY | DEFER)
            | (AUTOCOMPLETE, CHOICES) => true,
            (MODAL_SUBMIT, DEFER_UPDATE | UPDATE) => self.source.is_some(),
            _ => false,
        }
    }
}

impl World {
    pub(super) fn callback(&mut self, call: &Call) -> Answered {
        let unknown = |why: &str| Refusal::new(404, 10062, format!("Unknown interaction ({why})"));
        let Some(interaction) = self.interactions.get(&call.id(0)).cloned() else {
            return Err(unknown("there is none with this id"));
        };
        let label = &interaction.label;
        if interaction.token != call.matched.text(1) {
            return Err(unknown(&format!("another token than that of {label}")));
        }
        if interaction.answered.is_some() {
            return Err(Refusal::new(
                400,
                40060,
                format!("Interaction has already been acknowledged ({label})"),
            ));
        }
        let late = call.arrived_ms - interaction.dispatched_ms;
        if interaction.failed || late > ACKNOWLEDGE_MS {
            return Err(unknown(&format!("{label} was answered after {late} ms")));
        }
        let kind = call.body["type"].as_u64().and_then(|kind| u8::try_from(kind).ok()).unwrap_or(0);
        if !interaction.takes(kind) {
            return Err(Refusal::invalid(format!(
                "type {kind} is no answer to {label}, an interaction of type {}",
                interaction.kind
            )));
        }
        let data = &call.body["data"];
        self.carry_out(&interaction, kind, data)?;
        if let Some(interaction) = self.interactions.get_mut(&interaction.id) {
            interaction.answered = Some(kind);
        }
        if call.query("with_response") == Some("true") {
            return Ok((200, self.callback_json(interaction.id)));
        }
        Ok((204, Value::Null))
    }

    fn carry_out(&mut self, to: &Interaction, kind: u8, data: &Value) -> Result<(), Refusal> {
        let mut answer = to.clone();
        match kind {
            SAY => {
                let version = Self::draft(data, None)?;
                answer.original = Some(self.answer_message(to, data, Some(version)));
            }
            DEFER => answer.original = Some(self.answer_message(to, data, None)),
            DEFER_UPDATE => answer.original = to.source,
            UPDATE => {
                answer.original = to.source;
                self.update_source(to, data)?;
            }
            CHOICES => {
                let choices = data["choices"].as_array().cloned().unwrap_or_default();
                rules::choices(&choices).map_err(Refusal::invalid)?;
                answer.choices = Some(json!(choices));
            }
            _ => {
                rules::modal(data).map_err(Refusal::invalid)?;
                answer.modal = Some(data.clone());
            }
        }
        self.interactions.insert(answer.id, answer);
        Ok(())
    }

    fn update_source(&mut self, to: &Interaction, data: &Value) -> Result<(), Refusal> {
        let Some(source) = to.source.and_then(|id| self.messages.get(&id)) else {
            return Err(Refusal::unknown_message());
        };
        let (id, version) = (source.id, Self::draft(data, Some(&source.now))?);
        self.rewrite(id, version, data);
        Ok(())
    }

    /// A new message that answers an interaction. Without a version it shows "thinking".
    fn answer_message(&mut self, to: &Interaction, data: &Value, version: Option<Version>) -> Id {
        let mut message = Message::new(to.channel, self.bot(), "");
        message.kind = if to.kind == COMMAND { 20 } else { 0 };
        message.flags = data["flags"].as_u64().unwrap_or(0) & (EPHEMERAL | 1 << 2 | 1 << 12);
        message.only = (message.flags & EPHEMERAL != 0).then_some(to.user);
        message.interaction = Some(to.id);
        match version {
            Some(version) => {
                (message.mentions, message.mention_everyone) = self.pings(&version, data, to.channel);
                message.now = version;
                self.publish(message)
            }
            None => {
                message.flags |= LOADING;
                self.add_message(message)
            }
        }
    }

    fn callback_json(&self, id: Id) -> Value {
        let Some(interaction) = self.interactions.get(&id) else {
            return Value::Null;
        };
        let message = interaction.original.and_then(|id| self.messages.get(&id));
        json!({
            "interaction": {
                "id": id.to_string(),
                "type": interaction.kind,
                "response_message_id": message.map(|m| m.id.to_string()),
                "response_message_ephemeral": message.is_some_and(|m| m.only.is_some()),
                "response_message_loading": message.is_some_and(Message::is_loading),
            },
            "resource": {
                "type": interaction.answered,
                "message": message.map(|m| self.message_json(m)),
            },
        })
    }

    /// The acknowledged interaction that a webhook token belongs to, while the token lives.
    fn by_token(&self, call: &Call) -> Result<Interaction, Refusal> {
        let unknown = || Refusal::new(404, 10015, "Unknown Webhook");
        if call.id(0) != self.options.application_id {
            return Err(unknown());
        }
        let token = call.matched.text(1);
        let found = self.interactions.values().rev().find(|i| i.token == token);
        let Some(interaction) = found.filter(|i| i.answered.is_some()) else {
            return Err(unknown());
        };
        if call.arrived_ms - interaction.dispatched_ms > TOKEN_MS {
            return Err(Refusal::new(
                401,
                50027,
                format!("Invalid Webhook Token ({} is older than 15 min)", interaction.label),
            ));
        }
        Ok(interaction.clone())
    }

    /// The message that a webhook path names: `@original`, or a followup of the same interaction.
    fn answer_of(&self, call: &Call) -> Result<(Interaction, Message), Refusal> {
        let interaction = self.by_token(call)?;
        let original =
            matches!(call.matched.route, Route::GetOriginal | Route::EditOriginal | Route::DeleteOriginal);
        let id = if original { interaction.original } else { Some(call.id(2)) };
        let own = |id: &Id| interaction.original == Some(*id) || interaction.followups.contains(id);
        let message = id
            .filter(own)
            .and_then(|id| self.messages.get(&id))
            .filter(|message| !message.deleted)
            .cloned()
            .ok_or_else(Refusal::unknown_message)?;
        Ok((interaction, message))
    }

    pub(super) fn get_answer(&mut self, call: &Call) -> Answered {
        let (_, message) = self.answer_of(call)?;
        Ok((200, self.message_json(&message)))
    }

    pub(super) fn edit_answer(&mut self, call: &Call) -> Answered {
        let (_, message) = self.answer_of(call)?;
        same_secrecy(&message, &call.body)?;
        let before = (!message.is_loading()).then_some(&message.now);
        let version = Self::draft(&call.body, before)?;
        Ok((200, self.rewrite(message.id, version, &call.body)))
    }

    pub(super) fn delete_answer(&mut self, call: &Call) -> Answered {
        let (_, message) = self.answer_of(call)?;
        self.remove(message.id);
        Ok((204, Value::Null))
    }

    /// A followup. The first one after a deferral replaces "thinking" and stays as private as it.
    pub(super) fn followup(&mut self, call: &Call) -> Answered {
        let interaction = self.by_token(call)?;
        if interaction.kind == AUTOCOMPLETE {
            return Err(Refusal::new(404, 10015, "Unknown Webhook"));
        }
        let version = Self::draft(&call.body, None)?;
        let waiting = interaction
            .original
            .and_then(|id| self.messages.get(&id))
            .filter(|message| message.is_loading() && !message.deleted)
            .cloned();
        if let Some(waiting) = waiting {
            same_secrecy(&waiting, &call.body)?;
            return Ok((200, self.rewrite(waiting.id, version, &call.body)));
        }
        let id = self.answer_message(&interaction, &call.body, Some(version));
        if let Some(interaction) = self.interactions.get_mut(&interaction.id) {
            interaction.followups.push(id);
        }
        Ok((200, self.message_json(&self.messages[&id])))
    }

    /// The user gives up on an interaction that the bot did not acknowledge in time.
    pub(crate) fn give_up(&mut self, id: Id) {
        let Some(interaction) = self.interactions.get_mut(&id) else {
            return;
        };
        if interaction.answered.is_some() || interaction.failed {
            return;
        }
        interaction.failed = true;
        let label = interaction.label.clone();
        self.violation(0, format!("{label}: not acknowledged within {ACKNOWLEDGE_MS} ms"));
    }
}

/// A message that was made public stays public, whatever flags come later: a bot that asks for the
/// opposite would leak.
fn same_secrecy(message: &Message, body: &Value) -> Result<(), Refusal> {
    let asked = body["flags"].as_u64().unwrap_or(0) & EPHEMERAL != 0;
    if asked && message.only.is_none() {
        return Err(Refusal::invalid("an answer that others see cannot become ephemeral"));
    }
    Ok(())
}
