//! `files.inspect` by a real worker, and the sweeping of what a killed process left.

use crate::world::World;
use serde_json::{Value, json};
use shared::{
    Code,
    accounts::Origin,
    files::{
        File, content, manage,
        writing::{NewFile, Writer},
    },
    jobs::JobState,
};
use std::time::{Duration, Instant};

/// A GIF of one pixel.
const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b";

impl World {
    async fn with_account() -> Self {
        let world = Self::new().await;
        sqlx::query(
            "INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, 'a@b', '', 'operator', now(), now())",
        )
        .bind(world.caller.user_id.0)
        .execute(&world.ctx.pg)
        .await
        .unwrap();
        world
    }

    async fn writer(&self, name: &str) -> Writer {
        let new = NewFile { owner_id: self.caller.user_id, name, content_type: None, size_hint: None, made_by: None };
        Writer::open(&self.ctx, new).await.unwrap()
    }

    async fn file(&self, name: &str, bytes: &[u8]) -> File {
        let mut writer = self.writer(name).await;
        writer.write(bytes).await.unwrap();
        writer.finish().await.unwrap()
    }

    /// What `files.inspect` finds.
    async fn inspected(&self, file: &File) -> Value {
        let id = self.submit(json!({"kind": "files.inspect", "payload": {"file_id": file.id}})).await;
        let job = self.until(id, JobState::Succeeded).await;
        serde_json::from_str(job.result.unwrap().get()).unwrap()
    }

    async fn count_files(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM files").fetch_one(&self.ctx.pg).await.unwrap()
    }
}

#[tokio::test]
async fn an_image_gets_its_size_and_a_thumbnail_which_is_a_file() {
    let world = World::with_account().await;
    let _worker = world.worker(&[]);
    let file = world.file("pixel.gif", PIXEL).await;
    let report = world.inspected(&file).await;
    assert_eq!(report["image"], json!({"format": "gif", "width": 1, "height": 1, "problem": null}));
    assert_eq!(
        (&report["is_intact"], &report["sha256"], &report["content_type"]),
        (&json!(true), &json!(file.sha256), &json!("image/gif"))
    );
    let thumbnail = &report["thumbnail"];
    assert_eq!((thumbnail["name"].as_str(), thumbnail["content_type"].as_str()), (Some("pixel (thumbnail).png"), Some("image/png")));
    let id = thumbnail["id"].as_str().unwrap().parse().unwrap();
    content::open_for_job(&world.ctx, world.caller.user_id, id).await.unwrap();
    assert_eq!(world.inspected(&world.file("a.csv", b"a,b\n").await).await["image"], Value::Null);
}

#[tokio::test]
async fn an_image_that_would_take_gigabytes_is_told_and_harms_nobody() {
    let world = World::with_account().await;
    let _worker = world.worker(&[]);
    let bomb = [&PIXEL[..6], &[0xff; 4], &PIXEL[10..24], &[0xff; 4], &PIXEL[28..]].concat();
    let report = world.inspected(&world.file("bomb.gif", &bomb).await).await;
    assert_eq!((&report["image"]["width"], &report["image"]["problem"]["code"]), (&json!(65_535), &json!("too_large")), "{report}");
    let report = world.inspected(&world.file("broken.gif", &PIXEL[..20]).await).await;
    assert_eq!(report["image"]["problem"]["code"], "broken");
    assert_eq!((world.count_files().await, world.workers().await.len()), (2, 1));
}

#[tokio::test]
async fn a_file_that_is_not_there_or_foreign_is_refused_and_one_that_goes_ends_the_job() {
    let world = World::with_account().await;
    let unknown = json!({"kind": "files.inspect", "payload": {"file_id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da"}});
    let refused = world.refused(unknown).await;
    assert_eq!((refused.code, refused.fields[0].code.as_str()), (Code::ValidationFailed, "unknown_file"));
    let file = world.file("a.txt", b"hello").await;
    let id = world.submit(json!({"kind": "files.inspect", "payload": {"file_id": file.id}})).await;
    manage::delete(&world.ctx, &world.caller, file.id, &Origin::default()).await.unwrap();
    let _worker = world.worker(&[]);
    assert_eq!(world.until(id, JobState::Dead).await.error.unwrap().code, "not_found");
}

#[tokio::test]
async fn the_leader_removes_what_a_killed_process_was_writing() {
    let world = World::with_account().await;
    let _worker = world.worker(&[("UPLOAD_TIMEOUT_S", "1"), ("FILE_UNFINISHED_S", "2")]);
    // The second one comes after it has looked.
    for name in ["a", "b"] {
        let mut writer = world.writer(name).await;
        writer.write(&[7; 200_000]).await.unwrap();
        std::mem::forget(writer);
        let deadline = Instant::now() + Duration::from_secs(20);
        while world.count_files().await > 0 {
            assert!(Instant::now() < deadline, "it is swept");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
