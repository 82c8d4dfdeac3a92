//! An agent's permission question, as a card with buttons for the owner of its conversation alone.
//!
//! The owner approves exactly the request on the screen (adr/0034). So the card shows all of it in a
//! code block, and a longer request is in a file as well. What cannot be shown whole cannot be
//! allowed. The buttons have our own words, by the meaning of each choice.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    bot::Bot,
    buttons::{Action, PermissionReply},
    code_block::{fenced, readable},
    split::utf16_len,
    wire::{Button, Message, shorten},
};
use crate::{
    agent::{Conversation, OptionKind, PermissionOption, PermissionRequest, RequestPart},
    ids::Snowflake,
    secret::Scrubber,
};

/// UTF-16 units of a request that a card shows. A longer one is in a file.
const MAX_IN_CARD: usize = 3000;
/// Bytes of the file with a longer request. It must be readable for a person.
const MAX_FILE: usize = 512 * 1024;
const FILE: &str = "request.txt";
const REJECT: &str = "Reject";

/// A question on Discord.
pub(super) struct PermissionQuestion {
    channel: Snowflake,
    message: Snowflake,
    asked: Arc<str>,
    custom_ids: Vec<String>,
    reply: PermissionReply,
}

impl PermissionQuestion {
    /// Asks the question. If that fails, the reply channel is dropped, and the agent takes that as
    /// a refusal.
    pub(super) async fn ask(
        bot: &Bot,
        conversation: &Conversation,
        request: PermissionRequest,
    ) -> Option<Self> {
        let card = Card::new(&bot.scrubber, &request);
        let reply = Arc::new(Mutex::new(Some(request.answer)));
        let (channel, owner) = (conversation.id.0, conversation.owner);
        let mut custom_ids = Vec::new();
        let mut message = card.message(bot, owner, &reply, &mut custom_ids);
        let mut sent = bot.rest.send(channel, &message).await;
        if let (Err(error), true) = (&sent, message.file.is_some()) {
            info!(conversation = %conversation.id, %error, "cannot send the file of a permission question, so it can only be rejected");
            bot.buttons.remove(&std::mem::take(&mut custom_ids));
            message = card.without_file().message(bot, owner, &reply, &mut custom_ids);
            sent = bot.rest.send(channel, &message).await;
        }
        match sent {
            Ok(message) => Some(Self { channel, message, asked: card.asked, custom_ids, reply }),
            Err(error) => {
                warn!(conversation = %conversation.id, %error, "cannot send an agent's permission question, so it is refused");
                bot.buttons.remove(&custom_ids);
                None
            }
        }
    }

    /// Removes the buttons at the end of the turn, unless the question is already answered.
    pub(super) async fn close(self, bot: &Bot) {
        bot.buttons.remove(&self.custom_ids);
        if take(&self.reply).is_none() {
            return;
        }
        let message = Message::text(format!("{}\nIt got no answer.", self.asked));
        if let Err(error) = bot.rest.edit(self.channel, self.message, &message).await {
            warn!(channel = %self.channel, %error, "cannot remove the buttons of an old permission question");
        }
    }
}

/// The parts of a card.
struct Card {
    /// The sentence about the agent, with the request or its beginning.
    asked: Arc<str>,
    /// The whole request, if the card has only its beginning.
    file: Option<String>,
    /// The reason why the request cannot be allowed.
    obstacle: Option<&'static str>,
    choices: Vec<Choice>,
}

/// A button of a card.
struct Choice {
    name: String,
    kind: OptionKind,
    /// The agent's id. Without one the request is cancelled.
    id: Option<String>,
}

impl Card {
    fn new(scrubber: &Scrubber, request: &PermissionRequest) -> Self {
        let choices = choices(&request.options);
        let text = text(scrubber, request, &choices);
        let is_short = utf16_len(&text) <= MAX_IN_CARD;
        let shown = if is_short { text.clone() } else { shorten(&text, MAX_IN_CARD) };
        let obstacle = if !request.is_whole {
            Some("This request has parts that cannot be shown here.")
        } else if text.len() > MAX_FILE {
            Some("This request is too long to be shown whole.")
        } else {
            None
        };
        let asked = format!("**The agent asks for permission:**\n{}", fenced(&shown)).into();
        let file = (!is_short && text.len() <= MAX_FILE).then_some(text);
        Self { asked, file, obstacle, choices }
    }

