//! Headers in the document: those that requests may carry, as parameter lists for the handlers' annotations, and those
//! that answers carry, put in here wherever the route says that they come.

use super::{is_limited, operations};
use serde_json::{Value, json};
use utoipa::{
    IntoParams, Modify,
    openapi::{
        Header, HeaderBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Response, Schema, Type,
        path::{Operation, Parameter},
    },
};

/// Of a creation that may be repeated.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKeyHeader {
    /// Makes repeating this request safe, for 24 hours.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    pub idempotency_key: Option<String>,
}

/// Of a request that may wait for a result.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct PreferHeader {
    /// `wait=N`: wait up to N seconds (30 at most) for the end of the job. Other preferences are ignored.
    #[param(rename = "Prefer", example = "wait=1")]
    pub prefer: Option<String>,
}

/// Of a single object's GET.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IfNoneMatchHeader {
    /// The `ETag` of the object that the caller has: the answer is 304 while it is the same.
    #[param(rename = "If-None-Match", example = "\"0f1e2d3c4b5a69788796a5b4c3d2e1f0\"")]
    pub if_none_match: Option<String>,
}

/// Of what is done to one object, or with its content, only while it is what the caller saw.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IfMatchHeader {
    /// The `ETag` of the object as it was seen: the answer is 412 if it is another by now.
    #[param(rename = "If-Match", example = "*")]
    pub if_match: Option<String>,
}

/// Of a content of which a part may be wanted.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct RangeHeaders {
    /// One range of bytes; several are answered with all of it.
    #[param(rename = "Range", example = "bytes=0-1023")]
    pub range: Option<String>,
    /// The `ETag` that the range is meant for: the answer is all of it if it is another by now.
    #[param(rename = "If-Range", example = "\"0f1e2d3c4b5a69788796a5b4c3d2e1f0\"")]
    pub if_range: Option<String>,
}

const RATE_LIMIT: [&str; 5] = ["RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

/// Names each answer's headers.
pub(super) struct Headers;

impl Modify for Headers {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        components.headers.extend(all().into_iter().map(|(name, header)| (name.to_owned(), RefOr::T(header))));
        for (path, operation) in operations(&mut document.paths.paths) {
            let is_limited = is_limited(path);
            let [repeatable, conditional] =
                [["Idempotency-Key"].as_slice(), &["If-None-Match", "If-Match"]].map(|names| takes(operation, names));
            for (status, answer) in &mut operation.responses.responses {
                let RefOr::T(answer) = answer else { continue };
                add(answer, &["X-Request-Id"]);
                if is_limited {
                    add(answer, &RATE_LIMIT);
                }
                if repeatable && status.starts_with('2') {
                    add(answer, &["Idempotency-Replayed"]);
                }
                if conditional && (status.starts_with('2') || status == "304") {
                    add(answer, &["ETag"]);
                }
            }
        }
    }
}

/// Puts the headers into an answer that problems share: no token was taken before a 401.
pub(super) fn add_to_shared(answer: &mut Response, status: u16) {
    add(answer, &["X-Request-Id"]);
    if status != 401 {
        add(answer, &RATE_LIMIT);
    }
    add_to_problem(answer, status);
}

/// Puts the headers into a problem's answer that go with its status.
pub(super) fn add_to_problem(answer: &mut Response, status: u16) {
    match status {
        401 => add(answer, &["WWW-Authenticate"]),
        409 | 429 | 503 | 504 | 507 => add(answer, &["Retry-After"]),
        _ => {}
    }
}

fn add(answer: &mut Response, names: &[&str]) {
    for name in names {
        let header = RefOr::Ref(Ref::new(format!("#/components/headers/{name}")));
        answer.headers.entry((*name).to_owned()).or_insert(header);
    }
}

fn takes(operation: &Operation, names: &[&str]) -> bool {
    let is_one = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if names.contains(&parameter.name.as_str()));
    operation.parameters.iter().flatten().any(is_one)
}

/// Every header of an answer: name, what its value is, what it tells, an example.
fn all() -> Vec<(&'static str, Header)> {
    let rows = [
        (
            "X-Request-Id",
            text("^[A-Za-z0-9_.:-]{1,128}$"),
            "Names the request in logs and problems; the caller's own id if it sent one.",
            json!("r-42"),
        ),
        (
            "RateLimit-Policy",
            text("^\"[a-z-]+\";q=[0-9]+;w=[0-9]+$"),
            "The limit that the route falls under: `q` requests in `w` seconds. Absent with limits off.",
            json!("\"read\";q=6000;w=60"),
        ),
        (
            "RateLimit",
            text("^\"[a-z-]+\";r=[0-9]+;t=[0-9]+$"),
            "`r` requests are left; all are in `t` seconds.",
            json!("\"read\";r=5999;t=1"),
        ),
        ("X-RateLimit-Limit", count(0), "`q` of `RateLimit-Policy`.", json!(6_000)),
        ("X-RateLimit-Remaining", count(0), "`r` of `RateLimit`.", json!(5_999)),
        ("X-RateLimit-Reset", count(0), "`t` of `RateLimit`.", json!(1)),
        ("Retry-After", count(1), "Seconds after which another try makes sense.", json!(1)),
        ("WWW-Authenticate", text("^Bearer "), "How to show who one is.", json!("Bearer realm=\"millrace\"")),
        (
            "ETag",
            text("^\"[0-9a-f]{32}\"$"),
            "Names this state of the object, for `If-None-Match` and `If-Match`.",
            json!("\"0f1e2d3c4b5a69788796a5b4c3d2e1f0\""),
        ),
        (
            "Idempotency-Replayed",
            text("^true$"),
            "There on the stored answer to an earlier request of the same `Idempotency-Key`.",
            json!("true"),
        ),
    ];
    let header = |schema: ObjectBuilder, description: &str, example: Value| {
        HeaderBuilder::new().schema(Some(Schema::from(schema.build()))).description(Some(description)).example(Some(example)).build()
    };
    rows.into_iter().map(|(name, schema, description, example)| (name, header(schema, description, example))).collect()
}

fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

fn count(minimum: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(minimum))
}
