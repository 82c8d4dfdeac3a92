//! Tokens that other tokens give: exchange (RFC 8693), and a report about a token for a resource.

use super::{
    rows::{ES256, RESOURCE_WITHOUT_REFRESH, server},
    session::{get, stored},
    ways::Terminal,
};
use crate::{
    support::{browser, events::Outcome, oidc::Oidc},
    team::{Team, builtin_agent, enter, expect_messages},
};

/// The section of the provider whose tokens come by exchange, for the protected resource.
fn docs(oidc: &Oidc) -> String {
    format!("[providers.docs]\nexchange_from = \"acme\"\nresource = \"{}/mcp\"\n", oidc.issuer())
}

/// How many exchanges the server made for this account.
async fn exchanges(oidc: &Oidc, account: &str) -> usize {
    let events = oidc.events().await;
    let of_account = events.requests.iter().filter(|request| request.account.as_deref() == Some(account));
    of_account.filter(|request| request.outcome == Outcome::Exchanged).count()
}

#[tokio::test]
async fn the_command_line_exchanges_a_token_for_one_that_opens_the_resource() {
    let cell = Terminal::new(&ES256, "exchange-auth").await;
    cell.sign_in().await;
    let oidc = server();
    cell.home.configure(&(ES256.section(oidc) + &docs(oidc)));
    let (own, exchanged) = (cell.home.run(&["token", "acme"]).await, cell.home.run(&["token", "docs"]).await);
    assert_eq!((own.code, exchanged.code), (0, 0), "{own:?} {exchanged:?}");
    let resource = format!("{}/mcp", oidc.issuer());
    assert_eq!(get(&resource, own.stdout.trim()).await.0, 401, "the session's token is not for the resource");
    let (status, answer) = get(&resource, exchanged.stdout.trim()).await;
    assert_eq!((status, answer["sub"].as_str()), (200, Some(cell.account.as_str())));
    assert_eq!(exchanges(oidc, &cell.account).await, 1);
    let store = stored(&cell.home).to_string();
    assert!(!store.contains(exchanged.stdout.trim()), "an exchanged token is not stored");

    let ended = cell.home.run(&["auth", "logout", "acme"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(get(&resource, exchanged.stdout.trim()).await.0, 401, "it ends with its grant");
    assert_eq!(cell.home.run(&["token", "docs"]).await.code, 3);
}

#[tokio::test]
async fn a_worker_on_discord_gets_a_token_by_exchange_for_its_owner() {
    let (oidc, account) = (server(), "es256-exchange-worker");
    let resource = format!("{}/mcp", oidc.issuer());
    let agent = builtin_agent(&resource).replace("\"acme\"", "\"docs\"");
    let team = Team::new(&(ES256.section(oidc) + &docs(oidc)), &agent).await;
    ES256.write_secret(oidc, &team.home).await;
    let bot = team.run().await;
    let (started, link) = team.start(&team.alice).await;
    let callback = browser::sign_in(&link, account).await;
    enter(&started, &callback.url).await.says(&format!("Signed in as `{account}@example.com`")).await;
    let thread = team.ask(&team.alice, "whose token is this?").await;
    expect_messages(&thread, &format!("I hold **{account}**'s login at **docs**"), 1).await;
    assert_eq!(exchanges(oidc, account).await, 1);
    team.discord.assert_no_violations();
    assert_eq!(bot.stop().await.code, 0);
}

#[tokio::test]
async fn the_userinfo_endpoint_decides_nothing_about_a_token_for_a_resource() {
    let cell = Terminal::new(&RESOURCE_WITHOUT_REFRESH, "auth").await;
    cell.sign_in().await;
    let token = cell.home.run(&["token", "acme"]).await;
    let reported = cell.home.run_with(&["token", "acme", "--rejected", "-"], &token.stdout).await;
    assert_eq!((reported.code, reported.stdout.as_str()), (4, ""), "its reporter gets none: {reported:?}");
    let session = &stored(&cell.home)["sessions"]["acme/local"];
    assert!(session["refresh_token"].is_null() && session["ended"].is_null(), "{session}");
    let other = cell.home.run(&["token", "acme"]).await;
    assert_eq!(other.stdout, token.stdout, "others keep the token: {other:?}");
    assert_eq!(get(&format!("{}/mcp", server().issuer()), token.stdout.trim()).await.0, 200);
}
