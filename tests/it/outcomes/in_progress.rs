//! Callers and disks while a refresh is in progress.

use std::{sync::Arc, time::Duration};

use threadkey::{
    broker::{Event, TokenError},
    store::{FileStore, FileStoreOptions, Purpose},
    sys::{disk::RealDisk, faults::Faults},
};

use super::expired;
use crate::broker::{ALICE, MINUTE, broker, tenant};

#[tokio::test]
async fn a_refresh_longer_than_a_callers_wait_is_reported_as_such_and_sent_once() {
    let rig = expired(Duration::ZERO).await;
    let elsewhere = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
    let sent = rig.server.count();
    tokio::time::pause();
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, TokenError::InProgress(_)), "not taken for a missing sign-in: {error}");
    assert_eq!(rig.server.count(), sent);
    drop(elsewhere);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.server.events().total.refreshes, 1);
}

#[tokio::test]
async fn a_failed_save_is_reported_served_from_the_journal_and_retried() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    // The disk is full at the store's first write after the answer.
    let disk = Arc::new(RealDisk::with(Faults::parse("rename:ENOSPC#1")));
    let store = FileStore::on_disk(disk, &rig.path, rig.clock.clone(), FileStoreOptions::default()).unwrap();
    let unlucky = broker(&rig.server, Arc::new(store), &rig.clock, Duration::ZERO);
    let mut events = unlucky.events();
    let lease = unlucky.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert!(matches!(events.recv().await, Ok(Event::SaveFailed(of)) if of == tenant(ALICE)));
    assert_ne!(lease.access_token, before.access_token);
    assert_eq!(rig.session(ALICE).await.generation, 1, "it is not in the store yet");
    unlucky.drained().await;
    let saved = rig.session(ALICE).await;
    assert_eq!((saved.generation, &saved.access_token), (2, &lease.access_token));
    rig.expire();
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    let events = rig.server.events().total;
    assert_eq!((events.refreshes, events.reuses), (2, 0));
}
