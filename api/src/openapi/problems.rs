//! Problems that an operation may answer with without its handler naming them: what its route, its parameters and its
//! body can run into. Each is written once, with an example from the table of problems.

use super::{headers, operations};
use crate::error::Problem;
use serde_json::json;
use shared::{Code, Error};
use utoipa::{
    Modify,
    openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, path::Operation},
};

/// Status, name, when it comes, and the code that the example has.
const SHARED: &[(u16, &str, &str, Code)] = &[
    (400, "Malformed", "The query, a header or the body is malformed", Code::InvalidJson),
    (401, "Unauthenticated", "Credentials are missing or not valid", Code::Unauthenticated),
    (403, "Forbidden", "The credentials do not allow this", Code::InsufficientScope),
    (404, "NotFound", "There is no such thing, or it is not yours", Code::NotFound),
    (408, "BodyTooSlow", "The body came too slowly", Code::RequestTimeout),
    (413, "BodyTooLarge", "The body is too large", Code::BodyTooLarge),
    (415, "UnsupportedMediaType", "The body is of a type that this path does not take", Code::UnsupportedMediaType),
    (422, "RuleBroken", "It parses, but breaks a rule", Code::ValidationFailed),
    (429, "TooMany", "Too many requests, or the queue is full", Code::RateLimited),
    (500, "Failed", "Something failed on our side", Code::Internal),
    (503, "Unavailable", "Overloaded, stopping, or a server is away", Code::Overloaded),
    (504, "TooLate", "The request was not done in time", Code::DeadlineExceeded),
];

pub(super) struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut OpenApi) {
        for (path, operation) in operations(&mut document.paths.paths) {
            for status in possible(path, operation) {
                let (_, name, ..) = SHARED.iter().find(|(of, ..)| *of == status).expect("the list has every status named below");
                let answer = RefOr::Ref(Ref::from_response_name(*name));
                operation.responses.responses.entry(status.to_string()).or_insert(answer);
            }
            for (status, answer) in &mut operation.responses.responses {
                let RefOr::T(answer) = answer else { continue };
                if let Some(status) = status.parse().ok().filter(|_| answer.content.contains_key("application/problem+json")) {
                    headers::add_to_problem(answer, status);
                }
            }
        }
        let components = document.components.get_or_insert_default();
        components.responses.extend(SHARED.iter().map(|row| (row.1.to_owned(), RefOr::T(answer(row)))));
    }
}

fn possible(path: &str, operation: &Operation) -> Vec<u16> {
    let takes_body = operation.request_body.is_some();
    let takes_text = takes_body || operation.parameters.iter().flatten().any(|parameter| !super::is_in_path(parameter));
    let rules = [
        (takes_text, [400, 422].as_slice()),
        (operation.security.is_some(), &[401, 403]),
        (path.contains('{'), &[404]),
        (takes_body, &[408, 413, 415]),
        (super::is_limited(path), &[429, 500, 503, 504]),
    ];
    rules.into_iter().filter(|(applies, _)| *applies).flat_map(|(_, statuses)| statuses.iter().copied()).collect()
}

fn answer((status, _, description, code): &(u16, &str, &str, Code)) -> Response {
    let mut error = Error::new(*code, format!("{description}."));
    if *code == Code::ValidationFailed {
        error = error.with_field("/email", "email", "is not an e-mail address");
    }
    let example = json!(Problem::new(&error, "01a1fb40-f990-7000-8000-000000000003"));
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(Some(example)).build();
    let mut answer = ResponseBuilder::new().description(*description).content("application/problem+json", content).build();
    headers::add_to_shared(&mut answer, *status);
    answer
}
