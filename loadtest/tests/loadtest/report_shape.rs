//! The JSON that other tools read: its names and types.

use serde_json::{Map, Value, json};

use crate::measure;
use crate::stub::{Reply, Stub};

/// Replaces values that differ from run to run by their type.
fn shape(value: Value) -> Value {
    match value {
        Value::Number(_) => json!("number"),
        Value::Array(items) => Value::Array(items.into_iter().take(1).map(shape).collect()),
        Value::Object(fields) => {
            let shaped = fields.into_iter().map(|(name, value)| (name, shape(value)));
            Value::Object(shaped.collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

#[test]
fn report_has_its_documented_shape() {
    let stub = Stub::start(|_| Reply::ok());
    let reference = Stub::start(|_| Reply::ok());
    let pid = std::process::id();
    let options = format!("-c 1 --rate 100 --server-pid {pid} --reference-url {}/", reference.url());
    let report = measure(&stub, &options).unwrap();
    let shaped = shape(serde_json::to_value(&report).unwrap());
    insta::assert_json_snapshot!(shaped, {
        ".command" => "[command]",
        ".date" => "[date]",
        ".machine.cpu" => "[cpu]",
        ".machine.kernel" => "[kernel]",
        ".rows[0].runs" => "[as median]",
        ".rows[0].reference.runs" => "[as median]",
        ".settings.url" => "[url]",
        ".settings.reference_url" => "[url]",
    });
}
