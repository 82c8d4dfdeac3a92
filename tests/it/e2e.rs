//! End to end: the real program on the Discord look-alike, users who sign in at a real
//! authorization server, and agents that use their sessions.

mod environment;
mod isolation;
mod lifecycle;
pub(crate) mod without_a_link;

use crate::{
    support::{
        browser,
        discord::{Channel, Person},
        oidc::{Oidc, OidcOptions},
    },
    team::{AN_HOUR, Team, builtin_agent, enter, expect_messages},
};

/// Opens four threads: two by `/ask`, two by a mention.
async fn four_threads(team: &Team, user: &Person) -> Vec<Channel> {
    let mut threads = Vec::new();
    for n in 1..=2 {
        threads.push(team.ask(user, &format!("which account is this, {n}?")).await);
        threads.push(team.mention(user, &format!("and whose is this, {n}?")).await);
    }
    threads
}

async fn all_show(threads: &[Channel], text: &str) {
    for thread in threads {
        expect_messages(thread, text, 1).await;
    }
}

#[tokio::test]
async fn two_users_sign_in_at_once_and_each_gets_their_own_account() {
    let options =
        OidcOptions { access_token_ttl: std::time::Duration::from_secs(3600), ..OidcOptions::default() };
    let oidc = Oidc::start(options).await;
    let team = Team::new(&oidc.config_toml("acme"), &builtin_agent(&oidc.userinfo_endpoint())).await;
    let bot = team.run().await;
    let (alice, bob) = (&team.alice, &team.bob);

    let ((hers, her_link), (_, his_link)) = tokio::join!(team.start(alice), team.start(bob));
    let (her_callback, his_callback) =
        tokio::join!(browser::sign_in(&her_link, "alice"), browser::sign_in(&his_link, "bob"));
    let (she, he) = tokio::join!(enter(&hers, &her_callback.url), team.paste(bob, &his_callback.url));
    she.says("Signed in as `alice").await;
    he.says("Signed in as `bob").await;

    let (her_threads, his_threads) = tokio::join!(four_threads(&team, alice), four_threads(&team, bob));
    all_show(&her_threads, "I hold **alice**'s login at **acme** (generation 1").await;
    all_show(&his_threads, "I hold **bob**'s login at **acme** (generation 1").await;
    for (owner, threads) in [(alice, &her_threads), (bob, &his_threads)] {
        for thread in threads {
            assert!(thread.is_private());
            assert_eq!(thread.members().len(), 2, "the bot and its owner: {:?}", thread.members());
            assert!(thread.members().contains(&owner.name));
        }
    }
    assert_eq!(oidc.events().await.total.refreshes, 0, "a fresh token causes no refresh");

    team.home.set_offset(AN_HOUR);
    for (owner, threads) in [(alice, &her_threads), (bob, &his_threads)] {
        for thread in threads {
            owner.says(thread, "and now?");
        }
    }
    all_show(&her_threads, "I hold **alice**'s login at **acme** (generation 2").await;
    all_show(&his_threads, "I hold **bob**'s login at **acme** (generation 2").await;
    let events = oidc.events().await;
    for account in ["alice", "bob"] {
        let counts = events.of(account);
        assert_eq!((counts.sign_ins, counts.refreshes, counts.reuses), (1, 1, 0), "{account}: {events:?}");
    }
    assert_eq!((events.total.revoked, events.total.failed), (0, 0));
    team.discord.assert_no_violations();
    let ended = bot.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
}
