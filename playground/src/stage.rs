//! The whole scene: the servers, the users, the bot, and the page.

use std::{net::SocketAddr, time::Duration};

use tempfile::TempDir;
use tokio::net::TcpListener;

use threadkey_lookalike::{
    authserver::{AuthServer, Lifetimes, Options as ServerOptions},
    discord::{Channel, Discord, Options, Person, page},
};

use crate::{
    bot::{self, Bot, Home, Settings},
    life,
};

/// How long an access token works: short, so that a viewer sees refreshes.
pub(crate) const ACCESS_TOKEN: Duration = Duration::from_secs(60);

/// The users. The first one manages the server.
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// The scene's shared parts. Clones share them.
#[derive(Clone)]
pub(crate) struct Scene {
    /// The chat.
    pub(crate) discord: Discord,
    /// The provider.
    pub(crate) server: AuthServer,
    /// The bot's folder and clock.
    pub(crate) home: Home,
    /// The channel that all users see.
    pub(crate) general: Channel,
    /// The users.
    pub(crate) people: Vec<Person>,
    /// The page's address.
    pub(crate) address: String,
}

/// The scene and the bot's process.
pub(crate) struct Stage {
    /// The folder of all files. It is removed when dropped, after everything else.
    pub(crate) folder: TempDir,
    /// The scene.
    pub(crate) scene: Scene,
    /// The bot.
    pub(crate) bot: Bot,
}

impl Stage {
    /// Starts everything. The page listens on this port, or on a free one for 0.
    pub(crate) async fn set(port: u16, verbose: bool) -> Result<Self, String> {
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.map_err(|error| {
                format!(
                    "port {port} cannot be used: {error}. Choose another port with --port, or omit the option"
                )
            })?;
        let address = listener.local_addr().map_err(|error| format!("the page has no address: {error}"))?;
        let folder = tempfile::Builder::new().prefix("threadkey-playground-").tempdir();
        let folder = folder.map_err(|error| format!("a temporary folder cannot be created: {error}"))?;
        let server = AuthServer::start(ServerOptions {
            lifetimes: Lifetimes { access_token: ACCESS_TOKEN, ..Lifetimes::default() },
            ..ServerOptions::default()
        })
        .await;
        let options = Options::default();
        let token = options.token.clone();
        let discord = Discord::start(options).await;
        let guild = discord.guild("Playground");
        let general = guild.channel("general");
        let people: Vec<Person> = PEOPLE.iter().map(|name| discord.person(name)).collect();
        people.iter().for_each(|person| guild.join(person));
        people[0].make_manager(&guild);
        let home = Home::new(folder.path());
        let address = format!("http://{address}/");
        let scene = Scene { discord, server, home, general, people, address };
        let page = page::router_with(scene.discord.clone(), life::panel(scene.clone()));
        tokio::spawn(async move { axum::serve(listener, page).await });
        let bot = scene.start_bot(&token, verbose).await?;
        Ok(Self { folder, scene, bot })
    }
}

impl Scene {
    async fn start_bot(&self, token: &str, verbose: bool) -> Result<Bot, String> {
        let settings = Settings {
            api_base: &self.discord.api_base(),
            token,
            provider: &self.server.config_toml_for("acme", &self.server.callback_page()),
            userinfo: &self.server.userinfo_endpoint(),
        };
        self.home.start(&settings, verbose).await
    }

    /// Moves time forward for the bot, the provider and Discord together.
    pub(crate) fn advance(&self, by: Duration) -> Result<(), String> {
        self.home.advance(by)?;
        self.discord.advance(by);
        self.server.advance(by);
        Ok(())
    }

    /// Returns the instructions.
    pub(crate) fn welcome(&self) -> String {
        let notice = bot::no_isolation().map(|notice| format!("\n{notice}\n")).unwrap_or_default();
        format!(
            "
threadkey's playground is ready. Open this address in a browser:

  {address}

  1. Type  /ask hello  , press the link that comes, allow the access, and copy the address.
  2. Back in the chat press  Enter code  and paste it.
  3. An agent answers in a thread, with your session. The panel beside the chat shows its
     tokens. On the left you can switch to another user.

The command line works with it too. Paste this into another terminal, in this folder:

  export THREADKEY_CONFIG={config}
  cargo run -q -- auth status --as user:{user}
{notice}
The bot's log: {log}
Ctrl-C ends everything and removes all files.",
            address = self.address,
            config = self.home.config().display(),
            user = self.people[0].id,
            log = self.home.log().display(),
        )
    }
}
