//! Asks the owners of conversations to sign in for their agents, and follows each question to its answer.
//!
//! An agent's request for a token waits in the token API ([`OwnerQuestions`](crate::broker::OwnerQuestions)). The question is a message
//! in the thread of the agent that asked first. Requests of the owner's other agents join it. "Sign in"
//! starts the same sign-in as `/auth start`, and "Decline" ends all these requests. A sign-in that the
//! owner sees already, with a link or for a held prompt, is question enough.
//!
//! # What happens when the process dies
//!
//! The record is durable before the message is sent, and has the buttons. So a press after a restart
//! finds its question.
//!
//! | dies | leaves | after the restart |
//! | --- | --- | --- |
//! | before the record is durable | nothing | the request, made anew, asks |
//! | before the message is sent | a record that is not sent | the next request sends it |
//! | before the message's id is durable | a message with working buttons | the next request sends a second one with the same buttons |
//! | after that | the question | it is joined, and its message shows its outcome |
//!
//! A request that joins a question looks for its thread, once in a minute. If that was deleted, the owner is
//! asked in the thread of the request.
//!
//! A refusal is durable before any request ends by it. A sign-in is in the store, and [`run`] compares
//! the questions with it after each change and at the start.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, error, info, warn};

use super::{
    bot::{Bot, BotHandle, internal_error},
    buttons::{Action, PressError},
    interaction::Interaction,
    open_thread::thread_conversation,
    question::{self, NextStep, Question, Refused},
    question_text,
    rest::RestError,
    sign_in_questions::{AskOwner, UNREACHABLE_FOR},
    turn,
    wire::{Message, Response},
};
use crate::{
    agent::Conversation,
    broker::{Event, OwnerRefusal, OwnerRights as _},
    ids::{Principal, Snowflake, Tenant},
    store::StoreError,
};

#[async_trait]
impl AskOwner for Bot {
    async fn ask_if_due(
        self: Arc<Self>,
        conversation: &Conversation,
        tenant: &Tenant,
    ) -> Result<(), OwnerRefusal> {
        let bot = &self;
        let questions = &bot.questions;
        let _asking = questions.0.asking.lock().await;
        let (all, now, thread) = (bot.conversations.questions(), bot.clock.now(), conversation.id.0);
        let step = question::next_step(&all, tenant, thread, now)?;
        let is_asked = match step {
            NextStep::Join => {
                if let Some(question) = all.get(tenant).filter(|_| questions.is_look_due(tenant, now)) {
                    let (bot, question) = (bot.clone(), question.clone());
                    let (conversation, tenant) = (conversation.clone(), tenant.clone());
                    self.spawn(async move { ask_again_if_gone(bot, question, conversation, tenant).await });
                }
                true
            }
            NextStep::Send => questions.with(tenant, |open| open.is_sending),
            NextStep::Ask => false,
        };
        // A sign-in that the owner sees is not asked for a second time.
        let sees_sign_in = bot.open_messages.follows_link(tenant) || bot.held_prompts.has(tenant, now);
        if is_asked || sees_sign_in {
            return Ok(());
        }
        if questions.is_unreachable(tenant, now) {
            return Err(OwnerRefusal::Unreachable);
        }
        let earlier = all.get(tenant).cloned();
        let (question, replaced) = match (step, earlier) {
            (NextStep::Send, Some(question)) => (question, None),
            (_, earlier) => {
                let seen = match bot.broker.session(tenant).await {
                    Ok(session) => session.map(|session| session.lineage),
                    Err(error) => {
                        warn!(%tenant, %error, "cannot read a session, so its owner is not asked to sign in");
                        return Ok(());
                    }
                };
                (Question::new(thread, bot.agent_title(conversation), now, seen), earlier)
            }
        };
        let recorded = bot.conversations.change_questions(|all| {
            question::record(all, tenant.clone(), question.clone(), now);
        });
        if let Err(error) = recorded.await {
            error!(%tenant, %error, "cannot record a question, so the owner is not asked to sign in");
            return Ok(());
        }
        questions.with(tenant, |open| open.is_sending = true);
        let (task, tenant) = (bot.clone(), tenant.clone());
        bot.spawn(async move { send(&task, &tenant, question, replaced).await });
        Ok(())
    }
}

