//! Which answer names what another operation takes: a reader of the document can follow them, and so can a fuzzer.

use super::operations;
use utoipa::{
    Modify,
    openapi::{OpenApi, RefOr, link::LinkBuilder},
};

/// Operation, status of its answer, the place in the answer, and the parameter of each operation that takes it.
const LINKS: &[(&str, &str, &str, &str, &[&str])] = &[
    ("submit_job", "202", "/id", "id", OF_A_JOB),
    ("submit_job", "202", "/queue", "queue", OF_A_QUEUE),
    ("submit_jobs", "207", "/items/0/id", "id", OF_A_JOB),
    ("list_jobs", "200", "/items/0/id", "id", OF_A_JOB),
    ("list_queues", "200", "/items/0/name", "queue", OF_A_QUEUE),
    ("create_schedule", "201", "/id", "id", OF_A_SCHEDULE),
    ("list_schedules", "200", "/items/0/id", "id", OF_A_SCHEDULE),
    ("create_batch", "201", "/id", "id", OF_A_BATCH),
    ("create_batch", "201", "/job_ids/0", "id", OF_A_JOB),
    ("list_batches", "200", "/items/0/id", "id", OF_A_BATCH),
    ("create_file", "201", "/id", "id", OF_A_FILE),
    ("list_files", "200", "/items/0/id", "id", OF_A_FILE),
    ("list_workers", "200", "/items/0/id", "id", &["get_worker"]),
    ("list_users", "200", "/items/0/id", "id", &["get_user", "change_user"]),
    ("register_user", "201", "/user/id", "id", &["get_user", "change_user"]),
    ("list_sessions", "200", "/items/0/id", "id", &["revoke_session"]),
    ("create_api_key", "201", "/id", "id", &["revoke_api_key"]),
    ("list_api_keys", "200", "/items/0/id", "id", &["revoke_api_key"]),
];

const OF_A_JOB: &[&str] = &["get_job", "list_job_attempts", "cancel_job", "retry_job", "delete_job"];
const OF_A_BATCH: &[&str] = &["get_batch", "close_batch", "cancel_batch"];
const OF_A_FILE: &[&str] = &["get_file", "get_file_content", "delete_file"];
const OF_A_SCHEDULE: &[&str] = &[
    "get_schedule",
    "update_schedule",
    "pause_schedule",
    "resume_schedule",
    "trigger_schedule",
    "list_schedule_occurrences",
    "delete_schedule",
];
const OF_A_QUEUE: &[&str] = &["get_queue", "update_queue", "pause_queue", "resume_queue", "purge_queue", "list_dead_jobs"];

pub(super) struct Links;

impl Modify for Links {
    fn modify(&self, document: &mut OpenApi) {
        for (_, operation) in operations(&mut document.paths.paths) {
            let id = operation.operation_id.clone().unwrap_or_default();
            for (_, status, place, parameter, targets) in LINKS.iter().filter(|(from, ..)| *from == id) {
                let Some(RefOr::T(answer)) = operation.responses.responses.get_mut(*status) else { continue };
                for target in *targets {
                    let link = LinkBuilder::new().operation_id(*target).parameter(*parameter, format!("$response.body#{place}")).build();
                    answer.links.insert((*target).to_owned(), link.into());
                }
            }
        }
    }
}
