//! Shared logins: finished, chosen and removed only in their own server, by a member who manages it at
//! that moment; each change is reported.

use threadkey::{
    broker::Revocation,
    ids::{Principal, Snowflake, Tenant},
};

use crate::{
    discord_rig::{Plan, Rig, snowflake},
    support::{
        authserver::Reply as Scripted,
        browser,
        discord::{Forget, Guild, MessageView, Person, Reply, Trouble},
    },
};

const SHARED: [(&str, &str); 2] = [("provider", "acme"), ("shared", "true")];

fn shared(guild: &Guild) -> Tenant {
    Tenant::new("acme".parse().expect("a name"), Principal::Guild(Snowflake(guild.id)))
}

/// Starts the sign-in of the server, and goes as far as the code.
async fn start(rig: &Rig, manager: &Person, account: &str) -> (Reply, String) {
    let start = manager.command(&rig.general, "auth start", &SHARED).await;
    let link = start.link("Sign in to acme").expect("a link");
    (start, browser::sign_in(&link, account).await.url)
}

async fn finish(rig: &Rig, manager: &Person, code: &str) -> Reply {
    manager.command(&rig.general, "auth code", &[("code", code)]).await
}

async fn waits_for_report(person: &Person, text: &str) -> MessageView {
    let found = |seen: &[MessageView]| seen.iter().find(|m| m.all_text().contains(text)).cloned();
    person.waits_for(&person.dm(), found).await
}

