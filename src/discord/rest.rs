//! All REST calls: paced and scrubbed. Their errors contain no URL, because URLs carry interaction
//! tokens.

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::json;
use serenity::{
    all::{
        ChannelId, ChannelType, Command, CreateAttachment, GuildId, InteractionId, Member, MessageId, UserId,
    },
    http::{Http, HttpError, LightMethod, Request, Route},
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    bounded_map::BoundedMap,
    retry::Tries,
    rights::{Application, Channel, Fact, Found, Guild},
    wire::{Message, Nonce, Response, shorten},
};
use crate::{
    ids::Snowflake,
    secret::{Fingerprint, Scrubber, Secret},
};

/// The pause between two requests: at most 40 a second, where Discord allows 50.
const PACE: Duration = Duration::from_millis(25);

/// How long a message is sent again while Discord is out of order.
const SEND_WITHIN: Duration = Duration::from_secs(2 * 60);
/// The number of answers to interactions whose newest edit is known.
const MAX_ANSWERS: usize = 10_000;
/// How long an edit of an answer is sent again. A newer version may follow soon, and an old one must
/// not replace it.
const EDIT_WITHIN: Duration = Duration::from_secs(8);

/// The error code for a missing permission, such as `CREATE_PRIVATE_THREADS`.
pub(super) const MISSING_PERMISSIONS: isize = 50013;
/// The error code for a channel that the bot cannot see.
pub(super) const MISSING_ACCESS: isize = 50001;

/// The error code for a message that was deleted.
const UNKNOWN_CHANNEL: isize = 10003;
const UNKNOWN_MESSAGE: isize = 10008;
/// The error codes for a thread that is archived or locked.
const THREAD_ARCHIVED: isize = 50083;
const THREAD_LOCKED: isize = 160_005;
/// The error code for a server with as many active threads as Discord allows.
const TOO_MANY_THREADS: isize = 160_006;

/// The token that answers an interaction. Discord accepts it for 15 minutes.
#[derive(Clone, Debug)]
pub(super) struct InteractionToken(pub(super) Secret);

/// A failed call, without anything secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestError {
    /// The HTTP status, if Discord answered.
    pub(super) status: Option<u16>,
    /// Discord's own error code, if the answer has one.
    pub(super) code: Option<isize>,
    /// Whether the request was sent and has no answer of Discord, so that it may have arrived.
    is_unanswered: bool,
    detail: String,
}

impl fmt::Display for RestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.code) {
            (Some(status), Some(code)) => write!(f, "HTTP {status}, code {code}: {}", self.detail),
            (Some(status), None) => write!(f, "HTTP {status}: {}", self.detail),
            _ => f.write_str(&self.detail),
        }
    }
}

impl RestError {
    /// Whether the same request may succeed later: Discord is out of order, cannot be reached, or
    /// asks for a pause.
    pub(super) fn is_temporary(&self) -> bool {
        self.is_unanswered
            || self.status.is_some_and(|status| status == 408 || status == 429 || status >= 500)
    }

    /// An error with this status, or of a connection that failed.
    #[cfg(test)]
    pub(super) fn for_tests(status: Option<u16>) -> Self {
        Self { status, code: None, is_unanswered: status.is_none(), detail: "a test's".to_owned() }
    }

    /// Whether the channel or thread was deleted.
    pub(super) fn is_deleted_channel(&self) -> bool {
        self.code == Some(UNKNOWN_CHANNEL)
    }

    /// Whether the message was deleted.
    pub(super) fn is_deleted_message(&self) -> bool {
        self.code == Some(UNKNOWN_MESSAGE)
    }

    /// Whether the thread is archived or locked.
    pub(super) fn is_closed_thread(&self) -> bool {
        matches!(self.code, Some(THREAD_ARCHIVED | THREAD_LOCKED))
    }

    /// Whether the server has as many active threads as Discord allows.
    pub(super) fn is_too_many_threads(&self) -> bool {
        self.code == Some(TOO_MANY_THREADS)
    }

    /// Whether the bot lacks a permission.
    pub(super) fn is_permission(&self) -> bool {
        matches!(self.code, Some(MISSING_PERMISSIONS | MISSING_ACCESS))
            || (self.status == Some(403) && !self.is_unanswered)
    }
}

