//! A grant whose digits were not typed is nobody's, and each way out of its sign-in revokes it.

use threadkey::{
    broker::{LoggedOut, LogoutError, Revocation},
    sys::clock::Clock,
};

use super::Pages;
use crate::{discord_rig::Plan, support::authserver::LifeState};

impl Pages {
    /// The accounts whose grants work at the provider, in the order of their names.
    fn live_accounts(&self) -> Vec<String> {
        let lives = self.rig.server.lives();
        let live = lives.into_iter().filter(|life| life.state == LifeState::Live);
        let mut accounts: Vec<_> = live.map(|life| life.account).collect();
        accounts.sort();
        accounts
    }

    /// Waits until these accounts alone have grants that work.
    async fn leaves(&self, accounts: &[&str]) {
        let settled = async {
            while self.live_accounts() != accounts {
                tokio::task::yield_now().await;
            }
        };
        let settled = tokio::time::timeout(std::time::Duration::from_secs(30), settled).await;
        assert!(settled.is_ok(), "{:?} instead of {accounts:?}", self.live_accounts());
    }
}

#[tokio::test]
async fn a_dropped_or_cancelled_sign_in_revokes_the_grant_that_waits_for_digits() {
    let pages = Pages::start().await;
    pages.digits("alice").await;
    pages.rig.broker.drop_sign_in_of(&pages.tenant(), pages.alice()).await.expect("a store");
    pages.grant_ends().await;
    pages.digits("alice").await;
    // As `threadkey auth cancel` does, in a process of its own.
    let (other, _) = pages.another_process().await;
    assert_eq!(other.cancel(pages.alice(), None).await.expect("a store").len(), 1);
    pages.grant_ends().await;
    pages.digits("alice").await;
    // A start with another way back.
    other.start(&pages.tenant(), pages.alice()).await.expect("a sign-in");
    pages.grant_ends().await;
    assert_eq!(pages.account().await, None);
}

#[tokio::test]
async fn a_process_that_starts_later_revokes_a_grant_without_digits_after_its_time() {
    let clock = Clock::fixed(1_795_358_672);
    let mut pages = Pages::with(Plan { clock: Some(clock.clone()), ..Plan::default() }).await;
    pages.digits("alice").await;
    pages.rig.stop().await;
    pages.stop.cancel();
    let (later, _) = pages.another_process().await;
    clock.advance(14 * 60);
    later.expire_undecided().await.expect("a store");
    later.drained().await;
    assert_eq!(pages.live_accounts(), ["alice"], "a minute is left");
    clock.advance(60);
    later.expire_undecided().await.expect("a store");
    pages.grant_ends().await;
}

#[tokio::test]
async fn a_logout_revokes_the_grant_that_waits_for_digits_too() {
    let pages = Pages::start().await;
    let (reply, _, _, digits) = pages.digits("alice").await;
    let early = pages.rig.broker.logout(&pages.tenant(), Revocation::Revoke).await;
    assert!(matches!(early, Err(LogoutError::NoSession(_))), "{early:?}");
    pages.type_digits(&reply, &digits).await;
    pages.digits("bob").await;
    let done = pages.rig.broker.logout(&pages.tenant(), Revocation::Revoke).await.expect("a session");
    assert_eq!(done, LoggedOut::Revoked);
    pages.leaves(&[]).await;
}

#[tokio::test]
async fn a_logout_that_keeps_the_grant_revokes_an_unconfirmed_one_of_another_account() {
    let pages = Pages::start().await;
    let (reply, _, _, digits) = pages.digits("alice").await;
    pages.type_digits(&reply, &digits).await;
    let (_, _, _, digits) = pages.digits("bob").await;
    let kept = pages.rig.broker.logout(&pages.tenant(), Revocation::Keep).await.expect("a session");
    assert_eq!(kept, LoggedOut::LocallyOnly);
    pages.leaves(&["alice"]).await;
    let late = pages.rig.alice.command(&pages.rig.general, "auth code", &[("code", &digits)]).await.text();
    assert!(late.contains("Not signed in"), "{late}");
}

#[tokio::test]
async fn a_logout_that_keeps_the_grant_leaves_an_unconfirmed_one_of_the_same_account() {
    let pages = Pages::start().await;
    let (reply, _, _, digits) = pages.digits("alice").await;
    pages.type_digits(&reply, &digits).await;
    pages.digits("alice").await;
    pages.rig.broker.logout(&pages.tenant(), Revocation::Keep).await.expect("a session");
    pages.rig.broker.drained().await;
    assert_eq!(
        pages.live_accounts(),
        ["alice", "alice"],
        "a provider may end all grants of an account at once"
    );
    assert_eq!(pages.account().await, None);
}
