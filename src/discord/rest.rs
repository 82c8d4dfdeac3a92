//! All REST calls: paced, scrubbed, and with errors that name no URL, because URLs carry interaction tokens.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::json;
use serenity::{
    all::{ChannelId, ChannelType, Command, GuildId, InteractionId, MessageId, UserId},
    http::{Http, HttpError},
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    scrub::Scrubber,
    wire::{Message, Response, shorten},
};
use crate::{ids::Snowflake, secret::Secret};

/// Between two requests: at most 40 a second, where Discord allows 50.
const PACE: Duration = Duration::from_millis(25);

/// `CREATE_PRIVATE_THREADS` and the like are missing.
pub(super) const MISSING_PERMISSIONS: isize = 50013;
/// The bot cannot see that channel.
pub(super) const MISSING_ACCESS: isize = 50001;

/// With it an interaction is answered, for 15 minutes.
#[derive(Clone, Debug)]
pub(super) struct InteractionToken(pub(super) Secret);

/// A call that went wrong, without anything secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestError {
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// Discord's own error code, if it gave one.
    pub(super) code: Option<isize>,
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
    /// Discord says that a permission is missing.
    pub(super) fn is_permission(&self) -> bool {
        matches!(self.code, Some(MISSING_PERMISSIONS | MISSING_ACCESS)) || self.status == Some(403)
    }
}

impl From<serenity::Error> for RestError {
    fn from(error: serenity::Error) -> Self {
        use serenity::Error as E;
        let (status, code, detail) = match error {
            E::Http(HttpError::UnsuccessfulRequest(response)) => {
                let paths: Vec<_> =
                    response.error.errors.iter().map(|e| format!("{} {}", e.path, e.code)).collect();
                let detail = match (response.error.code, paths.is_empty()) {
                    (-1, _) => "the answer is not one of Discord's".to_owned(),
                    (_, true) => response.error.message,
                    (_, false) => format!("{} ({})", response.error.message, paths.join(", ")),
                };
                let code = Some(response.error.code).filter(|code| *code > 0);
                (Some(response.status_code.as_u16()), code, detail)
            }
            E::Http(HttpError::Request(error)) => (None, None, causes(&error.without_url())),
            E::Http(HttpError::InvalidHeader(_)) => {
                (None, None, "the token holds characters that no token has".to_owned())
            }
            E::Http(_) => (None, None, "the request could not be built".to_owned()),
            E::Json(_) => (None, None, "the answer could not be read".to_owned()),
            E::Gateway(error) => (None, None, format!("gateway: {error}")),
            _ => (None, None, "the request failed".to_owned()),
        };
        Self { status, code, detail }
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

/// What a channel is to us.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelInfo {
    pub(super) kind: ChannelType,
    pub(super) parent: Option<Snowflake>,
}

/// The REST API.
#[derive(Debug)]
pub(super) struct Rest {
    http: Arc<Http>,
    scrubber: Scrubber,
    next: Mutex<Instant>,
}

type Result<T> = std::result::Result<T, RestError>;

impl Rest {
    pub(super) fn new(http: Arc<Http>, scrubber: Scrubber) -> Self {
        Self { http, scrubber, next: Mutex::new(Instant::now()) }
    }

    /// Waits for this request's turn. Acknowledgements do not wait: they have three seconds and a limit of their own.
    async fn turn(&self) {
        let mut next = self.next.lock().await;
        let at = (*next).max(Instant::now());
        *next = at + PACE;
        drop(next);
        tokio::time::sleep_until(at).await;
    }

    fn clean(&self, message: &Message) -> Message {
        let mut clean = message.clone();
        clean.content = self.scrubber.clean(&clean.content);
        for embed in &mut clean.embeds {
            embed.description = self.scrubber.clean(&embed.description);
            for field in &mut embed.fields {
                field.value = self.scrubber.clean(&field.value);
            }
        }
        clean
    }

    /// The first answer to an interaction.
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

