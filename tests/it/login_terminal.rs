//! `threadkey login` in a real shell on a pseudo-terminal: the link, the paste, Ctrl-C at each point, and
//! the terminal afterwards.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{os::unix::fs::symlink, time::Duration};

use serde_json::Value;

use crate::{
    pastes::{CTRL_C, Shell},
    support::{
        authserver::{AuthServer, LifeState, Lifetimes, Options},
        browser,
        network::free_address,
        program::{Home, path},
    },
};

/// A provider that sends the browser back to one port of this machine.
struct Case {
    server: AuthServer,
    home: Home,
    redirect_uri: String,
}

impl Case {
    async fn start() -> Self {
        Self::back_to(format!("http://{}/callback", free_address())).await
    }

    async fn back_to(redirect_uri: String) -> Self {
        let redirect_uris = vec![redirect_uri.clone()];
        let server = AuthServer::start(Options { redirect_uris, ..Options::default() }).await;
        server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
        let home = Home::new(&server.config_toml_for("acme", &redirect_uri));
        Self { server, home, redirect_uri }
    }

    /// Runs `threadkey login` up to its question. Returns the link.
    async fn login(&self, shell: &mut Shell) -> String {
        shell.send(&format!("{} login acme; echo exit=$?\n", path().display())).await;
        let begin = self.server.authorization_endpoint();
        shell.until(&begin).await;
        let link = format!("{begin}{}", shell.until("\r\n").await);
        shell.until("> ").await;
        link
    }

    fn stored(&self, section: &str) -> Value {
        let text = std::fs::read_to_string(self.home.store()).expect("a store");
        let store: Value = serde_json::from_str(&text).expect("it is JSON");
        store[section]["acme/local"].clone()
    }

    /// Asserts that no sign-in is left, and the shell is as before.
    async fn assert_nothing_left(&self, shell: &mut Shell, point: &str) {
        shell.until("exit=2").await;
        shell.assert_sane().await;
        assert!(self.stored("pending").is_null(), "{point}");
        assert!(self.stored("sessions").is_null(), "{point}");
    }
}

#[tokio::test]
async fn at_a_terminal_a_paste_finishes_a_login_and_the_terminal_is_as_before() {
    for (term, before, after) in [("dumb", "", "\n"), ("xterm", "\x1b[200~", "\x1b[201~\r")] {
        let case = Case::start().await;
        let mut shell = Shell::start(&case.home, term, &[]).await;
        let link = case.login(&mut shell).await;
        assert!(shell.output.contains("paste its whole address here"), "{:?}", shell.output);
        let callback = browser::sign_in(&link, "alice").await;
        let (first, second) = callback.url.split_at(callback.url.len() / 2);
        shell.send(&format!("{before}{first}\n{second}{after}")).await;
        shell.until("Signed in at acme as alice@example.com.").await;
        shell.until("exit=0").await;
        shell.assert_sane().await;
        assert!(!shell.output.contains(&callback.code), "{:?}", shell.output);
        assert_eq!(case.stored("sessions")["account"], "alice@example.com");
    }
}

#[tokio::test]
async fn a_browser_that_comes_back_ends_the_question_and_restores_the_terminal() {
    let case = Case::start().await;
    let mut shell = Shell::start(&case.home, "xterm", &[]).await;
    let link = case.login(&mut shell).await;
    // The user has begun to type.
    shell.send("http://").await;
    let callback = browser::sign_in(&link, "alice").await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let page = client.get(&callback.url).send().await.expect("a page");
    assert_eq!(page.status(), 200);
    shell.until("Signed in at acme as alice@example.com.").await;
    shell.until("exit=0").await;
    shell.assert_sane().await;
}

#[tokio::test]
async fn a_wrong_paste_at_a_login_asks_again_and_the_browser_can_still_come_back() {
    for by_browser in [false, true] {
        let case = Case::start().await;
        let mut shell = Shell::start(&case.home, "xterm", &[]).await;
        let link = case.login(&mut shell).await;
        let foreign = format!("{}?code=abc&state=another\n", case.redirect_uri);
        for (paste, problem) in [
            ("\n", "that was empty"),
            ("hello world\n", "contains no code"),
            (foreign.as_str(), "its state does not match"),
            ("a-wrong-code\n", "acme does not accept that code"),
        ] {
            shell.send(paste).await;
            shell.until(problem).await;
            shell.until("paste the address of its last page").await;
            shell.until("> ").await;
        }
        let callback = browser::sign_in(&link, "alice").await;
        if by_browser {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            assert_eq!(client.get(&callback.url).send().await.expect("a page").status(), 200);
        } else {
            shell.send(&format!("{}\n", callback.url)).await;
        }
        shell.until("Signed in at acme as alice@example.com.").await;
        shell.until("exit=0").await;
        shell.assert_sane().await;
    }
}

