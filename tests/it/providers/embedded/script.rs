//! Replies that a test scripts.

use super::*;
use crate::support::authserver::Reply;

#[tokio::test]
async fn a_script_answers_in_its_order_and_leaves_the_grants_alone() {
    let (server, endpoints) = start().await;
    let tokens = endpoints.sign_in("alice").await;
    let refresh_token = tokens.text("refresh_token");
    server.script([
        Reply::Status(503).retry_after(7),
        Reply::Html503,
        Reply::Json(400, serde_json::json!({"error": {"code": "refresh_token_reused"}})),
        Reply::Raw {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: b"{\"access_token\":".to_vec(),
        },
        Reply::Drop,
    ]);
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token), ("client_id", CLIENT_ID)];
    let send = async || client().post(&endpoints.token_endpoint).form(&form).send().await;

    let busy = send().await.expect("an answer");
    assert_eq!(busy.status(), 503);
    assert_eq!(busy.headers()["retry-after"], "7");
    let page = send().await.expect("an answer");
    assert_eq!(page.headers()["content-type"], "text/html");
    let nested = endpoints.refresh(refresh_token).await;
    assert_eq!(nested.body["error"]["code"], "refresh_token_reused");
    let torn = endpoints.refresh(refresh_token).await;
    assert_eq!((torn.status, torn.body.as_str()), (200, Some("{\"access_token\":")));
    assert!(send().await.is_err());
    assert_eq!(server.script_left(), 0);

    assert_eq!(server.events().of("alice").refreshes, 0);
    endpoints.refresh(refresh_token).await.expect_ok();
    assert_eq!(server.count(), 7);
    let seen = server.requests();
    assert!(seen[1..].iter().all(|request| request.form["refresh_token"] == refresh_token));
    assert_eq!(seen[1].headers["content-type"], "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn a_script_can_lose_the_answer_to_a_refresh_that_was_made() {
    for lost in [Reply::HalfBody, Reply::RotateThenStatus(500), Reply::RotateThenDrop] {
        let (server, endpoints) = start().await;
        let tokens = endpoints.sign_in("alice").await;
        let request = client().post(&endpoints.token_endpoint).form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", tokens.text("refresh_token")),
            ("client_id", CLIENT_ID),
        ]);
        server.script([lost.clone()]);
        match (&lost, answer(request).await) {
            (Reply::HalfBody, Err(error)) => {
                assert!(error.is_body() || error.is_decode(), "{error:?}")
            }
            (Reply::RotateThenStatus(_), Ok(answer)) => assert_eq!(answer.status, 500),
            (Reply::RotateThenDrop, Err(error)) => assert!(error.is_request(), "{error:?}"),
            (_, Ok(answer)) => panic!("{lost:?} answered {} {}", answer.status, answer.body),
            (_, Err(error)) => panic!("{lost:?} ended in {error:?}"),
        }
        assert_eq!(server.events().of("alice").refreshes, 1, "{lost:?}");
        let again = endpoints.refresh(tokens.text("refresh_token")).await;
        again.expect_error(400, "invalid_grant");
        assert_eq!(server.events().of("alice").reuses, 1, "{lost:?}");
    }
}

#[tokio::test]
async fn a_script_can_hang_until_it_is_released_and_can_edit_an_answer() {
    let (server, endpoints) = start().await;
    let tokens = endpoints.sign_in("alice").await;
    server.script([Reply::Hang, Reply::Edit(|body| body["expires_in"] = "60".into())]);
    let request = client().post(&endpoints.token_endpoint).form(&[("grant_type", "refresh_token")]);
    let waiting = tokio::spawn(answer(request));
    server.wait_for_held(1).await;
    server.release();
    assert!(waiting.await.expect("no panic").is_err());
    let edited = endpoints.refresh(tokens.text("refresh_token")).await.expect_ok();
    assert_eq!(edited.text("expires_in"), "60");
}
