//! The addresses that published endpoints may have: the limit holds for every kind of request.

use super::*;
use crate::{
    ids::{Principal, ProviderId},
    net::{Reach, Trust},
    oauth::{
        DeviceForm, DocumentRequest, Exchange, ExchangeSettings, KnownUser, Proof, Publisher, ServerMetadata,
        Undiscovered,
    },
    secret::{AuthorizationCode, CodeVerifier, DeviceCode},
    session::{GrantKind, Pending, Polling, Session},
};

fn id() -> ProviderId {
    "acme".parse().expect("a name")
}

/// Whether nothing was sent.
fn is_unsent<A>(attempt: &Attempt<A>) -> bool {
    matches!(attempt, Attempt::NotSent(_))
}

/// Returns settings with every endpoint at `base`, which a server published.
fn published(base: &str, reach: Reach) -> ProviderSettings {
    ProviderSettings {
        issuer: Some(base.to_owned()),
        authorization_endpoint: format!("{base}/authorize"),
        token_endpoint: format!("{base}/token"),
        revocation_endpoint: Some(format!("{base}/revoke")),
        userinfo_endpoint: Some(format!("{base}/userinfo")),
        jwks_uri: Some(format!("{base}/keys")),
        device_authorization_endpoint: Some(format!("{base}/device")),
        backchannel_authentication_endpoint: Some(format!("{base}/bc")),
        reach: Some(reach),
        ..settings()
    }
}

fn polled(provider: &Provider, grant: GrantKind) -> Pending {
    let polling = Polling {
        grant,
        code: DeviceCode::new("d"),
        user_code: Some("AB-CD".into()),
        verification_uri: None,
        verification_uri_complete: None,
        binding_message: None,
        expires_at: NOW + 600,
        interval: 5,
        not_before: None,
        ended: None,
    };
    provider.begin_polling(Principal::Local, None, NOW, polling)
}

/// Sends each kind of request to a provider with these settings. Returns the kinds that left.
async fn sent_kinds(base: &str, reach: Reach) -> Vec<&'static str> {
    let client = client();
    let plain = provider(published(base, reach.clone()));
    let codex = DeviceForm { is_codex: true, ..DeviceForm::default() };
    let codex = provider(ProviderSettings { device_form: codex, ..published(base, reach.clone()) });
    let secrets = credentials(&plain);
    let mut session: Session = test_session(NOW, 3600);
    session.binding = plain.binding();
    let mut left = Vec::new();
    let mut note = |kind, is_unsent: bool| {
        if !is_unsent {
            left.push(kind);
        }
    };

    let refresh = plain.refresh(&Locked::for_tests(session.clone()), &secrets);
    let refresh = refresh.expect("bound").expect("it has a token");
    note("refresh", is_unsent(&client.send(refresh, intended()).await));
    let revocation = plain.revoke(&session, &secrets).expect("bound");
    note("revocation", client.revoke(revocation).await.is_err());
    let userinfo = plain.userinfo(&session.binding, &session.access_token).expect("bound");
    note("userinfo", matches!(client.userinfo(userinfo).await, Userinfo::Unknown));
    let exchange = ExchangeSettings {
        from: id(),
        audience: vec!["docs".into()],
        resource: Vec::new(),
        scopes: Vec::new(),
        requested_token_type: None,
        requested_issuer: None,
        token_params: Default::default(),
        client_id: None,
        client_auth: None,
        client_secret: None,
        client_key: None,
    };
    let exchange = Exchange::new("docs".parse().expect("a name"), exchange).expect("right");
    let exchange = exchange.request(&plain, &session, &secrets).expect("bound");
    note("token exchange", is_unsent(&client.exchange_token(exchange).await));

    let user = KnownUser { login_hint: Some("alice".into()), name: "alice".into() };
    for (of, grant, opening) in [
        (&plain, GrantKind::Device, "device authorization"),
        (&plain, GrantKind::Ciba, "CIBA request"),
        (&codex, GrantKind::Device, "Codex device request"),
    ] {
        let request = of.acquirer(grant).opening(of, &user, &secrets).expect("it can begin");
        note(opening, is_unsent(&client.open(request.expect("it asks")).await));
    }
    let code = || AuthorizationCode::new("c");
    let by_code = || Proof::Code { code: code(), verifier: None };
    let by_codex = || Proof::Code { code: code(), verifier: Some(CodeVerifier::new("v".repeat(43))) };
    for (of, pending, proof, kind) in [
        (&plain, plain.begin(Principal::Local, None, NOW), by_code(), "code"),
        (&plain, polled(&plain, GrantKind::Device), Proof::Poll, "device poll"),
        (&plain, polled(&plain, GrantKind::Ciba), Proof::Poll, "CIBA poll"),
        (&codex, polled(&codex, GrantKind::Device), Proof::Poll, "Codex poll"),
        (&codex, polled(&codex, GrantKind::Device), by_codex(), "Codex code"),
    ] {
        let acquirer = of.acquirer(pending.grant());
        let request = acquirer.request(of, &Locked::for_tests(pending), &proof, &secrets).expect("bound");
        note(kind, is_unsent(&client.send(request, intended()).await));
    }

    let keys = plain.jwks_uri().expect("configured").clone();
    let request = DocumentRequest::get(keys.clone(), Trust::default(), plain.jwks_reach(&keys));
    note("keys", client.document(request).await.is_err());
    let url: Url = base.parse().expect("a URL");
    for (publisher, kind) in
        [(Publisher::Issuer(base.to_owned()), "metadata"), (Publisher::Mcp(url.clone()), "MCP server")]
    {
        let undiscovered = Undiscovered { id: id(), settings: published(base, reach.clone()), publisher };
        let found = client.discover(&undiscovered, NOW).await;
        note(kind, found.is_err_and(|error| error.to_string().contains("private")));
        if kind == "metadata" {
            let metadata = ServerMetadata { issuer: base.to_owned(), ..ServerMetadata::default() };
            let registered =
                client.register(&undiscovered, &metadata, url.clone(), "http://127.0.0.1:1/c", &[]);
            note("registration", registered.await.is_err_and(|error| error.to_string().contains("private")));
        }
    }
    left
}

#[tokio::test]
async fn no_kind_of_request_reaches_a_private_address_that_a_server_published() {
    let (listener, base) = listen().await;
    assert_eq!(sent_kinds(&base, Reach::default()).await, Vec::<&str>::new());
    let listener = listener.into_std().expect("it is ours");
    let waiting = listener.accept().expect_err("no request came");
    assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_private_address_gets_each_kind_of_request_where_the_operator_allows_it() {
    let (listener, base) = listen().await;
    let hits = tokio::spawn(async move {
        let mut hits = 0;
        // Each kind connects once, and discovery tries several addresses.
        while hits < 15 {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            request(&mut stream).await;
            let _ = stream.write_all(&http("404 Not Found", "", "{}")).await;
            hits += 1;
        }
        hits
    });
    let _ = sent_kinds(&base, Reach::default().with_private(true)).await;
    assert_eq!(hits.await.expect("it ends"), 15, "the table reaches the server with each kind");
}