impl From<serenity::Error> for RestError {
    fn from(error: serenity::Error) -> Self {
        use serenity::Error as E;
        let mut is_unanswered = matches!(error, E::Http(HttpError::Request(_)) | E::Json(_));
        let (status, code, detail) = match error {
            E::Http(HttpError::UnsuccessfulRequest(response)) => {
                let paths: Vec<_> =
                    response.error.errors.iter().map(|e| format!("{} {}", e.path, e.code)).collect();
                let detail = match (response.error.code, paths.is_empty()) {
                    (-1, _) => "the answer is not one of Discord's".to_owned(),
                    (_, true) => response.error.message,
                    (_, false) => format!("{} ({})", response.error.message, paths.join(", ")),
                };
                // A proxy or an edge refuses without Discord's JSON, for a while and for every request.
                is_unanswered =
                    response.error.code == -1 && matches!(response.status_code.as_u16(), 403 | 404);
                let code = Some(response.error.code).filter(|code| *code > 0);
                (Some(response.status_code.as_u16()), code, detail)
            }
            E::Http(HttpError::Request(error)) => (None, None, causes(&error.without_url())),
            E::Http(HttpError::InvalidHeader(_)) => {
                (None, None, "the token contains invalid characters".to_owned())
            }
            E::Http(_) => (None, None, "the request could not be built".to_owned()),
            E::Json(_) => (None, None, "the answer could not be read".to_owned()),
            E::Gateway(error) => (None, None, format!("gateway: {error}")),
            _ => (None, None, "the request failed".to_owned()),
        };
        Self { status, code, is_unanswered, detail }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    shorten(&text, 300)
}

/// A message that Discord has. Its text is that of the request that arrived first.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) id: Snowflake,
    pub(super) content: String,
}

/// The kind of a channel, its parent, and the state of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelInfo {
    pub(super) kind: ChannelType,
    pub(super) parent: Option<Snowflake>,
    pub(super) is_archived: bool,
    pub(super) is_locked: bool,
}

/// The REST API.
#[derive(Debug)]
pub(super) struct Rest {
    http: Arc<Http>,
    scrubber: Scrubber,
    next: Mutex<Instant>,
    /// The number of the newest edit of each answer to an interaction.
    edits: std::sync::Mutex<BoundedMap<Fingerprint, u64>>,
}

type Result<T> = std::result::Result<T, RestError>;

impl Rest {
    pub(super) fn new(http: Arc<Http>, scrubber: Scrubber) -> Self {
        let edits = std::sync::Mutex::new(BoundedMap::new(MAX_ANSWERS));
        Self { http, scrubber, next: Mutex::new(Instant::now()), edits }
    }

    /// Waits until the next request may be sent. Acknowledgements do not wait: they have three
    /// seconds and a limit of their own.
    async fn pace(&self) {
        let mut next = self.next.lock().await;
        let at = (*next).max(Instant::now());
        *next = at + PACE;
        drop(next);
        tokio::time::sleep_until(at).await;
    }

    fn clean(&self, message: &Message) -> Message {
        let mut clean = message.clone();
        clean.content = self.scrubber.clean(&clean.content);
        let scrub = |text: &mut String| *text = self.scrubber.clean(text);
        for embed in &mut clean.embeds {
            scrub(&mut embed.title);
            scrub(&mut embed.description);
            embed.fields.iter_mut().for_each(|field| {
                scrub(&mut field.name);
                scrub(&mut field.value);
            });
        }
        clean.labels().for_each(scrub);
        if let Some((_, text)) = &mut clean.file {
            scrub(text);
        }
        clean
    }

    /// Sends the first answer to an interaction.
    pub(super) async fn respond(&self, id: u64, token: &InteractionToken, response: &Response) -> Result<()> {
        let body = match response {
            Response::Message(message) => Response::Message(self.clean(message)).body(),
            Response::Update(message) => Response::Update(self.clean(message)).body(),
            other => other.body(),
        };
        let call = self.http.create_interaction_response(
            InteractionId::new(id),
            token.0.expose(),
            &body,
            Vec::new(),
        );
        Ok(call.await?)
    }

