//! The connection to Discord: the first requests, the gateway, and the orderly shutdown.
//!
//! serenity falls back to Discord's own gateway when it cannot get the address. Its rate limiter
//! sends to Discord's own REST base even if another one is set. With another base neither may
//! happen. So this module requests the address itself, and serenity connects to a relay that leads
//! there alone. The rate limiter is off, and that base enforces its own limits.

use std::{sync::Arc, time::Duration};

use serenity::{
    all::{
        Channel, Context, EventHandler, GatewayError, GatewayIntents, Guild, GuildChannel, GuildId,
        GuildMemberUpdateEvent, Interaction, Member, Message, PartialGuild, Ready, ResumedEvent, Role,
        RoleId, UnavailableGuild, User,
    },
    gateway::{ConnectionStage, ShardStageUpdateEvent},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    DiscordError, DiscordSettings,
    bot::{Bot, BotHandle, BotParts},
    commands,
    conversations::Conversations,
    dispatch, ended_rights,
    first_contact::{Contact, first_contact_at_last, http, http_client, no_tls},
    link::{Knock, Link},
    prompts,
    questions::{self, SignInQuestions},
    relay::Relay,
    rest::{Rest, RestError},
    retry::{Backoff, MAX_CONNECT_PAUSE},
    rights::{self, Application, Rights, RightsInWords, rights_in_words},
    session_events, session_notice, shared_logins,
};
use crate::{agent::Workers, broker::Broker, ids::Snowflake, net::Outward, secret::Scrubber};

/// The longest time to close the gateway connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(6);
/// The longest time to finish running tasks after that.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// The parts of the process that the bot works with.
pub struct BotDeps {
    /// The map of the settings' file.
    pub conversations: Arc<Conversations>,
    /// The sessions.
    pub broker: Broker,
    /// The agents. Without them the bot signs users in and answers no prompts.
    pub workers: Option<Workers>,
    /// The bot never sends a secret that this one knows.
    pub scrubber: Scrubber,
    /// The rights of users, which the bot feeds and the token API asks too.
    pub rights: Rights,
    /// The questions to owners, which the token API asks.
    pub questions: SignInQuestions,
}

/// Runs the bot until `shutdown`. `connected` follows the connection, which is tried again for as long
/// as Discord cannot be reached.
///
/// # Errors
/// Discord refuses the bot for good, or the settings are wrong: see [`DiscordError::is_final`].
pub async fn run(
    settings: DiscordSettings,
    deps: BotDeps,
    connected: watch::Sender<bool>,
    shutdown: CancellationToken,
) -> Result<(), DiscordError> {
    match Prepared::new(settings, deps, connected, shutdown).await? {
        Some(prepared) => prepared.run().await,
        None => Ok(()),
    }
}

/// A bot that Discord has accepted, before it connects to the gateway.
pub(super) struct Prepared {
    pub(super) bot: BotHandle,
    settings: DiscordSettings,
    client: reqwest::Client,
    relay: Relay,
    link: Link,
    knock: Knock,
    has_members_intent: bool,
}

impl Prepared {
    /// Makes the first contact, however long Discord is away. Returns `None` at the shutdown.
    pub(super) async fn new(
        settings: DiscordSettings,
        deps: BotDeps,
        connected: watch::Sender<bool>,
        shutdown: CancellationToken,
    ) -> Result<Option<Self>, DiscordError> {
        let BotDeps { conversations, broker, workers, scrubber, rights, questions } = deps;
        let outward = Outward::from_environment().map_err(|error| no_tls(&settings, &error))?;
        let client = http_client(&settings, &outward)?;
        let (link, knock) = (Link::new(connected), Knock::new(&settings, client.clone())?);
        let rest_client = Arc::new(http(&settings, client.clone()));
        let stop = shutdown.child_token();
        let contact =
            first_contact_at_last(&settings, &outward, &rest_client, (&link, &knock), &stop).await?;
        let Some(Contact { own_id, application, gateway }) = contact else { return Ok(None) };
        log_rights(&settings, &application);
        let relay =
            Relay::start(gateway, outward, settings.trust.clone()).await.map_err(DiscordError::Relay)?;
        let rest = Arc::new(Rest::new(rest_client, scrubber.clone()));
        let has_members_intent = application.has_members_intent();
        rights.connect(rest.clone(), application);
        let parts = BotParts { rest, rights, own_id, conversations, scrubber, questions };
        let bot = Arc::new(Bot::new(&settings, parts, broker, workers, stop));
        Ok(Some(Self { bot, settings, client, relay, link, knock, has_members_intent }))
    }