#[tokio::test]
async fn a_shared_login_is_finished_only_in_its_server_by_a_manager_of_that_moment() {
    let rig = Rig::start().await;
    rig.alice.make_manager(&rig.guild);
    let other = rig.discord.guild("other");
    let elsewhere = other.channel("general");
    other.join(&rig.alice);
    rig.alice.make_manager(&other);
    let (start, code) = start(&rig, &rig.alice, "team").await;
    let custom_id = start.buttons().into_iter().find_map(|button| button.custom_id).expect("a button");
    for place in [&rig.alice.dm(), &elsewhere] {
        let refused = rig.alice.command(place, "auth code", &[("code", &code)]).await;
        assert!(refused.text().contains("finish it in that server"), "{refused:?}");
        let form = rig.alice.forge_modal(place, None, &custom_id, &[("code", &code)]).await.message();
        form.says("finish it in that server").await;
    }
    rig.alice.loses_roles(&rig.guild);
    let refused = finish(&rig, &rig.alice, &code).await;
    assert!(refused.text().contains("with the permission Manage Server"), "{refused:?}");
    let press = start.press("Enter code").await.message();
    assert!(press.text().contains("Manage Server"), "{press:?}");
    let form = rig.alice.forge_modal(&rig.general, None, &custom_id, &[("code", &code)]).await.message();
    form.says("Manage Server").await;
    assert_eq!(rig.server.count(), 0, "nothing was sent");
    rig.alice.make_manager(&rig.guild);
    let done = finish(&rig, &rig.alice, &code).await;
    assert!(done.text().contains("at `acme` for this server"), "{done:?}");
    let session = rig.broker.session(&shared(&rig.guild)).await.expect("readable").expect("a session");
    assert_eq!(session.signed_in_by, Some(Principal::User(Snowflake(rig.alice.id))));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_manager_replaces_the_open_sign_in_of_a_former_manager_and_of_no_other() {
    let rig = Rig::start().await;
    rig.alice.make_manager(&rig.guild);
    rig.bob.make_manager(&rig.guild);
    start(&rig, &rig.alice, "team").await;
    let busy = rig.bob.command(&rig.general, "auth start", &SHARED).await;
    assert!(busy.text().contains("Another user is signing in"), "{busy:?}");
    rig.alice.loses_roles(&rig.guild);
    let (_, code) = start(&rig, &rig.bob, "team").await;
    let done = finish(&rig, &rig.bob, &code).await;
    assert!(done.text().contains("at `acme` for this server"), "{done:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_server_that_removed_the_bot_during_an_outage_can_start_no_shared_login() {
    let rig = Rig::start().await;
    rig.alice.make_manager(&rig.guild);
    rig.alice.installs_app();
    let offered = rig.alice.command(&rig.general, "auth start", &SHARED).await;
    assert!(offered.link("Sign in to acme").is_some(), "{offered:?}");
    let (identified, _) = rig.discord.gateway_sessions();
    rig.discord.refuse_gateway(Forget::Sessions);
    rig.guild.remove_bot();
    rig.discord.calm();
    rig.discord.bot_identified(identified + 1).await;
    let refused = rig.alice.command(&rig.general, "auth start", &SHARED).await;
    assert!(refused.text().contains("I am not a member of this server"), "{refused:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_shared_login_is_switched_only_in_its_server_by_a_manager_of_that_moment() {
    let rig = Rig::start().await;
    rig.alice.make_manager(&rig.guild);
    let (_, code) = start(&rig, &rig.alice, "team").await;
    finish(&rig, &rig.alice, &code).await;
    let (_, code) = start(&rig, &rig.alice, "mine").await;
    let question = finish(&rig, &rig.alice, &code).await;
    let switch = question.buttons().into_iter().find(|button| button.label == "Switch").expect("a button");
    let custom_id = switch.custom_id.expect("an id");
    let account = || async {
        let session = rig.broker.session(&shared(&rig.guild)).await.expect("readable").expect("a session");
        session.account.expect("an account")
    };
    let direct = rig.alice.forge_press(&rig.alice.dm(), question.view().id, &custom_id).await.message();
    assert!(direct.text().contains("only in that server"), "{direct:?}");
    rig.alice.loses_roles(&rig.guild);
    let former = question.press("Switch").await.message();
    assert!(former.text().contains("Manage Server"), "{former:?}");
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(status.buttons().is_empty(), "{status:?}");
    assert_eq!(account().await, "team@example.com");
    rig.alice.make_manager(&rig.guild);
    question.press("Switch").await;
    question.says("Signed in as `mine@example.com`").await;
    assert_eq!(account().await, "mine@example.com");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn each_change_of_a_shared_login_is_reported_to_the_servers_owner() {
    let rig = Rig::start().await;
    let owner = rig.guild.owner();
    rig.alice.make_manager(&rig.guild);
    let (_, code) = start(&rig, &rig.alice, "team").await;
    finish(&rig, &rig.alice, &code).await;
    let by_alice = format!("<@{}> has signed this server in to `acme`", rig.alice.id);
    let report = waits_for_report(&owner, &by_alice).await;
    assert_eq!(report.embeds[0].title, "Shared login of team", "{report}");
    assert!(!report.all_text().contains("example.com"), "{report}");
    let (_, code) = start(&rig, &rig.alice, "mine").await;
    finish(&rig, &rig.alice, &code).await.press("Switch").await;
    waits_for_report(&owner, &format!("<@{}> has switched this server", rig.alice.id)).await;
    rig.bob.make_manager(&rig.guild);
    rig.bob.command(&rig.general, "auth logout", &SHARED).await;
    waits_for_report(&owner, &format!("<@{}> has logged this server out of `acme`", rig.bob.id)).await;
    let (_, code) = start(&rig, &rig.bob, "team").await;
    finish(&rig, &rig.bob, &code).await;
    waits_for_report(&owner, &format!("<@{}> has signed this server in", rig.bob.id)).await;
    rig.another_broker().logout(&shared(&rig.guild), Revocation::Keep).await.expect("logged out");
    waits_for_report(&owner, "Another program on my operator's machine has logged this server out").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn with_a_log_channel_reports_and_the_end_of_a_shared_login_go_there() {
    let mut rig = Rig::stopped(Plan::default()).await;
    let log = rig.guild.channel("log");
    rig.settings.log_channel = Some(snowflake(log.id));
    rig.run().await;
    rig.alice.make_manager(&rig.guild);
    let (_, code) = start(&rig, &rig.alice, "team").await;
    finish(&rig, &rig.alice, &code).await;
    log.wait_for_text("has signed this server in to `acme`").await;
    let session = rig.broker.session(&shared(&rig.guild)).await.expect("readable").expect("a session");
    rig.server.script([Scripted::Json(400, serde_json::json!({"error": "invalid_grant"}))]);
    let _ = rig.broker.rejected(&shared(&rig.guild), &session.access_token).await;
    log.wait_for_text("has ended").await;
    let owner = rig.guild.owner();
    assert!(owner.sees(&owner.dm()).is_empty(), "the channel has it");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_report_that_discord_does_not_take_is_sent_later() {
    let rig = Rig::start().await;
    let owner = rig.guild.owner();
    rig.alice.make_manager(&rig.guild);
    let (_, code) = start(&rig, &rig.alice, "team").await;
    finish(&rig, &rig.alice, &code).await;
    waits_for_report(&owner, "has signed this server in to `acme`").await;
    rig.discord.trouble("POST", "/users/@me/channels", Trouble::status(503), 1);
    rig.alice.command(&rig.general, "auth logout", &SHARED).await;
    rig.discord.requested("POST", "/users/@me/channels", 2).await;
    // Any change of the store is a reason for another try.
    let (elsewhere, user) = (rig.another_broker(), Principal::User(Snowflake(rig.bob.id)));
    elsewhere.start(&Tenant::new(shared(&rig.guild).provider, user), user).await.expect("started");
    waits_for_report(&owner, &format!("<@{}> has logged this server out of `acme`", rig.alice.id)).await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_change_while_the_bot_was_stopped_is_reported_once_at_its_start() {
    let mut rig = Rig::start().await;
    let owner = rig.guild.owner();
    rig.alice.make_manager(&rig.guild);
    let (_, code) = start(&rig, &rig.alice, "team").await;
    finish(&rig, &rig.alice, &code).await;
    waits_for_report(&owner, "has signed this server in to `acme`").await;
    // A start without a change has nothing to report.
    for _ in 0..2 {
        rig.stop().await;
        rig.run().await;
    }
    rig.stop().await;
    let (elsewhere, login) = (rig.another_broker(), shared(&rig.guild));
    elsewhere.logout(&login, Revocation::Keep).await.expect("logged out");
    rig.run().await;
    waits_for_report(&owner, "Another program on my operator's machine has logged this server out").await;
    rig.stop().await;
    let started = elsewhere.start(&login, login.principal).await.expect("started");
    let code = browser::sign_in(started.link().expect("a link").as_str(), "mine").await.url;
    let pasted = threadkey::oauth::Pasted::parse(&code).expect("a paste");
    elsewhere.finish(login.principal, None, pasted).await.expect("signed in");
    rig.run().await;
    waits_for_report(&owner, "Another program on my operator's machine has signed this server in").await;
    rig.stop().await;
    rig.run().await;
    let reports = owner.sees(&owner.dm()).iter().filter(|m| m.all_text().contains("this server")).count();
    assert_eq!(reports, 3, "each change is reported once");
    rig.discord.assert_no_violations();
}
