//! Sends unique secrets through every path of the running system, and then searches every place
//! that others than their owner can read: the logs of every process at trace level, error texts,
//! the arguments of every process, and messages on Discord.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

mod secret_search;

use serde_json::{Value, json};

use crate::{
    support::{
        authserver::{AuthServer, Reply},
        browser,
        discord::Channel,
        program::Running,
    },
    team::{AN_HOUR, Team, authserver, enter, expect_messages},
};
use secret_search::SecretSearch;

const DISCORD_TOKEN: &str = "canary.discord.token-7f2c1d9e";
const CLIENT_SECRET: &str = "canary-client-secret-51b0e8aa";
/// The trace level, and the secrets that come from variables.
const ENVIRONMENT: [(&str, &str); 3] =
    [("THREADKEY_LOG", "trace"), ("DISCORD_TOKEN", DISCORD_TOKEN), ("ACME_SECRET", CLIENT_SECRET)];
const MADE_UP_CODE: &str = "canary-code-c0ffee00d15ea5e";

/// An agent with secrets in its environment and a file that handles them carelessly.
const CARELESS: &str = r#"
export TOKEN="$(cut -d'"' -f2 "$HOME/token.json")"
printf %s "$THREADKEY_CAPABILITY" > capability
case "$line" in
  *reveal*)
    say "I hold $THREADKEY_CAPABILITY and $TOKEN, "
    say "$(printf %.20s "$TOKEN")"; say "$(printf %s "$TOKEN" | tail -c +21)"
    note "{\"sessionUpdate\":\"tool_call\",\"toolCallId\":\"1\",\"title\":\"curl -H $TOKEN\",\"status\":\"pending\"}"
    say " revealed"; done_with end_turn ;;
  *crash*) touch "$HOME/die"; env >&2; say "$TOKEN"; exit 3 ;;
  *) say noted; done_with end_turn ;;
esac"#;

fn careless_agent() -> String {
    let script = format!(
        "export TOKEN=\"$(cut -d'\"' -f2 \"$HOME/token.json\")\"\n[ -e \"$HOME/die\" ] && {{ env >&2; exit 1; }}\n{}",
        super::workers::script(CARELESS)
    );
    format!(
        "[agent]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\nproviders = [\"acme\"]\nroot = \"workers\"\n\n\
         [agent.files]\n\"token.json\" = '\"{{token:acme}}\"'\n"
    )
}

/// The system, and the search for its secrets.
struct System {
    server: AuthServer,
    team: Team,
    search: SecretSearch,
    hours: i64,
}

impl System {
    async fn new() -> Self {
        let server = authserver().await;
        let confidential = server.config_toml("confidential") + "client_secret_env = \"ACME_SECRET\"\n";
        let providers = server.config_toml("acme") + "\n" + &confidential;
        let team = Team::with_token(&providers, &careless_agent(), DISCORD_TOKEN).await;
        let mut search = SecretSearch::default();
        search.secret("the Discord token", DISCORD_TOKEN);
        search.secret("the client secret", CLIENT_SECRET);
        search.secret("a made-up code", MADE_UP_CODE);
        Self { server, team, search, hours: 0 }
    }

    /// Adds all secrets that exist now to the search.
    fn note_secrets(&mut self) {
        if self.team.home.store().exists() {
            self.search.secrets_of_store(&self.team.stored());
        }
        self.search.secrets_of_discord(&self.team.discord);
    }

    /// Runs a command with everything logged. Searches its standard error; the caller gets the
    /// result.
    async fn cli(&mut self, arguments: &[&str], input: &str) -> String {
        let mut command = self.team.home.command(arguments);
        command.envs(ENVIRONMENT);
        let ended = secret_search::run(command, input).await;
        self.search.add_text(&format!("standard error of {arguments:?}"), &ended.stderr);
        self.note_secrets();
        ended.stdout
    }

    /// Sends a request to the token API; searches the error answers.
    async fn api(&mut self, capability: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, answer) = self.team.api(capability, method, path, body).await;
        if status != 200 {
            self.search.add_text(&format!("the problem of {method} {path}"), &answer.to_string());
        }
        self.note_secrets();
        (status, answer)
    }

    /// Moves the clock two hours, past every token's expiry and every pause between retries.
    fn later(&mut self) {
        self.hours += 2;
        self.team.home.set_offset(self.hours * AN_HOUR);
    }

    fn refresh_token(&self) -> String {
        let store: Value = serde_json::from_str(&self.team.stored()).expect("it is JSON");
        let tenant = format!("acme/{}", self.team.alice.principal());
        store["sessions"][tenant]["refresh_token"].as_str().expect("she is signed in").to_owned()
    }
}

