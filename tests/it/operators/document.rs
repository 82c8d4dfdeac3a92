//! The OpenAPI document: it has each route, each error, and its Markdown beside it.

use std::path::Path;

use serde_json::Value;
use threadkey::api;

use super::{ALL, get, rig};

fn document() -> Value {
    serde_json::to_value(api::document()).unwrap()
}

/// Each documented method and path.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn each_documented_route_is_served_and_takes_no_other_method() {
    let rig = rig(None).await;
    let served = get(&rig, "/openapi.json", ALL).await;
    assert_eq!(served.body, document());
    assert!(served.body["openapi"].as_str().unwrap().starts_with("3.1"), "{}", served.body["openapi"]);
    let all = operations(&served.body);
    assert_eq!(all.len(), 9, "{all:?}");
    for (method, path) in &all {
        let asked = path.replace("{provider}", "acme").replace("{principal}", "local");
        for tried in ["GET", "POST", "DELETE", "PUT"] {
            let answer = rig.ask(tried, &asked, Some(ALL), "").await;
            let is_documented = all.iter().any(|(one, of)| one == tried && of == path);
            assert_eq!(answer.status != 405, is_documented, "{tried} {path}: {answer:?}");
            if tried == method {
                assert_ne!(answer.body["code"], "not_found", "{tried} {path}");
            }
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test reads the sources that it judges")]
fn each_route_of_the_sources_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut declared = 0;
    for name in ["routes.rs", "health.rs", "sessions.rs", "scrape.rs", "openapi.rs"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        declared += text.matches("#[utoipa::path(").count();
        // The injecting proxy forwards to servers with documents of their own.
        let bare = text.lines().filter(|line| line.contains(".route(\"") && !line.contains("/inject"));
        assert_eq!(bare.collect::<Vec<_>>(), Vec::<&str>::new(), "{name}: a route without a description");
    }
    assert_eq!(declared, operations(&document()).len(), "a described handler that no route has");
}

#[test]
fn each_error_has_one_envelope_and_each_code_is_in_the_document() {
    let document = document();
    let mut described = String::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status == "200" {
                    continue;
                }
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
                described.push_str(response["description"].as_str().unwrap());
            }
        }
    }
    // A path without a route has no operation.
    let (codes, _) =
        api::reference().split_once("## Errors\n").map(|(_, codes)| (codes.to_owned(), ())).unwrap();
    let (codes, _) = codes.split_once("## Errors of the injecting proxy").unwrap();
    for code in codes.lines().filter_map(|line| line.split('`').nth(1)).filter(|code| *code != "Problem") {
        assert!(code == "not_found" || described.contains(&format!("`{code}`")), "{code}");
    }
}

/// Makes docs/api.md anew with THREADKEY_WRITE_DOCS=1.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test reads, and on demand writes, a document of the repository"
)]
fn the_reference_in_docs_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let made = api::reference();
    if std::env::var_os("THREADKEY_WRITE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/api.md is stale: run THREADKEY_WRITE_DOCS=1 cargo test --test it the_reference"
    );
}
