//! The document, the route list and the committed files say the same.

use crate::support::TestApp;
use api::{openapi, problems, routes};
use serde_json::Value;
use std::{collections::BTreeSet, fs};

fn document() -> Value {
    serde_json::from_str(openapi::document_json()).unwrap()
}

/// Routes that serve the document itself, or another name of a documented one.
const UNDOCUMENTED: &[&str] =
    &["/health", "/api/health", "/docs", "/docs/{file:.*}", "/api-docs/openapi.json", "/api-docs/openapi-3.0.json"];

#[test]
fn every_route_is_documented_and_every_document_entry_is_a_route() {
    let versioned = routes::versioned().into_iter().map(|entry| format!("{} {}{}", entry.method, routes::BASE, entry.path));
    let root = routes::root()
        .into_iter()
        .filter(|entry| !UNDOCUMENTED.contains(&entry.path))
        .map(|entry| format!("{} {}", entry.method, entry.path));
    let routed: BTreeSet<String> = versioned.chain(root).collect();
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let documented: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase())))
        .collect();
    assert_eq!(routed, documented);
}

#[test]
fn operation_ids_are_unique_and_read_verb_noun() {
    let document = document();
    let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<&str> = items.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    assert!(ids.iter().all(|id| id.contains('_')), "{ids:?}");
}

#[test]
fn the_committed_documents_are_current() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    for (file, text) in [("openapi.json", openapi::document_json().to_owned()), ("PROBLEMS.md", problems::markdown())] {
        let committed = fs::read_to_string(format!("{root}/{file}")).unwrap_or_default();
        assert!(committed == text, "docs/{file} is not what the code says: run `make openapi`");
    }
}

#[tokio::test]
async fn both_versions_and_the_user_interface_come_from_the_binary() {
    let app = TestApp::start().await;
    let version = async |path: &str| app.get(path).send().await.unwrap().json::<Value>().await.unwrap()["openapi"].clone();
    assert_eq!(version("/api-docs/openapi.json").await, "3.1.0");
    assert_eq!(version("/api-docs/openapi-3.0.json").await, "3.0.3");
    let page = app.get("/docs/").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("swagger-ui"), "{page}");
}
