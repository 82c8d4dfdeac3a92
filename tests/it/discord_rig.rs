//! The bot in this process, on the Discord look-alike, with a real store, the embedded
//! authorization server and workers that are shell scripts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use threadkey::{
    agent::{
        AgentSettings, Agents, Capabilities, Holder, Isolation, TokenChanges, TokenRefusal, TokenSource,
        WorkerLimits, Workers,
    },
    broker::Broker,
    discord::{self, BotDeps, Conversations, DiscordError, DiscordSettings, Rights, SignInQuestions},
    ids::{AgentName, ProviderId, Snowflake},
    net::Trust,
    oauth::{Client, Provider, Providers},
    secret::{AccessToken, Scrubber, Secret},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
    tools::{NO_END, TokenValues},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    fixtures,
    support::{
        authserver::{self, AuthServer},
        discord::{Channel, Discord, Guild, Options, Person},
    },
};

/// A secret that workers hold and that must not be visible on Discord.
pub(crate) const LIVE_TOKEN: &str = "live-token-0123456789abcdef";

/// Everything that a test needs.
pub(crate) struct Rig {
    pub(crate) discord: Discord,
    pub(crate) guild: Guild,
    pub(crate) general: Channel,
    pub(crate) alice: Person,
    pub(crate) bob: Person,
    pub(crate) server: AuthServer,
    pub(crate) broker: Broker,
    pub(crate) workers: Option<Workers>,
    pub(crate) settings: DiscordSettings,
    /// The rights of the bot that runs, or ran last.
    rights: Option<Rights>,
    bot: Option<(JoinHandle<Result<(), DiscordError>>, CancellationToken)>,
    clock: Clock,
    folder: tempfile::TempDir,
    providers: Providers,
}

/// How a rig differs from the usual.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) discord: Options,
    /// The shell worker's commands at a prompt; see [`script`].
    pub(crate) on_prompt: Option<&'static str>,
    /// The command of another worker program.
    pub(crate) command: Option<Vec<String>>,
    /// The names of several agents, of which the first is the default. Each has its name in `$AGENT`.
    pub(crate) agents: Vec<&'static str>,
    /// The broker's clock, where a test sets it.
    pub(crate) clock: Option<Clock>,
    /// The providers of the workers. Without any, no user has to sign in before `/ask`.
    pub(crate) agent_providers: Vec<&'static str>,
    /// Redirect URIs of the client besides the usual ones.
    pub(crate) redirect_uris: Vec<String>,
    /// The providers of the broker instead of the usual ones.
    pub(crate) providers: Option<Providers>,
}

impl Rig {
    /// The bot runs, and signs people in.
    pub(crate) async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    /// The bot runs, with a worker that does this at a prompt.
    pub(crate) async fn talking(on_prompt: &'static str) -> Self {
        Self::with(Plan { on_prompt: Some(on_prompt), ..Plan::default() }).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let mut rig = Self::stopped(plan).await;
        rig.run().await;
        rig
    }

    /// Everything but the bot.
    pub(crate) async fn stopped(plan: Plan) -> Self {
        let server = {
            let redirect_uris = plan.redirect_uris;
            AuthServer::start(authserver::Options { redirect_uris, ..authserver::Options::default() }).await
        };
        let discord = Discord::start(plan.discord).await;
        let guild = discord.guild("team");
        let general = guild.channel("general");
        let (alice, bob) = (discord.person("alice"), discord.person("bob"));
        guild.join(&alice);
        guild.join(&bob);
        let folder = tempfile::Builder::new().prefix("tk").tempdir().expect("a folder");
        let clock = plan.clock.unwrap_or_else(Clock::system);
        let providers = plan
            .providers
            .unwrap_or_else(|| Providers::new([provider("acme", &server), provider("big-acme", &server)]));
        let broker = broker(folder.path(), providers.clone(), &clock);
        let command = plan
            .command
            .or_else(|| plan.on_prompt.map(|what| vec!["/bin/sh".to_owned(), "-c".to_owned(), script(what)]));
        let workers =
            command.map(|command| workers(folder.path(), command, &plan.agent_providers, &plan.agents));
        let settings = DiscordSettings {
            token: Secret::new("bot-token"),
            api_base: Some(discord.api_base().parse().expect("a URL")),
            trust: Trust::default(),
            allow_everyone: true,
            allowed_guilds: Vec::new(),
            allowed_channels: Vec::new(),
            allowed_roles: Vec::new(),
            allowed_users: Vec::new(),
            log_channel: None,
            guild_sessions: false,
            conversations: folder.path().join("store/conversations.json"),
        };
        Self {
            discord,
            guild,
            general,
            alice,
            bob,
            server,
            broker,
            workers,
            settings,
            rights: None,
            bot: None,
            clock,
            folder,
            providers,
        }
    }