    /// Edits the first answer, also a deferred one. A failed edit is tried again for some seconds, unless
    /// a newer one has begun.
    pub(super) async fn edit_original(&self, token: &InteractionToken, message: &Message) -> Result<()> {
        let body = self.clean(message).for_edit();
        let answer = token.0.fingerprint();
        let number = self.begin_edit(&answer);
        let mut tries = Tries::within(EDIT_WITHIN);
        loop {
            if self.edits().get(&answer).is_some_and(|newest| *newest != number) {
                return Ok(());
            }
            self.pace().await;
            let call = self.http.edit_original_interaction_response(token.0.expose(), &body, Vec::new());
            let edited = call.await.map(drop).map_err(RestError::from);
            if !tries.again(edited.as_ref().is_err_and(RestError::is_temporary)).await {
                return edited;
            }
        }
    }

    /// Numbers an edit of an answer.
    fn begin_edit(&self, answer: &Fingerprint) -> u64 {
        let mut edits = self.edits();
        let number = edits.get(answer).map_or(1, |newest| newest + 1);
        edits.insert(answer.clone(), number);
        number
    }

    fn edits(&self) -> std::sync::MutexGuard<'_, BoundedMap<Fingerprint, u64>> {
        self.edits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one more answer to an interaction, visible to its user alone.
    pub(super) async fn followup(&self, token: &InteractionToken, message: &Message) -> Result<()> {
        self.pace().await;
        let body = self.clean(message).ephemeral();
        self.http.create_followup_message(token.0.expose(), &body, Vec::new()).await?;
        Ok(())
    }

    /// Sends a message to a channel, and tries again for a while. It appears once.
    pub(super) async fn send(&self, channel: Snowflake, message: &Message) -> Result<Snowflake> {
        let nonce = Nonce::new();
        let mut tries = Tries::within(SEND_WITHIN);
        loop {
            let sent = self.send_once(channel, message, &nonce).await.map(|sent| sent.id);
            if !tries.again(sent.as_ref().is_err_and(RestError::is_temporary)).await {
                return sent;
            }
        }
    }

    /// Sends a message to a channel. A failed request may have arrived. Then the same nonce makes
    /// Discord return that message instead of a second one, for some minutes.
    pub(super) async fn send_once(
        &self,
        channel: Snowflake,
        message: &Message,
        nonce: &Nonce,
    ) -> Result<Sent> {
        self.pace().await;
        let body = self.clean(message).with_nonce(nonce);
        let file = body.file.as_ref().map(|(name, text)| CreateAttachment::bytes(text.as_bytes(), *name));
        let sent =
            self.http.send_message(ChannelId::new(channel.0), file.into_iter().collect(), &body).await?;
        Ok(Sent { id: Snowflake(sent.id.get()), content: sent.content })
    }

    /// Edits a message of the bot.
    pub(super) async fn edit(&self, channel: Snowflake, id: Snowflake, message: &Message) -> Result<()> {
        self.pace().await;
        let (channel, id) = (ChannelId::new(channel.0), MessageId::new(id.0));
        self.http.edit_message(channel, id, &self.clean(message), Vec::new()).await?;
        Ok(())
    }

    /// Deletes a message.
    pub(super) async fn delete(&self, channel: Snowflake, id: Snowflake) -> Result<()> {
        self.pace().await;
        let (channel, id) = (ChannelId::new(channel.0), MessageId::new(id.0));
        Ok(self.http.delete_message(channel, id, None).await?)
    }

    /// Shows the typing indicator for about ten seconds.
    pub(super) async fn typing(&self, channel: Snowflake) -> Result<()> {
        self.pace().await;
        Ok(self.http.broadcast_typing(ChannelId::new(channel.0)).await?)
    }

    /// Creates a private thread to which only the bot can invite.
    pub(super) async fn create_private_thread(&self, channel: Snowflake, name: &str) -> Result<Snowflake> {
        self.pace().await;
        let name = self.scrubber.clean(name);
        let body = json!({"name": name, "type": 12, "invitable": false, "auto_archive_duration": 1440});
        let thread = self.http.create_thread(ChannelId::new(channel.0), &body, None).await?;
        Ok(Snowflake(thread.id.get()))
    }

    /// Opens an archived thread again. A locked one takes the permission Manage Threads.
    pub(super) async fn unarchive(&self, thread: Snowflake) -> Result<()> {
        self.pace().await;
        self.http.edit_channel(ChannelId::new(thread.0), &json!({"archived": false}), None).await?;
        Ok(())
    }

