//! Sends unique secrets through every path of the running system, and then searches every place
//! that others than their owner can read: the logs of every process at trace level, error texts,
//! the arguments of every process, and messages on Discord.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

mod hunt;

use serde_json::{Value, json};

use crate::{
    support::{
        authserver::{AuthServer, Reply},
        browser,
        discord::Channel,
        program::Running,
    },
    town::{AN_HOUR, Town, authserver, enter, said},
};
use hunt::Hunt;

const DISCORD_TOKEN: &str = "canary.discord.token-7f2c1d9e";
const CLIENT_SECRET: &str = "canary-client-secret-51b0e8aa";
/// The trace level, and the secrets that come from variables.
const ENVIRONMENT: [(&str, &str); 3] =
    [("THREADKEY_LOG", "trace"), ("DISCORD_TOKEN", DISCORD_TOKEN), ("ACME_SECRET", CLIENT_SECRET)];
const MADE_UP_CODE: &str = "canary-code-c0ffee00d15ea5e";

/// An agent with secrets in its environment that handles them carelessly.
const CARELESS: &str = r#"
printf %s "$THREADKEY_CAPABILITY" > capability
case "$line" in
  *tell*)
    say "I hold $THREADKEY_CAPABILITY and $TOKEN, "
    say "$(printf %.20s "$TOKEN")"; say "$(printf %s "$TOKEN" | tail -c +21)"
    note "{\"sessionUpdate\":\"tool_call\",\"toolCallId\":\"1\",\"title\":\"curl -H $TOKEN\",\"status\":\"pending\"}"
    say " told"; done_with end_turn ;;
  *crash*) touch "$HOME/die"; env >&2; say "$TOKEN"; exit 3 ;;
  *) say noted; done_with end_turn ;;
esac"#;

fn careless_agent() -> String {
    let script =
        format!("[ -e \"$HOME/die\" ] && {{ env >&2; exit 1; }}\n{}", super::workers::script(CARELESS));
    format!(
        "[agent]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\nproviders = [\"acme\"]\nroot = \"workers\"\n\n\
         [agent.env]\nTOKEN = \"{{token:acme}}\"\n"
    )
}

/// The system, and the search for its secrets.
struct Scene {
    server: AuthServer,
    town: Town,
    hunt: Hunt,
    hours: i64,
}

impl Scene {
    async fn new() -> Self {
        let server = authserver().await;
        let confidential = server.config_toml("confidential") + "client_secret_env = \"ACME_SECRET\"\n";
        let providers = server.config_toml("acme") + "\n" + &confidential;
        let town = Town::with_token(&providers, &careless_agent(), DISCORD_TOKEN).await;
        let mut hunt = Hunt::default();
        hunt.secret("the Discord token", DISCORD_TOKEN);
        hunt.secret("the client secret", CLIENT_SECRET);
        hunt.secret("a made-up code", MADE_UP_CODE);
        Self { server, town, hunt, hours: 0 }
    }

    /// Adds all secrets that exist now to the search.
    fn take_note(&mut self) {
        if self.town.home.store().exists() {
            self.hunt.secrets_of_store(&self.town.stored());
        }
        self.hunt.secrets_of_discord(&self.town.discord);
    }

    /// Runs a command with everything logged. Searches its standard error; the caller gets the
    /// result.
    async fn cli(&mut self, arguments: &[&str], input: &str) -> String {
        let mut command = self.town.home.command(arguments);
        command.envs(ENVIRONMENT);
        let ended = hunt::run(command, input).await;
        self.hunt.place(&format!("standard error of {arguments:?}"), &ended.stderr);
        self.take_note();
        ended.stdout
    }

    /// Sends a request to the token API; searches the error answers.
    async fn api(&mut self, capability: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, answer) = self.town.api(capability, method, path, body).await;
        if status != 200 {
            self.hunt.place(&format!("the problem of {method} {path}"), &answer.to_string());
        }
        self.take_note();
        (status, answer)
    }

    /// Moves the clock two hours, past every token's expiry and every pause between retries.
    fn later(&mut self) {
        self.hours += 2;
        self.town.home.set_offset(self.hours * AN_HOUR);
    }

    fn refresh_token(&self) -> String {
        let store: Value = serde_json::from_str(&self.town.stored()).expect("it is JSON");
        let tenant = format!("acme/{}", self.town.alice.principal());
        store["sessions"][tenant]["refresh_token"].as_str().expect("she is signed in").to_owned()
    }
}

