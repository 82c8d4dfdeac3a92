//! The HTML of the sign-in pages: plain words, no script, readable on a phone.

use std::sync::LazyLock;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::{
    broker::{DigitsPage, StartPage},
    ids::Principal,
    session::{PENDING_LIFETIME, in_words},
};

/// The longest text from outside that a page shows.
const MAX_TEXT: usize = 600;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--page:#f6f8fa;--card:#fff;--go:#1f5fbf;--on:#fff;--warn:#fff4d6;--wline:#e0b84a}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ebef;--soft:#a5adb8;--line:#3a424d;--page:#14171b;--card:#1d2127;--go:#5b9bf5;--on:#0b1220;--warn:#3a3017;--wline:#8a6d1f}}\
*{box-sizing:border-box}\
body{margin:0;padding:1.25rem;min-height:100vh;display:flex;justify-content:center;align-items:flex-start;background:var(--page);color:var(--ink);font:1.0625rem/1.55 system-ui,sans-serif}\
main{width:100%;max-width:32rem;margin-top:4vh;padding:1.5rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem;overflow-wrap:anywhere}\
h1{margin:0 0 1rem;font-size:1.4rem;line-height:1.25}\
p{margin:0 0 1rem}\
.note{color:var(--soft);font-size:.95rem}\
.warn{padding:.75rem 1rem;background:var(--warn);border:1px solid var(--wline);border-radius:.5rem}\
.digits{margin:1.25rem 0;padding:1rem;border:1px solid var(--line);border-radius:.5rem;text-align:center;font:600 2.5rem/1.2 ui-monospace,monospace;letter-spacing:.08em;white-space:nowrap;-webkit-user-select:all;user-select:all}\
button{width:100%;padding:.9rem 1rem;border:0;border-radius:.5rem;background:var(--go);color:var(--on);font:inherit;font-weight:600;cursor:pointer}\
button:focus-visible{outline:3px solid var(--ink);outline-offset:2px}\
main>:last-child{margin-bottom:0}";

/// The policy of every page. A form leads to the provider by a redirect, which `form-action` must
/// allow, and from there wherever the provider sends the browser.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; frame-ancestors 'none'; \
         form-action 'self' https: http://127.0.0.1:* http://localhost:*"
    )
});

/// The page of a link: the user who started the sign-in, and the button.
pub(super) fn start(page: &StartPage) -> Html<String> {
    let provider = escaped(page.tenant.provider.as_str());
    let user = escaped(&page.opener.user);
    let site = escaped(&page.site);
    let place = match &page.opener.server {
        Some(server) => format!(" in the server <strong>{}</strong>", escaped(server)),
        None => String::new(),
    };
    let whose = match page.tenant.principal {
        Principal::Guild(_) => "The agents of everybody in that server",
        Principal::User(_) | Principal::Local => "Agents that work for this user",
    };
    page_of(
        &format!("Sign in to {provider}"),
        &format!(
            "<p><strong>{user}</strong> started this sign-in on Discord{place}.</p>\
             <p class=\"warn\"><strong>Continue only if this is you.</strong> {whose} will be able to use your account at {site}.</p>\
             <form method=\"post\"><p><button type=\"submit\">Continue to {site}</button></p></form>\
             <p class=\"note\">The last page shows six digits. You type them on Discord. If you did not start this, close the page: nothing has happened.</p>"
        ),
    )
}

/// The last page: the digits.
pub(super) fn digits(page: &DigitsPage) -> Html<String> {
    let provider = escaped(page.provider.as_str());
    let account = match &page.account {
        Some(account) => format!(" as <strong>{}</strong>", escaped(account)),
        None => String::new(),
    };
    let (left, right) = page.digits.expose().split_at(3);
    page_of(
        "Type these digits on Discord",
        &format!(
            "<p>{provider} has signed you in{account}. One step is left: press <strong>Enter digits</strong> in the bot's message on Discord, and type:</p>\
             <p class=\"digits\">{left}&nbsp;{right}</p>\
             <p class=\"warn\"><strong>Give these digits to nobody.</strong> They give access to your account. If another person sent you the link, close this page: without the digits the access ends by itself.</p>\
             <p class=\"note\">The digits work for {lifetime}. This page shows them once.</p>",
            lifetime = in_words(PENDING_LIFETIME),
        ),
    )
}

/// A page with one message.
pub(super) fn plain(status: StatusCode, title: &str, text: &str) -> Response {
    (status, page_of(title, &format!("<p>{}</p>", escaped(text)))).into_response()
}

fn page_of(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title} · threadkey</title>\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>\n"
    ))
}

/// A text from outside as HTML, without characters that change the order or the look of others.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(MAX_TEXT) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Adds the headers that protect each answer. The form's page keeps its own origin in the header
/// `Origin` of the form; no other site learns of any address.
pub(super) fn protected(mut response: Response, is_head: bool) -> Response {
    let headers = response.headers_mut();
    let mut set =
        |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(header::CACHE_CONTROL, "no-store");
    set(header::REFERRER_POLICY, "same-origin");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("x-robots-tag"), "noindex, nofollow");
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if is_head {
        *response.body_mut() = axum::body::Body::empty();
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::Opener, secret::Digits};

    #[test]
    fn names_from_discord_cannot_put_markup_or_hidden_characters_into_a_page() {
        let page = StartPage {
            tenant: "acme/user:5".parse().expect("a tenant"),
            opener: Opener {
                user: "<script>alert(1)</script>\u{202e}&".into(),
                server: Some("\"><img src=x>".into()),
            },
            site: "id.example".into(),
        };
        let Html(html) = start(&page);
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;"), "{html}");
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains('\u{202e}'), "{html}");
    }

    #[test]
    fn the_last_page_shows_the_digits_in_two_groups_and_the_account() {
        let page = DigitsPage {
            provider: "acme".parse().expect("an id"),
            account: Some("ada@example.com".into()),
            digits: Digits::of(7),
        };
        let Html(html) = digits(&page);
        assert!(html.contains("000&nbsp;007") && html.contains("<strong>ada@example.com</strong>"), "{html}");
    }
}
