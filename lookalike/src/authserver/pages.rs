//! The HTML pages. They load nothing, and every inserted value is escaped.

use std::collections::BTreeMap;

use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::authorize::Request;

const STYLE: &str = include_str!("pages/style.css");
const AUTHORIZE: &str = include_str!("pages/authorize.html");
const CALLBACK: &str = include_str!("pages/callback.html");
const MESSAGE: &str = include_str!("pages/message.html");

/// The page that asks for the user's name and decision.
pub(super) fn authorize(status: StatusCode, id: &str, request: &Request, problem: Option<&str>) -> Response {
    let scopes: String = request
        .scopes
        .iter()
        .map(|scope| {
            let (name, words) = (escape(scope), escape(meaning(scope)));
            format!("<li><code>{name}</code> {words}</li>")
        })
        .collect();
    let problem = problem.map(|words| format!("<p class=\"problem\" role=\"alert\">{}</p>", escape(words)));
    page(
        status,
        AUTHORIZE,
        &[
            ("request", &escape(id)),
            ("redirect_uri", &escape(&request.redirect_uri)),
            ("scopes", &scopes),
            ("problem", &problem.unwrap_or_default()),
        ],
    )
}

/// `GET /callback`: shows the code to copy, or the error.
pub(super) async fn callback(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let fields: BTreeMap<String, String> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let field = |name: &str| fields.get(name).map(String::as_str);
    match (field("code"), field("error")) {
        (Some(code), None) => {
            let state = field("state").unwrap_or_default();
            let both = if state.is_empty() { code.to_owned() } else { format!("{code}#{state}") };
            page(
                StatusCode::OK,
                CALLBACK,
                &[("code", &escape(code)), ("state", &escape(state)), ("both", &escape(&both))],
            )
        }
        (_, Some("access_denied")) => message(
            StatusCode::OK,
            "You denied the request",
            "Nothing was signed in. Close this page; to try again, start the sign-in again.",
        ),
        (_, Some(error)) => {
            let description = field("error_description").unwrap_or("no reason was given");
            message(StatusCode::OK, "The sign-in did not work", &format!("{error}: {description}"))
        }
        (None, None) => message(
            StatusCode::BAD_REQUEST,
            "Nothing to see",
            "This page shows a code at the end of a sign-in.",
        ),
    }
}

/// A page with a sentence.
pub(super) fn message(status: StatusCode, title: &str, words: &str) -> Response {
    page(status, MESSAGE, &[("title", &escape(title)), ("words", &escape(words))])
}

fn page(status: StatusCode, template: &str, values: &[(&str, &str)]) -> Response {
    let headers = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, Html(fill(template, values))).into_response()
}

/// Replaces each `{{name}}` by its value in one pass. A value that looks like `{{name}}` stays as
/// it is.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("our templates close what they open");
        page.push_str(before);
        page.push_str(match name {
            "style" => STYLE,
            name => values
                .iter()
                .find(|(known, _)| *known == name)
                .map_or_else(|| panic!("no value for {name}"), |(_, value)| value),
        });
        rest = after;
    }
    page + rest
}

fn meaning(scope: &str) -> &'static str {
    match scope {
        "openid" => "know who you are",
        "profile" => "see your name",
        "email" => "see your e-mail address",
        "offline_access" => "stay signed in while you are away",
        "read" => "read your things",
        "write" => "change your things",
        _ => "",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
