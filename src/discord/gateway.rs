//! The connection to Discord: the first requests, the gateway, and the orderly shutdown.
//!
//! serenity falls back to Discord's own gateway when it cannot get the address. Its rate limiter
//! sends to Discord's own REST base even if another one is set. With another base neither may
//! happen. So this module requests the address itself, and serenity connects to a relay that leads
//! there alone. The rate limiter is off, and that base enforces its own limits.

use std::{sync::Arc, time::Duration};

use serenity::{
    all::{Context, EventHandler, GatewayError, GatewayIntents, Interaction, Message, Ready, ResumedEvent},
    gateway::{ConnectionStage, ShardStageUpdateEvent},
    http::{Http, HttpBuilder},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use url::Url;

use super::{
    DiscordError, DiscordSettings,
    bot::{Bot, BotHandle, BotParts},
    commands,
    conversations::Conversations,
    dispatch, ended_notice, prompts,
    relay::Relay,
    rest::{Rest, RestError},
    scrub::Scrubber,
    session_events,
};
use crate::{
    agent::Workers,
    broker::Broker,
    ids::Snowflake,
    net::{Outward, Unreachable, is_loopback},
};

/// Discord's gateway, where its REST API does not name one.
const DISCORD_GATEWAY: &str = "wss://gateway.discord.gg/";

/// The longest time for one REST call.
const REST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time to close the gateway connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(6);
/// The longest time to finish running tasks after that.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// The interval of the warnings while the bot is not connected.
const WARN_EVERY: Duration = Duration::from_secs(30);
/// The number of attempts to register the commands.
const REGISTRATIONS: u32 = 3;

/// Runs the bot until `shutdown`. Without `workers` it signs users in and answers no prompts. It
/// never sends a secret that `scrubber` knows as live.
///
/// # Errors
/// The connection cannot be made, or Discord refuses it for good.
pub async fn run(
    settings: DiscordSettings,
    broker: Broker,
    workers: Option<Workers>,
    scrubber: Scrubber,
    shutdown: CancellationToken,
) -> Result<(), DiscordError> {
    let outward = Outward::from_environment().map_err(|error| no_tls(&settings, &error))?;
    let conversations = Conversations::load(settings.conversations.clone())?;
    let http = Arc::new(http(&settings, &outward)?);
    let stop = shutdown.child_token();
    let first_contact = first_contact(&settings, &outward, &http);
    let (own_id, gateway) = tokio::select! {
        contact = first_contact => contact?,
        () = stop.cancelled() => return Ok(()),
    };
    let relay =
        Relay::start(gateway, outward.clone(), settings.trust.clone()).await.map_err(DiscordError::Relay)?;
    let rest = Rest::new(http, scrubber.clone());
    register(&rest).await;
    let parts = BotParts { rest, own_id, conversations, scrubber };
    let bot = Arc::new(Bot::new(&settings, parts, broker, workers, stop.clone()));
    bot.spawn(session_events::run(bot.clone()));
    bot.spawn(ended_notice::run(bot.clone()));
    let result =
        stay_connected(&Connection { settings: &settings, outward: &outward, relay: &relay }, &bot).await;
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

fn http(settings: &DiscordSettings, outward: &Outward) -> Result<Http, DiscordError> {
    let client = outward
        .http_client(&settings.trust)
        .timeout(REST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| no_tls(settings, &error))?;
    let builder = HttpBuilder::new(settings.token.expose()).client(client);
    Ok(match &settings.api_base {
        Some(base) => builder.proxy(base.as_str()).ratelimiter_disabled(true).build(),
        None => builder.build(),
    })
}

fn no_tls(settings: &DiscordSettings, error: &dyn std::error::Error) -> DiscordError {
    DiscordError::Unreachable {
        address: settings.base().to_string(),
        detail: format!("cannot build an HTTP client ({error})"),
    }
}

/// Requests the bot's own user id and the address of the gateway.
async fn first_contact(
    settings: &DiscordSettings,
    outward: &Outward,
    http: &Http,
) -> Result<(Snowflake, Url), DiscordError> {
    let me = match http.get_current_user().await {
        Ok(me) => me,
        Err(error) => return Err(refused(settings, outward, error).await),
    };
    let application = match http.get_current_application_info().await {
        Ok(application) => application,
        Err(error) => return Err(refused(settings, outward, error).await),
    };
    http.set_application_id(application.id);
    info!(user = %me.id, name = %me.name, application = %application.id, "Discord accepts the token");
    let gateway = http.get_gateway().await.map_err(RestError::from);
    let gateway = match (&settings.api_base, gateway) {
        (Some(api_base), gateway) => {
            let no_gateway = |detail: String| DiscordError::NoGateway { api_base: api_base.clone(), detail };
            let gateway = gateway.map_err(|error| no_gateway(error.to_string()))?;
            gateway_address(&gateway.url).ok_or_else(|| {
                no_gateway("its answer is not a wss:// address, or ws:// on loopback".to_owned())
            })?
        }
        (None, gateway) => gateway
            .ok()
            .and_then(|gateway| gateway_address(&gateway.url))
            .unwrap_or_else(|| Url::parse(DISCORD_GATEWAY).expect("the constant is a URL")),
    };
    Ok((Snowflake(me.id.get()), gateway))
}

/// Parses the address of a gateway. The bot token is sent there, so it must use TLS or be on this
/// machine.
pub fn gateway_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (url.scheme() == "wss" || url.scheme() == "ws" && is_loopback(&url)).then_some(url)
}

/// Returns the reason of a failed first request. If Discord gave no answer, a second connection
/// finds the cause.
async fn refused(settings: &DiscordSettings, outward: &Outward, error: serenity::Error) -> DiscordError {
    let bad_token = matches!(&error, serenity::Error::Http(serenity::http::HttpError::InvalidHeader(_)));
    let error = RestError::from(error);
    if error.status == Some(401) || error.status.is_none() && bad_token {
        return DiscordError::TokenRefused;
    }
    let base = settings.base();
    let cause = match error.status {
        None => outward.open(&base, &settings.trust).await.err(),
        Some(_) => None,
    };
    let detail = cause.as_ref().map_or_else(|| error.to_string(), Unreachable::to_string);
    DiscordError::Unreachable { address: base.to_string(), detail }
}

/// Registers the commands. If that fails, the bot starts all the same, with the commands that are
/// already registered.
async fn register(rest: &Rest) {
    for attempt in 1..=REGISTRATIONS {
        match rest.set_commands(&commands::definitions()).await {
            Ok(all) => return info!(commands = all.len(), "registered the commands"),
            Err(error) => {
                error!(%error, attempt, "cannot register the commands; the earlier ones stay registered")
            }
        }
        if attempt < REGISTRATIONS {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}

/// The reason why a connection ended.
enum Disconnected {
    /// The bot shuts down.
    Shutdown,
    /// Discord refuses the Message Content intent.
    ContentRefused,
}

/// The parts that a connection needs.
struct Connection<'a> {
    settings: &'a DiscordSettings,
    outward: &'a Outward,
    relay: &'a Relay,
}

/// Stays connected, without message contents if Discord refuses them.
async fn stay_connected(connection: &Connection<'_>, bot: &BotHandle) -> Result<(), DiscordError> {
    let basic = GatewayIntents::GUILDS | GatewayIntents::GUILD_MESSAGES | GatewayIntents::DIRECT_MESSAGES;
    match connect(connection, bot, basic | GatewayIntents::MESSAGE_CONTENT).await? {
        Disconnected::Shutdown => return Ok(()),
        Disconnected::ContentRefused => {}
    }
    warn!(
        "Discord refuses the Message Content intent: users must mention the bot or use /ask for every prompt, also in their own threads. To change that, switch on Message Content Intent in the developer portal (Bot, Privileged Gateway Intents) and restart"
    );
    bot.set_reads_content(false);
    match connect(connection, bot, basic).await? {
        Disconnected::Shutdown => Ok(()),
        Disconnected::ContentRefused => Err(DiscordError::Intents(
            "even those that are not privileged. Check the application in the developer portal".to_owned(),
        )),
    }
}

async fn connect(
    connection: &Connection<'_>,
    bot: &BotHandle,
    intents: GatewayIntents,
) -> Result<Disconnected, DiscordError> {
    let Connection { settings, outward, relay } = *connection;
    let connected = watch::Sender::new(false);
    let warnings = warn_while_disconnected(connected.subscribe(), relay.trouble());
    let handler = Handler { bot: bot.clone(), connected };
    let builder = serenity::client::ClientBuilder::new_with_http(http(settings, outward)?, intents)
        .event_handler(handler);
    let mut client = builder.await.map_err(|error| unreachable(settings, error))?;
    // serenity has requested an address by itself. It connects to this one, also when it resumes.
    relay.address().clone_into(&mut *client.ws_url.lock().await);
    let shards = client.shard_manager.clone();
    let ended = tokio::select! {
        ended = client.start() => ended,
        () = warnings => Ok(()),
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
            address: settings.base().to_string(),
            detail: "the gateway connection ended".to_owned(),
        }),
    }
}

