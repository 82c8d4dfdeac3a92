//! A Discord look-alike for tests and the playground: gateway and REST as the bot uses them, strict
//! as Discord is, with an API to act as users.
//!
//! ```ignore
//! let discord = Discord::start(Options::default()).await;
//! let guild = discord.guild("team");
//! let general = guild.channel("general");
//! let alice = discord.person("alice");
//! guild.join(&alice);
//! // … start the bot with `discord.api_base = discord.api_base()` …
//! discord.bot_ready().await;
//! let reply = alice.command(&general, "auth start", &[("provider", "acme")]).await;
//! assert!(reply.is_ephemeral());
//! let modal = reply.press("Enter code").await.modal();
//! let answer = modal.submit(&[("Code", "…")]).await.message();
//! discord.assert_no_violations();
//! ```
//!
//! The bot is another process. The look-alike refuses what Discord would refuse, with Discord's
//! error shape. //! It records each refusal as a [`Violation`], because a bot may ignore an error.
//! Request bodies and queries //! are checked against Discord's own OpenAPI description, where this
//! library is built with the feature //! `openapi` and that file is present beside the repository.
//!
//! Time is real time plus an offset ([`Discord::advance`]): an interaction must be acknowledged
//! within 3 s of its dispatch and its token ends after 15 min.
//!
//! | module | owns |
//! | --- | --- |
//! | `clock` | the clock with its offset |
//! | `world` | the state: users, guilds, messages, permissions, visibility |
//! | `wire` | the JSON form of each thing |
//! | `gateway` | the WebSocket side |
//! | `rest`, `routes` and below | the HTTP side |
//! | `rules` | Discord's limits on messages, components, modals, commands |
//! | `description`, `openapi` | Discord's own description of its API |
//! | `people`, `reply`, `views`, `hostile` | acting as users |
//! | `members` | memberships, roles and ownership, with their events |
//! | `permission` | Discord's permission bits |
//! | `page` | the chat page of the playground |

mod clock;
mod description;
mod gateway;
mod hostile;
mod interact;
mod members;
#[cfg(feature = "openapi")]
mod openapi;
pub mod page;
mod people;
pub mod permission;
mod places;
mod reply;
mod rest;
mod routes;
mod rules;
mod typed;
mod views;
mod wire;
mod world;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use clock::Clock;
pub use clock::iso8601;
pub use description::Description;
pub use gateway::Forget;
#[cfg(feature = "openapi")]
pub use openapi::OpenApi;
pub use people::Person;
pub use places::{Channel, Guild};
pub use reply::{Answer, Input, Modal, Reply};
pub use routes::{Matched, find_route, templates};
pub use views::{Button, Embed, MessageView};
use world::{Fault, World};
pub use world::{Id, Trouble};

/// How long a test waits for something to happen before it fails loudly.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Requests kept for tests to look at.
const REQUESTS_KEPT: usize = 100_000;

/// The settings of a look-alike.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bot token that is accepted.
    pub token: String,
    /// The application's id.
    pub application_id: Id,
    /// The bot user's id.
    pub bot_id: Id,
    /// The bot user's name.
    pub bot_name: String,
    /// Whether the developer portal grants the Message Content intent; a bot that asks for it
    /// without the grant is closed with 4014.
    pub message_content_intent: bool,
    /// Whether the developer portal grants the Server Members intent, as with the one above.
    pub guild_members_intent: bool,
    /// The heartbeat interval that HELLO asks for.
    pub heartbeat_interval_ms: u64,
    /// How many active threads a guild may have.
    pub max_active_threads: usize,
    /// The gateway's address that bots are given. If it is empty, it is set at start to
    /// `ws://127.0.0.1:PORT`.
    pub gateway_url: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: "bot-token".into(),
            application_id: 1_100_000_000_000_000_001,
            bot_id: 1_100_000_000_000_000_002,
            bot_name: "threadkey".into(),
            message_content_intent: true,
            guild_members_intent: false,
            heartbeat_interval_ms: 41_250,
            max_active_threads: 1000,
            gateway_url: String::new(),
        }
    }
}

