//! The token endpoint (RFC 6749 §3.2): it checks each request strictly, and tests script its
//! replies.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::gate::Stage;
use super::grants::{Issued, Refused};
use super::script::{self, Decided, Reply, Wire};
use super::shared::{Inner, Shared};
use super::watch::Moment;
use super::{CLIENT_ID, SeenRequest};
use crate::events::{Outcome, fingerprint};

const SEEN: usize = 10_000;

/// The form of a token request; empty values count as absent (RFC 6749 §3.2).
pub(super) type Form = BTreeMap<String, String>;

/// `POST /token`.
pub(super) async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    // The work runs in its own task, so that a sender that hangs up does not stop it.
    let task = tokio::spawn(async move { serve(&shared, &headers, &body).await });
    match task.await {
        Ok(Wire::Answer(response)) => response,
        Ok(Wire::HangUp) | Err(_) => script::hang_up(),
    }
}

async fn serve(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Wire {
    let (seq, form) = arrive(shared, headers, body);
    shared.watch.tell(Moment::Arrived { seq, form: &form });
    shared.gate.pass(Stage::Before).await;
    let (reply, decided) = process(shared, seq, headers, body);
    shared.watch.tell(Moment::Decided { seq, reply: &reply, decided: decided.as_ref() });
    shared.settled.send_modify(|count| *count += 1);
    shared.changed();
    if matches!(reply, Reply::Hang) {
        shared.gate.wait_for_release().await;
    }
    shared.gate.pass(Stage::After).await;
    shared.watch.tell(Moment::Answering { seq });
    match decided {
        Some(decided) => script::processed(reply, decided),
        None => script::scripted(reply),
    }
}

fn arrive(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> (u64, Form) {
    let form: Form = url::form_urlencoded::parse(body).into_owned().collect();
    let mut inner = shared.lock();
    let grant_type = form.get("grant_type").cloned().unwrap_or_default();
    let presented = form.get("refresh_token").or_else(|| form.get("code"));
    let account = presented.and_then(|presented| inner.ledger.account(presented)).map(str::to_owned);
    let key = presented.map(|presented| fingerprint(presented));
    let seq = inner.log.arrived(&grant_type, account, key);
    if inner.seen.len() == SEEN {
        inner.seen.pop_front();
    }
    let headers = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    inner.seen.push_back(SeenRequest { form: form.clone(), headers });
    drop(inner);
    shared.changed();
    (seq, form)
}

/// Takes the next scripted reply. If that reply processes requests, decides this one and records
/// it. One lock covers all of it.
fn process(shared: &Shared, seq: u64, headers: &HeaderMap, body: &[u8]) -> (Reply, Option<Decided>) {
    let now_ms = shared.now_ms();
    let mut guard = shared.lock();
    let inner = &mut *guard;
    let reply = inner.script.pop_front().unwrap_or(Reply::Normal);
    if !reply.processes() {
        inner.log.decided(seq, Outcome::Failed, |_| {});
        return (reply, None);
    }
    let form = match strict_form(headers, body) {
        Ok(form) => form,
        Err(decided) => {
            refuse(inner, seq, Outcome::Failed, &decided);
            return (reply, Some(decided));
        }
    };
    let presented = form.get("refresh_token").or_else(|| form.get("code"));
    let account = presented.and_then(|presented| inner.ledger.account(presented));
    let account = account.map(str::to_owned).unwrap_or_default();
    let decided = match grant(inner, &form, now_ms) {
        Ok((outcome, issued)) => {
            let refresh_token = issued.refresh_token.as_deref().map(fingerprint);
            inner.log.decided(seq, outcome, |request| {
                request.status = Some(200);
                request.issued = refresh_token;
            });
            tokens(&shared.issuer, issued, now_ms)
        }
        Err(Error::Form(decided)) => {
            refuse(inner, seq, Outcome::Failed, &decided);
            decided
        }
        Err(Error::Grant(Refused::Reused { revoked })) => {
            if revoked {
                inner.log.revoked(&account);
            }
            let words = "it was used before, so the whole grant is revoked";
            let decided = error(400, "invalid_grant", words);
            refuse(inner, seq, Outcome::Reused, &decided);
            decided
        }
        Err(Error::Grant(refused)) => {
            let decided = match refused {
                Refused::Invalid(words) => error(400, "invalid_grant", words),
                _ => error(400, "invalid_scope", "that is more than was granted"),
            };
            refuse(inner, seq, Outcome::Failed, &decided);
            decided
        }
    };
    (reply, Some(decided))
}

enum Error {
    Form(Decided),
    Grant(Refused),
}

fn grant(inner: &mut Inner, form: &Form, now_ms: i64) -> Result<(Outcome, Issued), Error> {
    let field = |name: &str| {
        form.get(name).map(String::as_str).ok_or_else(|| {
            let words = format!("{name} is missing");
            Error::Form(error(400, "invalid_request", &words))
        })
    };
    match field("grant_type")? {
        "authorization_code" => {
            let code_verifier = field("code_verifier")?;
            if !is_code_verifier(code_verifier) {
                let words = "code_verifier is not 43 to 128 unreserved characters";
                return Err(Error::Form(error(400, "invalid_request", words)));
            }
            inner
                .ledger
                .exchange(field("code")?, field("redirect_uri")?, code_verifier, now_ms)
                .map(|issued| (Outcome::SignedIn, issued))
        }
        "refresh_token" => {
            let scopes = form.get("scope").map(|scope| scope.split(' ').map(str::to_owned).collect());
            inner
                .ledger
                .refresh(field("refresh_token")?, scopes, now_ms)
                .map(|issued| (Outcome::Refreshed, issued))
        }
        _ => {
            let words = "authorization_code and refresh_token are served here";
            return Err(Error::Form(error(400, "unsupported_grant_type", words)));
        }
    }
    .map_err(Error::Grant)
}

/// Returns the form if it is well-formed, has each field once, and comes from the one registered
/// public client.
pub(super) fn strict_form(headers: &HeaderMap, body: &[u8]) -> Result<Form, Decided> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    if content_type.map(str::trim) != Some("application/x-www-form-urlencoded") {
        let words = "the body is not application/x-www-form-urlencoded";
        return Err(error(400, "invalid_request", words));
    }
    let mut form = Form::new();
    for (name, value) in url::form_urlencoded::parse(body).into_owned() {
        if value.is_empty() {
            continue;
        }
        let words = format!("{name} came twice");
        if form.insert(name, value).is_some() {
            return Err(error(400, "invalid_request", &words));
        }
    }
    if headers.contains_key(header::AUTHORIZATION) || form.contains_key("client_secret") {
        let words = "the client is public and has no secret to show";
        return Err(error(401, "invalid_client", words));
    }
    match form.get("client_id").map(String::as_str) {
        Some(CLIENT_ID) => Ok(form),
        Some(_) => Err(error(401, "invalid_client", "no such client")),
        None => Err(error(401, "invalid_client", "client_id is missing")),
    }
}

fn refuse(inner: &mut Inner, seq: u64, outcome: Outcome, decided: &Decided) {
    inner.log.decided(seq, outcome, |request| {
        request.status = Some(decided.status);
        request.error = decided.body["error"].as_str().map(str::to_owned);
    });
}

/// RFC 6749 §5.2.
fn error(status: u16, code: &str, description: &str) -> Decided {
    Decided { status, body: json!({"error": code, "error_description": description}) }
}

/// RFC 6749 §5.1.
fn tokens(issuer: &str, issued: Issued, now_ms: i64) -> Decided {
    let mut body = json!({
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "scope": issued.scopes.join(" "),
    });
    if let Some(refresh_token) = &issued.refresh_token {
        body["refresh_token"] = json!(refresh_token);
    }
    if issued.scopes.iter().any(|scope| scope == "openid") {
        body["id_token"] = json!(id_token(issuer, &issued, now_ms));
    }
    Decided { status: 200, body }
}

/// OpenID Connect Core §2, unsigned.
fn id_token(issuer: &str, issued: &Issued, now_ms: i64) -> String {
    let now = now_ms.div_euclid(1000);
    let mut claims = json!({
        "iss": issuer,
        "sub": issued.account,
        "aud": CLIENT_ID,
        "iat": now,
        "exp": now + 3600,
        "name": issued.account,
        "email": format!("{}@example.com", issued.account),
        "email_verified": true,
    });
    if let Some(nonce) = &issued.nonce {
        claims["nonce"] = json!(nonce);
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims))
}

/// RFC 7636 §4.1.
fn is_code_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}
