use super::*;
use crate::{cli::lease::tests::lease, session::UNKNOWN_EXPIRY};

#[test]
fn the_answer_has_the_members_that_a_kubernetes_client_reads() {
    assert_eq!(
        of_version(&lease("a.b-c"), VERSIONS[0]).expect("it is JSON"),
        "{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
         \"status\":{\"expirationTimestamp\":\"2026-11-22T15:44:32Z\",\"token\":\"a.b-c\"}}\n"
    );
    let unknown = Lease { expires_at: UNKNOWN_EXPIRY, ..lease("a.b-c") };
    let answer = of_version(&unknown, VERSIONS[1]).expect("it is JSON");
    assert!(answer.contains("/v1beta1") && !answer.contains("expirationTimestamp"), "{answer}");
}

#[test]
fn the_version_is_that_of_the_client() {
    let of = |text: &str| super::version(Some(text));
    for known in VERSIONS {
        let info = format!("{{\"apiVersion\":\"{known}\",\"spec\":{{\"interactive\":true}}}}");
        assert_eq!(of(&info), Ok(known));
    }
    assert_eq!(super::version(None), Ok(VERSIONS[0]));
    for bad in ["", "{}", "5", "{\"apiVersion\":\"client.authentication.k8s.io/v1alpha1\"}"] {
        assert_eq!(of(bad).expect_err("unknown").exit, Exit::Usage, "{bad}");
    }
}