    /// Adds a user to a thread.
    pub(super) async fn add_to_thread(&self, thread: Snowflake, user: Snowflake) -> Result<()> {
        self.pace().await;
        let call = self.http.add_thread_channel_member(ChannelId::new(thread.0), UserId::new(user.0));
        Ok(call.await?)
    }

    /// Sends a direct message.
    pub(super) async fn direct(&self, user: Snowflake, message: &Message) -> Result<()> {
        let channel = self.direct_channel(user).await?;
        self.send(channel, message).await.map(|_| ())
    }

    /// Opens the channel for direct messages with a user.
    pub(super) async fn direct_channel(&self, user: Snowflake) -> Result<Snowflake> {
        self.pace().await;
        let body = json!({"recipient_id": user.to_string()});
        Ok(Snowflake(self.http.create_private_channel(&body).await?.id.get()))
    }

    /// Requests the kind of a channel.
    pub(super) async fn channel(&self, channel: Snowflake) -> Result<ChannelInfo> {
        self.pace().await;
        let found = self.http.get_channel(ChannelId::new(channel.0)).await?;
        Ok(match found.guild() {
            Some(channel) => ChannelInfo {
                kind: channel.kind,
                parent: channel.parent_id.map(|parent| Snowflake(parent.get())),
                is_archived: channel.thread_metadata.is_some_and(|thread| thread.archived),
                is_locked: channel.thread_metadata.is_some_and(|thread| thread.locked),
            },
            None => {
                ChannelInfo { kind: ChannelType::Private, parent: None, is_archived: false, is_locked: false }
            }
        })
    }

    /// Requests the owner of a server.
    pub(super) async fn guild_owner(&self, guild: Snowflake) -> Result<Snowflake> {
        self.pace().await;
        Ok(Snowflake(self.http.get_guild(GuildId::new(guild.0)).await?.owner_id.get()))
    }

    /// Returns the name of a server.
    pub(super) async fn guild_name(&self, guild: Snowflake) -> Result<String> {
        self.pace().await;
        Ok(self.http.get_guild(GuildId::new(guild.0)).await?.name)
    }

    /// Requests a fact that rights depend on. An object that the bot cannot see counts as absent.
    pub(super) async fn find(&self, fact: Fact) -> Result<Found> {
        self.pace().await;
        Ok(match fact {
            Fact::Application => Found::Application(application(&self.http).await?),
            Fact::Guild(id) => {
                let found = seen(self.http.get_guild(GuildId::new(id.0)).await)?;
                Found::Guild(id, found.as_ref().map(Guild::from))
            }
            Fact::Channel(id) => {
                let found = seen(self.http.get_channel(ChannelId::new(id.0)).await)?;
                Found::Channel(id, found.and_then(Channel::read))
            }
            Fact::Member(guild, user) => {
                let found = seen(self.http.get_member(GuildId::new(guild.0), UserId::new(user.0)).await)?;
                let roles = |member: Member| member.roles.iter().map(|role| Snowflake(role.get())).collect();
                Found::Member(guild, user, found.map(roles))
            }
        })
    }

    /// Registers the global commands, and removes all others.
    pub(super) async fn set_commands(&self, commands: &serde_json::Value) -> Result<Vec<Command>> {
        self.pace().await;
        Ok(self.http.create_global_commands(commands).await?)
    }
}

/// Requests the bot's application.
pub(super) async fn application(http: &Http) -> serenity::Result<Application> {
    http.fire(Request::new(Route::Oauth2ApplicationCurrent, LightMethod::Get)).await
}

/// Returns `None` for an object that does not exist or that the bot has no access to. Discord names
/// that with a code of its own. A refusal without one comes from a proxy, and proves nothing.
fn seen<T>(found: serenity::Result<T>) -> Result<Option<T>> {
    match found.map_err(RestError::from) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code.is_some() && matches!(error.status, Some(403 | 404)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_that_can_pass_is_temporary() {
        for passes in [Some(408), Some(429), Some(500), Some(502), Some(503), Some(520), None] {
            assert!(RestError::for_tests(passes).is_temporary(), "{passes:?}");
        }
        for stays in [400, 401, 403, 404, 413] {
            assert!(!RestError::for_tests(Some(stays)).is_temporary(), "{stays}");
        }
    }
}
