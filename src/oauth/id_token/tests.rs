use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;

const AT: UnixTime = 1_795_358_672;

fn rules(has_keys: bool) -> AnswerRules {
    AnswerRules {
        client_id: "threadkey".into(),
        issuer: Some("https://id.example".into()),
        has_keys,
        ..AnswerRules::default()
    }
}

/// Claims that are right everywhere, with these in their place. `null` removes one.
fn token(changes: &Value) -> Received {
    let mut claims = json!({
        "iss": "https://id.example", "sub": "17", "aud": "threadkey", "exp": AT + 3600, "iat": AT, "nonce": "n",
    });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    Received::new(&format!("e30.{}.", URL_SAFE_NO_PAD.encode(claims.to_string())))
}

fn checked(changes: &Value, has_keys: bool) -> Result<(), Mismatch> {
    token(changes).check_sign_in(&rules(has_keys), &Nonce::new("n"), AT)
}

#[test]
fn each_wrong_claim_is_refused_and_named_with_and_without_keys() {
    for (changes, expected) in [
        (json!({}), Ok(())),
        (json!({"aud": ["threadkey"]}), Ok(())),
        (json!({"aud": ["threadkey", "other"], "azp": "threadkey"}), Ok(())),
        (json!({"azp": "threadkey"}), Ok(())),
        (json!({"exp": AT - MAX_SKEW + 1, "iat": AT + MAX_SKEW}), Ok(())),
        (json!({"exp": (AT + 60).to_string()}), Ok(())),
        (json!({"nonce": "m"}), Err(Mismatch::Nonce)),
        (json!({"nonce": null}), Err(Mismatch::NoNonce)),
        (json!({"aud": "other"}), Err(Mismatch::Audience)),
        (json!({"aud": []}), Err(Mismatch::Audience)),
        (json!({"aud": null}), Err(Mismatch::Audience)),
        (json!({"aud": ["threadkey", "other"], "azp": "other"}), Err(Mismatch::AuthorizedParty)),
        (json!({"azp": "other"}), Err(Mismatch::AuthorizedParty)),
        (json!({"azp": 7}), Err(Mismatch::AuthorizedParty)),
        (json!({"iss": "https://id.example/"}), Err(Mismatch::Issuer)),
        (json!({"iss": "https://ID.example"}), Err(Mismatch::Issuer)),
        (json!({"iss": 7}), Err(Mismatch::Issuer)),
    ] {
        for has_keys in [false, true] {
            assert_eq!(checked(&changes, has_keys), expected, "{changes} {has_keys}");
        }
    }
}

#[test]
fn a_missing_claim_and_a_wrong_time_are_refused_only_where_keys_are_known() {
    for (changes, expected) in [
        (json!({"exp": AT - MAX_SKEW}), Mismatch::Expired),
        (json!({"exp": "soon"}), Mismatch::NoClaim("exp")),
        (json!({"iat": AT + MAX_SKEW + 1}), Mismatch::IssuedLater),
        (json!({"iat": {}}), Mismatch::NoClaim("iat")),
        (json!({"iss": null}), Mismatch::NoClaim("iss")),
        (json!({"exp": null}), Mismatch::NoClaim("exp")),
        (json!({"iat": null}), Mismatch::NoClaim("iat")),
        (json!({"sub": null}), Mismatch::NoClaim("sub")),
        (json!({"sub": ""}), Mismatch::NoClaim("sub")),
        (json!({"sub": "x".repeat(256)}), Mismatch::NoClaim("sub")),
        (json!({"aud": ["threadkey", "other"]}), Mismatch::AuthorizedParty),
    ] {
        assert_eq!(checked(&changes, true), Err(expected), "{changes}");
        assert_eq!(checked(&changes, false), Ok(()), "{changes}");
    }
    assert_eq!(token(&json!({"sub": null})).identity(), None, "it names no account");
    assert_eq!(token(&json!({"iss": null})).identity(), None, "it names no account");
}

#[test]
fn an_issuer_of_many_tenants_has_the_tenant_of_the_token() {
    let rules = AnswerRules { issuer: Some("https://id.example/{tenantid}/v2.0".into()), ..rules(true) };
    let check = |changes: Value| token(&changes).check_sign_in(&rules, &Nonce::new("n"), AT);
    assert_eq!(check(json!({"iss": "https://id.example/a-1/v2.0", "tid": "a-1"})), Ok(()));
    for (iss, tid, expected) in [
        ("https://id.example/a-1/v2.0", json!("a-2"), Mismatch::Issuer),
        ("https://id.example/{tenantid}/v2.0", json!("a-1"), Mismatch::Issuer),
        ("https://id.example/a-1/v2.0", json!(null), Mismatch::NoClaim("tid")),
        ("https://id.example/a/../b/v2.0", json!("a/../b"), Mismatch::NoClaim("tid")),
    ] {
        assert_eq!(check(json!({"iss": iss, "tid": tid})), Err(expected), "{iss} {tid}");
    }
}

#[test]
fn a_refresh_for_another_account_issuer_or_client_is_foreign() {
    let known = AnswerRules { subject: Some("17".into()), ..rules(true) };
    for (changes, expected) in [
        (json!({}), None),
        (json!({"sub": "18"}), Some("sub")),
        (json!({"sub": 17}), Some("sub")),
        (json!({"iss": "https://other.example"}), Some("iss")),
        (json!({"aud": "other"}), Some("aud")),
        (json!({"aud": ["other", "threadkey"]}), None),
        // These are faults of the id token alone, and the tokens may be the session's own.
        (json!({"sub": null, "iss": null, "aud": null}), None),
        (json!({"azp": "other", "exp": 1}), None),
    ] {
        assert_eq!(token(&changes).foreign_claim(&known), expected, "{changes}");
        assert_eq!(token(&changes).foreign_claim(&rules(true)), None, "the session has no subject");
    }
}
