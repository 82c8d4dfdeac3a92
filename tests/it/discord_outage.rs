//! Discord is away for a while: at the start, in the middle of a turn, or without end.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
};

use crate::{
    discord_rig::Rig,
    support::{
        discord::{Channel, Discord, Forget, MessageView, Options, Trouble},
        program::{Home, Running},
    },
};

/// Sends a text, waits, and sends more.
const IN_TWO_PARTS: &str = r#"say "The first part"; sleep 1; say " and the rest."; done_with end_turn"#;

/// Waits until the channel shows exactly these answers of the agent.
async fn shows_once(thread: &Channel, text: &str) {
    let words = |message: &MessageView| message.text.trim().trim_start_matches("-# agent sh\n").to_owned();
    let whole = |seen: &[MessageView]| seen.iter().any(|m| words(m) == text).then_some(());
    thread.wait_for(whole).await;
    // The last word of an unfinished text is not shown yet.
    let first = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let parts: Vec<_> = thread.messages().iter().map(words).filter(|shown| shown.contains(&first)).collect();
    assert_eq!(parts, [text], "once, and in one message");
}

#[tokio::test]
async fn seconds_of_5xx_in_mid_turn_end_no_turn_and_double_no_message() {
    // The first request arrives although its answer is an error, and its text is an old one by then.
    for arrived in [Trouble::DoneThenStatus(502), Trouble::DoneThenDrop, Trouble::Drop] {
        let rig = Rig::talking(IN_TWO_PARTS).await;
        let thread = rig.ask(&rig.alice, "go").await;
        shows_once(&thread, "The first part and the rest.").await;
        let dm = rig.alice.dm();
        rig.discord.trouble("POST", "/messages", arrived, 1);
        rig.discord.trouble("POST", "/messages", Trouble::status(503), 1);
        rig.discord.trouble("PATCH", "/messages/", Trouble::status(500), 1);
        rig.discord.trouble("POST", "/typing", Trouble::status(503), 2);
        rig.alice.says(&dm, "go");
        shows_once(&dm, "The first part and the rest.").await;
        rig.discord.assert_no_violations();
    }
}

