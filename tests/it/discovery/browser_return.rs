//! The way back by the browser, at providers whose metadata is published.

use threadkey::broker::{OpenedStart, Opener, PageError, PublicUrl, StartOptions, WayBack, WithoutBot};

use super::*;

const IN_THE_BROWSER: &str = "https://threadkey.example.org";

/// Starts a sign-in by the browser. Returns the id of its page.
async fn started(broker: &Broker, of: &Tenant) -> String {
    broker.set_public_url(PublicUrl::parse(IN_THE_BROWSER).unwrap());
    let opener = Opener { user: "alice".into(), server: None };
    let options = StartOptions { way_back: WayBack::Browser(opener), ..StartOptions::default() };
    let started = broker.start_with(of, of.principal, options).await.unwrap();
    started.link().unwrap().path().trim_start_matches("/start/").to_owned()
}

fn state_of(opened: &OpenedStart) -> String {
    opened.location.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
}

fn callback_of(opened: &OpenedStart) -> url::Url {
    let mut pairs = opened.location.query_pairs();
    let (_, callback) = pairs.find(|(name, _)| name == "redirect_uri").expect("a redirect URI");
    callback.parse().expect("a URL")
}

#[tokio::test]
async fn an_answer_without_the_promised_issuer_is_refused_and_shown_nowhere() {
    let promise = json!({"authorization_response_iss_parameter_supported": true});
    for answer in ["code=secret-code", "error=access_denied&error_description=call+0900"] {
        let rig = Rig::start().await;
        rig.publish(promise.clone());
        let broker = rig.process();
        let id = started(&broker, &tenant(803)).await;
        let opened = broker.open_start(&id, "", &WithoutBot).await.unwrap();
        let cookies = format!("{}={}", opened.cookie, opened.value.expose());
        let query = format!("{answer}&state={}", state_of(&opened));
        // A process that has just begun knows no endpoint and no promise yet.
        let providers = Providers::with_undiscovered([], [rig.undiscovered()]);
        let client = Client::new(rig.clock.clone()).unwrap();
        let later = Broker::new(open(&rig.store(), &rig.clock), providers, client, rig.clock.clone());
        rig.publish(promise.clone());
        let page = later
            .browser_returned(&callback_of(&opened), &query, &cookies, &WithoutBot, || {})
            .await
            .expect_err("no iss");
        assert!(matches!(&page, PageError::Failed { code, .. } if code == "wrong_issuer"), "{page:?}");
        assert!(!page.to_string().contains("0900") && !page.to_string().contains("secret-code"), "{page}");
        assert_eq!(rig.server.count(), 0, "no code was sent");
        let again =
            broker.browser_returned(&callback_of(&opened), &query, &cookies, &WithoutBot, || {}).await;
        assert!(matches!(again, Err(PageError::Unknown)), "the sign-in is over");
    }
}

#[tokio::test]
async fn a_callback_waits_while_the_metadata_of_its_provider_cannot_be_fetched() {
    let rig = Rig::start().await;
    rig.publish(json!({}));
    let broker = rig.process();
    let id = started(&broker, &tenant(803)).await;
    let opened = broker.open_start(&id, "", &WithoutBot).await.unwrap();
    let cookies = format!("{}={}", opened.cookie, opened.value.expose());
    let providers = Providers::with_undiscovered([], [rig.undiscovered()]);
    let client = Client::new(rig.clock.clone()).unwrap();
    let later = Broker::new(open(&rig.store(), &rig.clock), providers, client, rig.clock.clone());
    rig.publish_nothing();
    rig.publish_nothing();
    let query = format!("code=c&state={}", state_of(&opened));
    let page = later.browser_returned(&callback_of(&opened), &query, &cookies, &WithoutBot, || {}).await;
    assert!(matches!(page, Err(PageError::TryAgain(_))), "{page:?}");
    assert_eq!(rig.server.count(), 0, "no code was sent");
}

#[tokio::test]
async fn a_start_page_leads_only_to_the_authorization_endpoint_of_its_own_sign_in() {
    let rig = Rig::start().await;
    let provider = |name: &str, host: &str| {
        let settings = ProviderSettings {
            issuer: None,
            authorization_endpoint: format!("https://{host}.example/authorize"),
            token_endpoint: format!("https://{host}.example/token"),
            revocation_endpoint: None,
            ..fixtures::settings(&rig.server)
        };
        Provider::new(name.parse().unwrap(), settings).unwrap()
    };
    let broker = |providers: [Provider; 2]| {
        let client = Client::new(rig.clock.clone()).unwrap();
        let broker =
            Broker::new(open(&rig.store(), &rig.clock), Providers::new(providers), client, rig.clock.clone());
        broker.set_public_url(PublicUrl::parse(IN_THE_BROWSER).unwrap());
        broker
    };
    let usual = broker([provider("one", "one"), provider("two", "two")]);
    // The operator has exchanged the names.
    let changed = broker([provider("one", "two"), provider("two", "one")]);
    for (name, host) in [("one", "one.example"), ("two", "two.example")] {
        let of = Tenant { provider: name.parse().unwrap(), principal: user(803) };
        let id = started(&usual, &of).await;
        for result in [
            changed.start_page(&id).await.map(drop),
            changed.open_start(&id, "", &WithoutBot).await.map(drop),
        ] {
            assert!(matches!(result, Err(PageError::Unknown)), "{name}: {result:?}");
        }
        assert_eq!(usual.start_page(&id).await.unwrap().site, host);
        let opened = usual.open_start(&id, "", &WithoutBot).await.expect("no other browser has opened it");
        assert_eq!(opened.location.host_str(), Some(host));
        assert_eq!(opened.location.path(), "/authorize");
    }
}