/// Signs in with every kind of failure, and once with success.
async fn sign_ins(system: &mut System) {
    let alice = system.team.alice.clone();
    let (started, link) = system.team.start(&alice).await;
    system.note_secrets();
    let callback = browser::sign_in(&link, "alice").await;
    system.search.secret("a code", &callback.code);
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
        system.team.paste(&alice, &pasted).await;
    }
    let echo =
        json!({"error": callback.code, "error_description": format!("no code {} {state}", callback.code)});
    for (minute, reply) in
        [(1, Reply::Json(400, echo.clone())), (2, Reply::Html503), (3, Reply::Json(500, echo))]
    {
        // Past the pause after several wrong codes.
        system.team.home.set_offset(minute * 60);
        system.server.script([reply]);
        system.team.paste(&alice, &callback.url).await;
        assert_eq!(system.server.script_left(), 0);
    }
    let (_, link) = system.team.start(&alice).await;
    let callback = browser::sign_in(&link, "alice").await;
    system.search.secret("a code", &callback.code);
    enter(&started, &callback.url).await.says("Signed in as `alice@example.com`").await;
    system.team.paste(&alice, &callback.url).await;
    let started_confidential =
        alice.command(&system.team.general, "auth start", &[("provider", "confidential")]).await;
    system.note_secrets();
    let callback = browser::sign_in(&started_confidential.link("Sign in to").expect("a link"), "alice").await;
    system.search.secret("a code", &callback.code);
    let refused = system.team.paste(&alice, &callback.url).await.text();
    assert!(refused.contains("refuses me as a client"), "{refused}");
    system.note_secrets();
}

/// Refreshes with answers that repeat the sent token, in every place that an answer has.
async fn refreshes(system: &mut System, capability: &str) {
    let (status, _) = system.api(capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 200);
    let spent = system.refresh_token();
    let echo = json!({"error": spent, "error_description": format!("unknown {spent}")});
    let with = |code: &str| json!({"error": code, "error_description": format!("unknown {spent}"), "error_uri": spent});
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
        system.server.script([reply]);
        system.later();
        let (status, problem) = system.api(capability, "GET", "/v1/token/acme", "").await;
        assert_ne!(status, 200, "{shown}: {problem}");
        assert_eq!(system.server.script_left(), 0, "{shown}");
    }
    system.later();
    let (status, renewed) = system.api(capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 200, "{renewed}");
    let token = renewed["access_token"].as_str().expect("a token").to_owned();
    system.note_secrets();

    // A worker puts its secrets into the wrong places.
    for (method, path, body) in [
        ("POST", "/v1/token/acme/rejected".to_owned(), token.clone()),
        ("POST", "/v1/token/acme/rejected".to_owned(), json!({"access_token": {"x": token}}).to_string()),
        ("GET", format!("/v1/token/{token}"), String::new()),
        ("GET", format!("/v1/token/acme?min_ttl={token}"), String::new()),
        ("GET", format!("/v1/{capability}?access_token={token}"), String::new()),
    ] {
        let (status, answer) = system.api(capability, method, &path, &body).await;
        assert!((400..=404).contains(&status), "{method} {path}: {answer}");
    }
    let (status, _) = system.api(&token, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 401);
    let rejected = json!({"access_token": token}).to_string();
    let (status, newer) = system.api(capability, "POST", "/v1/token/acme/rejected", &rejected).await;
    assert_eq!(status, 200, "{newer}");
    assert_ne!(newer["access_token"], renewed["access_token"]);

    // The provider's verdict ends the session.
    let spent = system.refresh_token();
    let verdict = json!({"error": "invalid_grant", "error_description": format!("{spent} is no more")});
    system.server.script([Reply::Json(400, verdict)]);
    system.later();
    let (status, _) = system.api(capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 410);
    system.team.alice.dm().wait_for_text("has ended").await;
}

/// An agent writes all its secrets to the conversation and to standard error, and dies.
async fn careless_worker(system: &mut System, thread: &Channel) {
    let alice = system.team.alice.clone();
    alice.says(thread, "reveal");
    expect_messages(thread, "revealed", 1).await;
    let revealed = thread.messages().pop().expect("the agent has answered").text.replace('\\', "");
    let removed = revealed.matches("[secret removed]").count() + revealed.matches('…').count();
    assert_eq!(removed, 4, "each is replaced, including the one in two pieces: {revealed}");
    alice.says(thread, "crash");
    expect_messages(thread, "The agent ended unexpectedly", 1).await;
    alice.says(thread, "again");
    expect_messages(thread, "The agent could not be started", 1).await;
    system.note_secrets();
}

