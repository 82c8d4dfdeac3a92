//! Everything put together: the servers, the people, the bot, and the page.

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

/// How long an access token works: short, so that one can watch it being refreshed.
pub(crate) const ACCESS_TOKEN: Duration = Duration::from_secs(60);

/// Who is there. The first manages the server.
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// What everybody on it shares. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Scene {
    /// The chat.
    pub(crate) discord: Discord,
    /// The provider.
    pub(crate) server: AuthServer,
    /// The bot's folder and clock.
    pub(crate) home: Home,
    /// The channel that everybody sees.
    pub(crate) general: Channel,
    /// Whoever signs in.
    pub(crate) people: Vec<Person>,
    /// The page's address.
    pub(crate) address: String,
}

/// All of it, with the bot's process.
pub(crate) struct Stage {
    /// Removed when dropped: last of all.
    pub(crate) folder: TempDir,
    /// What the playground is about.
    pub(crate) scene: Scene,
    /// The bot.
    pub(crate) bot: Bot,
}

impl Stage {
    /// Starts everything; the page on this port, or on a free one for 0.
    pub(crate) async fn set(port: u16, verbose: bool) -> Result<Self, String> {
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.map_err(|error| {
                format!("port {port} cannot be used: {error}. Choose another with --port, or leave it out")
            })?;
        let address = listener.local_addr().map_err(|error| format!("the page has no address: {error}"))?;
        let folder = tempfile::Builder::new().prefix("threadkey-playground-").tempdir();
        let folder = folder.map_err(|error| format!("a temporary folder cannot be made: {error}"))?;
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

    /// Lets time pass for everybody: so far the tokens get older, and so far the bot's clock moves.
    pub(crate) fn advance(&self, by: Duration) -> Result<(), String> {
        self.home.advance(by)?;
        self.discord.advance(by);
        self.server.advance(by);
        Ok(())
    }

    /// What to do, for the person at the terminal.
    pub(crate) fn welcome(&self) {
        println!(
            "\nthreadkey's playground is ready. Open this address in a browser:\n\n  {}\n",
            self.address
        );
        println!("  1. Type  /auth start acme  , press the link, allow the access, and copy the code.");
        println!("  2. Back in the chat press  Enter code  and paste it.");
        println!(
            "  3. Type  /ask hello  : an agent answers in a thread, with your login. Beside the chat you see"
        );
        println!("     what becomes of its tokens. Be somebody else too: you choose on the left.\n");
        if let Some(words) = bot::no_isolation() {
            println!("{words}\n");
        }
        println!("The bot's log: {}", self.home.log().display());
        println!("Ctrl-C ends everything and leaves nothing behind.");
    }
}