/// One REST request that the bot made.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// With `/api/v10`, without the query.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// Null where there was none.
    pub body: Value,
    /// The status of the answer.
    pub status: u16,
    /// The time of arrival, in Unix milliseconds.
    pub at_ms: i64,
}

/// Something that Discord does not let a bot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Discord's error code; 0 where Discord has none (the user sees "did not respond").
    pub code: u32,
    /// A sentence for the reader of a failed test.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.what)
    }
}

struct Inner {
    world: Mutex<World>,
    changed: watch::Sender<u64>,
    clock: Clock,
    description: Option<Box<dyn Description>>,
    api_base: String,
    gateway_address: SocketAddr,
}

/// A running look-alike. Clones are the same one.
#[derive(Clone)]
pub struct Discord(Arc<Inner>);

impl Discord {
    /// Starts REST and gateway on free loopback ports; both end with the test's runtime.
    pub async fn start(mut options: Options) -> Self {
        let rest = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let gateway = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound listener");
        let gateway_address = address(&gateway);
        if options.gateway_url.is_empty() {
            options.gateway_url = format!("ws://{gateway_address}");
        }
        let clock = Clock::start();
        let discord = Self(Arc::new(Inner {
            api_base: format!("http://{}", address(&rest)),
            gateway_address,
            world: Mutex::new(World::new(clock.clone(), options)),
            changed: watch::Sender::new(0),
            clock,
            description: description::load(),
        }));
        tokio::spawn(gateway::serve(discord.clone(), gateway));
        tokio::spawn(rest::serve(discord.clone(), rest));
        discord
    }

    /// The value for `discord.api_base`.
    pub fn api_base(&self) -> String {
        self.0.api_base.clone()
    }

    /// The address at which the gateway listens, whatever address bots are given.
    pub fn gateway_address(&self) -> SocketAddr {
        self.0.gateway_address
    }

    /// Waits until a bot has identified.
    pub async fn bot_ready(&self) {
        self.until("a bot that identified on the gateway", |world| {
            world.gateway.is_connected().then_some(())
        })
        .await;
    }

    /// Waits until a bot has identified and registered these commands.
    pub async fn commands_registered(&self, names: &[&str]) {
        self.until(&format!("the commands {names:?}"), |world| {
            let own = world.guild_commands.values().flatten();
            let known: Vec<&str> =
                world.global_commands.iter().chain(own).filter_map(|c| c["name"].as_str()).collect();
            names.iter().all(|name| known.contains(name)).then_some(())
        })
        .await;
    }

    /// How often a bot identified and how often it resumed.
    pub fn gateway_sessions(&self) -> (u64, u64) {
        let world = self.world();
        (world.gateway.identified, world.gateway.resumed)
    }

    /// How many IDENTIFYs and RESUMEs had a wrong token.
    pub fn gateway_refusals(&self) -> u64 {
        self.world().gateway.refused
    }

    /// Waits until the gateway has closed this many new connections at once.
    pub async fn gateway_turned_away(&self, times: u64) {
        self.until(&format!("{times} attempts to connect"), |world| {
            (world.gateway.turned_away >= times).then_some(())
        })
        .await;
    }

    /// Breaks the gateway connection off. With [`Forget::Sessions`] a RESUME is refused later.
    pub fn drop_connection(&self, forget: Forget) {
        self.change(|world| world.gateway.disconnect(forget));
    }

    /// Waits until bots have identified this many times.
    pub async fn bot_identified(&self, times: u64) {
        self.until(&format!("{times} IDENTIFY(s)"), |world| {
            (world.gateway.identified >= times).then_some(())
        })
        .await;
    }

    /// Waits until the bot has resumed this many times.
    pub async fn bot_resumed(&self, times: u64) {
        self.until(&format!("{times} RESUME(s)"), |world| (world.gateway.resumed >= times).then_some(()))
            .await;
    }

    /// Moves the look-alike's clock forward. The call does not wait.
    pub fn advance(&self, by: Duration) {
        self.0.clock.advance(by);
        self.change(|_| ());
    }

    /// The next `times` requests of this method whose path contains this answer with this status.
    pub fn fail(&self, method: &str, path_contains: &str, status: u16, body: Value, times: u32) {
        self.trouble(method, path_contains, Trouble::Answer { status, body, retry_after: None }, times);
    }

