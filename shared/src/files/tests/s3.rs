//! The same over an S3-compatible store: `make s3` starts one and runs these.

use super::*;
use crate::{
    Code,
    config::{Layers, Settings},
};
use uuid::Uuid;

/// More than two parts.
const LARGE: usize = 11 << 20;

/// A bucket of its own in the store that `STORAGE_S3_ENDPOINT` names.
struct Bucket {
    fixture: Fixture,
    url: String,
}

impl Bucket {
    async fn new() -> Self {
        let settings = Settings::load(&Layers::from_process(&[]).unwrap()).unwrap();
        let endpoint = settings.storage_s3_endpoint.expect("run `make s3`, or set STORAGE_S3_ENDPOINT to a store for tests");
        let name = format!("test-{}", Uuid::new_v4().simple());
        let url = format!("{endpoint}/{name}");
        let made = reqwest::Client::new().put(&url);
        assert!(made.send().await.unwrap().status().is_success(), "the bucket is made");
        let storage = format!("s3://{name}/some/prefix");
        let fixture = Fixture::with(&[
            ("STORAGE_URL", &storage),
            ("STORAGE_S3_ENDPOINT", &endpoint),
            ("STORAGE_S3_ACCESS_KEY_ID", "test"),
            ("STORAGE_S3_SECRET_ACCESS_KEY", "test"),
        ])
        .await;
        Self { fixture, url }
    }

    async fn listed(&self, query: &str) -> String {
        let client = reqwest::Client::new();
        client.get(format!("{}?{query}", self.url)).send().await.unwrap().text().await.unwrap()
    }

    /// Objects, and uploads in parts that were begun and not ended.
    async fn left(&self) -> (usize, usize) {
        let (objects, uploads) = (self.listed("list-type=2").await, self.listed("uploads").await);
        (objects.matches("<Key>").count(), uploads.matches("<UploadId>").count())
    }
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: make s3"]
async fn s3_keeps_small_and_large_files_and_reads_ranges_of_them() {
    let bucket = Bucket::new().await;
    let fixture = &bucket.fixture;
    for content in [noise(0), noise(10), noise(5 << 20), noise(LARGE)] {
        let file = fixture.write("a", &content).await.unwrap();
        assert!(fixture.read(file.id).await.unwrap() == content, "{} bytes", content.len());
    }
    let content = noise(LARGE);
    let file = fixture.write("a", &content).await.unwrap();
    let (from, to) = ((5 << 20) - 7, (5 << 20) + 9);
    let part = content::open(&fixture.ctx, file, Some(from as u64..to as u64)).await.unwrap();
    assert!(bytes_of(part).await.unwrap() == content[from..to]);
    assert_eq!(bucket.left().await, (5, 0));
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: make s3"]
async fn s3_has_nothing_left_of_what_was_given_up_or_deleted() {
    let bucket = Bucket::new().await;
    let fixture = &bucket.fixture;
    let mut given_up = Writer::open(&fixture.ctx, fixture.new_file("a")).await.unwrap();
    given_up.write(&noise(LARGE)).await.unwrap();
    assert_eq!(bucket.left().await, (0, 1));
    given_up.abandon().await;
    assert_eq!(bucket.left().await, (0, 0));
    let file = fixture.write("a", &noise(LARGE)).await.unwrap();
    manage::delete(&fixture.ctx, &fixture.user, file.id, &Origin::default()).await.unwrap();
    assert_eq!((bucket.left().await, fixture.usage().await), ((0, 0), (0, 0)));
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: make s3"]
async fn s3_uploads_of_killed_processes_are_aborted() {
    let bucket = Bucket::new().await;
    let fixture = &bucket.fixture;
    let mut killed = Writer::open(&fixture.ctx, fixture.new_file("a")).await.unwrap();
    killed.write(&noise(LARGE)).await.unwrap();
    std::mem::forget(killed);
    assert_eq!(bucket.left().await, (0, 1));
    fixture.sweep_after(Duration::minutes(61)).await;
    assert_eq!((bucket.left().await, fixture.usage().await), ((0, 0), (0, 0)));
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: make s3"]
async fn s3_is_compared_with_the_table() {
    let bucket = Bucket::new().await;
    let fixture = &bucket.fixture;
    let (kept, orphan) = (fixture.write("a", b"kept").await.unwrap(), fixture.write("b", b"orphan").await.unwrap());
    sqlx::query("DELETE FROM files WHERE id = $1").bind(orphan.id.0).execute(&fixture.ctx.pg).await.unwrap();
    sqlx::query("DELETE FROM files_removed").execute(&fixture.ctx.pg).await.unwrap();
    fixture.sweep_after(Duration::hours(25)).await;
    assert_eq!(bucket.left().await, (1, 0));
    assert_eq!(fixture.read(kept.id).await.unwrap(), b"kept");
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: make s3"]
async fn s3_that_is_away_or_refuses_is_told_as_away() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keys = [("STORAGE_S3_ACCESS_KEY_ID", "test"), ("STORAGE_S3_SECRET_ACCESS_KEY", "test"), ("STORAGE_URL", "s3://none")];
    let endpoint = format!("http://{nobody}");
    let fixture = Fixture::with(&[keys.as_slice(), &[("STORAGE_S3_ENDPOINT", &endpoint)]].concat()).await;
    assert_eq!(fixture.write("a", b"a").await.unwrap_err().code, Code::StorageUnavailable);
    let bucket = Bucket::new().await;
    let endpoint = bucket.url.rsplit_once('/').unwrap().0;
    let fixture = Fixture::with(&[keys.as_slice(), &[("STORAGE_S3_ENDPOINT", endpoint)]].concat()).await;
    assert_eq!(fixture.write("a", b"a").await.unwrap_err().code, Code::StorageUnavailable, "there is no such bucket");
}
