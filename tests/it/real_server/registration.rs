//! Clients that register themselves (RFC 7591): one for several processes, and a new one where the
//! server has lost it.

use serde_json::Value;

use super::{
    rows::{REGISTERED, server},
    session::stored,
    ways::Terminal,
};
use crate::support::program::Ended;

/// The client of a sign-in link.
fn client_of(started: &Ended) -> String {
    let link = url::Url::parse(started.stdout.trim()).unwrap_or_else(|_| panic!("{started:?}"));
    link.query_pairs().find(|(name, _)| name == "client_id").unwrap().1.into_owned()
}

#[tokio::test]
async fn processes_that_register_at_once_use_the_client_of_one() {
    let cell = Terminal::new(&REGISTERED, "at-once").await;
    let start = ["user:1", "user:2", "user:3"].map(|principal| ["auth", "start", "acme", "--as", principal]);
    let (one, two, three) =
        tokio::join!(cell.home.run(&start[0]), cell.home.run(&start[1]), cell.home.run(&start[2]));
    let client = client_of(&one);
    assert_eq!((client_of(&two), client_of(&three)), (client.clone(), client));
    let clients = stored(&cell.home)["clients"].as_object().map(serde_json::Map::len);
    assert_eq!(clients, Some(1));
}

#[tokio::test]
async fn a_registered_client_that_the_server_lost_is_replaced_at_the_next_sign_in() {
    let cell = Terminal::new(&REGISTERED, "lost").await;
    cell.sign_in().await;
    let session = || stored(&cell.home)["sessions"]["acme/local"].clone();
    let before = session();
    server().forget_client(before["client_id"].as_str().unwrap()).await;
    cell.home.set_offset(3590);
    let refused = cell.home.run(&["token", "acme"]).await;
    assert!(refused.code != 0 && refused.stdout.is_empty(), "{refused:?}");
    assert_eq!(session()["refresh_token"], before["refresh_token"], "the session is kept");
    cell.home.set_offset(0);
    cell.sign_in().await;
    let after = session();
    assert_ne!(after["client_id"], before["client_id"]);
    assert_eq!(after["subject"], cell.account.as_str());
    assert_ne!(after["lineage"], Value::Null);
    assert_eq!(cell.home.run(&["token", "acme"]).await.code, 0);
}
