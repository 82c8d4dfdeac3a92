//! `threadkey login` with the certified authorization server: the browser comes back to a listener on
//! loopback (RFC 8252).
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

#[cfg(target_os = "linux")]
mod pages;

use std::{os::unix::fs::PermissionsExt as _, process::Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::support::{
    browser,
    network::free_address,
    oidc::{Oidc, OidcOptions},
    program::{Home, signal_process},
};

/// A running `threadkey login`, after it has printed its link.
pub(crate) struct Login {
    child: tokio::process::Child,
    pub(crate) link: String,
}

pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stderr: String,
}

impl Login {
    pub(crate) async fn start(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = home.command(&[&["login", "acme"], arguments].concat());
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let link = lines.next_line().await.expect("its output can be read").unwrap_or_default();
        Self { child, link }
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .expect("it is piped")
            .read_to_string(&mut stderr)
            .await
            .expect("it is UTF-8");
        let status = self.child.wait().await.expect("it ends");
        Ended { code: status.code().unwrap_or(-1), stderr }
    }

    fn redirect_uri(&self) -> String {
        self.parameter("redirect_uri")
    }

    fn state(&self) -> String {
        self.parameter("state")
    }

    fn parameter(&self, wanted: &str) -> String {
        let link = url::Url::parse(&self.link).expect("a link");
        link.query_pairs().find(|(name, _)| name == wanted).expect("it is there").1.into_owned()
    }
}

/// A client that follows no redirect.
fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.build().expect("a client")
}

pub(crate) async fn get(url: &str) -> (u16, String) {
    let answer = client().get(url).send().await.expect("the listener answers");
    (answer.status().as_u16(), answer.text().await.expect("a page"))
}

async fn server() -> Oidc {
    let redirect_uris = vec![format!("http://{}/callback", free_address())];
    Oidc::start(OidcOptions { redirect_uris, ..OidcOptions::default() }).await
}

fn any_port(server: &Oidc) -> Home {
    Home::new(&(server.config_toml("acme") + "redirect_any_port = true\n"))
}

/// A server, and a login there that waits for the browser.
async fn begun() -> (Oidc, Home, Login) {
    let server = server().await;
    let home = any_port(&server);
    let login = Login::start(&home, &[], &[]).await;
    (server, home, login)
}

fn stored(home: &Home) -> Value {
    let text = std::fs::read_to_string(home.store()).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&text).expect("it is JSON")
}

#[tokio::test]
async fn login_takes_the_answer_on_a_free_port_and_reports_success_after_the_exchange() {
    let server = server().await;
    let home = any_port(&server);
    let login = Login::start(&home, &[], &[("THREADKEY_LOG", "trace")]).await;
    assert_ne!(login.redirect_uri(), server.redirect_uri(), "another port than the configured one");
    let callback = browser::sign_in(&login.link, "alice").await;
    server.hold().await;
    let page = tokio::spawn({
        let url = callback.url.clone();
        async move { get(&url).await }
    });
    server.wait_for_held(1).await;
    assert!(!page.is_finished(), "the page waits for the exchange");
    server.release().await;
    let (status, page) = page.await.expect("a page");
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("Signed in at acme as alice@example.com"), "{page}");
    let ended = login.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("Signed in at acme as alice@example.com"), "{}", ended.stderr);
    for secret in [&callback.code, &callback.state] {
        assert!(!ended.stderr.contains(secret.as_str()), "the log shows a secret: {}", ended.stderr);
    }
    let session = &stored(&home)["sessions"]["acme/local"];
    let access_token = session["access_token"].as_str().expect("a session");
    assert!(!ended.stderr.contains(access_token) && !page.contains(access_token));
    assert_eq!(home.run(&["token", "acme"]).await.code, 0);
}

#[tokio::test]
async fn login_listens_on_the_exact_redirect_uri_of_a_provider_that_compares_ports() {
    let server = server().await;
    let home = Home::new(&server.config_toml("acme"));
    let login = Login::start(&home, &[], &[]).await;
    assert_eq!(login.redirect_uri(), server.redirect_uri());
    let second = home.run(&["login", "acme"]).await;
    let port = url::Url::parse(server.redirect_uri()).expect("a URL").port().expect("a port");
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.stderr.contains(&format!("port {port} of this machine")), "{second:?}");
    assert!(second.stderr.contains("`threadkey auth start acme`"), "{second:?}");
    let callback = browser::sign_in(&login.link, "alice").await;
    assert_eq!(get(&callback.url).await.0, 200);
    assert_eq!(login.ended().await.code, 0);
}

#[tokio::test]
async fn a_denial_is_shown_at_once_and_ends_the_sign_in() {
    let (_server, home, login) = begun().await;
    let denial = browser::deny(&login.link, "alice").await;
    let (status, page) = get(&denial.url).await;
    assert_eq!(status, 400);
    assert!(page.contains("You are not signed in") && page.contains("access_denied"), "{page}");
    let ended = login.ended().await;
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("access_denied"), "{}", ended.stderr);
    assert_eq!(stored(&home)["pending"].get("acme/local"), None);
}