/// Signs in with every kind of failure, and once with success.
async fn sign_ins(scene: &mut Scene) {
    let alice = scene.town.alice.clone();
    let (started, link) = scene.town.start(&alice).await;
    scene.take_note();
    let callback = browser::sign_in(&link, "alice").await;
    scene.hunt.secret("a code", &callback.code);
    let state = &callback.state;
    for pasted in [
        format!("{MADE_UP_CODE}#{state}"),
        format!("{MADE_UP_CODE}#another-state"),
        format!(
            "http://127.0.0.1:1/callback?error=access_denied&error_description={MADE_UP_CODE}&state={state}"
        ),
        format!(
            "http://127.0.0.1:1/callback?code={MADE_UP_CODE}&state={state}&iss=https://evil.example/{state}"
        ),
    ] {
        enter(&started, &pasted).await;
        scene.town.paste(&alice, &pasted).await;
    }
    let echo =
        json!({"error": callback.code, "error_description": format!("no code {} {state}", callback.code)});
    for reply in [Reply::Json(400, echo.clone()), Reply::Html503, Reply::Json(500, echo)] {
        scene.server.script([reply]);
        scene.town.paste(&alice, &callback.url).await;
        assert_eq!(scene.server.script_left(), 0);
    }
    let (_, link) = scene.town.start(&alice).await;
    let callback = browser::sign_in(&link, "alice").await;
    scene.hunt.secret("a code", &callback.code);
    enter(&started, &callback.url).await.says("Signed in as `alice@example.com`").await;
    scene.town.paste(&alice, &callback.url).await;
    let asked = alice.command(&scene.town.general, "auth start", &[("provider", "confidential")]).await;
    scene.take_note();
    let callback = browser::sign_in(&asked.link("Sign in to").expect("a link"), "alice").await;
    scene.hunt.secret("a code", &callback.code);
    let refused = scene.town.paste(&alice, &callback.url).await.text();
    assert!(refused.contains("refuses threadkey's client"), "{refused}");
    scene.take_note();
}

/// Refreshes with answers that repeat the sent token, in every place that an answer has.
async fn refreshes(scene: &mut Scene, capability: &str) {
    let (status, _) = scene.api(capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 200);
    let spent = scene.refresh_token();
    let echo = json!({"error": spent, "error_description": format!("what is {spent}?")});
    let with = |code: &str| json!({"error": code, "error_description": format!("what is {spent}?"), "error_uri": spent});
    let headers = ["retry-after", "location", "www-authenticate", "x-echo"];
    let headers: Vec<_> = headers.iter().map(|name| ((*name).to_owned(), spent.clone())).collect();
    let raw =
        |status| Reply::Raw { status, headers: headers.clone(), body: format!("<p>{spent}").into_bytes() };
    let replies = [
        raw(503),
        raw(302),
        raw(200),
        Reply::Json(400, echo.clone()),
        Reply::Json(500, echo.clone()),
        Reply::Json(200, echo),
        Reply::Json(200, json!({"refresh_token": spent, "token": spent})),
        Reply::Json(401, with("invalid_client")),
    ];
    for reply in replies {
        let shown = format!("{reply:?}");
        scene.server.script([reply]);
        scene.later();
        let (status, problem) = scene.api(capability, "GET", "/v1/token/acme", "").await;
        assert_ne!(status, 200, "{shown}: {problem}");
        assert_eq!(scene.server.script_left(), 0, "{shown}");
    }
    scene.later();
    let (status, renewed) = scene.api(capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 200, "{renewed}");
    let token = renewed["access_token"].as_str().expect("a token").to_owned();
    scene.take_note();

    // A worker puts its secrets into the wrong places.
    for (method, path, body) in [
        ("POST", "/v1/token/acme/rejected".to_owned(), token.clone()),
        ("POST", "/v1/token/acme/rejected".to_owned(), json!({"access_token": {"x": token}}).to_string()),
        ("GET", format!("/v1/token/{token}"), String::new()),
        ("GET", format!("/v1/token/acme?min_ttl={token}"), String::new()),
        ("GET", format!("/v1/{capability}?access_token={token}"), String::new()),
    ] {
        let (status, answer) = scene.api(capability, method, &path, &body).await;
        assert!((400..=404).contains(&status), "{method} {path}: {answer}");
    }
    let (status, _) = scene.api(&token, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 401);
    let rejected = json!({"access_token": token}).to_string();
    let (status, newer) = scene.api(capability, "POST", "/v1/token/acme/rejected", &rejected).await;
    assert_eq!(status, 200, "{newer}");
    assert_ne!(newer["access_token"], renewed["access_token"]);

    // The provider's verdict ends the session.
    let spent = scene.refresh_token();
    let verdict = json!({"error": "invalid_grant", "error_description": format!("{spent} is no more")});
    scene.server.script([Reply::Json(400, verdict)]);
    scene.later();
    let (status, _) = scene.api(capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 410);
    scene.town.alice.dm().wait_for_text("has ended").await;
}