    /// Runs until the shutdown.
    pub(super) async fn run(self) -> Result<(), DiscordError> {
        let bot = &self.bot;
        bot.spawn(session_events::run(bot.clone()));
        bot.spawn(session_notice::run(bot.clone()));
        bot.questions.connect(bot);
        bot.spawn(questions::run(bot.clone()));
        bot.spawn(ended_rights::end_workers(bot.clone()));
        bot.spawn(shared_logins::run(bot.clone()));
        bot.spawn(register(bot.clone()));
        let connection = Connection {
            settings: &self.settings,
            client: &self.client,
            relay: &self.relay,
            link: &self.link,
            knock: &self.knock,
            has_members_intent: self.has_members_intent,
        };
        let result = tokio::select! {
            result = connection.stay_connected(bot) => result,
            () = self.link.watch(self.relay.trouble()) => Ok(()),
        };
        bot.shutdown.cancel();
        bot.tasks.close();
        if tokio::time::timeout(DRAIN_WITHIN, bot.tasks.wait()).await.is_err() {
            warn!(
                "some answers on Discord are left unfinished, because they took longer than {} s to end",
                DRAIN_WITHIN.as_secs()
            );
        }
        result
    }
}

/// Logs in plain words which users may use the bot, and where.
fn log_rights(settings: &DiscordSettings, application: &Application) {
    let RightsInWords { text, advice } = rights_in_words(settings, Some(application));
    info!("rights: {text}");
    if let Some(advice) = advice {
        warn!("rights: {advice}");
    }
    if !application.has_members_intent() {
        info!(
            "rights: a member who leaves or loses a role is noticed at the next token, after a minute at most. To end their agents at once, switch on Server Members Intent in the developer portal (Bot, Privileged Gateway Intents) and restart"
        );
    }
}

/// Registers the commands. While that fails, the bot runs with the commands that are already
/// registered, and tries again.
async fn register(bot: BotHandle) {
    let registering = async {
        let mut backoff = Backoff::up_to(MAX_CONNECT_PAUSE);
        let mut is_reported = false;
        loop {
            match bot.rest.set_commands(&commands::definitions(bot.agent_choice())).await {
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
    /// Discord refuses a privileged intent.
    IntentRefused,
}

/// The parts that a connection needs.
struct Connection<'a> {
    settings: &'a DiscordSettings,
    client: &'a reqwest::Client,
    relay: &'a Relay,
    link: &'a Link,
    knock: &'a Knock,
    /// The application is granted the intent GUILD_MEMBERS.
    has_members_intent: bool,
}

impl Connection<'_> {
    /// Stays connected until the bot shuts down, however often the connection fails.
    async fn stay_connected(&self, bot: &BotHandle) -> Result<(), DiscordError> {
        let mut attempts = self.link.attempts(self.knock, &bot.shutdown);
        while attempts.next().await? {
            match self.connect_as_allowed(bot).await {
                Ok(()) => break,
                Err(error) => attempts.failed(error)?,
            }
        }
        Ok(())
    }

    /// Connects, without the privileged intents that Discord refuses. Returns when the bot shuts down.
    async fn connect_as_allowed(&self, bot: &BotHandle) -> Result<(), DiscordError> {
        let mut basic = GatewayIntents::GUILDS
            | GatewayIntents::GUILD_MODERATION
            | GatewayIntents::GUILD_MESSAGES
            | GatewayIntents::DIRECT_MESSAGES;
        if self.has_members_intent {
            basic |= GatewayIntents::GUILD_MEMBERS;
        }
        if bot.reads_content() {
            match self.connect(bot, basic | GatewayIntents::MESSAGE_CONTENT).await? {
                Disconnected::Shutdown => return Ok(()),
                Disconnected::IntentRefused => {}
            }
            warn!(
                "Discord refuses the Message Content intent: users must mention the bot or use /ask for every prompt, also in their own threads. To change that, switch on Message Content Intent in the developer portal (Bot, Privileged Gateway Intents) and restart"
            );
            bot.set_reads_content(false);
        }
        match self.connect(bot, basic).await? {
            Disconnected::Shutdown => return Ok(()),
            Disconnected::IntentRefused if self.has_members_intent => {
                warn!(
                    "Discord refuses the Server Members intent, although it is switched on; members who leave are noticed at their next token"
                );
            }
            Disconnected::IntentRefused => return Err(refused()),
        }
        match self.connect(bot, basic - GatewayIntents::GUILD_MEMBERS).await? {
            Disconnected::Shutdown => Ok(()),
            Disconnected::IntentRefused => Err(refused()),
        }
    }

    async fn connect(&self, bot: &BotHandle, intents: GatewayIntents) -> Result<Disconnected, DiscordError> {
        if bot.shutdown.is_cancelled() {
            return Ok(Disconnected::Shutdown);
        }
        let handler = Handler { bot: bot.clone(), link: self.link.clone() };
        let http = http(self.settings, self.client.clone());
        let builder = serenity::client::ClientBuilder::new_with_http(http, intents).event_handler(handler);
        let mut client = builder.await.map_err(|error| self.failed(error))?;
        // serenity has requested an address by itself. It connects to this one, also when it resumes.
        self.relay.address().clone_into(&mut *client.ws_url.lock().await);
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
            Err(serenity::Error::Gateway(GatewayError::InvalidAuthentication)) => {
                Err(DiscordError::TokenRefused)
            }
            Err(serenity::Error::Gateway(GatewayError::DisallowedGatewayIntents)) => {
                // The runner of this shard has already ended and cannot answer, so the shutdown of
                // the others is not awaited.
                tokio::spawn(async move { shards.shutdown_all().await });
                Ok(Disconnected::IntentRefused)
            }
            Err(serenity::Error::Gateway(GatewayError::InvalidGatewayIntents)) => {
                Err(DiscordError::Intents("it does not know them. Update threadkey".to_owned()))
            }
            Err(error) => Err(self.failed(error)),
            Ok(()) => Err(self.unreachable("the gateway connection ended".to_owned())),
        }
    }

    fn failed(&self, error: serenity::Error) -> DiscordError {
        self.unreachable(RestError::from(error).to_string())
    }

    /// The failure of a connection. If the relay could not connect, its cause explains more than
    /// serenity's error.
    fn unreachable(&self, detail: String) -> DiscordError {
        let cause = self.relay.trouble().borrow().clone();
        DiscordError::Unreachable {
            address: self.settings.base().to_string(),
            detail: cause.unwrap_or(detail),
        }
    }
}

