//! The pages that the listener of `threadkey login` shows in the browser.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--line:#d0d7de;--page:#f6f8fa;--card:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ebef;--line:#3a424d;--page:#14171b;--card:#1d2127}}\
body{margin:0;padding:1.25rem;background:var(--page);color:var(--ink);font:1.0625rem/1.55 system-ui,sans-serif;overflow-wrap:anywhere}\
main{max-width:32rem;margin:4vh auto 0;padding:1.5rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem}\
h1{margin:0 0 1rem;font-size:1.4rem;line-height:1.25}\
p{margin:0}";

/// The policy of every page: nothing but its own style.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; frame-ancestors 'none'")
});

/// A page in plain words. The text may come from a provider: it is escaped.
#[derive(Debug)]
pub(super) struct Page {
    status: StatusCode,
    title: &'static str,
    text: String,
}

impl Page {
    /// The sign-in is finished.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, title: "You are signed in", text: text.into() }
    }

    /// The sign-in goes on in the terminal.
    pub(super) fn choose(text: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, title: "Go back to the terminal", text: text.into() }
    }

    /// The sign-in is not finished, for the reason in the text.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, title: "You are not signed in", text: text.into() }
    }

    /// The request does not belong to the sign-in, which still waits.
    pub(super) fn stray(status: StatusCode, text: &str) -> Self {
        Self { status, title: "Nothing was done", text: text.to_owned() }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { status, title, text } = self;
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{title} · threadkey</title>\
             <style>{STYLE}</style>\
             <main><h1>{title}</h1><p>{}</p></main></html>\n",
            escaped(&text)
        );
        let mut response = (status, body).into_response();
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            // The address of the page has the code.
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONNECTION, "close"),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::from_str(&POLICY) {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

fn escaped(text: &str) -> String {
    let escape = |c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_break_out_of_its_page() {
        assert_eq!(escaped("<b>'a' & \"b\"</b>"), "&lt;b&gt;&#39;a&#39; &amp; &quot;b&quot;&lt;/b&gt;");
    }
}