/// Uses the same session from a terminal, and reads the arguments of all processes in mid-refresh.
async fn terminal(system: &mut System) {
    system.cli(&["auth", "start", "acme"], "").await;
    let link = system.cli(&["auth", "start", "acme", "--json"], "").await;
    let link: Value = serde_json::from_str(&link).expect("it is JSON");
    let callback = browser::sign_in(link["authorize_url"].as_str().expect("a link"), "carol").await;
    system.search.secret("a code", &callback.code);
    system.cli(&["auth", "code"], &format!("{MADE_UP_CODE}#{}", callback.state)).await;
    system.cli(&["auth", "code"], &callback.url).await;
    let token = system.cli(&["token", "acme"], "").await;
    assert!(system.search.knows(token.trim()), "the store's token is printed");
    system.cli(&["token", "acme", "--rejected", "-"], &token).await;
    system.cli(&["token", "acme", "--rejected", &token], "").await;

    system.later();
    system.server.hold();
    let held = {
        let mut command = system.team.home.command(&["token", "acme"]);
        command.envs(ENVIRONMENT);
        tokio::spawn(secret_search::run(command, ""))
    };
    system.server.wait_for_held(1).await;
    let arguments = secret_search::arguments_of_all_processes();
    assert!(arguments.contains("__refresh"), "the process that refreshes is among them: {arguments}");
    system.search.add_text("the arguments of a process", &arguments);
    system.server.release();
    let ended = held.await.expect("no panic");
    assert_eq!(ended.code, 0, "{ended:?}");
    system.search.add_text("standard error of a refresh", &ended.stderr);
    system.note_secrets();

    for command in [
        &["auth", "status"][..],
        &["auth", "status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["providers", "--json"],
    ] {
        let shown = system.cli(command, "").await;
        assert!(!shown.is_empty(), "{command:?}");
        system.search.add_text(&format!("the result of {command:?}"), &shown);
    }
    for choice in ["keep", "switch"] {
        let link = system.cli(&["auth", "start", "acme"], "").await;
        let callback = browser::sign_in(link.trim(), "dave").await;
        system.search.secret("a code", &callback.code);
        system.cli(&["auth", "code"], &callback.url).await;
        let shown = system.cli(&["auth", "status"], "").await;
        assert!(shown.contains("as dave@example.com, waits for your choice"), "{shown}");
        system.search.add_text("the status of a sign-in that waits", &shown);
        system.cli(&["auth", choice, "acme"], "").await;
    }
    system.cli(&["auth", "logout", "acme", "--revoke"], "").await;
}

/// Signs in as another account on Discord, and keeps the session.
async fn another_account(system: &mut System) {
    let alice = system.team.alice.clone();
    let (started, link) = system.team.start(&alice).await;
    system.note_secrets();
    let callback = browser::sign_in(&link, "erin").await;
    system.search.secret("a code", &callback.code);
    let question = enter(&started, &callback.url).await;
    system.note_secrets();
    alice.command(&system.team.general, "auth status", &[]).await;
    question.press("Keep").await.updated().says("stays with `alice@example.com`").await;
    system.note_secrets();
}

/// A defect in the middle of the work: the panic's message contains the text of the clock file.
async fn panics(system: &mut System, bot: &Running) {
    std::fs::write(system.team.home.path().join("clock"), DISCORD_TOKEN).expect("it can be written");
    let stderr_before = bot.stderr().matches("threadkey has a defect at").count();
    let sent = system.team.alice.send_command(&system.team.general, "auth start", &[("provider", "acme")]);
    sent.expect("it can be typed");
    bot.says("threadkey has a defect at").await;
    assert!(bot.stderr().matches("threadkey has a defect at").count() > stderr_before);
    system.cli(&["auth", "status"], "").await;
}

#[tokio::test]
async fn no_canary_secret_appears_in_any_log_at_trace_level() {
    let mut system = System::new().await;
    let bot = system.team.run_with(&ENVIRONMENT).await;
    sign_ins(&mut system).await;
    let alice = system.team.alice.clone();
    let thread = system.team.ask(&alice, "begin").await;
    expect_messages(&thread, "noted", 1).await;
    let capability = system.team.worker_file(&thread, "capability");
    system.search.secret("a capability", &capability);
    system.search.add_text("the arguments of a process", &secret_search::arguments_of_all_processes());
    refreshes(&mut system, &capability).await;

    system.team.sign_in(&alice, "alice").await;
    system.note_secrets();
    alice.command(&thread, "new", &[]).await;
    alice.says(&thread, "begin again");
    expect_messages(&thread, "noted", 2).await;
    let capability = system.team.worker_file(&thread, "capability");
    system.search.secret("a capability", &capability);
    careless_worker(&mut system, &thread).await;
    terminal(&mut system).await;
    another_account(&mut system).await;
    alice.command(&system.team.general, "auth status", &[]).await;
    alice.command(&system.team.general, "auth logout", &[("provider", "acme"), ("revoke", "true")]).await;
    system.team.discord.assert_no_violations();
    system.note_secrets();
    panics(&mut system, &bot).await;

    let System { team, mut search, server, .. } = system;
    bot.signal(9);
    let log = bot.ended().await.stderr;
    for marker in ["DEBUG threadkey", "ERROR threadkey", "a worker was given a token", "the agent's stderr"] {
        assert!(log.contains(marker), "the log is at trace level, so it contains {marker:?}:\n{log}");
    }
    search.add_text("the bot's log", &log);
    search.add_text("public messages on Discord", &team.discord.everything_public());
    search.add_text("the messages that Bob sees", &team.bob.everything());
    for message in alice.dm().messages() {
        search.add_text("a direct message", &message.all_text());
    }
    search.assert_clean();

    // The same search finds a secret where one is planted.
    let known =
        server.requests().pop().and_then(|request| request.form.into_values().max_by_key(String::len));
    search.add_text("planted", &format!("token={}!", known.expect("a token was sent")));
    assert_eq!(search.found().len(), 1, "{:?}", search.found());
}