#[tokio::test]
async fn ctrl_c_at_the_question_of_a_login_leaves_no_sign_in() {
    let case = Case::start().await;
    let mut shell = Shell::start(&case.home, "xterm", &[]).await;
    for point in ["", "http://127.0.0.1:1/callback?co", "\x1b[200~http://127.0.0.1:1/callback?co"] {
        case.login(&mut shell).await;
        assert!(case.stored("pending").is_object());
        shell.send(&format!("{point}{CTRL_C}")).await;
        shell.until("interrupted: the sign-in for acme/local is cancelled").await;
        case.assert_nothing_left(&mut shell, point).await;
    }
    assert_eq!(case.server.count(), 0, "nothing was sent");
}

#[tokio::test]
async fn ctrl_c_during_the_exchange_drops_and_revokes_the_late_grant() {
    let case = Case::start().await;
    let mut shell = Shell::start(&case.home, "xterm", &[]).await;
    for by_browser in [false, true] {
        let link = case.login(&mut shell).await;
        let callback = browser::sign_in(&link, "alice").await;
        case.server.hold();
        let page = tokio::spawn({
            let url = callback.url.clone();
            async move {
                let client = reqwest::Client::builder().no_proxy().build().expect("a client");
                client.get(&url).send().await.expect("a page").text().await.expect("a text")
            }
        });
        if !by_browser {
            page.abort();
            shell.send(&format!("{}\n", callback.url)).await;
        }
        case.server.wait_for_held(1).await;
        shell.send(CTRL_C).await;
        shell.until("threadkey waits for its answer, to revoke that grant").await;
        if by_browser {
            let page = page.await.expect("a page");
            assert!(page.contains("The sign-in in the terminal has ended"), "{page}");
        }
        case.server.release();
        shell.until("interrupted: the sign-in for acme/local is cancelled").await;
        case.assert_nothing_left(&mut shell, "during the exchange").await;
        let live = case.server.lives().into_iter().filter(|life| life.state == LifeState::Live).count();
        assert_eq!(live, 0, "the grant is revoked");
    }
}

#[tokio::test]
async fn a_second_ctrl_c_during_the_exchange_ends_the_command_at_once() {
    let case = Case::start().await;
    let mut shell = Shell::start(&case.home, "xterm", &[]).await;
    let link = case.login(&mut shell).await;
    let callback = browser::sign_in(&link, "alice").await;
    case.server.hold();
    shell.send(&format!("{}\n", callback.url)).await;
    case.server.wait_for_held(1).await;
    shell.send(CTRL_C).await;
    shell.until("Ctrl-C again ends this command at once").await;
    shell.send(CTRL_C).await;
    case.assert_nothing_left(&mut shell, "a second one").await;
    case.server.release();
}

#[tokio::test]
async fn ctrl_c_at_a_login_without_a_listener_leaves_no_sign_in() {
    let case = Case::back_to("https://id.example/code".to_owned()).await;
    let mut shell = Shell::start(&case.home, "xterm", &[]).await;
    case.login(&mut shell).await;
    assert!(shell.output.contains("the whole address of the page that you ended on"), "{:?}", shell.output);
    shell.send(CTRL_C).await;
    shell.until("interrupted: the sign-in for acme/local is cancelled").await;
    case.assert_nothing_left(&mut shell, "a paste alone").await;
}

#[tokio::test]
async fn a_browser_that_cannot_be_started_leaves_the_link_and_the_question() {
    let case = Case::start().await;
    let folder = case.home.path().join("bin");
    std::fs::create_dir(&folder).expect("a folder");
    let found = std::env::split_paths(&std::env::var_os("PATH").expect("a path"))
        .map(|folder| folder.join("stty"))
        .find(|file| file.is_file());
    symlink(found.expect("stty"), folder.join("stty")).expect("a link");
    let variables = [("PATH", folder.to_str().expect("a path")), ("DISPLAY", ":99")];
    let mut shell = Shell::start(&case.home, "xterm", &variables).await;
    let link = case.login(&mut shell).await;
    assert!(shell.output.contains("Open this link in a browser on this machine"), "{:?}", shell.output);
    let callback = browser::sign_in(&link, "alice").await;
    shell.send(&format!("{}\n", callback.url)).await;
    shell.until("exit=0").await;
    shell.assert_sane().await;
}

#[tokio::test]
async fn a_port_in_use_ends_a_login_at_once_and_starts_no_sign_in() {
    let case = Case::start().await;
    let address = case.redirect_uri.strip_prefix("http://").and_then(|uri| uri.strip_suffix("/callback"));
    let _taken = std::net::TcpListener::bind(address.expect("an address")).expect("the port");
    let mut shell = Shell::start(&case.home, "xterm", &[]).await;
    shell.send(&format!("{} login acme; echo exit=$?\n", path().display())).await;
    shell.until("is in use: end the program that listens there").await;
    shell.until("exit=2").await;
    shell.assert_sane().await;
    assert!(!case.home.store().exists(), "no sign-in was started");
}