fn unreachable(settings: &DiscordSettings, error: serenity::Error) -> DiscordError {
    DiscordError::Unreachable {
        address: settings.base().to_string(),
        detail: RestError::from(error).to_string(),
    }
}

/// Logs a warning at intervals while the bot is not connected.
async fn warn_while_disconnected(
    mut connected: watch::Receiver<bool>,
    trouble: watch::Receiver<Option<Unreachable>>,
) {
    // The handler owns the sender. The loop ends when the handler is gone.
    while connected.wait_for(|connected| !connected).await.is_ok() {
        tokio::select! {
            _ = connected.wait_for(|connected| *connected) => {}
            () = tokio::time::sleep(WARN_EVERY) => {
                match trouble.borrow().as_ref() {
                    Some(cause) => warn!(%cause, "not connected to Discord's gateway; trying to connect"),
                    None => warn!("not connected to Discord's gateway; trying to connect"),
                }
            }
        }
    }
    std::future::pending().await
}

struct Handler {
    bot: Arc<Bot>,
    connected: watch::Sender<bool>,
}

#[serenity::async_trait]
impl EventHandler for Handler {
    async fn ready(&self, _: Context, ready: Ready) {
        self.connected.send_replace(true);
        info!(servers = ready.guilds.len(), "connected to Discord");
    }

    async fn resume(&self, _: Context, _: ResumedEvent) {
        self.connected.send_replace(true);
        info!("connected to Discord again; no event was missed");
    }

    async fn shard_stage_update(&self, _: Context, update: ShardStageUpdateEvent) {
        if update.new != ConnectionStage::Connected {
            self.connected.send_replace(false);
        }
    }

    async fn interaction_create(&self, _: Context, interaction: Interaction) {
        self.bot.handle(dispatch::handle(&self.bot, &interaction)).await;
    }

    async fn message(&self, _: Context, message: Message) {
        self.bot.handle(prompts::handle(&self.bot, &message)).await;
    }
}
