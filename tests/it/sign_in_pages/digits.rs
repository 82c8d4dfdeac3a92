//! Guessed digits while two sign-ins wait, over a restart, and by two processes.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use threadkey::{
    broker::{Broker, FinishError},
    secret::Digits,
};

use super::{Pages, other_than, send};

fn typed(digits: &str) -> Digits {
    Digits::parse(digits).expect("six digits")
}

impl Pages {
    async fn guess(&self, broker: &Broker, digits: &str) -> FinishError {
        let result = broker.confirm_in(self.alice(), None, None, &typed(digits)).await;
        result.expect_err("they fit nothing")
    }

    /// Two sign-ins that wait for their digits. Returns digits that fit neither, and both right ones.
    async fn two_waiting(&self) -> (String, String, String) {
        let (_, _, _, acme) = self.digits_at("acme", "alice").await;
        let (_, _, _, big) = self.digits_at("big-acme", "alice").await;
        let fits = |digits: &str| [&acme, &big].iter().any(|right| right.replace(' ', "") == digits);
        let wrong = ["000000", "111111", "222222"].into_iter().find(|digits| !fits(digits));
        (wrong.expect("one of three").to_owned(), acme, big)
    }
}

#[tokio::test]
async fn a_miss_counts_against_each_sign_in_that_waits_in_any_process() {
    let mut pages = Pages::start().await;
    let (wrong, acme, big) = pages.two_waiting().await;
    let first = pages.guess(&pages.rig.broker, &wrong).await;
    assert!(matches!(&first, FinishError::WrongDigitsOfSeveral { left: 2, .. }), "{first}");
    assert!(first.to_string().contains("acme") && first.to_string().contains("big-acme"), "{first}");
    let (other, _) = pages.another_process().await;
    let second = pages.guess(&other, &wrong).await;
    assert!(matches!(&second, FinishError::WrongDigitsOfSeveral { left: 1, .. }), "{second}");
    assert_eq!(pages.live_grants(), 2);
    // After a restart the record alone knows the misses.
    pages.rig.stop().await;
    pages.stop.cancel();
    pages.rig.broker = pages.rig.another_broker();
    let third = pages.guess(&pages.rig.broker, &wrong).await;
    assert!(matches!(&third, FinishError::DigitsUsedUp { is_revoked: true, .. }), "{third}");
    pages.grant_ends().await;
    for broker in [&pages.rig.broker, &other] {
        for digits in [&acme, &big] {
            let late = broker.confirm_in(pages.alice(), None, None, &typed(digits)).await.expect("a store");
            assert!(late.is_none(), "the right digits come too late");
        }
        for provider in ["acme", "big-acme"] {
            let token = broker.token(&pages.tenant_at(provider), Duration::ZERO).await;
            assert!(token.is_err(), "{provider}");
        }
    }
}

#[tokio::test]
async fn the_third_miss_on_discord_ends_both_sign_ins_and_is_reported() {
    let pages = Pages::start().await;
    let (wrong, ..) = pages.two_waiting().await;
    let code = [("code", wrong.as_str())];
    for left in ["2 attempts", "one attempt"] {
        let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &code).await.text();
        assert!(answer.contains("not the digits of any of your pages") && answer.contains(left), "{answer}");
    }
    let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &code).await.text();
    assert!(answer.contains("is dropped, and its access has ended"), "{answer}");
    pages.grant_ends().await;
}

#[tokio::test]
async fn digits_of_one_sign_in_finish_it_and_are_no_miss_at_the_other() {
    let pages = Pages::start().await;
    let (wrong, acme, big) = pages.two_waiting().await;
    pages.guess(&pages.rig.broker, &wrong).await;
    pages.guess(&pages.rig.broker, &wrong).await;
    for (provider, digits) in [("acme", &acme), ("big-acme", &big)] {
        let done = pages.rig.broker.confirm_in(pages.alice(), None, None, &typed(digits)).await;
        assert!(done.expect("they fit").is_some(), "{provider}");
        assert!(pages.rig.broker.token(&pages.tenant_at(provider), Duration::ZERO).await.is_ok());
    }
}

#[tokio::test]
async fn guesses_at_once_get_three_attempts_in_all() {
    let pages = Pages::start().await;
    let (_, cookie, url, digits) = pages.digits("alice").await;
    let (other, _) = pages.another_process().await;
    let wrong = other_than(&digits);
    let guesses = (0..12).map(|number| {
        let broker = if number % 2 == 0 { pages.rig.broker.clone() } else { other.clone() };
        let alice = pages.alice();
        tokio::spawn(async move { broker.confirm_in(alice, None, None, &typed(wrong)).await })
    });
    let mut counted = 0;
    for guess in guesses.collect::<Vec<_>>() {
        match guess.await.expect("no panic") {
            Err(FinishError::WrongDigits { .. } | FinishError::DigitsUsedUp { .. }) => counted += 1,
            Err(FinishError::Superseded(_)) | Ok(None) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counted, 3);
    pages.grant_ends().await;
    assert_eq!(send(Method::GET, &url, Some(&cookie)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(pages.account().await, None);
}