/// Asks in another thread if that of a question was deleted: its owner cannot answer it there.
async fn ask_again_if_gone(bot: BotHandle, question: Question, conversation: Conversation, tenant: Tenant) {
    let Some((channel, _)) = question.message else { return };
    match bot.rest.channel(channel).await {
        Err(error) if error.is_deleted_channel() => {}
        Err(error) => return debug!(%channel, %error, "cannot look for the thread of a question"),
        Ok(_) => return,
    }
    let mut is_open = false;
    let removed = bot.conversations.change_questions(|all| {
        let current = all.get(&tenant);
        is_open = current.is_some_and(|one| one.sign_in == question.sign_in && one.refused.is_none());
        if is_open {
            all.remove(&tenant);
        }
    });
    if let Err(error) = removed.await {
        return warn!(%tenant, %error, "cannot record that the thread of a question is gone");
    }
    // It was answered meanwhile.
    if !is_open {
        return;
    }
    info!(%tenant, thread = %channel, "the thread of a question was deleted, so its owner is asked in another one");
    if let Err(refusal) = bot.clone().ask_if_due(&conversation, &tenant).await {
        bot.questions.end(&tenant, refusal);
    }
}

// === the message ===

/// Sends the message of a question, in a task of its own: a request that leaves does not cancel it.
async fn send(bot: &BotHandle, tenant: &Tenant, question: Question, replaced: Option<Question>) {
    let delivered = tokio::select! {
        delivered = deliver(bot, tenant, &question) => delivered,
        // The record is not sent, so the next request after the restart sends it.
        () = bot.shutdown.cancelled() => return,
    };
    let mut is_current = false;
    let message = delivered.as_ref().ok().copied().flatten();
    let recorded = bot.conversations.change_questions(|all| {
        let current = all.get_mut(tenant).filter(|one| one.sign_in == question.sign_in);
        is_current = current.is_some();
        match (&delivered, current) {
            (Ok(_), Some(one)) => (one.is_sent, one.message) = (true, message),
            (Err(_), Some(_)) => drop(all.remove(tenant)),
            (_, None) => {}
        }
    });
    if let Err(error) = recorded.await {
        warn!(%tenant, %error, "cannot record that a question was sent, so it may be sent again after a restart");
    }
    bot.questions.with(tenant, |open| open.is_sending = false);
    match delivered {
        Ok(_) => {
            info!(%tenant, conversation = %question.conversation, "asked an owner to sign in for an agent");
            if let Some(replaced) = replaced {
                edit(bot, &replaced, &question_text::replaced(tenant, &replaced)).await;
            }
            // The sign-in came while the message was sent.
            if !is_current {
                let question = Question { message, ..question };
                edit(bot, &question, &question_text::answered(tenant, &question)).await;
            }
        }
        // The request waits on, and the next one asks again.
        Err(error) if error.is_temporary() => {
            warn!(%tenant, %error, "cannot ask an owner to sign in while Discord is out of order");
        }
        Err(error) => {
            info!(%tenant, %error, "cannot ask an owner to sign in: no message reaches them");
            bot.questions.end(tenant, OwnerRefusal::Unreachable);
            let until = bot.clock.now().saturating_add(UNREACHABLE_FOR);
            bot.questions.with(tenant, |open| open.unreachable_until = Some(until));
        }
    }
}

/// Sends the message to the thread, which is opened again if it is archived. Where the bot cannot write,
/// the owner gets it by direct message, else with the newest interaction token. Returns the channel and
/// the id of a message that can be edited.
async fn deliver(
    bot: &Bot,
    tenant: &Tenant,
    question: &Question,
) -> Result<Option<(Snowflake, Snowflake)>, RestError> {
    let (owner, thread) = (owner_of(tenant), question.conversation);
    let in_thread = async {
        turn::reopened(bot, thread).await?;
        bot.rest.send(thread, &question_text::asking(tenant, owner, question, None)).await
    };
    let error = match in_thread.await {
        Ok(id) => return Ok(Some((thread, id))),
        Err(error) if error.is_temporary() => return Err(error),
        Err(error) => error,
    };
    debug!(%thread, %error, "cannot ask in a thread, so its owner is asked outside it");
    let elsewhere = question_text::asking(tenant, owner, question, Some(thread));
    let direct = async {
        let channel = bot.rest.direct_channel(owner).await?;
        Ok::<_, RestError>((channel, bot.rest.send(channel, &elsewhere).await?))
    };
    let error = match direct.await {
        Ok(message) => return Ok(Some(message)),
        Err(error) => error,
    };
    match bot.tokens.newest(owner) {
        Some(token) => bot.rest.followup(&token, &elsewhere).await.map(|()| None),
        None => Err(error),
    }
}

/// Writes the outcome of a question into its message.
async fn edit(bot: &Bot, question: &Question, message: &Message) {
    let Some((channel, id)) = question.message else { return };
    if let Err(error) = bot.rest.edit(channel, id, message).await {
        info!(%channel, %error, "cannot show the outcome of a question to an owner");
    }
}

/// The user whose question it is. A question about another tenant cannot be recorded.
fn owner_of(tenant: &Tenant) -> Snowflake {
    match tenant.principal {
        Principal::User(user) => user,
        Principal::Guild(_) | Principal::Local => Snowflake(0),
    }
}

// === the answers ===