fn refused() -> DiscordError {
    DiscordError::Intents(
        "even those that are not privileged. Check the application in the developer portal".to_owned(),
    )
}

struct Handler {
    bot: Arc<Bot>,
    link: Link,
}

#[serenity::async_trait]
impl EventHandler for Handler {
    async fn ready(&self, _: Context, ready: Ready) {
        let guilds = ready.guilds.iter().map(|guild| Snowflake(guild.id.get())).collect();
        ended_rights::connected(&self.bot, &guilds).await;
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

    async fn guild_create(&self, _: Context, guild: Guild, _: Option<bool>) {
        let roles = guild.roles.keys().map(|role| Snowflake(role.get())).collect();
        ended_rights::guild_joined(&self.bot.rights, Snowflake(guild.id.get()), roles);
    }

    async fn guild_delete(&self, _: Context, guild: UnavailableGuild, _: Option<Guild>) {
        // A server that is out of order at Discord has not removed the bot.
        if !guild.unavailable {
            self.bot.handle(ended_rights::guild_left(&self.bot, Snowflake(guild.id.get()))).await;
        }
    }

    async fn guild_update(&self, _: Context, _: Option<Guild>, guild: PartialGuild) {
        self.bot.handle(ended_rights::guild_changed(&self.bot, Snowflake(guild.id.get()), None)).await;
    }

    async fn guild_role_update(&self, _: Context, _: Option<Role>, role: Role) {
        self.bot.handle(ended_rights::guild_changed(&self.bot, Snowflake(role.guild_id.get()), None)).await;
    }

    async fn guild_role_delete(&self, _: Context, guild: GuildId, role: RoleId, _: Option<Role>) {
        let role = Some(Snowflake(role.get()));
        self.bot.handle(ended_rights::guild_changed(&self.bot, Snowflake(guild.get()), role)).await;
    }

    async fn guild_member_removal(&self, _: Context, guild: GuildId, user: User, _: Option<Member>) {
        let left = ended_rights::member_left(&self.bot, Snowflake(guild.get()), Snowflake(user.id.get()));
        self.bot.handle(left).await;
    }

    async fn guild_ban_addition(&self, _: Context, guild: GuildId, user: User) {
        let left = ended_rights::member_left(&self.bot, Snowflake(guild.get()), Snowflake(user.id.get()));
        self.bot.handle(left).await;
    }

    async fn guild_member_update(
        &self,
        _: Context,
        _: Option<Member>,
        _: Option<Member>,
        event: GuildMemberUpdateEvent,
    ) {
        let (guild, user) = (Snowflake(event.guild_id.get()), Snowflake(event.user.id.get()));
        let roles = event.roles.iter().map(|role| Snowflake(role.get())).collect();
        self.bot.handle(ended_rights::member_changed(&self.bot, guild, user, roles)).await;
    }

    async fn channel_update(&self, _: Context, _: Option<GuildChannel>, channel: GuildChannel) {
        let id = Snowflake(channel.id.get());
        let now = rights::Channel::read(Channel::Guild(channel));
        self.bot.handle(ended_rights::channel_changed(&self.bot, id, now)).await;
    }

    async fn channel_delete(&self, _: Context, channel: GuildChannel, _: Option<Vec<Message>>) {
        self.bot.handle(ended_rights::channel_changed(&self.bot, Snowflake(channel.id.get()), None)).await;
    }
}
