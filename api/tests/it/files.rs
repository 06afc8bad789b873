//! `/files`: statuses, headers and refusals; what is left behind is tested beside the rules.

mod bad_uploads;
mod content;
mod full_disk;
mod killed;
mod restarted;

use crate::{
    auth::{register, register_admin, token},
    jobs::World,
    support::{send, send_for_problem},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const BOUNDARY: &str = "a-boundary-of-tests";

/// A request with the form that `curl -F file=@name` sends.
pub(crate) fn upload(request: RequestBuilder, name: &str, content: impl AsRef<[u8]>) -> RequestBuilder {
    form(request, [part(&format!("name=\"file\"; filename=\"{name}\""), content.as_ref()), end()].concat())
}

pub(crate) fn form(request: RequestBuilder, body: impl Into<reqwest::Body>) -> RequestBuilder {
    request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}")).body(body)
}

fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: text/csv\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn end() -> Vec<u8> {
    format!("--{BOUNDARY}--\r\n").into_bytes()
}

impl World {
    /// Uploads what must be taken.
    async fn uploaded(&self, name: &str, content: &[u8]) -> Value {
        let (status, file) = send(upload(self.post("/files"), name, content)).await;
        assert_eq!(status, StatusCode::CREATED, "{file}");
        file
    }

    fn delete(&self, path: &str) -> RequestBuilder {
        self.app.request(Method::DELETE, &format!("/api/v1{path}")).bearer_auth(token(&self.ada))
    }

    /// What the folder of the store holds.
    fn objects(&self) -> Vec<PathBuf> {
        let variables = &self.app.stores.variables;
        let folder = variables.iter().find(|(name, _)| name == "STORAGE_URL").unwrap().1.strip_prefix("file://").unwrap();
        files_in(Path::new(folder))
    }

