//! The ways of a token in a terminal: `token --probe`, the credential helper of git, and `exec`.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

mod exec;
mod git;
mod probe;

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    authserver::{self, AuthServer, Lifetimes},
    program::{Ended, Home},
};

/// A provider and a home whose user is signed in there as alice.
struct Terminal {
    server: AuthServer,
    home: Home,
    now: i64,
}

impl Terminal {
    /// Signs in. `more` stands after the provider's own section. The program's clock stands still.
    async fn start(more: &str) -> Self {
        let server = AuthServer::start(authserver::Options::default()).await;
        server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
        let home = Home::new(&server.config_toml("acme"));
        let now = server.now_ms() / 1000;
        home.set_time(now);
        let this = Self { server, home, now };
        this.sign_in("local").await;
        this.configure(more);
        this
    }

    fn configure(&self, more: &str) {
        self.home.configure(&format!("{}{more}", self.server.config_toml("acme")));
    }

    async fn sign_in(&self, principal: &str) {
        let started = self.home.run(&["auth", "start", "acme", "--json", "--as", principal]).await;
        let started: Value = serde_json::from_str(&started.stdout).unwrap();
        let callback = self.server.allow(started["authorize_url"].as_str().unwrap(), "alice");
        let done = self.home.run_with(&["auth", "code", "acme", "--as", principal], &callback).await;
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// Moves the program's clock.
    fn advance(&mut self, seconds: i64) {
        self.now += seconds;
        self.home.set_time(self.now);
    }

    /// Lets the provider end the access tokens before their time.
    fn kill_tokens(&self) {
        self.server.advance(Duration::from_secs(100 * 3600));
    }

    fn refreshes(&self) -> u64 {
        u64::from(self.server.events().of("alice").refreshes)
    }

    /// Prints a token and asserts that this succeeded.
    async fn token(&self, more: &[&str]) -> String {
        let ended = self.run_token(more).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout.trim_end().to_owned()
    }

    async fn run_token(&self, more: &[&str]) -> Ended {
        let arguments: Vec<_> = ["token", "acme"].iter().chain(more).copied().collect();
        self.home.run(&arguments).await
    }
}