    /// The next `times` requests of this method (empty: of any) whose path contains this meet this
    /// trouble. An earlier order for the same request comes first.
    pub fn trouble(&self, method: &str, path_contains: &str, trouble: Trouble, times: u32) {
        self.change(|world| {
            world.faults.push(Fault {
                method: method.into(),
                path_contains: path_contains.into(),
                trouble,
                remaining: times,
            });
        });
    }

    /// Ends all troubles, and lets bots connect to the gateway again.
    pub fn calm(&self) {
        self.change(|world| {
            world.faults.clear();
            world.gateway.refuses = false;
        });
    }

    /// Breaks the gateway's connections off, and closes each new one at once, until
    /// [`Discord::calm`].
    pub fn refuse_gateway(&self, forget: Forget) {
        self.change(|world| {
            world.gateway.refuses = true;
            world.gateway.disconnect(forget);
        });
    }

    /// Waits until the bot has sent this many requests of this method whose path contains this.
    pub async fn requested(&self, method: &str, path_contains: &str, times: usize) {
        self.until(&format!("{times} requests {method} …{path_contains}…"), |world| {
            let fits = |request: &&Request| request.method == method && request.path.contains(path_contains);
            (world.requests.iter().filter(fits).count() >= times).then_some(())
        })
        .await;
    }

    /// The tokens of all interactions so far. With one a client can answer in the bot's name.
    pub fn interaction_tokens(&self) -> Vec<String> {
        self.world().interactions.values().map(|interaction| interaction.token.clone()).collect()
    }

    /// Every REST request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.world().requests.clone()
    }

    /// The actions of the bot that Discord refuses.
    pub fn violations(&self) -> Vec<Violation> {
        self.world().violations.clone()
    }

    /// The same, and starts a new list: for tests that provoke some.
    pub fn take_violations(&self) -> Vec<Violation> {
        self.change(|world| std::mem::take(&mut world.violations))
    }

    /// Where the look-alike's own answers are not as Discord describes them; empty where the
    /// description is not there.
    pub fn drift(&self) -> Vec<String> {
        self.world().drift.clone()
    }

    /// Fails with the list, if there is any violation.
    #[track_caller]
    pub fn assert_no_violations(&self) {
        let found: Vec<String> = self.violations().iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "Discord refused what the bot did:\n{}", found.join("\n"));
    }

    pub(crate) fn description(&self) -> Option<&dyn Description> {
        self.0.description.as_deref()
    }

    /// The look-alike's time, in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.0.clock.now_ms()
    }

    /// Notifies of every change, for a page that shows the state.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        // A test that panicked while it looked has broken nothing: changes are made whole.
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        let result = change(&mut self.world());
        self.0.changed.send_modify(|count| *count += 1);
        result
    }

    pub(crate) fn log_request(&self, request: Request) {
        self.change(|world| {
            if world.requests.len() == REQUESTS_KEPT {
                world.requests.remove(0);
            }
            world.requests.push(request);
        });
    }

    /// Waits until `look` finds its target. After [`PATIENCE`] the test fails and prints the state.
    pub(crate) async fn until<R>(&self, what: &str, mut look: impl FnMut(&World) -> Option<R>) -> R {
        let mut changes = self.0.changed.subscribe();
        let waiting = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look(&self.world()) {
                    return found;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("waited {PATIENCE:?} in vain for {what}\n{self:?}"),
        }
    }
}

impl fmt::Debug for Discord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.world();
        writeln!(f, "bot connected: {}", world.gateway.is_connected())?;
        for interaction in world.interactions.values().rev().take(5) {
            writeln!(
                f,
                "interaction {}: answered {:?}, failed {}",
                interaction.label, interaction.answered, interaction.failed
            )?;
        }
        for request in world.requests.iter().rev().take(12) {
            writeln!(f, "{} {} → {}", request.method, request.path, request.status)?;
        }
        for message in world.messages.values().rev().take(12) {
            let view = MessageView::of(&world, message);
            writeln!(f, "{view}")?;
        }
        for violation in &world.violations {
            writeln!(f, "violation {violation}")?;
        }
        Ok(())
    }
}