/// Returns the action of a question's button, if this user may press it.
pub(super) fn pressed(bot: &Bot, custom_id: &str, user: Snowflake) -> Result<Action, PressError> {
    let (tenant, question) = bot.conversations.question_of(custom_id).ok_or(PressError::Unknown)?;
    if tenant.principal != Principal::User(user) {
        return Err(PressError::OtherUser);
    }
    if question.sign_in == custom_id {
        return Ok(Action::SignIn(tenant));
    }
    Ok(Action::DeclineSignIn(tenant))
}

/// The press of "Decline".
pub(super) async fn decline(bot: &Bot, interaction: &Interaction, tenant: &Tenant) {
    match refuse(bot, tenant, false).await {
        Ok(Some((question, refused))) => {
            let message = question_text::refused(tenant, &question, refused);
            bot.respond(interaction, &Response::Update(message)).await;
        }
        Ok(None) => bot.reply(interaction, "This question is already answered.").await,
        Err(error) => {
            let message = internal_error("record a refusal", &error);
            bot.reply(interaction, message.content).await;
        }
    }
}

/// Records a refusal, and ends the requests that wait for the question. Returns `None` if no question is
/// open.
async fn refuse(
    bot: &Bot,
    tenant: &Tenant,
    by_provider: bool,
) -> std::io::Result<Option<(Question, Refused)>> {
    let refused = Refused { at: bot.clock.now(), by_provider };
    let mut found = None;
    let recorded = bot.conversations.change_questions(|all| {
        let open = all.get_mut(tenant).filter(|question| question.refused.is_none());
        found = open.map(|question| {
            question.refused = Some(refused);
            question.clone()
        });
    });
    recorded.await?;
    let Some(question) = found else { return Ok(None) };
    info!(%tenant, by_provider, "a sign-in for an agent was refused");
    bot.questions.end(tenant, refused.error());
    Ok(Some((question, refused)))
}

/// Follows the questions to their answers. Runs until the bot shuts down.
pub(super) async fn run(bot: BotHandle) {
    let mut events = bot.broker.events();
    let mut changes = bot.broker.changes();
    loop {
        tokio::select! {
            biased;
            () = bot.shutdown.cancelled() => return,
            event = events.recv() => match event {
                Ok(Event::Denied(tenant)) => denied(&bot, &tenant).await,
                // All else is in the store.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = changes.next() => {
                if let Err(error) = follow(&bot).await {
                    debug!(%error, "cannot compare the questions to owners with the store");
                }
            }
        }
    }
}

/// The access was denied at the provider.
async fn denied(bot: &Bot, tenant: &Tenant) {
    match refuse(bot, tenant, true).await {
        Ok(Some((question, refused))) => {
            edit(bot, &question, &question_text::refused(tenant, &question, refused)).await;
        }
        Ok(None) => {}
        Err(error) => error!(%tenant, %error, "cannot record that an access was denied"),
    }
}

/// Compares all questions with the store.
async fn follow(bot: &Bot) -> Result<(), StoreError> {
    for (tenant, question) in bot.conversations.questions() {
        if is_answered(bot, &tenant, &question).await? {
            conclude(bot, &tenant, &question).await;
        } else if question.refused.is_none()
            && bot.broker.denied_sign_in(&tenant).await?.is_some_and(|since| since >= question.asked_at)
        {
            denied(bot, &tenant).await;
        }
    }
    Ok(())
}

/// Whether the agents of a question get tokens now: by a new session of their owner, or by one of the
/// server that they share.
async fn is_answered(bot: &Bot, tenant: &Tenant, question: &Question) -> Result<bool, StoreError> {
    if bot.broker.has_login(tenant).await? {
        let lineage = bot.broker.session(tenant).await?.map(|session| session.lineage);
        if lineage.is_none() || lineage != question.seen {
            return Ok(true);
        }
    }
    let Some(record) = bot.conversations.get(question.conversation) else { return Ok(false) };
    let conversation = thread_conversation(bot, question.conversation, &record);
    let Some(guild) = conversation.shared_guild else { return Ok(false) };
    let shared = Tenant::new(tenant.provider.clone(), Principal::Guild(guild));
    if !bot.broker.has_login(&shared).await? {
        return Ok(false);
    }
    // A former member's agents do not get it.
    Ok(bot.rights.of(&conversation).await.is_ok_and(|standing| standing.shares))
}

async fn conclude(bot: &Bot, tenant: &Tenant, question: &Question) {
    let removed = bot.conversations.change_questions(|all| {
        if all.get(tenant).is_some_and(|one| one.sign_in == question.sign_in) {
            all.remove(tenant);
        }
    });
    if let Err(error) = removed.await {
        // The next change of the store, or the next start, tries it again.
        return warn!(%tenant, %error, "cannot record that a question is answered");
    }
    edit(bot, question, &question_text::answered(tenant, question)).await;
}
