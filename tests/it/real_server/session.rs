//! The checks after each sign-in: the session, one refresh, and the revocation.

use serde_json::Value;

use super::rows::Row;
use crate::support::{
    events::Counts,
    oidc::Oidc,
    program::{Ended, Home},
};

/// How far the programs' clock moves so that an access token of an hour is refreshed, and the id
/// token of the refresh is still valid.
const ALMOST_AN_HOUR: i64 = 3590;

/// A sign-in that has succeeded.
pub(super) struct SignedIn<'a> {
    pub(super) row: &'a Row,
    pub(super) oidc: &'static Oidc,
    pub(super) home: &'a Home,
    pub(super) principal: String,
    pub(super) account: String,
}

/// A session before its logout.
pub(super) struct Refreshed {
    access_token: String,
}

impl SignedIn<'_> {
    /// Checks the stored session and its access token, and refreshes it by two processes at once.
    pub(super) async fn is_stored_and_refreshes_once(&self) -> Refreshed {
        let first = self.session();
        let text = |name: &str| first[name].as_str().unwrap_or_else(|| panic!("no {name} in {first}"));
        assert_eq!((text("subject"), text("issuer")), (self.account.as_str(), self.oidc.issuer()));
        assert_eq!(first["generation"], 1);
        assert_eq!(text("token_endpoint"), self.oidc.token_endpoint());
        assert_eq!(text("revocation_endpoint"), self.oidc.revocation_endpoint());
        assert_eq!(text("account"), format!("{}@example.com", self.account));
        if self.row.is_for_resource {
            assert_eq!(text("resource"), format!("{}/mcp", self.oidc.issuer()));
        }
        assert_eq!(self.used(text("access_token")).await, 200, "it works where it is meant to");

        self.home.set_offset(ALMOST_AN_HOUR);
        let (one, other) = tokio::join!(self.token(), self.token());
        assert_eq!((one.code, other.code), (0, 0), "{one:?} {other:?}");
        assert_eq!(one.stdout, other.stdout);
        let second = self.session();
        assert_eq!(one.stdout.trim_end(), second["access_token"]);
        assert_eq!(second["generation"], 2);
        for kept in ["subject", "issuer", "account", "client_id", "lineage", "resource"] {
            assert_eq!(second[kept], first[kept], "{kept} is kept");
        }
        for rotated in ["access_token", "refresh_token"] {
            assert_ne!(second[rotated], first[rotated], "{rotated} is new");
        }
        let counts = Counts { sign_ins: 1, refreshes: 1, ..Counts::default() };
        assert_eq!(self.oidc.events().await.of(&self.account), counts);
        let access_token = one.stdout.trim_end().to_owned();
        assert_eq!(self.used(&access_token).await, 200);
        Refreshed { access_token }
    }

    /// Checks that a logout has ended the session here and the grant at the server.
    pub(super) async fn is_gone_and_revoked(&self, before: Refreshed) {
        assert_eq!(self.session(), Value::Null);
        assert_eq!(self.token().await.code, 3);
        let counts = Counts { sign_ins: 1, refreshes: 1, revoked: 1, ..Counts::default() };
        assert_eq!(self.oidc.events().await.of(&self.account), counts);
        assert_eq!(self.used(&before.access_token).await, 401, "the grant lives on at the server");
    }

    async fn token(&self) -> Ended {
        self.home.run(&["token", "acme", "--as", &self.principal]).await
    }

    /// The stored session, or null.
    fn session(&self) -> Value {
        stored(self.home)["sessions"][format!("acme/{}", self.principal)].clone()
    }

    /// The status of a request with this access token, at the resource or at userinfo.
    async fn used(&self, access_token: &str) -> u16 {
        let url = if self.row.is_for_resource {
            format!("{}/mcp", self.oidc.issuer())
        } else {
            self.oidc.userinfo_endpoint()
        };
        let (status, answer) = get(&url, access_token).await;
        if status == 200 {
            assert_eq!(answer["sub"], self.account);
        }
        status
    }
}

/// Requests a protected resource. Returns the status and the JSON.
pub(super) async fn get(url: &str, access_token: &str) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).bearer_auth(access_token).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

/// The store of a home.
pub(super) fn stored(home: &Home) -> Value {
    #[expect(clippy::disallowed_methods, reason = "the test's own read of the file is not the program's")]
    let text = std::fs::read_to_string(home.store()).unwrap();
    serde_json::from_str(&text).unwrap()
}
