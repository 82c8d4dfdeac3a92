//! The ways from a start to a session, on Discord and on the command line, and back out by a logout.

use reqwest::Method;

use super::{
    rows::{Row, server},
    session::{SignedIn, stored},
};
use crate::{
    e2e::without_a_link::{Waiting, start_device},
    login::{self, Login},
    sign_in_pages::send,
    support::{
        browser,
        discord::Reply,
        network::free_address,
        oidc::Oidc,
        program::{Home, Running},
    },
    team::{Team, enter},
};

const NO_AGENT: &str = "";

/// A folder with the row's configuration, and the account that signs in there.
pub(super) struct Terminal {
    row: &'static Row,
    oidc: &'static Oidc,
    pub(super) home: Home,
    pub(super) account: String,
}

/// A running bot with the row's configuration, and the account that alice signs in as.
pub(super) struct Chat {
    row: &'static Row,
    oidc: &'static Oidc,
    pub(super) team: Team,
    bot: Running,
    pub(super) account: String,
}

// === impl Terminal ===

impl Terminal {
    pub(super) async fn new(row: &'static Row, way: &str) -> Self {
        let oidc = server();
        let account = format!("{}-{way}", row.name);
        let hint = if row.name.starts_with("ciba") {
            format!("login_hints = {{ local = \"{account}@example.com\" }}\n")
        } else {
            String::new()
        };
        let home = Home::new(&(row.section(oidc) + &hint));
        row.write_secret(oidc, &home).await;
        Self { row, oidc, home, account }
    }