/// An agent writes all its secrets to the conversation and to standard error, and dies.
async fn careless_worker(scene: &mut Scene, thread: &Channel) {
    let alice = scene.town.alice.clone();
    alice.says(thread, "tell");
    said(thread, "told", 1).await;
    let told = thread.messages().pop().expect("it was said").text.replace('\\', "");
    let removed = told.matches("[secret removed]").count() + told.matches('…').count();
    assert_eq!(removed, 4, "each is replaced, the one in two pieces too: {told}");
    alice.says(thread, "crash");
    said(thread, "The agent ended unexpectedly", 1).await;
    alice.says(thread, "again");
    said(thread, "The agent could not be started", 1).await;
    scene.take_note();
}

/// Uses the same session from a terminal, and reads the arguments of all processes in mid-refresh.
async fn terminal(scene: &mut Scene) {
    scene.cli(&["auth", "start", "acme"], "").await;
    let link = scene.cli(&["auth", "start", "acme", "--json"], "").await;
    let link: Value = serde_json::from_str(&link).expect("it is JSON");
    let callback = browser::sign_in(link["authorize_url"].as_str().expect("a link"), "carol").await;
    scene.hunt.secret("a code", &callback.code);
    scene.cli(&["auth", "code"], &format!("{MADE_UP_CODE}#{}", callback.state)).await;
    scene.cli(&["auth", "code"], &callback.url).await;
    let token = scene.cli(&["token", "acme"], "").await;
    assert!(scene.hunt.knows(token.trim()), "the store's token is printed");
    scene.cli(&["token", "acme", "--rejected", "-"], &token).await;
    scene.cli(&["token", "acme", "--rejected", &token], "").await;

    scene.later();
    scene.server.hold();
    let held = {
        let mut command = scene.town.home.command(&["token", "acme"]);
        command.envs(ENVIRONMENT);
        tokio::spawn(hunt::run(command, ""))
    };
    scene.server.wait_for_held(1).await;
    let arguments = hunt::arguments_of_all_processes();
    assert!(arguments.contains("__refresh"), "the process that refreshes is among them: {arguments}");
    scene.hunt.place("the arguments of a process", &arguments);
    scene.server.release();
    let ended = held.await.expect("no panic");
    assert_eq!(ended.code, 0, "{ended:?}");
    scene.hunt.place("standard error of a refresh", &ended.stderr);
    scene.take_note();

    for command in [
        &["auth", "status"][..],
        &["auth", "status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["providers", "--json"],
    ] {
        let shown = scene.cli(command, "").await;
        assert!(!shown.is_empty(), "{command:?}");
        scene.hunt.place(&format!("the result of {command:?}"), &shown);
    }
    for choice in ["keep", "switch"] {
        let link = scene.cli(&["auth", "start", "acme"], "").await;
        let callback = browser::sign_in(link.trim(), "dave").await;
        scene.hunt.secret("a code", &callback.code);
        scene.cli(&["auth", "code"], &callback.url).await;
        let shown = scene.cli(&["auth", "status"], "").await;
        assert!(shown.contains("as dave@example.com, waits for your choice"), "{shown}");
        scene.hunt.place("the status of a sign-in that waits", &shown);
        scene.cli(&["auth", choice, "acme"], "").await;
    }
    scene.cli(&["auth", "logout", "acme", "--revoke"], "").await;
}

/// Signs in as another account on Discord, and keeps the session.
async fn another_account(scene: &mut Scene) {
    let alice = scene.town.alice.clone();
    let (started, link) = scene.town.start(&alice).await;
    scene.take_note();
    let callback = browser::sign_in(&link, "erin").await;
    scene.hunt.secret("a code", &callback.code);
    let question = enter(&started, &callback.url).await;
    scene.take_note();
    alice.command(&scene.town.general, "auth status", &[]).await;
    question.press("Keep").await.updated().says("stays with `alice@example.com`").await;
    scene.take_note();
}

/// A defect in the middle of the work: the panic's message contains the text of the clock file.
async fn panics(scene: &mut Scene, bot: &Running) {
    std::fs::write(scene.town.home.path().join("clock"), DISCORD_TOKEN).expect("it can be written");
    let stderr_before = bot.stderr().matches("threadkey has a defect at").count();
    let sent = scene.town.alice.send_command(&scene.town.general, "auth start", &[("provider", "acme")]);
    sent.expect("it can be typed");
    bot.says("threadkey has a defect at").await;
    assert!(bot.stderr().matches("threadkey has a defect at").count() > stderr_before);
    scene.cli(&["auth", "status"], "").await;
}

#[tokio::test]
async fn no_canary_secret_appears_in_any_log_at_trace_level() {
    let mut scene = Scene::new().await;
    let bot = scene.town.run_with(&ENVIRONMENT).await;
    sign_ins(&mut scene).await;
    let alice = scene.town.alice.clone();
    let thread = scene.town.ask(&alice, "begin").await;
    said(&thread, "noted", 1).await;
    let capability = scene.town.worker_file(&thread, "capability");
    scene.hunt.secret("a capability", &capability);
    scene.hunt.place("the arguments of a process", &hunt::arguments_of_all_processes());
    refreshes(&mut scene, &capability).await;

    scene.town.sign_in(&alice, "alice").await;
    scene.take_note();
    alice.command(&thread, "new", &[]).await;
    alice.says(&thread, "begin again");
    said(&thread, "noted", 2).await;
    let capability = scene.town.worker_file(&thread, "capability");
    scene.hunt.secret("a capability", &capability);
    careless_worker(&mut scene, &thread).await;
    terminal(&mut scene).await;
    another_account(&mut scene).await;
    alice.command(&scene.town.general, "auth status", &[]).await;
    alice.command(&scene.town.general, "auth logout", &[("provider", "acme"), ("revoke", "true")]).await;
    scene.town.discord.assert_no_violations();
    scene.take_note();
    panics(&mut scene, &bot).await;

    let Scene { town, mut hunt, server, .. } = scene;
    bot.signal(9);
    let log = bot.ended().await.stderr;
    for marker in ["DEBUG threadkey", "ERROR threadkey", "a worker was given a token", "the agent's stderr"] {
        assert!(
            log.contains(marker),
            "the log is as talkative as it can be, so {marker:?} stands in it:\n{log}"
        );
    }
    hunt.place("the bot's log", &log);
    hunt.place("what everybody sees on Discord", &town.discord.everything_public());
    hunt.place("what Bob sees", &town.bob.everything());
    for message in alice.dm().messages() {
        hunt.place("a direct message", &message.all_text());
    }
    hunt.assert_clean();

    // The same search finds a secret where one is planted.
    let known =
        server.requests().pop().and_then(|request| request.form.into_values().max_by_key(String::len));
    hunt.place("planted", &format!("token={}!", known.expect("a token was sent")));
    assert_eq!(hunt.found().len(), 1, "{:?}", hunt.found());
}
