//! The HTML pages. They load nothing, and every inserted value is escaped.

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::authorize::Request;

const STYLE: &str = include_str!("pages/style.css");
const AUTHORIZE: &str = include_str!("pages/authorize.html");
const CALLBACK: &str = include_str!("../../../deploy/callback.html");
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

/// `GET /callback`: the page that operators can host. It reads its own address in the browser.
pub(super) async fn callback() -> Response {
    (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], Html(CALLBACK)).into_response()
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
