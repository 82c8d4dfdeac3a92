//! A team on the Discord look-alike, and the real `threadkey run` with its workers, for the
//! end-to-end tests.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use threadkey::ids::Snowflake;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::support::{
    authserver::{self, AuthServer, Lifetimes},
    browser,
    discord::{self, Channel, Discord, Guild, Person, Reply},
    program::{self, Home, Running},
};

/// The lifetime of access tokens. By the program's clock none expires before a test moves that
/// clock.
pub(super) const AN_HOUR: i64 = 3600;

/// Two users, one channel, and a folder for the bot.
pub(super) struct Team {
    pub(super) discord: Discord,
    pub(super) guild: Guild,
    pub(super) general: Channel,
    pub(super) alice: Person,
    pub(super) bob: Person,
    pub(super) home: Home,
    token: String,
}

impl Team {
    /// Sets everything up without running the bot. The arguments are the sections
    /// `[providers.acme]` and `[agent]`.
    pub(super) async fn new(provider: &str, agent: &str) -> Self {
        Self::with_token(provider, agent, &discord::Options::default().token).await
    }

    /// Sets everything up with this Discord token.
    pub(super) async fn with_token(provider: &str, agent: &str, token: &str) -> Self {
        let options = discord::Options { token: token.to_owned(), ..Default::default() };
        Self::with_rights(provider, agent, options, |_, _| "allow_everyone = true\n".to_owned()).await
    }

    /// Sets everything up with these rights, which are lines of the section `[discord]`.
    pub(super) async fn with_rights(
        provider: &str,
        agent: &str,
        options: discord::Options,
        rights: impl FnOnce(&Guild, &Person) -> String,
    ) -> Self {
        let token = options.token.clone();
        let discord = Discord::start(options).await;
        let guild = discord.guild("team");
        let general = guild.channel("general");
        let (alice, bob) = (discord.person("alice"), discord.person("bob"));
        guild.join(&alice);
        guild.join(&bob);
        let (api_base, rights) = (discord.api_base(), rights(&guild, &alice));
        let home = Home::new(&format!(
            "[discord]\ntoken_env = \"DISCORD_TOKEN\"\napi_base = {api_base:?}\n{rights}\n{provider}\n{agent}"
        ));
        Self { discord, guild, general, alice, bob, home, token }
    }

    /// Starts the bot and waits until it is connected to Discord and users can type its commands.
    pub(super) async fn run(&self) -> Running {
        self.run_with(&[]).await
    }

    /// Starts the bot with more variables, and waits until it is connected to Discord and users can type
    /// its commands.
    pub(super) async fn run_with(&self, more: &[(&str, &str)]) -> Running {
        let running = self.start_run(more);
        running.says("connected to Discord").await;
        self.discord.commands_registered(&["auth"]).await;
        running
    }

    /// Starts the bot and waits for nothing.
    pub(super) fn start_run(&self, more: &[(&str, &str)]) -> Running {
        let token = [("DISCORD_TOKEN", self.token.as_str())];
        let environment: Vec<_> = more.iter().copied().chain(token).collect();
        self.home.start(&["run"], &environment)
    }

    /// Runs `/auth start`; returns the answer and its link.
    pub(super) async fn start(&self, user: &Person) -> (Reply, String) {
        let started = user.command(&self.general, "auth start", &[("provider", "acme")]).await;
        assert!(started.is_ephemeral(), "{started:?}");
        let link = started.link("Sign in to acme").unwrap_or_else(|| panic!("no link in the {started:?}"));
        (started, link)
    }

    /// Runs `/auth code`.
    pub(super) async fn paste(&self, user: &Person, pasted: &str) -> Reply {
        let answer = user.command(&self.general, "auth code", &[("code", pasted)]).await;
        assert!(answer.is_ephemeral(), "{answer:?}");
        answer
    }

    /// Signs in and pastes the address into the form.
    pub(super) async fn sign_in(&self, user: &Person, account: &str) {
        let (started, link) = self.start(user).await;
        let callback = browser::sign_in(&link, account).await;
        enter(&started, &callback.url).await.says(&format!("Signed in as `{account}")).await;
    }

    /// Signs bob, who manages the server from then on, in for the server.
    pub(super) async fn sign_in_shared(&self, account: &str) {
        self.bob.make_manager(&self.guild);
        let options = [("provider", "acme"), ("shared", "true")];
        let started = self.bob.command(&self.general, "auth start", &options).await;
        let callback = browser::sign_in(&started.link("Sign in to acme").expect("a link"), account).await;
        enter(&started, &callback.url).await.says("Signed in as").await;
    }

