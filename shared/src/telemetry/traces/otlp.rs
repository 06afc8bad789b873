//! Spans in the JSON of OTLP (opentelemetry-proto, `ExportTraceServiceRequest`): ids in hexadecimal, times as text in nanoseconds.

use super::{Span, Value};
use serde_json::{Value as Json, json, value::RawValue};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest text of one attribute: what a caller may choose is short anyway.
const TEXT_MAX: usize = 256;
/// `STATUS_CODE_ERROR`.
const FAILED: u8 = 2;

/// One span, complete.
pub(super) fn encode(span: &Span, ended: SystemTime) -> Box<RawValue> {
    let mut json = json!({
        "traceId": span.context.trace_id(),
        "spanId": format!("{:016x}", span.context.span_id),
        "name": short(&span.name),
        "kind": span.kind as u8,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(ended),
        "attributes": span.attributes.iter().map(|(key, value)| attribute(key, value)).collect::<Vec<_>>(),
    });
    if let Some(parent_id) = span.parent_id {
        json["parentSpanId"] = format!("{parent_id:016x}").into();
    }
    if let Some(why) = &span.failure {
        json["status"] = json!({"code": FAILED, "message": short(why)});
    }
    serde_json::value::to_raw_value(&json).expect("it is JSON already")
}

fn nanos(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}

fn attribute(key: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({"stringValue": short(text)}),
        // 64 bits are text in this form.
        Value::Number(number) => json!({"intValue": number.to_string()}),
    };
    json!({"key": key, "value": value})
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

/// What is sent: spans of one service.
pub(super) fn request(service: &str, spans: &[Box<RawValue>]) -> String {
    let resource = [
        ("service.name", service.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("host.name", crate::nodes::host()),
    ];
    let attributes: Vec<Json> = resource.into_iter().map(|(key, text)| attribute(key, &Value::Text(text))).collect();
    let scope = json!({"name": "millrace", "version": env!("CARGO_PKG_VERSION")});
    #[derive(serde::Serialize)]
    struct Scoped<'a> {
        scope: &'a Json,
        spans: &'a [Box<RawValue>],
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Resourced<'a> {
        resource: Json,
        scope_spans: [Scoped<'a>; 1],
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Request<'a> {
        resource_spans: [Resourced<'a>; 1],
    }
    let scope_spans = [Scoped { scope: &scope, spans }];
    let request = Request { resource_spans: [Resourced { resource: json!({"attributes": attributes}), scope_spans }] };
    serde_json::to_string(&request).expect("it has no maps and no floats")
}
