//! `/auth start` on Discord, at a provider whose metadata cannot be used.

use super::*;
use crate::{
    discord_rig::{Plan, Rig as Bot},
    support::discord::Reply,
};

async fn start(bot: &Bot) -> Reply {
    bot.alice.command(&bot.general, "auth start", &[("provider", "acme")]).await
}

#[tokio::test]
async fn a_start_on_discord_names_the_fault_of_discovery_and_its_mender() {
    let faults = [
        (raw::json(503, "{}"), "Try again in a minute. If it stays so, ask my operator to look at my log"),
        (
            raw::json(200, r#"{"issuer": "https://other.example"}"#),
            "Only my operator can correct this: ask them to look at my log",
        ),
    ];
    for (answer, mender) in faults {
        let issuer = Rig::start().await;
        let providers = Providers::with_undiscovered([], [issuer.undiscovered()]);
        let mut bot = Bot::with(Plan { providers: Some(providers), ..Plan::default() }).await;
        // At both addresses of the issuer's metadata.
        for _ in 0..2 {
            issuer.publisher.answer(answer.clone(), Ending::Close);
        }
        let refused = start(&bot).await;
        refused.says("I cannot find out where `acme` takes sign-ins, so nothing was sent").await;
        refused.says(mender).await;
        assert!(refused.is_ephemeral() && refused.link("Sign in to acme").is_none(), "{refused:?}");
        assert_eq!(issuer.server.count(), 0);

        issuer.publish(json!({}));
        let started = start(&bot).await;
        assert!(started.link("Sign in to acme").is_some(), "the next start asks again: {started:?}");
        bot.stop().await;
    }
}