    /// Runs `/ask` in the channel; returns the thread.
    pub(super) async fn ask(&self, user: &Person, prompt: &str) -> Channel {
        let answer = user.command(&self.general, "ask", &[("prompt", prompt)]).await;
        let text = answer.text();
        let id = text.split_once("<#").and_then(|(_, rest)| rest.split_once('>')).map(|(id, _)| id);
        let id: u64 = id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no thread in {text:?}"));
        let thread = user.threads(&self.general).into_iter().find(|thread| thread.id == id);
        thread.unwrap_or_else(|| panic!("{} does not see the thread of {text:?}", user.name))
    }

    /// Mentions the bot in the channel; returns the thread.
    pub(super) async fn mention(&self, user: &Person, prompt: &str) -> Channel {
        let before: Vec<_> = user.threads(&self.general).iter().map(|thread| thread.id).collect();
        user.says(&self.general, &format!("<@bot> {prompt}"));
        let after = user.waits_for_threads(&self.general, before.len() + 1).await;
        after
            .into_iter()
            .find(|thread| !before.contains(&thread.id))
            .expect("one more is one that was not there")
    }

    /// Returns the path of the token API's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.home.store().with_file_name("threadkey.sock")
    }

    /// Reads a file that a thread's worker wrote into its working folder.
    #[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
    pub(super) fn worker_file(&self, thread: &Channel, name: &str) -> String {
        let path = self.worker_folder(thread).join("cwd").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Returns the folder of a thread's worker, as the map of conversations names it.
    #[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
    pub(super) fn worker_folder(&self, thread: &Channel) -> PathBuf {
        let map = self.home.store().with_file_name("conversations.json");
        let map: Value = serde_json::from_str(&std::fs::read_to_string(map).expect("a map")).expect("JSON");
        let of_thread = format!("{}-", Snowflake(thread.id));
        let mut folders = map["folders"].as_object().expect("there was a worker").iter();
        let (_, name) =
            folders.find(|(key, _)| key.starts_with(&of_thread)).expect("the thread had a worker");
        self.home.path().join("workers").join(name.as_str().expect("a name"))
    }

    /// Returns the store's text.
    #[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
    pub(super) fn stored(&self) -> String {
        std::fs::read_to_string(self.home.store()).expect("the store is there")
    }

    /// Sends a request to the token API: method, path and JSON body; returns status and JSON.
    pub(super) async fn api(&self, capability: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.socket()).await.expect("the token API listens");
        let authorization = if capability.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {capability}\r\n")
        };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("the request is taken");
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await;
        read.expect("the token API answers").expect("the answer is whole");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        (status.expect("a status line"), body)
    }
}

/// Presses "Enter code", and submits the form.
pub(super) async fn enter(started: &Reply, pasted: &str) -> Reply {
    let modal = started.press("Enter code").await.modal();
    let field = modal.inputs[0].custom_id.clone();
    let answer = modal.submit(&[(&field, pasted)]).await.message();
    assert!(answer.is_ephemeral(), "{answer:?}");
    answer.latest().await;
    answer
}

/// Waits until this text appears in exactly this number of messages of a thread.
pub(super) async fn expect_messages(thread: &Channel, text: &str, times: usize) {
    let count =
        |views: &[discord::MessageView]| views.iter().filter(|view| view.all_text().contains(text)).count();
    thread.wait_for(|views| (count(views) >= times).then_some(())).await;
    assert_eq!(count(&thread.messages()), times, "{text:?} in {:?}", thread.messages());
}

/// Starts the embedded authorization server, with access tokens of one hour.
pub(super) async fn authserver() -> AuthServer {
    let server = AuthServer::start(authserver::Options::default()).await;
    server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
    server
}

/// Returns `[agent]` with the built-in agent, which names the account whose token it holds.
pub(super) fn builtin_agent(userinfo: &str) -> String {
    let program = program::path();
    format!(
        "[agent]\ncommand = [{program:?}, \"agent\"]\nproviders = [\"acme\"]\nroot = \"workers\"\n\n\
         [agent.env]\nTHREADKEY_AGENT_PROVIDER = \"acme\"\nTHREADKEY_AGENT_USERINFO = {userinfo:?}\n"
    )
}

/// Returns `[agent]` with an ACP agent in the shell: see [`crate::script::script`].
pub(super) fn scripted_agent(on_prompt: &str) -> String {
    let script = crate::script::script(on_prompt);
    format!(
        "[agent]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\nproviders = [\"acme\"]\nroot = \"workers\"\n"
    )
}

/// Sets up a team with the embedded server and the built-in agent.
pub(super) async fn team() -> (AuthServer, Team) {
    let server = authserver().await;
    let team = Team::new(&server.config_toml("acme"), &builtin_agent(&server.userinfo_endpoint())).await;
    (server, team)
}
