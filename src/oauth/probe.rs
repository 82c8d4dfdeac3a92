//! The probe: one cheap request that shows whether a provider still takes an access token.
//!
//! A tool that gets its token from a command reports no rejected token. So the command tries the token
//! first. Only a 401 counts (RFC 6750 §3.1). Every other answer, and none, leaves the token as it is: a
//! probe that fails must not cost a tool its token.

use std::time::Duration;

use http::{
    Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use tokio::time::timeout;
use url::Url;

use super::{
    Client, Provider,
    destination::{Endpoint, Withheld},
};
use crate::{
    net::{Reach, Trust},
    secret::AccessToken,
    session::Binding,
};

/// The longest time of a probe, with the connection. Codex ends the command of a token after 5 s.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// A request that presents an access token at the provider's probe endpoint.
#[derive(Debug)]
pub struct ProbeRequest {
    endpoint: Url,
    token: AccessToken,
    trust: Trust,
    reach: Option<Reach>,
}

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// The endpoint answered 401: the token is dead.
    Refused,
    /// The endpoint gave another answer.
    Stands,
    /// No answer came in time, or the provider has no such endpoint.
    Unknown,
}

impl Provider {
    /// Builds the request that probes an access token. `bound` is the binding of its session; a token of
    /// the environment has none.
    ///
    /// # Errors
    /// Returns an error if the provider has no such endpoint, or if the sign-in bound another client or
    /// endpoint than the configured one. A token for a resource (RFC 8707) need not open the userinfo
    /// endpoint, so only a configured `probe_endpoint` gets it. See [`Provider::destination`].
    pub fn probe(&self, bound: Option<&Binding>, token: &AccessToken) -> Result<ProbeRequest, Withheld> {
        let none = Withheld::NotConfigured(Endpoint::Userinfo);
        let endpoint = match (&self.probe_endpoint, bound) {
            (Some(endpoint), None) => endpoint,
            (Some(_), Some(bound)) => self.destination(bound, Endpoint::Probe)?,
            (None, None) => self.userinfo_endpoint.as_ref().ok_or(none)?,
            (None, Some(bound)) if bound.resource.is_some() => return Err(none),
            (None, Some(bound)) => self.destination(bound, Endpoint::Userinfo)?,
        };
        let (trust, reach) = (self.trust.clone(), self.reach.clone());
        Ok(ProbeRequest { endpoint: endpoint.clone(), token: token.clone(), trust, reach })
    }
}

impl Client {
    /// Presents an access token at the probe endpoint, once. Follows no redirect, and takes at most
    /// [`PROBE_TIMEOUT`].
    pub async fn try_token(&self, request: ProbeRequest) -> Probed {
        let ProbeRequest { endpoint, token, trust, reach } = request;
        let Ok(mut bearer) = HeaderValue::try_from(format!("Bearer {}", token.expose())) else {
            return Probed::Unknown;
        };
        bearer.set_sensitive(true);
        let request = Request::get(endpoint.as_str())
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .extension(trust)
            .body(Vec::new());
        let Ok(mut request) = request else { return Probed::Unknown };
        if let Some(reach) = reach {
            request.extensions_mut().insert(reach);
        }
        match timeout(PROBE_TIMEOUT, self.status_of(request)).await {
            Ok(Some(StatusCode::UNAUTHORIZED)) => Probed::Refused,
            Ok(Some(_)) => Probed::Stands,
            Ok(None) | Err(_) => Probed::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;
    use crate::{
        oauth::{
            ProviderSettings,
            client::tests::{client, listen},
            provider::tests::{provider, settings},
        },
        session::test_session,
    };

    const NOW: i64 = 1_795_358_672;

    fn token() -> AccessToken {
        AccessToken::new("access-7")
    }

    fn probing(base: &str) -> ProbeRequest {
        let probe_endpoint = Some(format!("{base}/me"));
        let provider = provider(ProviderSettings { probe_endpoint, ..settings() });
        provider.probe(Some(&provider.binding()), &token()).expect("bound")
    }

    /// Answers one connection, and returns the request.
    fn answering(listener: TcpListener, answer: &'static str) -> JoinHandle<String> {
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the client connects");
            let mut request = [0; 2048];
            let read = stream.read(&mut request).await.expect("the client sends");
            stream.write_all(answer.as_bytes()).await.expect("the client reads");
            // The body never comes, and the connection stays open.
            let _ = stream.read(&mut [0; 1]).await;
            String::from_utf8_lossy(&request[..read]).into_owned()
        })
    }

    #[tokio::test]
    async fn only_a_401_refuses_a_token_and_no_body_is_waited_for() {
        for (answer, expected) in [
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\n\r\n", Probed::Refused),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Probed::Stands),
            ("HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\n", Probed::Stands),
            (
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 9\r\n\r\n",
                Probed::Stands,
            ),
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n", Probed::Stands),
            ("no HTTP\r\n\r\n", Probed::Unknown),
        ] {
            let (listener, base) = listen().await;
            let server = answering(listener, answer);
            assert_eq!(client().try_token(probing(&base)).await, expected, "{answer:?}");
            let request = server.await.expect("it ends").to_lowercase();
            assert!(request.starts_with("get /me http/1.1\r\n"), "{request}");
            assert!(request.contains("authorization: bearer access-7\r\n"), "{request}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_proves_nothing_about_a_token() {
        let base = listen().await.1;
        assert_eq!(client().try_token(probing(&base)).await, Probed::Unknown);
    }

    #[test]
    fn a_token_goes_to_no_probe_endpoint_of_another_client() {
        let settings =
            || ProviderSettings { probe_endpoint: Some("https://api.acme.example/me".into()), ..settings() };
        let provider = provider(settings());
        let mut bound = provider.binding();
        assert!(provider.probe(Some(&bound), &token()).is_ok());
        bound.client_id = "another".into();
        assert!(provider.probe(Some(&bound), &token()).is_err());
        assert!(provider.probe(None, &token()).is_ok(), "the environment binds none");
    }

    #[test]
    fn a_token_for_a_resource_is_not_shown_to_the_userinfo_endpoint() {
        let settings = |probe: Option<&str>| ProviderSettings {
            userinfo_endpoint: Some("https://id.acme.example/userinfo".into()),
            probe_endpoint: probe.map(str::to_owned),
            ..settings()
        };
        let mut bound = test_session(NOW, 3600).binding;
        let plain = provider(settings(None));
        bound.clone_from(&plain.binding());
        assert!(plain.probe(Some(&bound), &token()).is_ok());
        bound.resource = Some("https://mcp.acme.example/mcp".into());
        assert!(plain.probe(Some(&bound), &token()).is_err());
        let probed = provider(settings(Some("https://api.acme.example/me")));
        assert!(probed.probe(Some(&bound), &token()).is_err(), "the sign-in bound no probe");
        bound.probe_endpoint = probed.binding().probe_endpoint;
        assert!(probed.probe(Some(&bound), &token()).is_ok());
    }

    #[test]
    fn a_changed_probe_endpoint_gets_no_token_of_an_earlier_sign_in() {
        let with =
            |probe: &str| provider(ProviderSettings { probe_endpoint: Some(probe.into()), ..settings() });
        let bound = with("https://api.acme.example/me").binding();
        assert!(with("https://api.acme.example/me").probe(Some(&bound), &token()).is_ok());
        for other in ["https://evil.example/me", "https://api.acme.example/other"] {
            assert!(with(other).probe(Some(&bound), &token()).is_err(), "{other}");
        }
    }
}
