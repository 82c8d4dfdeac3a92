//! No beginning of an answer yields a token that the whole answer does not. So a cut refresh token
//! never replaces a good one.

use proptest::prelude::*;
use serde_json::json;
use threadkey::{
    oauth::{AnswerRules, Attempt, Outcome, outcome},
    secret::RefreshToken,
    session::journal::{Answer, Answered},
};

use super::frames::gzip;

const FORM: &str = "application/x-www-form-urlencoded";

/// Returns the tokens of an answer.
fn tokens(answer: &Answer, rules: &AnswerRules) -> Option<(String, Option<String>)> {
    let attempt = Attempt::Answered(Answered::for_tests(answer.clone()));
    let Outcome::Granted(grant) = outcome(&attempt, rules) else { return None };
    let refresh_token = grant.refresh_token.as_ref().map(RefreshToken::expose).map(str::to_owned);
    Some((grant.access_token.expose().to_owned(), refresh_token))
}

/// Parts of which bodies are made.
fn part() -> impl Strategy<Value = String> {
    let token = "[a-zA-Z0-9{}\"&=+%_.-]{1,12}";
    prop_oneof![
        (token, token).prop_map(|(at, rt)| json!({"access_token": at, "refresh_token": rt}).to_string()),
        token.prop_map(|at| json!({"access_token": at}).to_string()),
        (token, token).prop_map(|(at, error)| json!({"access_token": at, "error": error}).to_string()),
        (token, token)
            .prop_map(|(at, rt)| json!({"data": {"access_token": at, "refresh_token": rt}}).to_string()),
        (token, token).prop_map(|(at, rt)| format!("access_token={at}&refresh_token={rt}")),
        Just("{".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("<html>".to_owned()),
        "[ \\n\\r\\t]{0,3}",
        "\\PC{0,6}",
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let parts = proptest::collection::vec(part(), 1..4).prop_map(|parts| parts.concat().into_bytes());
    (parts, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(plain, zipped, rest)| {
        let body = if zipped { gzip(&plain) } else { plain };
        [body, rest].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_prefix_of_an_answer_yields_a_token_that_the_whole_does_not(
        body in body(),
        content_type in prop_oneof![Just(None), Just(Some(FORM)), Just(Some("application/json"))],
        is_nested in any::<bool>(),
    ) {
        let token_path = if is_nested { vec!["data".to_owned()] } else { Vec::new() };
        let rules = AnswerRules { token_path, ..AnswerRules::default() };
        let answer = |end: usize, cut| Answer {
            status: 200,
            content_type: content_type.map(str::to_owned),
            cut,
            body: body[..end].to_vec().into(),
            ..Answer::default()
        };
        let whole = tokens(&answer(body.len(), false), &rules);
        for end in 0..body.len() {
            let part = tokens(&answer(end, true), &rules);
            prop_assert!(part.is_none() || part == whole, "{end} of {} bytes: {part:?}, {whole:?}", body.len());
        }
        let cut = tokens(&answer(body.len(), true), &rules);
        prop_assert!(cut.is_none() || cut == whole, "{cut:?}, {whole:?}");
    }
}
