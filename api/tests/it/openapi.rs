//! The document, the route list and the committed files say the same.

use crate::support::TestApp;
use api::{
    gate::Access,
    openapi, problems,
    routes::{self, Entry},
};
use serde_json::{Value, json};
use shared::telemetry::metric;
use std::{collections::BTreeSet, fs};

fn document() -> Value {
    serde_json::from_str(openapi::document_json()).unwrap()
}

/// Routes that serve the document itself or pages for people, or another name of a documented one.
const UNDOCUMENTED: &[&str] = &[
    "/health",
    "/api/health",
    "/docs",
    "/docs/{file:.*}",
    "/api-docs/openapi.json",
    "/api-docs/openapi-3.0.json",
    "/examples/chat",
    "/examples/live",
    "/ws",
    "/system/send",
];

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

/// Every documented operation: method, path and itself.
fn operations(document: &Value) -> impl Iterator<Item = (String, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

fn operation<'a>(document: &'a Value, base: &str, entry: &Entry) -> Option<&'a Value> {
    document["paths"].get(format!("{base}{}", entry.path))?.get(entry.method.as_str().to_lowercase())
}

fn documented_routes(document: &Value) -> impl Iterator<Item = (Entry, &Value)> {
    let routes = routes::versioned().into_iter().map(|entry| (routes::BASE, entry));
    let routes = routes.chain(routes::root().into_iter().map(|entry| ("", entry)));
    routes.filter_map(|(base, entry)| operation(document, base, &entry).map(|operation| (entry, operation)))
}

#[test]
fn the_document_asks_for_the_credentials_that_the_gate_asks_for() {
    let document = document();
    for (entry, operation) in documented_routes(&document) {
        let (bearer, key) = (json!({"bearer": []}), json!({"api_key": []}));
        let asked = match entry.gate.access {
            // Who may read metrics is a setting.
            Access::Public if entry.path == "/metrics" => json!([{}, bearer, key]),
            Access::Public => Value::Null,
            Access::Session => json!([bearer]),
            Access::Backend => json!([key]),
            Access::SignedIn | Access::Scoped(_) | Access::Operator(_) => json!([bearer, key]),
        };
        assert_eq!(operation["security"], asked, "{} {}", entry.method, entry.path);
    }
}

#[test]
fn limited_routes_say_so_on_every_answer_of_theirs() {
    let document = document();
    for (entry, operation) in documented_routes(&document) {
        let at = format!("{} {}", entry.method, entry.path);
        let own =
            operation["responses"].as_object().unwrap().iter().filter(|(status, answer)| answer.get("$ref").is_none() && *status != "401");
        for (status, answer) in own {
            assert_eq!(answer["headers"].get("RateLimit").is_some(), entry.gate.class.is_some(), "{at} {status}");
        }
        assert_eq!(operation["responses"].get("429").is_some(), entry.gate.class.is_some(), "{at}");
    }
}

#[test]
fn every_body_that_is_sent_has_an_example() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            let schema = content["schema"]["$ref"].as_str().map(|name| document.pointer(&name[1..]).unwrap());
            let example = content.get("example").or_else(|| schema?.get("example"));
            assert!(example.is_some(), "{method} {path} {media_type}");
        }
    }
}

#[test]
fn nothing_that_parses_a_body_lets_unknown_fields_pass() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        if let Some(name) = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str() {
            let schema = document.pointer(&name[1..]).unwrap();
            // A body that may be one of several things: each of them.
            let forms = schema["oneOf"].as_array().map_or(vec![schema], |forms| forms.iter().collect());
            for form in forms {
                let form = form["$ref"].as_str().map_or(form, |name| document.pointer(&name[1..]).unwrap());
                assert_eq!(form["additionalProperties"], false, "{method} {path}");
            }
        }
    }
}

#[test]
fn what_is_referred_to_is_there() {
    for text in [openapi::document_json(), openapi::document_3_0_json()] {
        let document: Value = serde_json::from_str(text).unwrap();
        let ids: BTreeSet<&str> = operations(&document).map(|(_, _, operation)| operation["operationId"].as_str().unwrap()).collect();
        for_each_object(&document, &mut |object| {
            if let Some(Value::String(name)) = object.get("$ref") {
                assert!(document.pointer(&name[1..]).is_some(), "{name}");
            }
            if let Some(links) = object.get("links").and_then(Value::as_object) {
                assert!(links.values().all(|link| ids.contains(link["operationId"].as_str().unwrap())), "{links:?}");
            }
        });
    }
}

#[test]
fn the_older_document_has_nothing_of_the_newer_dialect() {
    let document: Value = serde_json::from_str(openapi::document_3_0_json()).unwrap();
    for_each_object(&document["components"]["schemas"], &mut |object| {
        assert!(!object.get("type").is_some_and(Value::is_array), "{object:?}");
        assert!(object.get("type") != Some(&json!("null")) && object.get("const").is_none(), "{object:?}");
        assert!(!object.get("examples").is_some_and(Value::is_array), "{object:?}");
    });
}

fn for_each_object(value: &Value, look: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            look(object);
            object.values().for_each(|value| for_each_object(value, look));
        }
        Value::Array(items) => items.iter().for_each(|value| for_each_object(value, look)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_committed_documents_are_current() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    for (file, text) in
        [("openapi.json", openapi::document_json().to_owned()), ("PROBLEMS.md", problems::markdown()), ("METRICS.md", metric::markdown())]
    {
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
