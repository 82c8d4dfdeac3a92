//! GitHub's REST API: <https://docs.github.com/en/rest>.

use super::*;

fn error(status: StatusCode, message: &str) -> Response {
    let body = json!({"message": message, "documentation_url": "https://docs.github.com/rest", "status": status.as_str()});
    (status, axum::Json(body)).into_response()
}

pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // GitHub refuses such a request before it looks at the token.
    if !parts.headers.contains_key(header::USER_AGENT) {
        return error(StatusCode::FORBIDDEN, "Request forbidden by administrative rules.");
    }
    if !shared.is_authorized(&parts.headers) {
        return error(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    let path = parts.uri.path();
    let path = ["/github", "/api/v3"].iter().find_map(|base| path.strip_prefix(base)).unwrap_or_default();
    let mut response = match (&parts.method, path) {
        (&Method::GET, "/user") => {
            axum::Json(json!({"login": "alice", "id": 1, "type": "User"})).into_response()
        }
        (&Method::GET, "/repos/acme/hello") => {
            axum::Json(json!({"id": 2, "full_name": "acme/hello", "private": true, "default_branch": "main"}))
                .into_response()
        }
        (&Method::POST, "/repos/acme/hello/issues") => {
            let body = axum::body::to_bytes(Body::new(body), 1 << 20).await.unwrap_or_default();
            match serde_json::from_slice::<Value>(&body).ok().filter(|issue| issue["title"].is_string()) {
                Some(issue) => {
                    let created = json!({"number": 7, "title": issue["title"], "state": "open"});
                    (StatusCode::CREATED, axum::Json(created)).into_response()
                }
                None => error(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed"),
            }
        }
        _ => error(StatusCode::NOT_FOUND, "Not Found"),
    };
    response.headers_mut().insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
    response
}