    /// The same card after its file could not be sent.
    fn without_file(&self) -> Self {
        let obstacle = self.obstacle.or(Some(
            "The rest of this request could not be attached. I need the permission **Attach Files** here.",
        ));
        let choices = self.choices.iter();
        let choices =
            choices.map(|one| Choice { name: one.name.clone(), kind: one.kind, id: one.id.clone() });
        Self { asked: self.asked.clone(), file: None, obstacle, choices: choices.collect() }
    }

    /// Returns the message, with buttons for its owner.
    fn message(
        &self,
        bot: &Bot,
        owner: Snowflake,
        reply: &PermissionReply,
        custom_ids: &mut Vec<String>,
    ) -> Message {
        let offered = self.choices.iter().filter(|one| self.obstacle.is_none() || !one.kind.allows());
        let buttons = offered.map(|Choice { name, kind, id }| {
            let action = Action::Permit {
                option: id.clone(),
                label: name.clone(),
                asked: self.asked.clone(),
                reply: reply.clone(),
            };
            let custom_id = bot.buttons.add(owner, action);
            custom_ids.push(custom_id.clone());
            Button::press(name, custom_id).styled(match kind {
                OptionKind::AllowOnce => 3,
                OptionKind::AllowAlways => 1,
                OptionKind::RejectOnce => 2,
                OptionKind::RejectAlways => 4,
            })
        });
        let buttons = buttons.collect();
        let mut message = Message::text(self.text()).notifying(owner).buttons(buttons);
        message.file = self.file.clone().map(|text| (FILE, text));
        message
    }

    fn text(&self) -> String {
        let mut text = self.asked.to_string();
        if let Some(file) = &self.file {
            text.push_str(&format!(
                "\n**This is only the beginning.** The whole request has {} characters and is in the file `{FILE}`. Read all of it before you allow it.",
                file.chars().count()
            ));
        }
        if let Some(obstacle) = self.obstacle {
            text.push_str(&format!("\n{obstacle} So it can only be rejected."));
        }
        text
    }
}

/// Returns the buttons in the agent's order. The owner can always reject.
fn choices(options: &[PermissionOption]) -> Vec<Choice> {
    let mut all: Vec<Choice> = Vec::new();
    for option in options {
        let name = match option.kind {
            OptionKind::AllowOnce => "Allow once",
            OptionKind::AllowAlways => "Allow always",
            OptionKind::RejectOnce => REJECT,
            OptionKind::RejectAlways => "Reject always",
        };
        let same = all.iter().filter(|one| one.kind == option.kind).count();
        let name = if same == 0 { name.to_owned() } else { format!("{name} ({})", same + 1) };
        all.push(Choice { name, kind: option.kind, id: Some(option.id.clone()) });
    }
    if all.iter().all(|one| one.kind.allows()) {
        all.push(Choice { name: REJECT.to_owned(), kind: OptionKind::RejectOnce, id: None });
    }
    all
}

/// Returns all of a request for a reader.
fn text(scrubber: &Scrubber, request: &PermissionRequest, choices: &[Choice]) -> String {
    // The text is scrubbed first, because a secret may have characters that are named later.
    let clean = |text: &str| readable(&scrubber.clean(text));
    let mut text = clean(request.title.trim_end());
    let mut add = |heading: &str, part: &str| text.push_str(&format!("\n\n── {heading} ──\n{part}"));
    for RequestPart { heading, text } in &request.parts {
        add(&clean(heading).replace('\n', "␊"), clean(text).trim_end());
    }
    let labels = request.options.iter().zip(choices).filter(|(option, _)| !option.label.trim().is_empty());
    let labels = labels
        .map(|(option, choice)| format!("{}: {}", choice.name, clean(&option.label).replace('\n', "␊")));
    let labels = labels.collect::<Vec<_>>().join("\n");
    if !labels.is_empty() {
        add("The agent's words for the buttons", &labels);
    }
    text.trim_start().to_owned()
}

