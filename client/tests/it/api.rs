use std::time::Duration;

use threadkey_client::{Capability, Client, Code, Error};

use crate::rig::Rig;

fn code(error: &Error) -> &Code {
    let Error::Refused { code, .. } = error else { panic!("another error: {error:?}") };
    code
}

#[tokio::test]
async fn a_worker_gets_a_token_and_another_one_after_an_expiry() {
    let rig = Rig::signed_in().await;
    let first = rig.client().token("acme", None).await.unwrap();
    assert_eq!((&*first.token_type, &*first.principal), ("Bearer", "user:803"));
    let again = rig.client().token("acme", Some(Duration::from_secs(5))).await.unwrap();
    assert_eq!(again.access_token, first.access_token);
    rig.advance(Duration::from_secs(86_400));
    let second = rig.client().token("acme", None).await.unwrap();
    assert!(second.generation > first.generation);
    assert_ne!(second.access_token, first.access_token);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once() {
    let rig = Rig::signed_in().await;
    let first = rig.client().token("acme", None).await.unwrap();
    let requests = rig.authorization.count();
    let second = rig.client().rejected("acme", &first.access_token).await.unwrap();
    let third = rig.client().rejected("acme", &first.access_token).await.unwrap();
    assert_ne!(second.access_token, first.access_token);
    assert_eq!(third.access_token, second.access_token);
    assert_eq!(rig.authorization.count(), requests + 1);
}

#[tokio::test]
async fn a_token_that_the_provider_refuses_is_replaced_by_a_probing_client() {
    let rig = Rig::signed_in().await;
    let first = rig.client().token("acme", None).await.unwrap();
    assert_eq!(rig.client().probing().token("acme", None).await.unwrap().access_token, first.access_token);
    rig.advance(Duration::from_secs(3));
    // The server's clock alone: its token has ended early.
    rig.authorization.advance(Duration::from_secs(3600));
    assert_eq!(rig.client().token("acme", None).await.unwrap().access_token, first.access_token);
    let next = rig.client().probing().token("acme", None).await.unwrap();
    assert_ne!(next.access_token, first.access_token);
    assert!(rig.authorization.is_live(next.access_token.expose()));
}

#[tokio::test]
async fn a_demand_for_scopes_is_noted_and_one_for_granted_scopes_is_not() {
    let rig = Rig::signed_in().await;
    let report = async |scope: &str| {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
        rig.client().insufficient_scope("acme", &[&challenge]).await.unwrap()
    };
    assert_eq!(report("openid").await, None);
    let next = report("files:write").await.expect("the token does not have it");
    assert!(next.contains(&"openid".to_owned()) && next.contains(&"files:write".to_owned()), "{next:?}");
    let other = rig.client().insufficient_scope("other", &["Bearer"]).await.unwrap_err();
    assert_eq!(code(&other), &Code::ProviderNotAllowed);
}

#[tokio::test]
async fn a_missing_session_has_its_code_and_needs_a_user() {
    let rig = Rig::start().await;
    let error = rig.client().token("acme", None).await.unwrap_err();
    assert_eq!(code(&error), &Code::NoSession);
    assert!(error.needs_sign_in() && error.retry_after().is_none(), "{error:?}");
    let error = rig.client().token("other", None).await.unwrap_err();
    assert_eq!(code(&error), &Code::ProviderNotAllowed);
}

#[tokio::test]
async fn a_wait_without_the_bot_ends_at_once_with_the_reason() {
    let rig = Rig::start().await;
    let waiting = rig.client().waiting(Duration::from_secs(300));
    let error = waiting.token("acme", Some(Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(code(&error), &Code::NoSession);
    assert!(error.to_string().contains("without its Discord bot"), "{error}");
    rig.sign_in().await;
    assert_eq!(waiting.token("acme", None).await.unwrap().principal, "user:803");
}

#[tokio::test]
async fn a_wrong_capability_is_unauthorized_and_never_shown() {
    let rig = Rig::signed_in().await;
    let client = Client::socket(&rig.socket, Capability::new("canary-capability"));
    let error = client.token("acme", None).await.unwrap_err();
    assert_eq!(code(&error), &Code::Unauthorized);
    let shown = format!("{client:?} {error:?} {error}");
    assert!(!shown.contains("canary"), "{shown}");
    let token = rig.client().token("acme", None).await.unwrap();
    assert!(!format!("{token:?}").contains(token.access_token.expose()));
}

#[tokio::test]
async fn an_unavailable_provider_names_the_time_to_try_again() {
    let rig = Rig::signed_in().await;
    rig.advance(Duration::from_secs(86_400));
    rig.authorization.script([threadkey_lookalike::authserver::Reply::StatusRetryAfter(503, 7)]);
    let error = rig.client().token("acme", None).await.unwrap_err();
    assert_eq!(code(&error), &Code::ProviderUnavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error:?}");
}

#[tokio::test]
async fn an_absent_api_is_unreachable_and_a_foreign_name_is_never_sent() {
    let rig = Rig::start().await;
    let client = Client::socket(rig.folder().join("absent.sock"), rig.capability.clone());
    assert!(matches!(client.token("acme", None).await, Err(Error::Unreachable { .. })));
    for name in ["", "../acme", "-acme", "acme?x", "Acme", "a\r\nb", &"a".repeat(65)] {
        assert!(matches!(rig.client().token(name, None).await, Err(Error::BadProvider(_))), "{name}");
    }
}
