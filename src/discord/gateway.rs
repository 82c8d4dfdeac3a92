//! Being on Discord: the first contact, the gateway, and the orderly end.
//!
//! serenity falls back to Discord's own gateway when it cannot learn the address, and its rate limiter sends to
//! Discord's own REST base whatever base is set. With another base neither may happen: the address is asked for here and
//! compared with what serenity took, and its rate limiter is off, so that limits are that base's own to keep.

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
    bot::{Bot, Made, Shared},
    commands,
    conversations::Conversations,
    dispatch, follow, messages, notify,
    rest::{Rest, RestError},
    scrub::Scrubber,
};
use crate::{agent::Workers, broker::Broker, ids::Snowflake};

/// One REST call may take that long.
const REST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the shard gets to say goodbye, and then what is under way to be finished.
const GOODBYE: Duration = Duration::from_secs(6);
const DRAIN: Duration = Duration::from_secs(10);
/// While there is no connection, that is said so often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);
/// How often the registration of the commands is tried.
const REGISTRATIONS: u32 = 3;

/// Is on Discord until `shutdown`. Without `workers` it signs people in and answers no prompts. Nothing that `scrubber` knows
/// as a live secret is ever sent.
///
/// # Errors
/// When the connection cannot be made or is refused for good.
pub async fn run(
    settings: DiscordSettings,
    broker: Broker,
    workers: Option<Workers>,
    scrubber: Scrubber,
    shutdown: CancellationToken,
) -> Result<(), DiscordError> {
    let conversations = Conversations::load(settings.conversations.clone())?;
    let http = Arc::new(http(&settings)?);
    let stop = shutdown.child_token();
    let contact = first_contact(&settings, &http);
    let (me, gateway) = tokio::select! {
        contact = contact => contact?,
        () = stop.cancelled() => return Ok(()),
    };
    let rest = Rest::new(http, scrubber.clone());
    register(&rest).await;
    let made = Made { rest, me, conversations, scrubber };
    let bot = Arc::new(Bot::new(&settings, made, broker, workers, stop.clone()));
    bot.spawn(follow::follow(bot.clone()));
    bot.spawn(notify::notify(bot.clone()));
    let result = stay(&settings, &bot, &gateway).await;
    stop.cancel();
    bot.tasks.close();
    if tokio::time::timeout(DRAIN, bot.tasks.wait()).await.is_err() {
        warn!("some answers on Discord were still under way and are left unfinished");
    }
    result
}

fn http(settings: &DiscordSettings) -> Result<Http, DiscordError> {
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
        detail: format!("no HTTP client can be built ({error})"),
    })?;
    let builder = HttpBuilder::new(settings.token.expose()).client(client);
    Ok(match base {
        Some(base) => builder.proxy(base.as_str()).ratelimiter_disabled(true).build(),
        None => builder.build(),
    })
}

fn address(settings: &DiscordSettings) -> String {
    settings.api_base.as_ref().map_or_else(|| "https://discord.com".to_owned(), Url::to_string)
}

/// Who we are, and where the gateway is.
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
    info!(user = %me.id, name = %me.name, application = %application.id, "Discord takes the token");
    let Some(api_base) = &settings.api_base else { return Ok((Snowflake(me.id.get()), None)) };
    let no_gateway = |detail: String| DiscordError::NoGateway { api_base: api_base.clone(), detail };
    let told = http.get_gateway().await.map_err(|error| no_gateway(RestError::from(error).to_string()))?.url;
    match Url::parse(&told) {
        Ok(url) if matches!(url.scheme(), "ws" | "wss") => Ok((Snowflake(me.id.get()), Some(told))),
        _ => Err(no_gateway("its answer is not a WebSocket address".to_owned())),
    }
}