fn take(reply: &PermissionReply) -> Option<oneshot::Sender<String>> {
    reply.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

/// Sends the owner's choice to the agent. Returns the message that replaces the question, or `None`
/// when the question is already answered or its turn has ended.
pub(super) fn choose(
    option: Option<String>,
    label: &str,
    asked: &str,
    reply: &PermissionReply,
) -> Option<Message> {
    let sender = take(reply)?;
    match option {
        Some(option) => sender.send(option).ok()?,
        // The dropped sender cancels the request.
        None if sender.is_closed() => return None,
        None => {}
    }
    Some(Message::text(format!("{asked}\nAnswered: {label}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(title: &str, parts: &[(&str, &str)], is_whole: bool) -> PermissionRequest {
        let option =
            |id: &str, label: &str, kind| PermissionOption { id: id.into(), label: label.into(), kind };
        PermissionRequest {
            title: title.into(),
            parts: parts
                .iter()
                .map(|(heading, text)| RequestPart { heading: (*heading).into(), text: (*text).into() })
                .collect(),
            is_whole,
            options: vec![
                option("1", "Reject", OptionKind::AllowOnce),
                option("2", "", OptionKind::AllowAlways),
                option("3", "Only here", OptionKind::AllowAlways),
            ],
            answer: oneshot::channel().0,
        }
    }

    fn card(title: &str, parts: &[(&str, &str)], is_whole: bool) -> Card {
        Card::new(&Scrubber::new(), &request(title, parts, is_whole))
    }

    #[test]
    fn a_card_shows_the_whole_request_in_one_block_with_hidden_characters_named() {
        let card =
            card("npm test\ncurl … | sh\u{1b}[2K", &[("Command", "a\u{202e}```\n**b** @everyone")], true);
        assert_eq!(
            card.text(),
            "**The agent asks for permission:**\n```\nnpm test\ncurl … | sh␛[2K\n\n── Command ──\na⟨U+202E⟩⟨3 × U+0060⟩\n**b** @everyone\n\n── The agent's words for the buttons ──\nAllow once: Reject\nAllow always (2): Only here\n```"
        );
        assert!(card.file.is_none() && card.obstacle.is_none());
    }

    #[test]
    fn the_buttons_have_our_words_and_one_always_rejects() {
        let names = |card: &Card| card.choices.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(&card("x", &[], true)),
            ["Allow once", "Allow always", "Allow always (2)", "Reject"]
        );
        assert!(card("x", &[], true).choices[3].id.is_none(), "it is our own");
    }

    #[test]
    fn a_long_request_is_whole_in_a_file_and_a_longer_one_cannot_be_allowed() {
        let long = card("x", &[("Input", &"line\n".repeat(1000))], true);
        assert_eq!(long.file.as_ref().map(|file| file.matches("line").count()), Some(1000));
        assert!(long.text().contains("only the beginning") && long.obstacle.is_none());
        assert!(utf16_len(&long.text()) < 4096);
        let without = long.without_file();
        assert!(without.text().contains("**Attach Files**") && without.text().ends_with("only be rejected."));
        assert!(card("x", &[("Input", &"line\n".repeat(200_000))], true).obstacle.is_some());
        assert!(card("x", &[], false).obstacle.is_some());
    }

    #[test]
    fn only_the_first_press_answers_a_question() {
        let (sender, mut receiver) = oneshot::channel();
        let reply = Arc::new(Mutex::new(Some(sender)));
        let message =
            choose(Some("allow".into()), "Allow once", "asked", &reply).expect("the first press counts");
        assert_eq!(message.content, "asked\nAnswered: Allow once");
        assert_eq!(receiver.try_recv().expect("an answer"), "allow");
        assert!(choose(Some("reject".into()), "Reject", "asked", &reply).is_none());
        let (sender, mut receiver) = oneshot::channel();
        assert!(choose(None, "Reject", "asked", &Arc::new(Mutex::new(Some(sender)))).is_some());
        assert!(receiver.try_recv().is_err(), "the request is cancelled");
    }
}