    /// Another process's broker on the same store.
    pub(crate) fn another_broker(&self) -> Broker {
        broker(self.folder.path(), self.providers.clone(), &self.clock)
    }

    /// Starts the bot and waits until people can use it.
    pub(crate) async fn run(&mut self) {
        let (identified, _) = self.discord.gateway_sessions();
        let stop = CancellationToken::new();
        let scrubber = Scrubber::new();
        scrubber.note(LIVE_TOKEN);
        let rights = self.new_rights();
        self.rights = Some(rights.clone());
        let running = discord::run(
            self.settings.clone(),
            BotDeps {
                conversations: Arc::new(
                    Conversations::load(self.settings.conversations.clone()).expect("a map"),
                ),
                broker: self.broker.clone(),
                workers: self.workers.clone(),
                scrubber,
                rights,
                questions: SignInQuestions::default(),
            },
            tokio::sync::watch::Sender::new(false),
            stop.clone(),
        );
        self.bot = Some((tokio::spawn(running), stop));
        let discord = self.discord.clone();
        let connected = async {
            let mut changes = discord.changes();
            while discord.gateway_sessions().0 <= identified {
                changes.changed().await.expect("the look-alike runs");
            }
        };
        tokio::time::timeout(Duration::from_secs(30), connected).await.expect("the bot connects");
        self.discord.bot_ready().await;
        self.discord.commands_registered(&["auth", "ask", "stop", "new", "help"]).await;
    }

    /// The rights as the bot that runs knows them.
    pub(crate) fn rights(&self) -> Rights {
        self.rights.clone().expect("the bot has run")
    }

    /// The rights of the present settings, without any fact.
    fn new_rights(&self) -> Rights {
        Rights::new(&self.settings, self.clock.clone())
    }

    /// Runs the bot until it ends by itself.
    pub(crate) async fn run_to_its_end(&self) -> Result<(), DiscordError> {
        let scrubber = Scrubber::new();
        let running = discord::run(
            self.settings.clone(),
            BotDeps {
                conversations: Arc::new(Conversations::load(self.settings.conversations.clone())?),
                broker: self.broker.clone(),
                workers: None,
                scrubber,
                rights: self.new_rights(),
                questions: SignInQuestions::default(),
            },
            tokio::sync::watch::Sender::new(false),
            CancellationToken::new(),
        );
        tokio::time::timeout(Duration::from_secs(30), running).await.expect("the bot ends")
    }

    /// An orderly end.
    pub(crate) async fn stop(&mut self) {
        let (bot, stop) = self.bot.take().expect("a running bot");
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(30), bot).await.expect("the bot ends");
        ended.expect("no panic").expect("no error");
    }

    /// Starts a sign-in and gives its message and its link.
    pub(crate) async fn start_sign_in(&self, who: &Person) -> (crate::support::discord::Reply, String) {
        let reply = who.command(&self.general, "auth start", &[("provider", "acme")]).await;
        let link = reply.link("Sign in to acme").expect("a link");
        (reply, link)
    }

    /// Signs a user in by `/auth code`.
    pub(crate) async fn sign_in(&self, who: &Person, account: &str) {
        let (_, link) = self.start_sign_in(who).await;
        let callback = crate::support::browser::sign_in(&link, account).await;
        let reply = who.command(&self.general, "auth code", &[("code", &callback.url)]).await;
        assert!(reply.text().contains("Signed in as"), "{}", reply.text());
    }

    /// Replaces the agents, as after a change of the configuration. The bot is stopped.
    pub(crate) fn set_agents(&mut self, on_prompt: &str, agents: &[&str]) {
        let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script(on_prompt)];
        self.workers = Some(workers(self.folder.path(), command, &[], agents));
    }

    /// Types `/ask` and gives the thread that is opened.
    pub(crate) async fn ask(&self, who: &Person, prompt: &str) -> Channel {
        let before = who.threads(&self.general).len();
        let reply = who.command(&self.general, "ask", &[("prompt", prompt)]).await;
        assert!(reply.is_ephemeral());
        assert!(reply.text().contains("Your conversation: <#"), "{}", reply.text());
        who.waits_for_threads(&self.general, before + 1).await.pop().expect("a thread")
    }
}

fn broker(folder: &std::path::Path, providers: Providers, clock: &Clock) -> Broker {
    let path = folder.join("store/auth.json");
    let store = FileStore::open(&path, clock.clone(), FileStoreOptions::default()).expect("a store");
    let client = Client::new(clock.clone()).expect("a client");
    Broker::new(Arc::new(store), providers, client, clock.clone())
}

