//! Each preset against a scripted server in its vendor's place.
//!
//! `presets/NAME.json` has the requests and answers of the vendor's documents, and names them.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

mod example;
mod rig;

use std::time::Duration;

use threadkey::{
    broker::{Broker, Polled, TokenError},
    oauth::{Client, Provider, preset_names},
};

use crate::broker::MINUTE;
use rig::{DeviceFixture, Fixture, Vendor, fixtures, provider};

/// Plays the vendor of a fixture for each request that it documents.
async fn play(fixture: &Fixture) {
    assert!(!fixture.sources.is_empty(), "{} names its public sources", fixture.preset);
    for source in &fixture.sources {
        let is_public = ["https://", "github:", "RFC "].iter().any(|form| source.starts_with(form));
        assert!(is_public, "{}: {source}", fixture.preset);
    }
    let vendor = Vendor::start(fixture).await;
    let pending = vendor.sign_in().await;
    let by_device = fixture.authorization.is_none().then(|| &fixture.device.as_ref().unwrap().poll);
    vendor.assert_request(by_device.or(fixture.exchange.as_ref()).unwrap(), &pending);
    assert_eq!(vendor.tokens().await, fixture.session, "{}", vendor.name());
    if let (Some(expected), Some(answer)) = (&fixture.refresh, &fixture.refresh_answer) {
        vendor.answer(answer.status, &answer.headers, &answer.body);
        vendor.refresh().await.unwrap_or_else(|error| panic!("{}: {error}", vendor.name()));
        vendor.assert_request(expected, &pending);
        assert_eq!(Some(vendor.tokens().await), fixture.refresh_session, "{}", vendor.name());
        let is_refused = fixture.verdicts.iter().any(|verdict| verdict.outcome == "ended");
        assert!(is_refused, "{} has a refused refresh", vendor.name());
    }
    let vendor = Vendor::start(fixture).await;
    let pending = vendor.sign_in().await;
    vendor.log_out(&pending).await;
}

/// Checks that each refusal of a refresh has its outcome.
async fn check_verdicts(fixture: &Fixture) {
    for verdict in &fixture.verdicts {
        let vendor = Vendor::start(fixture).await;
        vendor.sign_in().await;
        vendor.answer(verdict.status, &fixture.answer.headers, &verdict.body);
        let result = vendor.refresh().await;
        let session = vendor.session().await;
        let code = session.retry.as_ref().map(|retry| retry.code.clone()).unwrap_or_default();
        let outcome = match &session.retry {
            _ if session.ended.is_some() => "ended",
            Some(retry) if retry.refused.is_some() => "stuck",
            _ if code.starts_with("ambiguous_") => "ambiguous",
            Some(_) if matches!(result, Err(TokenError::Misconfigured { .. })) => "misconfigured",
            _ => "unspent",
        };
        let what = format!("{}: {} {} -> {code}", fixture.preset, verdict.status, verdict.body);
        assert_eq!(outcome, verdict.outcome, "{what}");
    }
}

#[tokio::test]
async fn every_preset_sends_the_requests_that_its_vendor_documents() {
    let fixtures = fixtures();
    let with_fixture: Vec<&str> = fixtures.iter().map(|fixture| fixture.preset.as_str()).collect();
    assert_eq!(with_fixture, preset_names().collect::<Vec<_>>(), "each preset has a fixture");
    for fixture in &fixtures {
        play(fixture).await;
    }
}

#[tokio::test]
async fn a_refresh_names_the_granted_scope_where_the_vendor_wants_it() {
    let mut fixture = fixtures().into_iter().find(|fixture| fixture.preset == "anthropic").unwrap();
    fixture.section.insert("scope_in_refresh".into(), true.into());
    let scope = fixture.answer.body["scope"].clone();
    let refresh = fixture.refresh.as_mut().and_then(|refresh| refresh.json.as_mut()).unwrap();
    refresh.insert("scope".into(), scope);
    play(&fixture).await;
}

#[test]
fn the_vendors_variables_are_suggestions_and_give_no_token() {
    let fixture = fixtures().into_iter().find(|fixture| fixture.preset == "github").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = crate::support::network::Authority::new();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let path = folder.path().join("threadkey.toml");
    assert_eq!(provider(&fixture, path.clone()).environment(), None);
    let mut named = fixture.clone();
    named.section.insert("token_env".into(), "GH_TOKEN".into());
    let environment = provider(&named, path).environment().cloned().unwrap();
    assert_eq!(environment.variable, "GH_TOKEN");
}