#[tokio::test]
async fn stray_requests_and_answers_to_other_sign_ins_change_nothing() {
    let (server, _home, login) = begun().await;
    let redirect_uri = login.redirect_uri();
    let favicon = url::Url::parse(&redirect_uri).expect("a URL").join("/favicon.ico").expect("a URL");
    assert_eq!(get(favicon.as_str()).await.0, 404);
    for foreign in ["code=c-1&state=another", "code=c-1", "error=access_denied", "code=c-1&state=a&state=b"] {
        let (status, page) = get(&format!("{redirect_uri}?{foreign}")).await;
        assert_eq!(status, 400, "{foreign}");
        assert!(page.contains("belongs to another sign-in"), "{page}");
    }
    let client = client();
    let state = login.state();
    let ours = format!("{redirect_uri}?error=access_denied&state={state}");
    let rebound = client.get(&ours).header("host", "evil.example").send().await.expect("an answer");
    assert_eq!(rebound.status(), 421);
    assert_eq!(client.post(&ours).send().await.expect("an answer").status(), 405);
    let callback = browser::sign_in(&login.link, "alice").await;
    server.hold().await;
    let first = tokio::spawn({
        let url = callback.url.clone();
        async move { get(&url).await }
    });
    server.wait_for_held(1).await;
    let (status, page) = get(&callback.url).await;
    assert_eq!(status, 410, "a second answer is not taken: {page}");
    server.release().await;
    assert_eq!(first.await.expect("a page").0, 200);
    assert_eq!(login.ended().await.code, 0);
    assert_eq!(server.events().await.requests.len(), 1);
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_refused_and_nothing_is_sent() {
    let (server, _home, login) = begun().await;
    let callback = browser::sign_in(&login.link, "alice").await;
    let mixed = callback.url.replace("iss=http", "iss=https");
    assert_ne!(mixed, callback.url, "the server names itself (RFC 9207)");
    let (status, page) = get(&mixed).await;
    assert_eq!(status, 400);
    assert!(page.contains("nothing was sent"), "{page}");
    assert_eq!(login.ended().await.code, 2);
    assert_eq!(server.events().await.requests.len(), 0);
}

#[tokio::test]
async fn ctrl_c_cancels_the_sign_in_and_closes_the_listener() {
    let (_server, home, login) = begun().await;
    let redirect_uri = login.redirect_uri();
    assert!(stored(&home)["pending"].get("acme/local").is_some());
    let pid = login.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
    signal_process(pid, 2);
    let ended = login.ended().await;
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("the sign-in for acme/local is cancelled"), "{}", ended.stderr);
    assert_eq!(stored(&home)["pending"].get("acme/local"), None);
    let client = client();
    assert!(client.get(&redirect_uri).send().await.is_err(), "nothing listens");
}

#[tokio::test]
async fn a_sign_in_that_another_command_finishes_ends_the_login() {
    let (_server, home, login) = begun().await;
    let callback = browser::sign_in(&login.link, "alice").await;
    let pasted = home.run_with(&["auth", "code", "acme"], &callback.url).await;
    assert_eq!(pasted.code, 0, "{pasted:?}");
    let ended = login.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("Signed in at acme"), "{}", ended.stderr);
}

#[tokio::test]
async fn another_account_waits_for_the_choice_and_its_page_names_both() {
    let server = server().await;
    let home = any_port(&server);
    for (account, code) in [("alice", 0), ("bob", 2)] {
        let login = Login::start(&home, &[], &[]).await;
        let callback = browser::sign_in(&login.link, account).await;
        let (status, page) = get(&callback.url).await;
        assert_eq!(status, 200, "{page}");
        let ended = login.ended().await;
        assert_eq!(ended.code, code, "{}", ended.stderr);
        if account == "bob" {
            assert!(page.contains("bob@example.com") && page.contains("alice@example.com"), "{page}");
            assert!(ended.stderr.contains("`threadkey auth switch acme`"), "{}", ended.stderr);
        }
    }
    assert_eq!(home.run(&["auth", "switch", "acme"]).await.code, 0);
}

/// Puts an opener before the system's that writes its arguments to a file.
fn with_opener(home: &Home) -> (String, std::path::PathBuf) {
    let (folder, opened) = (home.path().join("bin"), home.path().join("opened"));
    std::fs::create_dir(&folder).expect("a folder");
    let opener = folder.join("xdg-open");
    let script =
        format!("#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\" >'{0}.new'\nmv '{0}.new' '{0}'\n", opened.display());
    std::fs::write(&opener, script).expect("a script");
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = std::env::var("PATH").unwrap_or_default();
    (format!("{}:{path}", folder.display()), opened)
}

/// A server, and a login there that has opened a browser. Returns the arguments of the opener too.
async fn begun_with_opener() -> (Oidc, Home, Login, String) {
    let server = server().await;
    let home = any_port(&server);
    let (path, opened) = with_opener(&home);
    let login = Login::start(&home, &[], &[("PATH", &path), ("DISPLAY", ":99")]).await;
    while !opened.exists() {
        tokio::task::yield_now().await;
    }
    let arguments = std::fs::read_to_string(&opened).expect("the opener ran");
    (server, home, login, arguments)
}