fn provider(name: &str, server: &AuthServer) -> Provider {
    Provider::new(name.parse().expect("a name"), fixtures::settings(server)).expect("a provider")
}

struct Tokens;

#[async_trait::async_trait]
impl TokenSource for Tokens {
    async fn token(&self, _: &Holder, _: &ProviderId) -> Result<TokenValues, TokenRefusal> {
        let (access_token, expires_at) = (AccessToken::new(LIVE_TOKEN), NO_END);
        Ok(TokenValues { access_token, expires_at, account: None, scope: None, id_token: None })
    }

    fn changes(&self) -> Box<dyn TokenChanges> {
        Box::new(NoChanges)
    }

    fn now(&self) -> i64 {
        1_795_358_672
    }
}

struct NoChanges;

#[async_trait::async_trait]
impl TokenChanges for NoChanges {
    async fn next(&mut self) {
        std::future::pending().await
    }
}

fn workers(folder: &std::path::Path, command: Vec<String>, providers: &[&str], named: &[&str]) -> Workers {
    // They outlive a restart of the bot, which reads its own map again.
    let names = Conversations::load(folder.join("names/conversations.json")).expect("an empty map");
    let settings = AgentSettings {
        title: threadkey::agent::title_of(&command),
        command,
        providers: providers.iter().map(|name| name.parse().expect("a name")).collect(),
        isolation: Isolation::None,
        routes: Vec::new(),
        mcp: Vec::new(),
        mcp_by_stdio: false,
        tools: Vec::new(),
        files: Vec::new(),
        env: BTreeMap::new(),
        root: folder.join("agents"),
        socket: folder.join("socket"),
        read: Vec::new(),
        deny: Vec::new(),
        max_workers: 4,
        max_workers_per_user: 4,
        limits: WorkerLimits::default(),
        idle: Duration::from_secs(600),
        keep_files: Duration::from_secs(30 * 24 * 3600),
        start_within: Duration::from_secs(30),
        max_turn: Duration::from_secs(3600),
        max_silence: Duration::from_secs(3600),
    };
    let default = named.first().map(|name| name.parse().expect("a name"));
    let named: BTreeMap<AgentName, _> = named
        .iter()
        .map(|name| {
            let env = BTreeMap::from([("AGENT".to_owned(), (*name).to_owned())]);
            (
                name.parse().expect("a name"),
                AgentSettings { title: (*name).to_owned(), env, ..settings.clone() },
            )
        })
        .collect();
    let agents = match default {
        Some(default) => Agents::named(named, default).expect("the default is there"),
        None => settings.into(),
    };
    Workers::new(agents, Arc::new(Capabilities::new()), Arc::new(Tokens), Arc::new(names))
}

/// An ACP agent in the shell. At a prompt it does `on_prompt`, with `say TEXT`, `note UPDATE`,
/// `done_with REASON`, `permit TITLE` or `permit_json CALL OPTIONS` (the answer is then in `$answer`), and `$line` for what came.
fn script(on_prompt: &str) -> String {
    let prelude = r#"
reply() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
note() { printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":%s}}\n' "$1"; }
say() { note "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"$1\"}}"; }
tool() { note "{\"sessionUpdate\":\"tool_call\",\"toolCallId\":\"t\",\"title\":\"$1\",\"kind\":\"other\",\"status\":\"pending\"}"; }
done_with() { reply "{\"stopReason\":\"$1\"}"; }
on_cancel() { id=$prompt; done_with cancelled; }
permit() {
  printf '{"jsonrpc":"2.0","id":"p","method":"session/request_permission","params":{"sessionId":"s","toolCall":{"toolCallId":"t","title":"%s"},"options":[{"optionId":"yes","name":"Allow","kind":"allow_once"},{"optionId":"no","name":"Reject","kind":"reject_once"}]}}\n' "$1"
  read -r answer
}
permit_json() {
  printf '{"jsonrpc":"2.0","id":"p","method":"session/request_permission","params":{"sessionId":"s","toolCall":%s,"options":%s}}\n' "$1" "$2"
  read -r answer
}
"#;
    let serve = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -E 's/.*"id":("[^"]*"|[0-9]+).*/\1/')
  case "$line" in
    *'"method":"initialize"'*) reply '{"protocolVersion":1,"agentCapabilities":{}}' ;;
    *'"method":"session/new"'*) reply '{"sessionId":"s"}' ;;
    *'"method":"session/cancel"'*) on_cancel ;;
    *'"method":"session/prompt"'*) prompt=$id; on_prompt ;;
  esac
done
"#;
    format!("{prelude}\non_prompt() {{\n{on_prompt}\n}}\n{serve}")
}

/// As the settings hold it.
pub(crate) fn snowflake(id: u64) -> Snowflake {
    Snowflake(id)
}