/// The fixtures of vendors with the device grant or CIBA, each with the keys of its section for that grant.
fn polled_fixtures() -> impl Iterator<Item = (Fixture, DeviceFixture)> {
    let grants = fixtures().into_iter().flat_map(|fixture| {
        let grants = [fixture.device.clone(), fixture.ciba.clone()];
        grants.into_iter().flatten().map(move |grant| (fixture.clone(), grant))
    });
    grants.map(|(mut fixture, device)| {
        fixture.device = Some(device.clone());
        for (key, value) in &device.section {
            fixture.section.remove(key);
            if value.as_str() != Some("") {
                fixture.section.insert(key.clone(), value.clone());
            }
        }
        (fixture, device)
    })
}

#[tokio::test]
async fn every_vendor_with_device_codes_or_ciba_gets_the_requests_that_it_documents() {
    let mut count = 0;
    for (fixture, device) in polled_fixtures() {
        assert!(!device.sources.is_empty(), "{} names its public sources", fixture.preset);
        let words: Vec<&str> = device.answers.iter().map(|answer| answer.means.as_str()).collect();
        assert!(words.contains(&"pending") && words.len() > 1, "{}: {words:?}", fixture.preset);
        let vendor = Vendor::start(&fixture).await;
        vendor.sign_in().await;
        assert_eq!(vendor.tokens().await, fixture.session, "{}", vendor.name());
        count += 1;
    }
    assert_eq!(count, 15);
}

#[tokio::test]
async fn every_answer_to_a_poll_that_a_vendor_documents_has_its_meaning() {
    for (fixture, device) in polled_fixtures() {
        for answer in &device.answers {
            let vendor = Vendor::start(&fixture).await;
            let started = vendor.start_device(&device).await;
            let interval = vendor.pending().await.polling.unwrap().interval;
            vendor.answer(answer.status, &fixture.answer.headers, &answer.body);
            let polled = vendor.poll(&device, &started).await;
            let now = vendor.pending().await.polling.unwrap();
            let what = format!("{}: {} {} -> {polled:?}", fixture.preset, answer.status, answer.body);
            match (answer.means.as_str(), polled) {
                ("pending", Polled::Waiting(_)) => {
                    assert_eq!((now.interval, now.not_before), (interval, None))
                }
                ("slow_down", Polled::Waiting(_)) => assert_eq!(now.interval, interval + 5, "{what}"),
                ("ambiguous", Polled::Waiting(_)) => assert!(now.not_before.is_some(), "{what}"),
                (word, Polled::Ended(code)) => {
                    assert_eq!(word, code, "{what}");
                    assert_eq!(now.ended.as_deref(), Some(word), "{what}");
                }
                _ => panic!("{what}"),
            }
        }
    }
}

#[tokio::test]
async fn every_verdict_that_a_vendor_documents_has_its_outcome() {
    for fixture in fixtures() {
        check_verdicts(&fixture).await;
    }
}

#[tokio::test]
async fn a_client_secret_from_a_command_is_read_once_and_only_for_a_request() {
    let mut fixture = fixtures().into_iter().find(|fixture| fixture.preset == "zoom").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    let script = format!("echo x >> {}; echo secret-1", count.display());
    fixture.section.remove("client_secret_env");
    let command = ["sh", "-c", &script].map(toml::Value::from).to_vec();
    fixture.section.insert("client_secret_command".into(), command.into());
    let vendor = Vendor::start(&fixture).await;
    vendor.sign_in().await;
    vendor.broker.token(&vendor.tenant, Duration::ZERO).await.unwrap();
    let answer = fixture.refresh_answer.as_ref().unwrap();
    vendor.answer(answer.status, &answer.headers, &answer.body);
    vendor.refresh().await.unwrap();
    assert_eq!(
        vendor.newest().headers["authorization"],
        fixture.exchange.as_ref().unwrap().headers["authorization"]
    );
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
}

#[tokio::test]
async fn without_its_client_secret_a_session_is_kept_and_nothing_is_sent() {
    let mut fixture = fixtures().into_iter().find(|fixture| fixture.preset == "zoom").unwrap();
    let vendor = Vendor::start(&fixture).await;
    vendor.sign_in().await;
    let before = vendor.session().await;
    fixture.section.remove("client_secret_env");
    fixture
        .section
        .insert("client_secret_command".into(), vec![toml::Value::from("/no/such/program")].into());
    let without = provider(&fixture, vendor._folder.path().join("threadkey.toml"));
    let providers = threadkey::oauth::Providers::new([Provider::clone(&without)]);
    let client = Client::new(vendor.clock.clone()).unwrap();
    let broker = Broker::new(vendor.store.clone(), providers, client, vendor.clock.clone());
    vendor.clock.advance(4000);
    let error = broker.token(&vendor.tenant, MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::NoClientSecret { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    assert_eq!(vendor.session().await, before);
}