#[tokio::test]
async fn a_429_in_mid_turn_is_followed_by_a_pause_and_the_text() {
    let rig = Rig::talking(IN_TWO_PARTS).await;
    let dm = rig.alice.dm();
    rig.discord.trouble("POST", "/messages", Trouble::status(429), 2);
    rig.alice.says(&dm, "go");
    shows_once(&dm, "The first part and the rest.").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_permission_question_is_asked_when_discord_is_back() {
    let rig = Rig::talking(
        r#"permit "delete everything"; case "$answer" in *'"yes"'*) say "allowed" ;; *) say "refused" ;; esac; done_with end_turn"#,
    )
    .await;
    let dm = rig.alice.dm();
    rig.discord.trouble("POST", "/messages", Trouble::DoneThenStatus(500), 1);
    rig.discord.trouble("POST", "/messages", Trouble::status(503), 1);
    rig.alice.says(&dm, "go");
    rig.discord.requested("POST", "/messages", 3).await;
    let question = dm.wait_for_text("delete everything").await;
    rig.alice.press(&question, "Allow once").await.updated();
    dm.wait_for_text("allowed").await;
    let asked = dm.messages().iter().filter(|m| m.all_text().contains("delete everything")).count();
    assert_eq!(asked, 1);
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_message_that_is_deleted_while_it_is_written_is_written_anew() {
    let rig =
        Rig::talking(r#"say "The first part "; sleep 3; say "and the rest."; done_with end_turn"#).await;
    let dm = rig.alice.dm();
    rig.alice.says(&dm, "go");
    dm.wait_for_text("The first part").await;
    dm.delete_messages("The first");
    shows_once(&dm, "The first part and the rest.").await;
    let codes: Vec<_> = rig.discord.take_violations().iter().map(|one| one.code).collect();
    assert_eq!(codes, [10008], "one edit met the deletion");
}

#[tokio::test]
async fn an_archived_thread_is_opened_again_also_in_mid_turn() {
    let rig =
        Rig::talking(r#"say "The first part "; sleep 3; say "and the rest."; done_with end_turn"#).await;
    let thread = rig.ask(&rig.alice, "go").await;
    thread.wait_for_text("The first part").await;
    thread.archive();
    shows_once(&thread, "The first part and the rest.").await;
    assert!(!thread.is_archived());
    let codes: Vec<_> = rig.discord.take_violations().iter().map(|one| one.code).collect();
    assert_eq!(codes, [50083], "one edit met the archive");
}

#[tokio::test]
async fn a_locked_thread_costs_no_turn_and_is_reported_once() {
    let rig = Rig::talking(r#"say "at work"; done_with end_turn"#).await;
    let thread = rig.ask(&rig.alice, "go").await;
    thread.wait_for_text("at work").await;
    thread.lock();
    for _ in 0..2 {
        rig.alice.command(&thread, "ask", &[("prompt", "and now?")]).await;
    }
    let notice = rig.alice.dm().wait_for_text("I cannot write in").await;
    assert!(notice.all_text().contains(&format!("<#{}>", thread.id)), "{notice}");
    rig.discord.requested("POST", "/typing", 3).await;
    let codes: Vec<_> = rig.discord.take_violations().iter().map(|one| one.code).collect();
    assert!(codes.iter().all(|code| *code == 160_005), "{codes:?}");
    let turns = thread.messages().iter().filter(|m| m.all_text().contains("at work")).count();
    assert_eq!(turns, 1);
    let notices = rig.alice.dm().messages();
    assert_eq!(notices.iter().filter(|m| m.all_text().contains("I cannot write in")).count(), 1);
}

#[tokio::test]
async fn a_server_with_too_many_threads_is_named_as_such() {
    let rig = Rig::talking(r#"say "at work"; done_with end_turn"#).await;
    let full = serde_json::json!({"message": "Maximum number of active threads reached", "code": 160_006});
    rig.discord.fail("POST", "/threads", 400, full, 2);
    let reply = rig.alice.command(&rig.general, "ask", &[("prompt", "go")]).await;
    reply.says("as many open threads as Discord allows").await;
    rig.alice.says(&rig.general, "<@bot> go");
    rig.general.wait_for_text("as many open threads as Discord allows").await;
    assert!(rig.alice.threads(&rig.general).is_empty());
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn no_text_of_an_agent_makes_an_answer_fail() {
    let rig = Rig::talking(
        r#"tool ""; tool "  "; tool "@everyone"; say "  \n"; big=$(printf 'x%.0s' $(seq 1 3000)); tool "$big"; permit ""; printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"%s@everyone\u202e"}}
' "$prompt" "$big""#,
    )
    .await;
    let dm = rig.alice.dm();
    rig.alice.says(&dm, "go");
    let question = dm.wait_for_text("for permission").await;
    rig.alice.press(&question, "Reject").await.updated();
    let failure = dm.wait_for_text("The agent failed").await;
    assert!(failure.all_text().contains("xxxx") && !failure.mention_everyone, "{failure}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_gateway_that_is_away_ends_neither_the_bot_nor_its_turns() {
    let rig = Rig::talking(r#"say "still here"; sleep 3; say " and done"; done_with end_turn"#).await;
    let dm = rig.alice.dm();
    rig.alice.says(&dm, "go");
    dm.wait_for_text("still here").await;
    rig.discord.refuse_gateway(Forget::Sessions);
    dm.wait_for_text("and done").await;
    rig.discord.gateway_turned_away(2).await;
    rig.discord.calm();
    rig.discord.bot_identified(2).await;
    let reply = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(reply.text().contains("not signed in anywhere"));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn discord_out_of_order_at_the_start_is_tried_again_until_the_bot_connects() {
    let mut rig = Rig::stopped(crate::discord_rig::Plan::default()).await;
    let asked = Trouble::Answer { status: 503, body: serde_json::json!({}), retry_after: Some(1) };
    rig.discord.trouble("GET", "/users/@me", asked, 1);
    rig.discord.trouble("GET", "/gateway", Trouble::status(500), 1);
    rig.discord.trouble("PUT", "/commands", Trouble::status(500), 1);
    rig.run().await;
    let reply = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(reply.text().contains("not signed in anywhere"));
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn an_orderly_stop_needs_no_discord() {
    let mut rig = Rig::start().await;
    rig.discord.refuse_gateway(Forget::Sessions);
    rig.discord.trouble("", "/", Trouble::Drop, u32::MAX);
    rig.discord.gateway_turned_away(1).await;
    rig.stop().await;
}

/// A program with this REST base.
fn run(home: &Home, api_base: &str) -> Running {
    home.configure(&format!(
        "[discord]\ntoken_env = \"DISCORD_TOKEN\"\napi_base = {api_base:?}\n[api]\nsocket = \"api.sock\"\n"
    ));
    home.start(&["run"], &[("DISCORD_TOKEN", &Options::default().token)])
}

/// Returns the answer of the token API.
async fn get(home: &Home, path: &str) -> String {
    let mut stream = UnixStream::connect(home.path().join("api.sock")).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Leads each connection to the look-alike.
async fn lead(listener: TcpListener, to: String) {
    while let Ok((mut from, _)) = listener.accept().await {
        let mut to = TcpStream::connect(&to).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
    }
}

#[tokio::test]
async fn a_bot_without_a_network_serves_the_token_api_until_discord_is_there() {
    let discord = Discord::start(Options::default()).await;
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let home = Home::new("");
    let bot = run(&home, &format!("http://{address}"));
    bot.says("Discord cannot be reached").await;
    let stderr = bot.stderr();
    assert!(stderr.contains(&address.to_string()) && stderr.contains("trying again"), "{stderr}");
    let ready = get(&home, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("\ngateway: not connected, trying again\n"),
        "{ready}"
    );
    assert!(get(&home, "/healthz").await.starts_with("HTTP/1.1 200"));
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(lead(listener, discord.api_base().trim_start_matches("http://").to_owned()));
    discord.bot_ready().await;
    bot.says("connected to Discord").await;
    let ready = get(&home, "/readyz").await;
    let lines = "\r\n\r\nready\nstore: ok\nlocks: ok\ncommits: ok\ngateway: connected\n";
    assert!(ready.ends_with(lines), "{ready}");
    let ended = bot.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stderr.matches("Discord cannot be reached").count(),
        1,
        "one line, not one a try: {ended:?}"
    );
    discord.assert_no_violations();
}

#[tokio::test]
async fn a_token_that_is_refused_after_an_outage_ends_the_bot() {
    let discord = Discord::start(Options { token: "another".into(), ..Options::default() }).await;
    discord.trouble("GET", "/users/@me", Trouble::status(502), 1);
    let home = Home::new("");
    let ended = run(&home, &discord.api_base()).ended().await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("HTTP 502") && ended.stderr.contains("refuses the bot token"), "{ended:?}");
}
