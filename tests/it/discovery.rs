//! Providers whose endpoints their issuer publishes: the fetches, the cache, and the sign-ins.

mod browser_return;
mod on_discord;

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use threadkey::{
    broker::{Broker, FinishError, StartError, TokenError},
    ids::{Principal, ProviderId, Snowflake, Tenant},
    net::Reach,
    oauth::{Client, DiscoveryCache, Pasted, Provider, ProviderSettings, Providers, Publisher, Undiscovered},
    store::{FileStore, FileStoreOptions, Store},
    sys::clock::Clock,
};

use crate::{
    choice::expect_signed_in,
    fixtures,
    support::{
        authserver::{AuthServer, Lifetimes, Options},
        browser,
        oidc::{Oidc, OidcOptions},
        program::Home,
        raw::{self, Ending, RawServer},
    },
};

const NOW: i64 = 1_795_358_672;
const A_DAY: i64 = 24 * 60 * 60;

/// An authorization server, and the server that publishes its metadata.
struct Rig {
    server: AuthServer,
    publisher: RawServer,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        let server = AuthServer::start(Options::default()).await;
        server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
        let folder = tempfile::tempdir().unwrap();
        Self { server, publisher: RawServer::start().await, clock: Clock::fixed(NOW), folder }
    }

    fn issuer(&self) -> String {
        self.publisher.token_endpoint().trim_end_matches("/token").to_owned()
    }

    /// The document of the issuer, with changes.
    fn document(&self, changes: Value) -> Value {
        let mut document = json!({
            "issuer": self.issuer(),
            "authorization_endpoint": self.server.authorization_endpoint(),
            "token_endpoint": self.server.token_endpoint(),
            "revocation_endpoint": self.server.revocation_endpoint(),
            "code_challenge_methods_supported": ["S256"],
        });
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        document
    }

    /// Publishes a document at the next request.
    fn publish(&self, changes: Value) {
        self.publisher.answer(raw::json(200, &self.document(changes).to_string()), Ending::Close);
    }

    /// Answers the next request that there is no such document.
    fn publish_nothing(&self) {
        self.publisher.answer(raw::json(404, "{}"), Ending::Close);
    }

    fn undiscovered(&self) -> Undiscovered {
        let issuer = self.issuer();
        let settings = ProviderSettings {
            issuer: Some(issuer.clone()),
            authorization_endpoint: String::new(),
            token_endpoint: String::new(),
            revocation_endpoint: None,
            // The embedded server names itself in its id tokens.
            id_token_issuer: Some(self.server.token_endpoint().trim_end_matches("/token").to_owned()),
            reach: Some(Reach::default().listing_host_of(&issuer.parse().unwrap())),
            ..fixtures::settings(&self.server)
        };
        Undiscovered { id: acme(), settings, publisher: Publisher::Issuer(issuer) }
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("auth.json")
    }

    fn cache(&self) -> DiscoveryCache {
        DiscoveryCache::beside(&self.store())
    }

    /// Starts another process on the same store and cache.
    fn process(&self) -> Broker {
        let store = open(&self.store(), &self.clock);
        let providers = Providers::with_undiscovered([], [self.undiscovered()]).cached_in(self.cache());
        Broker::new(store, providers, Client::new(self.clock.clone()).unwrap(), self.clock.clone())
    }

    async fn sign_in(&self, broker: &Broker, account: &str) {
        let started = broker.start(&tenant(803), user(803)).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), account).await;
        let finished = broker.finish(user(803), None, paste_of(&callback.url)).await.unwrap();
        expect_signed_in(finished);
    }
}

fn open(path: &Path, clock: &Clock) -> Arc<dyn Store> {
    Arc::new(FileStore::open(path, clock.clone(), FileStoreOptions::default()).unwrap())
}