    /// Waits until neither a file nor a part of one is left.
    async fn until_nothing_is_left(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !self.objects().is_empty() || self.count("files").await > 0 {
            assert!(std::time::Instant::now() < deadline, "left: {:?}", self.objects());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

fn id_of(file: &Value) -> &str {
    file["id"].as_str().unwrap()
}

#[tokio::test]
async fn an_upload_is_hashed_looked_at_named_and_read_back() {
    let world = World::new().await;
    let content = b"track_id,recorded_at,lat,lon\n".repeat(10_000);
    let response = upload(world.post("/files"), "../../tracks/bus 7.csv", &content).send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let file: Value = response.json().await.unwrap();
    let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = json!({
        "id": file["id"], "name": "bus 7.csv", "size_bytes": content.len(), "sha256": sha256, "content_type": "text/csv",
        "owner_id": world.ada["user"]["id"], "created_at": file["created_at"],
    });
    assert_eq!(file, expected);
    assert_eq!(location, format!("/api/v1/files/{}", id_of(&file)));
    assert_eq!(send(world.app.get(&location).bearer_auth(token(&world.ada))).await, (StatusCode::OK, expected.clone()));
    let read = world.get(&format!("/files/{}/content", id_of(&file))).send().await.unwrap().bytes().await.unwrap();
    assert!(read == content);
    assert_eq!(send(world.get("/files")).await.1, json!({"items": [expected], "next_cursor": null}));
}

#[tokio::test]
async fn files_are_paged_newest_first_and_operators_see_all() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.insert(0, id_of(&world.uploaded(name, b"x").await).to_owned());
    }
    let first = send(world.get("/files?limit=2")).await.1;
    let rest = send(world.get(&format!("/files?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()))).await.1;
    let listed = [&first, &rest].map(|page| page["items"].as_array().unwrap().clone()).concat();
    assert_eq!(listed.iter().map(id_of).collect::<Vec<_>>(), ids);
    let admin = register_admin(&world.app).await;
    let all = send(world.app.get("/api/v1/files").bearer_auth(token(&admin))).await.1;
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
    assert_eq!(send(world.app.get(&format!("/api/v1/files/{}", ids[0])).bearer_auth(token(&admin))).await.0, 200);
}

#[tokio::test]
async fn a_foreign_file_is_not_there() {
    let world = World::new().await;
    let file = world.uploaded("a.txt", b"mine").await;
    let eve = register(&world.app, "eve@example.org").await;
    for (method, path) in [(Method::GET, ""), (Method::GET, "/content"), (Method::DELETE, "")] {
        let request = world.app.request(method, &format!("/api/v1/files/{}{path}", id_of(&file))).bearer_auth(token(&eve));
        assert_eq!(send_for_problem(request).await, (404, "not_found".to_owned()));
    }
    assert_eq!(send(world.app.get("/api/v1/files").bearer_auth(token(&eve))).await.1["items"], json!([]));
}

#[tokio::test]
async fn a_deleted_file_is_gone_with_its_content_and_stands_in_the_log() {
    let world = World::new().await;
    let file = world.uploaded("a.txt", b"mine").await;
    let path = format!("/files/{}", id_of(&file));
    assert_eq!(send(world.delete(&path)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send_for_problem(world.get(&path)).await.0, 404);
    assert_eq!(send_for_problem(world.delete(&path)).await.0, 404);
    world.until_nothing_is_left().await;
    let admin = register_admin(&world.app).await;
    let log = send(world.app.get("/api/v1/audit").bearer_auth(token(&admin))).await.1;
    let entry = log["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "file_deleted").unwrap();
    assert_eq!((&entry["subject_id"], &entry["detail"]["name"]), (&file["id"], &json!("a.txt")));
}

#[tokio::test]
async fn an_upload_that_is_repeated_with_its_key_is_one_file() {
    let world = World::new().await;
    let send_with_key = async |content: &[u8]| {
        let response = upload(world.post("/files"), "a.txt", content).header("idempotency-key", "once").send().await.unwrap();
        (response.status().as_u16(), response.headers().get("idempotency-replayed").is_some(), response.json::<Value>().await.unwrap())
    };
    let (status, is_replay, first) = send_with_key(b"hello").await;
    assert_eq!((status, is_replay), (201, false));
    let (status, is_replay, second) = send_with_key(b"hello").await;
    assert_eq!((status, is_replay, &second["id"]), (201, true, &first["id"]));
    let (status, _, problem) = send_with_key(b"other").await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("idempotency_key_reused")));
    assert_eq!((world.count("files").await, world.objects().len()), (1, 1));
}

#[tokio::test]
async fn a_repetition_tells_of_no_file_that_was_deleted_since() {
    let world = World::new().await;
    let with_key = |key: &str| upload(world.post("/files"), "a.txt", b"hello").header("idempotency-key", key);
    let (_, file) = send(with_key("once")).await;
    assert_eq!(send(world.delete(&format!("/files/{}", id_of(&file)))).await.0, StatusCode::NO_CONTENT);
    for _ in 0..2 {
        assert_eq!(send_for_problem(with_key("once")).await, (410, "gone".to_owned()));
    }
    assert_eq!(world.count("files").await, 0, "and is no upload");
    assert_eq!(send(with_key("another")).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_repetition_needs_no_room() {
    let world = World::with(&[("FILES_PER_USER_MAX", "1")]).await;
    let with_key = |content: &'static [u8]| upload(world.post("/files"), "a.txt", content).header("idempotency-key", "once");
    let (_, file) = send(with_key(b"hello")).await;
    assert_eq!(send(with_key(b"hello")).await, (StatusCode::CREATED, file));
    assert_eq!(send_for_problem(with_key(b"other")).await, (422, "idempotency_key_reused".to_owned()));
    assert_eq!(send_for_problem(with_key(b"")).await, (422, "validation_failed".to_owned()));
    assert_eq!(send_for_problem(upload(world.post("/files"), "a.txt", b"hello")).await, (409, "quota_exceeded".to_owned()));
    assert_eq!((world.count("files").await, world.objects().len()), (1, 1));
}