#[tokio::test]
async fn the_browser_opens_a_local_address_that_leads_to_the_provider_once() {
    let (_server, _home, login, arguments) = begun_with_opener().await;
    let (count, entrance) = arguments.split_once('\n').expect("two lines");
    assert_eq!(count, "1", "{arguments}");
    let entrance = entrance.trim_end();
    let client = client();
    let first = client.get(entrance).send().await.expect("an answer");
    assert_eq!(first.status(), 303);
    assert_eq!(first.headers()["location"], login.link.as_str());
    let state = login.state();
    assert!(!arguments.contains(&state), "other users of the machine can read arguments");
    assert_eq!(client.get(entrance).send().await.expect("an answer").status(), 410);
    let callback = browser::sign_in(&login.link, "alice").await;
    assert_eq!(get(&callback.url).await.0, 200);
    let ended = login.ended().await;
    assert!(ended.stderr.contains("Your browser opens the sign-in"), "{}", ended.stderr);
}

/// Requests an address as another user of the machine. Returns the status and the headers with the body.
#[cfg(target_os = "linux")]
fn get_as_a_stranger(url: &str) -> (u16, String) {
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "--"])
        .args(["curl", "--silent", "--include", "--noproxy", "*", url])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("setpriv runs curl");
    let answer = String::from_utf8(output.stdout).expect("it is UTF-8");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), answer)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn another_user_of_the_machine_gets_nothing_from_the_addresses_of_a_login() {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").map_or(1, |own| own.uid()) != 0 {
        println!("skipped: only root can act as two users");
        return;
    }
    let (_server, _home, login, arguments) = begun_with_opener().await;
    let entrance = arguments.lines().nth(1).expect("an address");
    let state = login.state();
    let denial = format!("{}?error=access_denied&state={state}", login.redirect_uri());
    for url in [entrance, &denial, entrance] {
        let (status, answer) = get_as_a_stranger(url);
        assert_eq!(status, 403, "{answer}");
        assert!(answer.contains("another user of this machine"), "{answer}");
        assert!(!answer.contains(&state) && !answer.to_lowercase().contains("location:"), "{answer}");
    }
    let client = client();
    let own = client.get(entrance).send().await.expect("an answer");
    assert_eq!(own.status(), 303, "the stranger has not used it up");
    let callback = browser::sign_in(&login.link, "alice").await;
    assert_eq!(get(&callback.url).await.0, 200);
    assert_eq!(login.ended().await.code, 0);
}

#[tokio::test]
async fn two_logins_at_once_end_one_sign_in_each_and_the_newer_one_wins() {
    let server = server().await;
    let home = any_port(&server);
    let first = Login::start(&home, &[], &[]).await;
    let second = Login::start(&home, &[], &[]).await;
    assert_ne!(first.redirect_uri(), second.redirect_uri());
    let late = browser::sign_in(&first.link, "bob").await;
    let ended = first.ended().await;
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("was replaced by a newer one"), "{}", ended.stderr);
    let pasted = home.run_with(&["auth", "code", "acme"], &late.url).await;
    assert_eq!(pasted.code, 2, "the answer of the first one is no longer taken: {pasted:?}");
    let callback = browser::sign_in(&second.link, "alice").await;
    assert_eq!(get(&callback.url).await.0, 200);
    assert_eq!(second.ended().await.code, 0);
    assert_eq!(stored(&home)["sessions"]["acme/local"]["account"], "alice@example.com");
}

#[tokio::test]
async fn no_browser_opens_over_ssh_or_when_it_is_not_wanted() {
    let server = server().await;
    let home = any_port(&server);
    let (path, opened) = with_opener(&home);
    let desktop = [("PATH", path.as_str()), ("DISPLAY", ":99")];
    let remote = [&desktop[..], &[("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")]].concat();
    for (arguments, variables) in [(&["--no-browser"][..], &desktop[..]), (&[], &remote)] {
        let login = Login::start(&home, arguments, variables).await;
        let callback = browser::sign_in(&login.link, "alice").await;
        assert_eq!(get(&callback.url).await.0, 200);
        let ended = login.ended().await;
        assert!(ended.stderr.contains("Open this link in a browser on this machine"), "{}", ended.stderr);
        assert!(ended.stderr.contains("ssh -N -L"), "{}", ended.stderr);
    }
    assert!(!opened.exists());
}

#[tokio::test]
async fn a_redirect_uri_elsewhere_leaves_the_paste() {
    let home = Home::new(
        "[providers.acme]\nauthorization_endpoint = \"http://127.0.0.1:1/authorize\"\n\
         token_endpoint = \"http://127.0.0.1:1/token\"\nclient_id = \"threadkey\"\n\
         redirect_uri = \"https://id.example.com/code\"\n",
    );
    let login = home.run(&["login", "acme"]).await;
    assert_eq!(login.code, 0, "{login:?}");
    assert!(login.stdout.starts_with("http://127.0.0.1:1/authorize?"), "{login:?}");
    assert!(login.stderr.contains("`threadkey auth code acme`"), "{login:?}");
}