/// Returns a paste of the answer. The embedded server has an issuer of its own, so its `iss` is left out.
fn paste_of(callback: &str) -> Pasted {
    let mut url: url::Url = callback.parse().unwrap();
    let kept: Vec<_> = url
        .query_pairs()
        .filter(|(name, _)| name != "iss")
        .map(|(n, v)| (n.into_owned(), v.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
    Pasted::parse(url.as_str()).unwrap()
}

fn acme() -> ProviderId {
    "acme".parse().unwrap()
}

fn user(id: u64) -> Principal {
    Principal::User(Snowflake(id))
}

fn tenant(id: u64) -> Tenant {
    Tenant { provider: acme(), principal: user(id) }
}

fn token_endpoint(broker: &Broker) -> Option<String> {
    broker.providers().get(&acme()).map(|provider: Arc<Provider>| provider.token_endpoint().to_string())
}

#[tokio::test]
async fn a_storm_of_sign_in_starts_makes_one_fetch_and_a_sign_in_works() {
    let rig = Rig::start().await;
    rig.publish(json!({}));
    let broker = rig.process();
    let starts = (1..=40).map(|id| {
        let broker = broker.clone();
        tokio::spawn(async move { broker.start(&tenant(id), user(id)).await.map(drop) })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    assert_eq!(rig.publisher.count(), 1);
    let asked = &rig.publisher.requests()[0];
    assert!(asked.line.starts_with("GET /.well-known/oauth-authorization-server"), "{}", asked.line);
    rig.sign_in(&broker, "alice").await;
    rig.clock.advance(3600);
    broker.token(&tenant(803), Duration::from_secs(60)).await.unwrap();
    assert_eq!(rig.publisher.count(), 1, "a refresh fetches nothing");
}

#[tokio::test]
async fn callers_that_wait_for_the_same_fetch_share_its_failure() {
    let rig = Rig::start().await;
    rig.publish_nothing();
    rig.publish_nothing();
    let broker = rig.process();
    let starts = (1..=20).map(|id| {
        let broker = broker.clone();
        async move { broker.start(&tenant(id), user(id)).await }
    });
    for failed in futures_util::future::join_all(starts).await {
        let error = failed.expect_err("nothing is published");
        assert!(matches!(error, StartError::Undiscovered { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("threadkey does not know the endpoints of acme, so no sign-in was started. The operator must mend the cause: "), "{text}");
        assert!(
            text.contains(&format!("{}/.well-known/oauth-authorization-server answers 404", rig.issuer())),
            "{text}"
        );
    }
    assert_eq!(rig.publisher.count(), 2, "both addresses were tried once");
    // A later start fetches again. The second address has the document.
    rig.publish_nothing();
    rig.publish(json!({}));
    rig.sign_in(&broker, "alice").await;
    let last = rig.publisher.requests().pop().unwrap();
    assert!(last.line.starts_with("GET /.well-known/openid-configuration"), "{}", last.line);
}

#[tokio::test]
async fn with_a_cache_a_process_starts_and_signs_in_while_the_issuer_is_away() {
    let mut rig = Rig::start().await;
    rig.publish(json!({}));
    rig.process().start(&tenant(1), user(1)).await.unwrap();
    let issuer = rig.issuer();
    let undiscovered = rig.undiscovered();
    rig.publisher = RawServer::start().await;
    let cached = Providers::with_undiscovered([], [undiscovered]).cached_in(rig.cache());
    let store = open(&rig.store(), &rig.clock);
    let broker = Broker::new(store, cached, Client::new(rig.clock.clone()).unwrap(), rig.clock.clone());
    rig.sign_in(&broker, "alice").await;
    assert_eq!(broker.providers().get(&acme()).unwrap().issuer(), Some(issuer.as_str()));
}

#[tokio::test]
async fn without_a_cache_a_fresh_token_is_served_and_a_stale_one_names_the_cause() {
    let rig = Rig::start().await;
    rig.publish(json!({}));
    rig.sign_in(&rig.process(), "alice").await;
    std::fs::remove_dir_all(rig.cache().folder()).unwrap();
    let broker = rig.process();
    broker.token(&tenant(803), Duration::from_secs(60)).await.unwrap();
    assert_eq!(rig.publisher.count(), 1, "a fresh token needs no endpoint");
    let none = broker.token(&tenant(5), Duration::from_secs(60)).await.expect_err("not signed in");
    assert!(matches!(none, TokenError::NoSession(_)), "{none:?}");
    rig.clock.advance(3600);
    rig.publisher.answer(raw::json(503, "{}"), Ending::Close);
    rig.publisher.answer(raw::json(503, "{}"), Ending::Close);
    let error = broker.token(&tenant(803), Duration::from_secs(60)).await.expect_err("no endpoint is known");
    let text = error.to_string();
    assert!(text.contains("so the session is kept. Try again in a minute"), "{text}");
    rig.publish(json!({}));
    broker.token(&tenant(803), Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn old_metadata_is_refreshed_and_a_failure_keeps_it() {
    let rig = Rig::start().await;
    rig.publish(json!({}));
    let broker = rig.process();
    broker.start(&tenant(1), user(1)).await.unwrap();
    rig.clock.advance(A_DAY - 1);
    broker.discover_old().await;
    assert_eq!(rig.publisher.count(), 1, "it is not a day old");
    rig.clock.advance(1);
    rig.publish_nothing();
    rig.publish(json!({"issuer": "https://evil.example"}));
    broker.discover_old().await;
    assert_eq!(rig.publisher.count(), 3);
    assert_eq!(token_endpoint(&broker), Some(rig.server.token_endpoint()));
    let moved = format!("{}/moved", rig.issuer());
    rig.publish(json!({"token_endpoint": moved}));
    // A start does not wait for the fetch.
    broker.start(&tenant(2), user(2)).await.unwrap();
    broker.drained().await;
    assert_eq!(token_endpoint(&broker), Some(moved.clone()));
    assert_eq!(token_endpoint(&rig.process()), Some(moved), "another process reads it");
    assert_eq!(rig.publisher.count(), 4);
}

#[tokio::test]
async fn a_session_of_before_keeps_its_token_endpoint_when_another_one_is_published() {
    let rig = Rig::start().await;
    rig.publish(json!({}));
    let broker = rig.process();
    rig.sign_in(&broker, "alice").await;
    rig.publish(json!({"token_endpoint": format!("{}/thief", rig.issuer())}));
    broker.discover_again(&acme()).await.unwrap().unwrap();
    rig.clock.advance(3600);
    for process in [broker, rig.process()] {
        process.token(&tenant(803), Duration::from_secs(60)).await.unwrap();
        rig.clock.advance(3600);
    }
    assert_eq!(rig.publisher.count(), 2, "no refresh token went to the published address");
}

#[tokio::test]
async fn an_answer_without_iss_is_refused_where_the_issuer_promises_one() {
    let rig = Rig::start().await;
    rig.publish(json!({"authorization_response_iss_parameter_supported": true}));
    let broker = rig.process();
    let started = broker.start(&tenant(803), user(803)).await.unwrap();
    let link = started.link().unwrap();
    let state = link.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let paste = |more: &str| {
        Pasted::parse(&format!("http://127.0.0.1:1/callback?code=c&state={state}{more}")).unwrap()
    };
    let error = broker.finish(user(803), None, paste("")).await.expect_err("no iss");
    assert!(matches!(error, FinishError::IssuerMissing(_)), "{error:?}");
    let error = broker.finish(user(803), None, paste("&iss=https%3A%2F%2Fevil.example")).await;
    assert!(matches!(error.expect_err("another iss"), FinishError::IssuerMismatch { .. }));
}

#[tokio::test]
async fn metadata_that_breaks_a_rule_is_reported_and_nothing_is_cached() {
    let rig = Rig::start().await;
    for (changes, problem) in [
        (json!({"issuer": "https://evil.example"}), "both must be the same text"),
        (json!({"token_endpoint": "http://id.example/token"}), "http would show secrets to the network"),
        (json!({"code_challenge_methods_supported": ["plain"]}), "PKCE with S256"),
        (json!({"authorization_endpoint": null}), "publishes no authorization_endpoint"),
        (json!({"x": "y".repeat(10_000_000)}), "a document of more than 1 MiB"),
    ] {
        rig.publish(changes);
        rig.publish_nothing();
        let error = rig.process().start(&tenant(1), user(1)).await.expect_err(problem);
        assert!(matches!(&error, StartError::Undiscovered { problem, .. } if !problem.is_temporary()));
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(rig.cache().read(&acme(), &rig.issuer()), None);
    }
}

#[tokio::test]
async fn a_published_private_endpoint_gets_no_request() {
    let rig = Rig::start().await;
    rig.publish(json!({"token_endpoint": "https://10.0.0.1/token"}));
    let broker = rig.process();
    let started = broker.start(&tenant(803), user(803)).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let error = broker.finish(user(803), None, paste_of(&callback.url)).await;
    let text = error.expect_err("it is private").to_string();
    assert!(text.contains("10.0.0.1 is a private address"), "{text}");
    assert!(text.contains("your code was not used"), "{text}");
}

#[tokio::test]
async fn a_path_issuer_alone_signs_in_by_the_command_line() {
    let options = OidcOptions {
        access_token_ttl: Duration::from_secs(3600),
        issuer_path: "/realms/one".into(),
        ..OidcOptions::default()
    };
    let oidc = Oidc::start(options).await;
    let issuer = oidc.issuer();
    assert!(issuer.ends_with("/realms/one"), "{issuer}");
    let home = Home::new(&format!(
        "[providers.acme]\nissuer = {issuer:?}\nclient_id = {:?}\nredirect_uri = {:?}\n",
        oidc.client_id(),
        oidc.redirect_uri()
    ));
    let checked = home.run(&["config", "check"]).await;
    assert_eq!(checked.code, 0, "{checked:?}");
    let listed = home.run(&["providers"]).await;
    assert!(listed.stdout.contains(&format!("acme  published by {issuer}, not fetched yet")), "{listed:?}");
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    assert_eq!(started.code, 0, "{started:?}");
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), "alice").await;
    let done = home.run_with(&["auth", "code", "acme"], &callback.url).await;
    assert_eq!(done.code, 0, "{done:?}");
    home.set_offset(3600);
    let token = home.run(&["token", "acme"]).await;
    assert_eq!(token.code, 0, "{token:?}");
    assert_eq!(oidc.events().await.of("alice").refreshes, 1);
    let listed = home.run(&["providers"]).await;
    assert!(
        listed.stdout.contains(&format!("acme  {issuer}/token\n      published by {issuer}, fetched 1 h")),
        "{listed:?}"
    );
    let doctor = home.run(&["doctor"]).await;
    assert!(
        doctor.stdout.contains(&format!("{issuer} publishes {issuer}/token; the metadata of before was 1 h")),
        "{doctor:?}"
    );
    let listed = home.run(&["providers", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["configured"][0]["publisher"], issuer);
    drop(oidc);
    let doctor = home.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("old and stays in use"), "{doctor:?}");
}

#[tokio::test]
async fn two_processes_that_discover_at_once_leave_one_whole_file() {
    let rig = Rig::start().await;
    (0..2).for_each(|_| rig.publish(json!({})));
    let (one, two) = (rig.process(), rig.process());
    let (alice, bob) = (tenant(1), tenant(2));
    let (one, two) = tokio::join!(one.start(&alice, user(1)), two.start(&bob, user(2)));
    one.and(two).expect("both begin");
    assert!(rig.cache().read(&acme(), &rig.issuer()).is_some());
    let names = std::fs::read_dir(rig.cache().folder()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["acme.json"], "no temp file stays");
}

#[tokio::test]
async fn metadata_from_the_future_serves_and_is_fetched_again() {
    let rig = Rig::start().await;
    rig.publish(json!({}));
    rig.process().start(&tenant(1), user(1)).await.unwrap();
    rig.clock.advance(-A_DAY);
    let broker = rig.process();
    let moved = format!("{}/moved", rig.issuer());
    rig.publish(json!({"token_endpoint": moved}));
    broker.start(&tenant(2), user(2)).await.expect("the cached endpoints serve at once");
    broker.drained().await;
    assert_eq!((rig.publisher.count(), token_endpoint(&broker)), (2, Some(moved)));
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_costs_no_sign_in() {
    let rig = Rig::start().await;
    // A file stands where the folder has to be.
    threadkey::sys::files::replace_private(rig.cache().folder(), b"").unwrap();
    for processes in 1..=2 {
        rig.publish(json!({}));
        rig.sign_in(&rig.process(), "alice").await;
        assert_eq!(rig.publisher.count(), processes, "each process fetches for itself");
    }
}

/// An issuer at fault: its answer, the fault in words, and the exit code of `doctor`.
type Fault = (fn(&str) -> Vec<u8>, &'static str, i32);

/// The document of an issuer, with changes.
fn document_of(issuer: &str, changes: Value) -> Vec<u8> {
    let mut document = json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "code_challenge_methods_supported": ["S256"],
    });
    document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    raw::json(200, &document.to_string())
}

#[tokio::test]
async fn each_fault_of_an_issuer_is_named_by_doctor_and_by_a_start() {
    let loops = |issuer: &str| {
        let location = format!("location: {issuer}/.well-known/oauth-authorization-server\r\n");
        raw::framed(302, &location, b"")
    };
    let faults: [Fault; 5] = [
        (|_| raw::json(503, "{}"), "answers 503", 5),
        (
            |issuer| document_of(issuer, json!({"issuer": "https://evil.example"})),
            "both must be the same text",
            2,
        ),
        (|issuer| document_of(issuer, json!({"code_challenge_methods_supported": []})), "PKCE with S256", 2),
        (|issuer| document_of(issuer, json!({"x": "y".repeat(10_000_000)})), "more than 1 MiB", 2),
        (loops, "redirects", 2),
    ];
    for (answer, words, exit) in faults {
        for command in [&["doctor"][..], &["auth", "start", "acme"]] {
            let publisher = RawServer::start().await;
            let issuer = publisher.token_endpoint().trim_end_matches("/token").to_owned();
            // Both well-known addresses have the fault, and a redirect leads to the first again.
            (0..8).for_each(|_| publisher.answer(answer(&issuer), Ending::Close));
            let home = Home::new(&format!(
                "[providers.acme]\nissuer = {issuer:?}\nclient_id = \"threadkey\"\nredirect_uri = \"http://127.0.0.1:28471/callback\"\n"
            ));
            let ended = home.run(command).await;
            let shown = format!("{}{}", ended.stdout, ended.stderr);
            assert!(shown.contains(words), "{words}: {ended:?}");
            assert_eq!(ended.code, exit, "{words}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn a_section_that_config_init_writes_for_an_issuer_signs_in() {
    let options = OidcOptions { access_token_ttl: Duration::from_secs(3600), ..OidcOptions::default() };
    let oidc = Oidc::start(options).await;
    let home = Home::new("");
    let run = async |arguments: &[&str], input: &str| {
        let named = ["--config", "new/threadkey.toml"];
        home.run_with(&named.iter().chain(arguments).copied().collect::<Vec<_>>(), input).await
    };
    let (client_id, redirect_uri) =
        (format!("client_id={}", oidc.client_id()), format!("redirect_uri={}", oidc.redirect_uri()));
    let init = async |issuer: &str| {
        let arguments = [
            "config",
            "init",
            "--issuer",
            issuer,
            "--name",
            "acme",
            "--set",
            &client_id,
            "--set",
            &redirect_uri,
            "--discord-token-env",
            "",
            "--agent",
            "",
        ];
        run(&arguments, "").await
    };
    for wrong in ["id.example.com", "http://id.example.com", "ftp://id.example.com", "https://a b", ""] {
        let refused = init(wrong).await;
        assert_eq!(refused.code, 2, "{wrong}: {refused:?}");
        assert!(!home.path().join("new/threadkey.toml").exists(), "{wrong}: nothing is written");
    }
    let done = init(oidc.issuer()).await;
    assert_eq!(done.code, 0, "{done:?}");
    let started = run(&["auth", "start", "acme", "--json"], "").await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap_or_else(|_| panic!("{started:?}"));
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), "alice").await;
    let done = run(&["auth", "code", "acme"], &callback.url).await;
    assert_eq!(done.code, 0, "{done:?}");
}