    /// Signs in by `threadkey auth start` and `threadkey auth code`.
    pub(super) async fn sign_in(&self) {
        let started = self.home.run(&["auth", "start", "acme"]).await;
        assert_eq!(started.code, 0, "{started:?}");
        let callback = browser::sign_in(started.stdout.trim(), &self.account).await;
        assert_eq!(callback.iss.as_deref(), Some(self.oidc.issuer()));
        let done = self.home.run_with(&["auth", "code"], &callback.url).await;
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// Checks the session, logs out, and checks the end.
    async fn lives_and_ends(&self) {
        let signed_in = SignedIn {
            row: self.row,
            oidc: self.oidc,
            home: &self.home,
            principal: "local".to_owned(),
            account: self.account.clone(),
        };
        let refreshed = signed_in.is_stored_and_refreshes_once().await;
        let ended = self.home.run(&["auth", "logout", "acme"]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        signed_in.is_gone_and_revoked(refreshed).await;
    }
}

/// `threadkey auth start`, and the address of the last page into `threadkey auth code`.
pub(super) async fn by_auth(row: &'static Row) {
    let cell = Terminal::new(row, "auth").await;
    cell.sign_in().await;
    cell.lives_and_ends().await;
}

/// `threadkey login`, whose listener takes the answer.
pub(super) async fn by_login(row: &'static Row) {
    let cell = Terminal::new(row, "login").await;
    let login = Login::start(&cell.home, &["--no-browser"], &[]).await;
    let callback = browser::sign_in(&login.link, &cell.account).await;
    let (status, page) = login::get(&callback.url).await;
    let ended = login.ended().await;
    assert_eq!((status, ended.code), (200, 0), "{page} {}", ended.stderr);
    cell.lives_and_ends().await;
}

/// `threadkey auth start`, which shows a device code and waits.
pub(super) async fn by_device_in_a_terminal(row: &'static Row) {
    let cell = Terminal::new(row, "auth").await;
    let mut waiting = Waiting::start(&cell.home, &["auth", "start", "acme", "--json"]);
    let page = waiting.json().await["verification_uri_complete"].as_str().unwrap().to_owned();
    browser::enter_code(&page, &cell.account, "allow").await;
    let (code, stderr) = waiting.end().await;
    assert_eq!(code, Some(0), "{stderr}");
    cell.lives_and_ends().await;
}

/// `threadkey auth start`, which waits for the user's answer on another screen.
pub(super) async fn by_ciba_in_a_terminal(row: &'static Row) {
    let cell = Terminal::new(row, "auth").await;
    let mut waiting = Waiting::start(&cell.home, &["auth", "start", "acme"]);
    assert_eq!(waiting.line().await, "threadkey for local\n");
    assert_eq!(cell.oidc.decide_elsewhere(&cell.account, "allow").await, "threadkey for local");
    let (code, stderr) = waiting.end().await;
    assert_eq!(code, Some(0), "{stderr}");
    cell.lives_and_ends().await;
}

// === impl Chat ===

impl Chat {
    pub(super) async fn new(row: &'static Row, way: &str) -> Self {
        Self::with(row, way, "").await
    }

    /// With more sections.
    async fn with(row: &'static Row, way: &str, more: &str) -> Self {
        let oidc = server();
        let account = format!("{}-{way}", row.name);
        let team = Team::new(&format!("{more}{}", row.section(oidc)), NO_AGENT).await;
        if row.name.starts_with("ciba") {
            let id = team.alice.principal().trim_start_matches("user:").to_owned();
            let hints = format!("login_hints = {{ \"{id}\" = \"{account}@example.com\" }}\n");
            let path = team.home.path().join("threadkey.toml");
            #[expect(clippy::disallowed_methods, reason = "the test's own file is not the program's")]
            let config = std::fs::read_to_string(path).unwrap();
            team.home.configure(
                &config.replace("grants = [\"ciba\"]\n", &format!("grants = [\"ciba\"]\n{hints}")),
            );
        }
        row.write_secret(oidc, &team.home).await;
        let bot = team.run().await;
        Self { row, oidc, team, bot, account }
    }

    /// Checks alice's session, logs her out, and checks the end.
    async fn lives_and_ends(self) {
        let signed_in = SignedIn {
            row: self.row,
            oidc: self.oidc,
            home: &self.team.home,
            principal: self.team.alice.principal(),
            account: self.account.clone(),
        };
        let refreshed = signed_in.is_stored_and_refreshes_once().await;
        let provider = [("provider", "acme")];
        let answer = self.team.alice.command(&self.team.general, "auth logout", &provider).await;
        answer.says("has ended the access").await;
        signed_in.is_gone_and_revoked(refreshed).await;
        let public = self.team.discord.everything_public();
        assert!(!public.contains(&self.account), "the account is for its user alone: {public}");
        self.team.discord.assert_no_violations();
        let ended = self.bot.stop().await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// The words by which the bot reports this sign-in.
    fn success(&self) -> String {
        format!("Signed in as `{}@example.com` at `acme`", self.account)
    }

    /// Stops the bot.
    pub(super) async fn stop(self) {
        self.team.discord.assert_no_violations();
        assert_eq!(self.bot.stop().await.code, 0);
    }
}

/// `/auth start`, and the address of the last page into the form.
pub(super) async fn by_paste(row: &'static Row) {
    let cell = Chat::new(row, "paste").await;
    let (started, link) = cell.team.start(&cell.team.alice).await;
    let callback = browser::sign_in(&link, &cell.account).await;
    enter(&started, &callback.url).await.says(&cell.success()).await;
    cell.lives_and_ends().await;
}

/// The public pages of a bot.
pub(super) struct Site {
    /// Their public address.
    url: String,
    /// The address at which they are reached in the tests.
    here: String,
}

/// `/auth start`, our page, the server's pages, our callback, and its digits into the form.
pub(super) async fn by_pages(row: &'static Row) {
    let (cell, site) = with_pages(row, "pages").await;
    through_digits(&cell, &site).await;
    cell.lives_and_ends().await;
}

/// As [`by_pages`], at a public name. The server fetches the client's document there and registers
/// nothing.
pub(super) async fn by_document(row: &'static Row) {
    let port = free_address().port();
    let (url, here) = (format!("https://p{port}.bot.example"), format!("http://127.0.0.1:{port}"));
    let site = Site { url, here };
    let cell = at_site(row, "document", port, &site).await;
    through_digits(&cell, &site).await;
    let store = stored(&cell.team.home);
    let session = &store["sessions"][format!("acme/{}", cell.team.alice.principal())];
    assert_eq!(session["client_id"], format!("{}/oauth/client.json", site.url));
    assert_eq!(
        store["clients"].as_object().map(serde_json::Map::len).unwrap_or_default(),
        0,
        "none is registered"
    );
    cell.lives_and_ends().await;
}

async fn through_digits(cell: &Chat, site: &Site) {
    let (started, link) = cell.team.start(&cell.team.alice).await;
    let (callback, cookie) = site.through_pages(&link, &cell.account).await;
    let page = send(Method::GET, &callback, Some(&cookie)).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(cell.oidc.events().await.of(&cell.account).sign_ins, 1, "the code is exchanged");
    let tenant = format!("acme/{}", cell.team.alice.principal());
    assert!(stored(&cell.team.home)["sessions"][&tenant].is_null(), "nothing is in use before the digits");
    type_digits(&started, &page.digits()).await.says(&cell.success()).await;
}

/// A bot with public pages on this machine.
pub(super) async fn with_pages(row: &'static Row, way: &str) -> (Chat, Site) {
    let port = free_address().port();
    let url = format!("http://127.0.0.1:{port}");
    let site = Site { here: url.clone(), url };
    (at_site(row, way, port, &site).await, site)
}

async fn at_site(row: &'static Row, way: &str, port: u16, site: &Site) -> Chat {
    let api = format!(
        "[api]\npublic_url = {:?}\npublic_listen = \"127.0.0.1:{port}\"\nbehind_proxy = true\n\n",
        site.url
    );
    Chat::with(row, way, &api).await
}

// === impl Site ===

impl Site {
    /// Opens the link, presses its button and signs in. Returns the callback and the browser's cookie.
    pub(super) async fn through_pages(&self, link: &str, account: &str) -> (String, String) {
        let (location, cookie) = self.open(link).await;
        let callback = browser::sign_in(&location, account).await.url;
        // A client that threadkey makes has a callback of its own.
        let (at, _) = callback.split_once('?').unwrap();
        let own = ["/oauth/callback", "/oauth/callback/acme"].map(|path| format!("{}{path}", self.url));
        assert!(own.contains(&at.to_owned()), "{callback}");
        (self.here(&callback), cookie)
    }

    /// Opens the link and presses its button. Returns the provider's page and the browser's cookie.
    pub(super) async fn open(&self, link: &str) -> (String, String) {
        assert!(link.starts_with(&format!("{}/start/", self.url)), "{link}");
        let opened = send(Method::POST, &self.here(link), None).await;
        let header = |name: &str| opened.headers[name].to_str().unwrap().to_owned();
        let cookie = header("set-cookie").split(';').next().unwrap().to_owned();
        (header("location"), cookie)
    }

    fn here(&self, url: &str) -> String {
        url.replacen(&self.url, &self.here, 1)
    }
}

/// Types the digits of the last page into the form.
pub(super) async fn type_digits(started: &Reply, digits: &str) -> Reply {
    started.press("Enter digits").await.modal().submit(&[("code", digits)]).await.message()
}

/// `/auth start`, whose message has a device code.
pub(super) async fn by_device_on_discord(row: &'static Row) {
    let cell = Chat::new(row, "discord").await;
    let (started, page) = start_device(&cell.team, &cell.team.alice).await;
    browser::enter_code(&page, &cell.account, "allow").await;
    started.says(&cell.success()).await;
    cell.lives_and_ends().await;
}

/// `/auth start`, and the user's answer on another screen.
pub(super) async fn by_ciba_on_discord(row: &'static Row) {
    let cell = Chat::new(row, "discord").await;
    let provider = [("provider", "acme")];
    let started = cell.team.alice.command(&cell.team.general, "auth start", &provider).await;
    started.says("threadkey for Alice").await;
    let shown = cell.oidc.decide_elsewhere(&cell.account, "allow").await;
    assert_eq!(shown, "threadkey for Alice @alice");
    started.says(&cell.success()).await;
    cell.lives_and_ends().await;
}
