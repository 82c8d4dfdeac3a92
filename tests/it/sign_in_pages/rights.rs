//! The right of the user who started a sign-in, at each step of it; and two users at the same time.

use reqwest::{Method, StatusCode};
use threadkey::{api::Transport, sys::clock::Clock};

use super::{Pages, send};
use crate::{
    discord_rig::{Plan, snowflake},
    support::browser,
};

impl Pages {
    /// Only members of the server with a role may use the bot. Alice has the role.
    async fn for_a_role(clock: &Clock) -> Self {
        let plan = Plan { clock: Some(clock.clone()), ..Plan::default() };
        let proxy = Transport::Proxy(vec![std::net::Ipv4Addr::LOCALHOST.into()]);
        Self::changed(plan, "http://127.0.0.1", proxy, |rig| {
            let role = rig.alice.give_role(&rig.guild, "agents");
            rig.settings.allow_everyone = false;
            rig.settings.allowed_guilds = vec![snowflake(rig.guild.id)];
            rig.settings.allowed_roles = vec![snowflake(role)];
        })
        .await
    }
}

const NOW: i64 = 1_795_358_672;

/// After this time no fact about a member counts.
const A_MINUTE: i64 = 61;

#[tokio::test]
async fn a_start_link_of_a_user_who_lost_the_right_finishes_nothing() {
    for way in ["left the server", "lost the role"] {
        let clock = Clock::fixed(NOW);
        let pages = Pages::for_a_role(&clock).await;
        let (_, link) = pages.link().await;
        match way {
            "left the server" => pages.rig.guild.leave(&pages.rig.alice),
            _ => pages.rig.alice.loses_roles(&pages.rig.guild),
        }
        clock.advance(A_MINUTE);
        let opened = send(Method::POST, &link, None).await;
        assert_eq!(opened.status, StatusCode::FORBIDDEN, "{way}: {}", opened.text);
        assert!(opened.text.contains("You may no longer use this bot"), "{way}: {}", opened.text);
        assert!(!opened.headers.contains_key("location") && !opened.headers.contains_key("set-cookie"));
        let again = send(Method::GET, &link, None).await;
        assert_eq!(again.status, StatusCode::NOT_FOUND, "{way}: the sign-in is dropped");
    }
}

#[tokio::test]
async fn the_callback_of_a_user_who_lost_the_right_sends_no_code() {
    let clock = Clock::fixed(NOW);
    let pages = Pages::for_a_role(&clock).await;
    let (_, link) = pages.link().await;
    let (cookie, callback) = pages.at_callback(&link, "alice").await;
    pages.rig.guild.leave(&pages.rig.alice);
    clock.advance(A_MINUTE);
    let page = send(Method::GET, &callback.url, Some(&cookie)).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    assert!(page.text.contains("You may no longer use this bot"), "{}", page.text);
    assert_eq!(pages.rig.server.count(), 0, "no code was sent");
    assert_eq!(send(Method::GET, &callback.url, Some(&cookie)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn digits_of_a_user_who_lost_the_right_are_refused_and_the_grant_ends() {
    let clock = Clock::fixed(NOW);
    let pages = Pages::for_a_role(&clock).await;
    let (_, _, _, digits) = pages.digits("alice").await;
    pages.rig.alice.loses_roles(&pages.rig.guild);
    clock.advance(A_MINUTE);
    let code = [("code", digits.as_str())];
    let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &code).await.text();
    assert!(!answer.contains("Signed in"), "{answer}");
    assert_eq!(pages.account().await, None);
    clock.advance(15 * 60);
    pages.rig.broker.expire_undecided().await.expect("a store");
    pages.grant_ends().await;
}

#[tokio::test]
async fn a_former_manager_finishes_no_sign_in_of_the_server() {
    let clock = Clock::fixed(NOW);
    let pages = Pages::with(Plan { clock: Some(clock.clone()), ..Plan::default() }).await;
    pages.rig.alice.make_manager(&pages.rig.guild);
    let (_, link) = pages.link_of(&pages.rig.alice, "acme", true).await;
    let (cookie, callback) = pages.at_callback(&link, "alice").await;
    pages.rig.alice.loses_roles(&pages.rig.guild);
    clock.advance(A_MINUTE);
    let page = send(Method::GET, &callback.url, Some(&cookie)).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    assert_eq!(pages.rig.server.count(), 0, "no code was sent");
}

#[tokio::test]
async fn two_users_with_open_links_cannot_finish_each_others_sign_in() {
    let pages = Pages::start().await;
    let (alices, bobs) = (pages.link_at("acme").await, pages.link_of(&pages.rig.bob, "acme", false).await);
    let (alices_cookie, alices_page) = pages.open(&alices.1).await;
    let (bobs_cookie, bobs_page) = pages.open(&bobs.1).await;
    let alices_callback = browser::sign_in(&alices_page, "alice").await;
    let bobs_callback = browser::sign_in(&bobs_page, "bob").await;
    for (callback, cookie) in [(&alices_callback, &bobs_cookie), (&bobs_callback, &alices_cookie)] {
        // A cookie under the name of the other one is not its value.
        let (_, value) = cookie.split_once('=').expect("a pair");
        let own = if callback.state == alices_callback.state { &alices_cookie } else { &bobs_cookie };
        let renamed = format!("{}={value}", own.split_once('=').expect("a pair").0);
        for cookie in [cookie, &renamed] {
            let page = send(Method::GET, &callback.url, Some(cookie)).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
        }
    }
    assert_eq!(pages.rig.server.count(), 0, "no code was sent");
    // One browser may hold both.
    let both = format!("{bobs_cookie}; {alices_cookie}");
    let page = send(Method::GET, &alices_callback.url, Some(&both)).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let digits = page.digits();
    let digits = [("code", digits.as_str())];
    let theirs = pages.rig.bob.command(&pages.rig.general, "auth code", &digits).await.text();
    assert!(theirs.contains("Not signed in"), "the digits are alice's: {theirs}");
    let own = pages.rig.alice.command(&pages.rig.general, "auth code", &digits).await.text();
    assert!(own.contains("Signed in as `alice@example.com`"), "{own}");
    let page = send(Method::GET, &bobs_callback.url, Some(&both)).await;
    let answer = pages.type_digits(&bobs.0, &page.digits()).await;
    assert!(answer.contains("Signed in as `bob@example.com`"), "{answer}");
}
