//! The connection to Discord: the first requests, the gateway, and the orderly shutdown.
//!
//! serenity falls back to Discord's own gateway when it cannot get the address. Its rate limiter
//! sends to Discord's own REST base even if another one is set. With another base neither may
//! happen. So this module requests the address itself and compares it with the one that serenity
//! uses. The rate limiter is off, and that base enforces its own limits.

use std::{sync::Arc, time::Duration};

use serenity::{
    all::{Context, EventHandler, GatewayError, GatewayIntents, Interaction, Message, Ready, ResumedEvent},
    gateway::{ConnectionStage, ShardStageUpdateEvent},
    http::{Http, HttpBuilder},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use url::{Host, Url};

use super::{
    DiscordError, DiscordSettings,
    bot::{Bot, BotHandle, BotParts},
    commands,
    conversations::Conversations,
    dispatch,
    link::{Knock, Link},
    prompts,
    rest::{Rest, RestError},
    retry::{Backoff, MAX_CONNECT_PAUSE},
    scrub::Scrubber,
    session_events, session_notice,
};
use crate::{agent::Workers, broker::Broker, ids::Snowflake};

/// The longest time for one REST call.
const REST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time to close the gateway connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(6);
/// The longest time to finish running tasks after that.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Runs the bot until `shutdown`. Without `workers` it signs users in and answers no prompts. It
/// never sends a secret that `scrubber` knows as live. `connected` follows the connection, which is
/// tried again for as long as Discord cannot be reached.
///
/// # Errors
/// Discord refuses the bot for good, or the settings are wrong: see [`DiscordError::is_final`].
pub async fn run(
    settings: DiscordSettings,
    broker: Broker,
    workers: Option<Workers>,
    scrubber: Scrubber,
    connected: watch::Sender<bool>,
    shutdown: CancellationToken,
) -> Result<(), DiscordError> {
    let conversations = Conversations::load(settings.conversations.clone())?;
    let (http, client) = http(&settings)?;
    let http = Arc::new(http);
    let (link, knock) = (Link::new(connected), Knock::new(&settings, client)?);
    let stop = shutdown.child_token();
    let Some((own_id, gateway)) = first_contact_at_last(&settings, &http, &link, &knock, &stop).await? else {
        return Ok(());
    };
    let rest = Rest::new(http, scrubber.clone());
    let parts = BotParts { rest, own_id, conversations, scrubber };
    let bot = Arc::new(Bot::new(&settings, parts, broker, workers, stop.clone()));
    bot.spawn(session_events::run(bot.clone()));
    bot.spawn(session_notice::run(bot.clone()));
    bot.spawn(register(bot.clone()));
    let result = tokio::select! {
        result = stay_connected(&settings, &bot, &gateway, &link, &knock) => result,
        () = link.watch() => Ok(()),
    };
    stop.cancel();
    bot.tasks.close();
    if tokio::time::timeout(DRAIN_WITHIN, bot.tasks.wait()).await.is_err() {
        warn!(
            "some answers on Discord are left unfinished, because they took longer than {} s to end",
            DRAIN_WITHIN.as_secs()
        );
    }
    result
}

/// Returns serenity's REST client, and the HTTP client below it.
fn http(settings: &DiscordSettings) -> Result<(Http, reqwest::Client), DiscordError> {
    let base = settings.api_base.as_ref();
    let on_loopback = base.is_some_and(|base| match base.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    });
    let mut client = reqwest::Client::builder()
        .use_rustls_tls()
        .timeout(REST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    if on_loopback {
        client = client.no_proxy();
    }
    let client = client.build().map_err(|error| DiscordError::Unreachable {
        address: address(settings),
        detail: format!("cannot build an HTTP client ({error})"),
    })?;
    let builder = HttpBuilder::new(settings.token.expose()).client(client.clone());
    let http = match base {
        Some(base) => builder.proxy(base.as_str()).ratelimiter_disabled(true).build(),
        None => builder.build(),
    };
    Ok((http, client))
}

fn address(settings: &DiscordSettings) -> String {
    settings.api_base.as_ref().map_or_else(|| "https://discord.com".to_owned(), Url::to_string)
}

/// Requests the bot's own user id, and the gateway address if another REST base is set.
async fn first_contact(
    settings: &DiscordSettings,
    http: &Http,
) -> Result<(Snowflake, Option<String>), DiscordError> {
    let refused = |error: serenity::Error| {
        let bad_token = matches!(&error, serenity::Error::Http(serenity::http::HttpError::InvalidHeader(_)));
        let error = RestError::from(error);
        match error.status {
            Some(401) => DiscordError::TokenRefused,
            None if bad_token => DiscordError::TokenRefused,
            _ => DiscordError::Unreachable { address: address(settings), detail: error.to_string() },
        }
    };
    let me = http.get_current_user().await.map_err(refused)?;
    let application = http.get_current_application_info().await.map_err(refused)?;
    http.set_application_id(application.id);
    info!(user = %me.id, name = %me.name, application = %application.id, "Discord accepts the token");
    let Some(api_base) = &settings.api_base else { return Ok((Snowflake(me.id.get()), None)) };
    let no_gateway = |detail: String| DiscordError::NoGateway { api_base: api_base.clone(), detail };
    let gateway = match http.get_gateway().await.map_err(RestError::from) {
        Ok(gateway) => gateway.url,
        Err(error) if error.is_temporary() => {
            let detail = format!("its gateway's address: {error}");
            return Err(DiscordError::Unreachable { address: address(settings), detail });
        }
        Err(error) => return Err(no_gateway(error.to_string())),
    };
    match Url::parse(&gateway) {
        Ok(url) if matches!(url.scheme(), "ws" | "wss") => Ok((Snowflake(me.id.get()), Some(gateway))),
        _ => Err(no_gateway("its answer is not a WebSocket address".to_owned())),
    }
}

/// Makes the first contact, however long Discord is away. Returns `None` at `stop`.
async fn first_contact_at_last(
    settings: &DiscordSettings,
    http: &Http,
    link: &Link,
    knock: &Knock,
    stop: &CancellationToken,
) -> Result<Option<(Snowflake, Option<String>)>, DiscordError> {
    let mut attempts = link.attempts(knock, stop);
    while attempts.next().await? {
        tokio::select! {
            contact = first_contact(settings, http) => match contact {
                Ok(contact) => return Ok(Some(contact)),
                Err(error) => attempts.failed(error)?,
            },
            () = stop.cancelled() => return Ok(None),
        }
    }
    Ok(None)
}

/// Registers the commands. While that fails, the bot runs with the commands that are already
/// registered, and tries again.
async fn register(bot: BotHandle) {
    let registering = async {
        let mut backoff = Backoff::up_to(MAX_CONNECT_PAUSE);
        let mut is_reported = false;
        loop {
            match bot.rest.set_commands(&commands::definitions()).await {
                Ok(all) => return info!(commands = all.len(), "registered the commands"),
                Err(error) if !std::mem::replace(&mut is_reported, true) => {
                    error!(%error, "cannot register the commands; the earlier ones stay registered, and the bot tries again");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.pause(None)).await;
        }
    };
    tokio::select! {
        () = registering => {}
        () = bot.shutdown.cancelled() => {}
    }
}

/// The reason why a connection ended.
enum Disconnected {
    /// The bot shuts down.
    Shutdown,
    /// Discord refuses the Message Content intent.
    ContentRefused,
}

/// Stays connected until the bot shuts down, however often the connection fails.
async fn stay_connected(
    settings: &DiscordSettings,
    bot: &BotHandle,
    gateway: &Option<String>,
    link: &Link,
    knock: &Knock,
) -> Result<(), DiscordError> {
    let mut attempts = link.attempts(knock, &bot.shutdown);
    while attempts.next().await? {
        match connect_as_allowed(settings, bot, gateway, link).await {
            Ok(()) => break,
            Err(error) => attempts.failed(error)?,
        }
    }
    Ok(())
}

/// Connects, without message contents if Discord refuses them. Returns when the bot shuts down.
async fn connect_as_allowed(
    settings: &DiscordSettings,
    bot: &BotHandle,
    gateway: &Option<String>,
    link: &Link,
) -> Result<(), DiscordError> {
    let basic = GatewayIntents::GUILDS | GatewayIntents::GUILD_MESSAGES | GatewayIntents::DIRECT_MESSAGES;
    if bot.reads_content() {
        match connect(settings, bot, gateway, link, basic | GatewayIntents::MESSAGE_CONTENT).await? {
            Disconnected::Shutdown => return Ok(()),
            Disconnected::ContentRefused => {}
        }
        warn!(
            "Discord refuses the Message Content intent: users must mention the bot or use /ask for every prompt, also in their own threads. To change that, switch on Message Content Intent in the developer portal (Bot, Privileged Gateway Intents) and restart"
        );
        bot.set_reads_content(false);
    }
    match connect(settings, bot, gateway, link, basic).await? {
        Disconnected::Shutdown => Ok(()),
        Disconnected::ContentRefused => Err(DiscordError::Intents(
            "even those that are not privileged. Check the application in the developer portal".to_owned(),
        )),
    }
}

async fn connect(
    settings: &DiscordSettings,
    bot: &BotHandle,
    gateway: &Option<String>,
    link: &Link,
    intents: GatewayIntents,
) -> Result<Disconnected, DiscordError> {
    if bot.shutdown.is_cancelled() {
        return Ok(Disconnected::Shutdown);
    }
    let handler = Handler { bot: bot.clone(), link: link.clone() };
    let (http, _) = http(settings)?;
    let builder = serenity::client::ClientBuilder::new_with_http(http, intents).event_handler(handler);
    let mut client = builder.await.map_err(|error| unreachable(settings, error))?;
    if let (Some(gateway), Some(api_base)) = (gateway, &settings.api_base) {
        let used = client.ws_url.lock().await.clone();
        if used != *gateway {
            // It is out of order: threadkey does not fall back to Discord's own.
            return Err(DiscordError::Unreachable {
                address: api_base.to_string(),
                detail: "it named a gateway at first and later did not".to_owned(),
            });
        }
    }
    let shards = client.shard_manager.clone();
    let ended = tokio::select! {
        ended = client.start() => ended,
        () = bot.shutdown.cancelled() => {
            if tokio::time::timeout(CLOSE_WITHIN, shards.shutdown_all()).await.is_err() {
                warn!("the gateway connection did not close in time");
            }
            return Ok(Disconnected::Shutdown);
        }
    };
    match ended {
        Err(serenity::Error::Gateway(GatewayError::InvalidAuthentication)) => Err(DiscordError::TokenRefused),
        Err(serenity::Error::Gateway(GatewayError::DisallowedGatewayIntents)) => {
            // The runner of this shard has already ended and cannot answer, so the shutdown of the
            // others is not awaited.
            tokio::spawn(async move { shards.shutdown_all().await });
            Ok(Disconnected::ContentRefused)
        }
        Err(serenity::Error::Gateway(GatewayError::InvalidGatewayIntents)) => {
            Err(DiscordError::Intents("it does not know them. Update threadkey".to_owned()))
        }
        Err(error) => Err(unreachable(settings, error)),
        Ok(()) => Err(DiscordError::Unreachable {
            address: address(settings),
            detail: "the gateway connection ended".to_owned(),
        }),
    }
}

fn unreachable(settings: &DiscordSettings, error: serenity::Error) -> DiscordError {
    DiscordError::Unreachable { address: address(settings), detail: RestError::from(error).to_string() }
}

struct Handler {
    bot: Arc<Bot>,
    link: Link,
}

#[serenity::async_trait]
impl EventHandler for Handler {
    async fn ready(&self, _: Context, ready: Ready) {
        self.link.up();
        info!(servers = ready.guilds.len(), "connected to Discord");
    }

    async fn resume(&self, _: Context, _: ResumedEvent) {
        self.link.up();
        info!("connected to Discord again; no event was missed");
    }

    async fn shard_stage_update(&self, _: Context, update: ShardStageUpdateEvent) {
        if update.new != ConnectionStage::Connected {
            self.link.down();
        }
    }

    async fn interaction_create(&self, _: Context, interaction: Interaction) {
        self.bot.handle(dispatch::handle(&self.bot, &interaction)).await;
    }

    async fn message(&self, _: Context, message: Message) {
        self.bot.handle(prompts::handle(&self.bot, &message)).await;
    }
}
