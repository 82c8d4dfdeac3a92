//! The claims of an id token: whose account it names, and whether it belongs to the request
//! (OpenID Connect Core §3.1.3.7 for a sign-in, §12.2 for a refresh).
//!
//! Where the issuer's keys are known, an id token must have every claim that the standard requires,
//! and the broker checks its signature. Elsewhere it is trusted because it comes directly from the
//! token endpoint over TLS (§3.1.3.7, item 6). Such a token may lack claims, because many vendors
//! send less; but a claim that is there must be right. Its times do not count: it is the answer to a
//! request of this moment, and a wrong clock on this machine must not cost a grant.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{AnswerRules, content::Object, lifetime::jwt_claims, settings::TENANT_ID};
use crate::{
    secret::{IdToken, Nonce},
    session::Identity,
    sys::clock::UnixTime,
};

/// How far the clocks of this machine and of the issuer may differ, in seconds.
pub(super) const MAX_SKEW: i64 = 300;

/// The longest `sub` (OpenID Connect Core §2), in bytes.
pub(super) const MAX_SUBJECT: usize = 255;

/// The longest `iss`, in bytes.
const MAX_ISSUER: usize = 2048;

/// The reason why an id token, and with it the tokens of its answer, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The `nonce` is that of another sign-in.
    #[error("its nonce is that of another sign-in")]
    Nonce,
    /// There is no `nonce`, and PKCE does not bind the code to the sign-in.
    #[error("it has no nonce")]
    NoNonce,
    /// The `aud` names other clients.
    #[error("its aud names other clients")]
    Audience,
    /// The `iss` is not the configured issuer.
    #[error(
        "its iss is not the issuer of the configuration. The operator must compare issuer (or id_token_issuer) with the provider's documentation"
    )]
    Issuer,
    /// The `azp` is another client, or is missing beside several audiences.
    #[error("its azp is not this client. The operator must check client_id")]
    AuthorizedParty,
    /// The time `exp` is over.
    #[error(
        "its exp is over. The operator must check the clock of this machine; if it is right, the provider must mend its own"
    )]
    Expired,
    /// The time `iat` is ahead.
    #[error(
        "its iat is in the future. The operator must check the clock of this machine; if it is right, the provider must mend its own"
    )]
    IssuedLater,
    /// A claim that the standard requires is missing or unreadable.
    #[error("its {0} is missing or unreadable, and the provider must mend that")]
    NoClaim(&'static str),
}

/// The id token of an answer, with its claims.
pub(super) struct Received {
    token: IdToken,
    /// The text of a JSON object. It is empty if the claims cannot be read.
    claims: Zeroizing<String>,
}

impl Received {
    pub(super) fn new(token: &str) -> Self {
        Self { token: IdToken::new(token.trim()), claims: jwt_claims(token).unwrap_or_default() }
    }

    pub(super) fn claims(&self) -> Object<'_> {
        Object::parse(&self.claims).unwrap_or_default()
    }

    /// Returns the account that it names, if it has issuer and subject.
    pub(super) fn identity(&self) -> Option<Identity> {
        let claims = self.claims();
        let text = |name: &str, longest: usize| {
            claims.text(name).whole().filter(|text| (1..=longest).contains(&text.len()))
        };
        let (issuer, subject) = (text("iss", MAX_ISSUER)?, text("sub", MAX_SUBJECT)?);
        Some(Identity { issuer, subject, id_token: self.token.clone() })
    }

    /// Checks the id token of a sign-in with this nonce, in an answer that arrived at `at`.
    ///
    /// Some providers put no nonce into the id token. Where PKCE binds the code to its sign-in,
    /// another sign-in's code gives no tokens, so the nonce adds nothing.
    pub(super) fn check_sign_in(
        &self,
        rules: &AnswerRules,
        nonce: &Nonce,
        at: UnixTime,
    ) -> Result<(), Mismatch> {
        let claims = self.claims();
        if claims.has("nonce") {
            let is_right = claims.text("nonce").whole().is_some_and(|there| there == nonce.expose());
            is_right.then_some(()).ok_or(Mismatch::Nonce)?;
        } else if !rules.pkce_binds_code {
            return Err(Mismatch::NoNonce);
        }
        self.check(rules, at)
    }

    /// Checks all claims but the nonce, in an answer that arrived at `at`.
    pub(super) fn check(&self, rules: &AnswerRules, at: UnixTime) -> Result<(), Mismatch> {
        let claims = self.claims();
        check_audience(&claims, rules)?;
        check_issuer(&claims, rules)?;
        if !rules.has_keys {
            return Ok(());
        }
        let time = |name: &'static str| claims.number(name).ok_or(Mismatch::NoClaim(name));
        if at as f64 >= time("exp")? + MAX_SKEW as f64 {
            return Err(Mismatch::Expired);
        }
        if time("iat")? > (at + MAX_SKEW) as f64 {
            return Err(Mismatch::IssuedLater);
        }
        self.identity().map(drop).ok_or(Mismatch::NoClaim("sub"))
    }

    /// Checks that the id token of a refresh names the account and the client of the session (OpenID
    /// Connect Core §12.2). Returns the claim that does not.
    pub(super) fn foreign_claim(&self, rules: &AnswerRules) -> Option<&'static str> {
        let subject = rules.subject.as_ref()?;
        let claims = self.claims();
        if claims.has("sub") && claims.text("sub").whole().as_ref() != Some(subject) {
            return Some("sub");
        }
        if claims.has("iss") && check_issuer(&claims, rules).is_err() {
            return Some("iss");
        }
        (claims.has("aud") && check_audience(&claims, rules) == Err(Mismatch::Audience)).then_some("aud")
    }
}

/// Items 3 to 5: the audience is this client, alone or as the authorized party.
fn check_audience(claims: &Object<'_>, rules: &AnswerRules) -> Result<(), Mismatch> {
    let (is_ours, has_others) = match claims.value("aud") {
        Value::String(audience) => (audience == rules.client_id, false),
        Value::Array(audiences) => {
            let is_ours = |audience: &Value| *audience == rules.client_id;
            (audiences.iter().any(is_ours), !audiences.iter().all(is_ours))
        }
        _ => (false, false),
    };
    if !is_ours {
        return Err(Mismatch::Audience);
    }
    let is_authorized = match claims.has("azp") {
        true => claims.text("azp").whole().is_some_and(|party| party == rules.client_id),
        false => !(has_others && rules.has_keys),
    };
    is_authorized.then_some(()).ok_or(Mismatch::AuthorizedParty)
}

/// Item 2: the issuer is the same text. An issuer of many tenants has the tenant's id in it.
fn check_issuer(claims: &Object<'_>, rules: &AnswerRules) -> Result<(), Mismatch> {
    if !claims.has("iss") {
        return if rules.has_keys { Err(Mismatch::NoClaim("iss")) } else { Ok(()) };
    }
    let Some(expected) = &rules.issuer else { return Ok(()) };
    let expected = if expected.contains(TENANT_ID) {
        let tenant = claims.text("tid").whole().ok_or(Mismatch::NoClaim("tid"))?;
        let is_id = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_id(&tenant) {
            return Err(Mismatch::NoClaim("tid"));
        }
        expected.replace(TENANT_ID, &tenant)
    } else {
        expected.clone()
    };
    let is_right = claims.text("iss").whole().is_some_and(|issuer| issuer == expected);
    is_right.then_some(()).ok_or(Mismatch::Issuer)
}

#[cfg(test)]
mod tests;