/// Registers the commands. Without that the earlier ones stay, so it is no reason not to start.
async fn register(rest: &Rest) {
    for attempt in 1..=REGISTRATIONS {
        match rest.set_commands(&commands::definitions()).await {
            Ok(all) => return info!(commands = all.len(), "the commands are registered"),
            Err(error) => {
                error!(%error, attempt, "the commands could not be registered; those of before stay")
            }
        }
        if attempt < REGISTRATIONS {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}

/// How a connection came to its end.
enum End {
    /// We were asked to leave.
    Asked,
    /// Discord does not give us message contents.
    NoContent,
}

/// Stays connected, if need be without message contents.
async fn stay(
    settings: &DiscordSettings,
    bot: &Shared,
    gateway: &Option<String>,
) -> Result<(), DiscordError> {
    let basic = GatewayIntents::GUILDS | GatewayIntents::GUILD_MESSAGES | GatewayIntents::DIRECT_MESSAGES;
    match connect(settings, bot, gateway, basic | GatewayIntents::MESSAGE_CONTENT).await? {
        End::Asked => return Ok(()),
        End::NoContent => {}
    }
    warn!(
        "Discord refuses the Message Content intent: people have to mention the bot or use /ask for every prompt, also in their own threads. To change that, switch on Message Content Intent in the developer portal (Bot, Privileged Gateway Intents) and restart"
    );
    bot.set_reads_content(false);
    match connect(settings, bot, gateway, basic).await? {
        End::Asked => Ok(()),
        End::NoContent => Err(DiscordError::Intents(
            "even those that are not privileged; check the application in the developer portal".to_owned(),
        )),
    }
}

async fn connect(
    settings: &DiscordSettings,
    bot: &Shared,
    gateway: &Option<String>,
    intents: GatewayIntents,
) -> Result<End, DiscordError> {
    let connected = watch::Sender::new(false);
    let complaints = complain(connected.subscribe());
    let handler = Handler { bot: bot.clone(), connected };
    let builder =
        serenity::client::ClientBuilder::new_with_http(http(settings)?, intents).event_handler(handler);
    let mut client = builder.await.map_err(|error| unreachable(settings, error))?;
    if let (Some(told), Some(api_base)) = (gateway, &settings.api_base) {
        let taken = client.ws_url.lock().await.clone();
        if taken != *told {
            return Err(DiscordError::NoGateway {
                api_base: api_base.clone(),
                detail: "it named one and then no longer did".to_owned(),
            });
        }
    }
    let shards = client.shard_manager.clone();
    let ended = tokio::select! {
        ended = client.start() => ended,
        () = complaints => Ok(()),
        () = bot.shutdown.cancelled() => {
            if tokio::time::timeout(GOODBYE, shards.shutdown_all()).await.is_err() {
                warn!("the gateway did not say goodbye");
            }
            return Ok(End::Asked);
        }
    };
    match ended {
        Err(serenity::Error::Gateway(GatewayError::InvalidAuthentication)) => Err(DiscordError::TokenRefused),
        Err(serenity::Error::Gateway(GatewayError::DisallowedGatewayIntents)) => {
            // Its runner is gone already and cannot answer, so nobody waits for the rest to end.
            tokio::spawn(async move { shards.shutdown_all().await });
            Ok(End::NoContent)
        }
        Err(serenity::Error::Gateway(GatewayError::InvalidGatewayIntents)) => {
            Err(DiscordError::Intents("it does not know them; update threadkey".to_owned()))
        }
        Err(error) => Err(unreachable(settings, error)),
        Ok(()) => Err(DiscordError::Unreachable {
            address: address(settings),
            detail: "the gateway connection came to its end".to_owned(),
        }),
    }
}

fn unreachable(settings: &DiscordSettings, error: serenity::Error) -> DiscordError {
    DiscordError::Unreachable { address: address(settings), detail: RestError::from(error).to_string() }
}

/// Says again and again that there is no connection, while there is none.
async fn complain(mut connected: watch::Receiver<bool>) {
    // The handler tells; without one there is nothing to complain of.
    while connected.wait_for(|connected| !connected).await.is_ok() {
        tokio::select! {
            _ = connected.wait_for(|connected| *connected) => {}
            () = tokio::time::sleep(COMPLAIN_EVERY) => {
                warn!("there is no connection to Discord's gateway; it is being tried");
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
        info!("connected to Discord again; nothing was missed");
    }

    async fn shard_stage_update(&self, _: Context, update: ShardStageUpdateEvent) {
        if update.new != ConnectionStage::Connected {
            self.connected.send_replace(false);
        }
    }

    async fn interaction_create(&self, _: Context, interaction: Interaction) {
        self.bot.handle(dispatch::interaction(&self.bot, &interaction)).await;
    }

    async fn message(&self, _: Context, message: Message) {
        self.bot.handle(messages::message(&self.bot, &message)).await;
    }
}