    /// Changes the first answer, also one that was deferred. Tried again once, because it does no harm twice.
    pub(super) async fn edit_original(&self, token: &InteractionToken, message: &Message) -> Result<()> {
        let body = self.clean(message).for_edit();
        let mut last = Ok(());
        for attempt in 0..2 {
            tokio::time::sleep(Duration::from_secs(attempt)).await;
            self.turn().await;
            let call = self.http.edit_original_interaction_response(token.0.expose(), &body, Vec::new());
            last = call.await.map(|_| ()).map_err(RestError::from);
            match &last {
                Err(error) if error.status.is_none_or(|status| status >= 500) => {}
                _ => break,
            }
        }
        last
    }

    /// One more message for the person of an interaction, which they alone see.
    pub(super) async fn followup(&self, token: &InteractionToken, message: &Message) -> Result<()> {
        self.turn().await;
        let body = self.clean(message).ephemeral();
        self.http.create_followup_message(token.0.expose(), &body, Vec::new()).await?;
        Ok(())
    }

    /// A message in a channel.
    pub(super) async fn send(&self, channel: Snowflake, message: &Message) -> Result<Snowflake> {
        self.turn().await;
        let sent =
            self.http.send_message(ChannelId::new(channel.0), Vec::new(), &self.clean(message)).await?;
        Ok(Snowflake(sent.id.get()))
    }

    /// Replaces a message.
    pub(super) async fn edit(&self, channel: Snowflake, id: Snowflake, message: &Message) -> Result<()> {
        self.turn().await;
        let (channel, id) = (ChannelId::new(channel.0), MessageId::new(id.0));
        self.http.edit_message(channel, id, &self.clean(message), Vec::new()).await?;
        Ok(())
    }

    /// Shows that somebody is typing, for about ten seconds.
    pub(super) async fn typing(&self, channel: Snowflake) -> Result<()> {
        self.turn().await;
        Ok(self.http.broadcast_typing(ChannelId::new(channel.0)).await?)
    }

    /// A private thread to which only the bot can invite.
    pub(super) async fn create_private_thread(&self, channel: Snowflake, name: &str) -> Result<Snowflake> {
        self.turn().await;
        let body = json!({"name": name, "type": 12, "invitable": false, "auto_archive_duration": 1440});
        let thread = self.http.create_thread(ChannelId::new(channel.0), &body, None).await?;
        Ok(Snowflake(thread.id.get()))
    }

    /// Makes a person a member of a thread.
    pub(super) async fn add_to_thread(&self, thread: Snowflake, user: Snowflake) -> Result<()> {
        self.turn().await;
        let call = self.http.add_thread_channel_member(ChannelId::new(thread.0), UserId::new(user.0));
        Ok(call.await?)
    }

    /// A direct message.
    pub(super) async fn direct(&self, user: Snowflake, message: &Message) -> Result<()> {
        let channel = self.direct_channel(user).await?;
        self.send(channel, message).await.map(|_| ())
    }

    /// The channel for direct messages with a person.
    async fn direct_channel(&self, user: Snowflake) -> Result<Snowflake> {
        self.turn().await;
        let body = json!({"recipient_id": user.to_string()});
        Ok(Snowflake(self.http.create_private_channel(&body).await?.id.get()))
    }

    /// What a channel is.
    pub(super) async fn channel(&self, channel: Snowflake) -> Result<ChannelInfo> {
        self.turn().await;
        let found = self.http.get_channel(ChannelId::new(channel.0)).await?;
        Ok(match found.guild() {
            Some(channel) => ChannelInfo {
                kind: channel.kind,
                parent: channel.parent_id.map(|parent| Snowflake(parent.get())),
            },
            None => ChannelInfo { kind: ChannelType::Private, parent: None },
        })
    }

    /// Who owns a server.
    pub(super) async fn guild_owner(&self, guild: Snowflake) -> Result<Snowflake> {
        self.turn().await;
        Ok(Snowflake(self.http.get_guild(GuildId::new(guild.0)).await?.owner_id.get()))
    }

    /// Replaces all global commands.
    pub(super) async fn set_commands(&self, commands: &serde_json::Value) -> Result<Vec<Command>> {
        self.turn().await;
        Ok(self.http.create_global_commands(commands).await?)
    }
}
