//! Odd frames within TLS, directly and through a proxy. TLS has an end of its own (`close_notify`),
//! so it distinguishes a body that is whole from a connection that was lost.

use std::{net::SocketAddr, sync::Arc};

use threadkey::{
    net::{Outward, Proxies, Trust},
    oauth::Client,
    sys::clock::Clock,
};

use super::{PAIR, Rig, frames::assert_refreshed};
use crate::support::{
    network::{Authority, Proxy, ProxyOptions},
    raw::{Accept, Connection, Ending, RawServer, with_headers},
};

const FORM: &[u8] = b"access_token=at-2&refresh_token=rt-2&expires_in=3600";
const FORM_TYPE: &str = "content-type: application/x-www-form-urlencoded\r\n";

/// A host that only the proxy resolves.
const NAME: &str = "id.example.test";

/// How the client reaches the server.
#[derive(Clone, Copy, Debug)]
enum Way {
    Direct,
    ThroughAProxy,
}

/// Returns the server of a company's own authority, and the client that trusts it.
async fn rig(way: Way) -> Rig {
    let authority = Authority::new();
    let acceptor = authority.issue(&["127.0.0.1", NAME]).acceptor();
    let accept: Accept = Arc::new(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move { Ok(Box::new(acceptor.accept(stream).await?) as Box<dyn Connection>) })
    });
    let server = RawServer::start_with("https://127.0.0.1", accept).await;
    let endpoint = url::Url::parse(&server.token_endpoint()).unwrap();
    let port = endpoint.port().unwrap();
    let target = format!("{NAME}:{port}");
    let names = [(target.as_str(), SocketAddr::from(([127, 0, 0, 1], port)))];
    let proxy = Proxy::start(ProxyOptions::default(), &names).await;
    let variable = format!("http://{}", proxy.address());
    let client = move |clock: Clock| {
        let proxies = Proxies::new(|name| (name == "HTTPS_PROXY").then(|| variable.clone()));
        Client::through(Outward::new(proxies).unwrap(), clock)
    };
    let trust = Trust::with_pem(authority.pem().as_bytes()).unwrap();
    Rig::on(
        server,
        |settings| {
            settings.trust = trust;
            if matches!(way, Way::ThroughAProxy) {
                settings.token_endpoint = settings.token_endpoint.replace("127.0.0.1", NAME);
            }
        },
        client,
    )
    .await
}

#[tokio::test]
async fn an_odd_frame_within_tls_costs_no_token_directly_and_through_a_proxy() {
    let too_long = format!("content-length: {}\r\n", PAIR.len() + 10);
    let chunk = format!("{:x}\r\n{PAIR}\r\n", PAIR.len());
    for way in [Way::Direct, Way::ThroughAProxy] {
        for ending in [Ending::Close, Ending::Drop] {
            for (headers, body) in [
                ("", PAIR.as_bytes()),
                (too_long.as_str(), PAIR.as_bytes()),
                ("transfer-encoding: chunked\r\n", chunk.as_bytes()),
            ] {
                let what = format!("{way:?} {ending:?} {headers}");
                let rig = rig(way).await;
                rig.server.answer(with_headers(200, headers, body), ending);
                assert_eq!(rig.token().await.unwrap().access_token.expose(), "at-2", "{what}");
                assert_refreshed(&rig, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn a_form_without_a_length_is_whole_if_tls_ends_and_uncertain_if_it_breaks_off() {
    for way in [Way::Direct, Way::ThroughAProxy] {
        let rig = rig(way).await;
        rig.server.answer(with_headers(200, FORM_TYPE, FORM), Ending::Close);
        assert_eq!(rig.token().await.unwrap().access_token.expose(), "at-2", "{way:?}");
        assert_refreshed(&rig, "a form within TLS").await;
    }
    for way in [Way::Direct, Way::ThroughAProxy] {
        let rig = rig(way).await;
        rig.server.answer(with_headers(200, FORM_TYPE, FORM), Ending::Drop);
        let error = rig.token().await.unwrap_err();
        assert!(error.to_string().contains("ambiguous_http_200"), "{way:?}: {error}");
        assert_eq!(rig.refresh_token().await, "rt-1", "{way:?}");
        assert!(rig.unread().exists(), "{way:?}");
    }
}
