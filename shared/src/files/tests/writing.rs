//! Writing and reading: what is seen when, what counts, and what a writer leaves that gives up.

use super::*;
use crate::{Code, ids::JobId};
use sha2::{Digest, Sha256};
use std::time::{Duration as StdDuration, Instant};

#[tokio::test]
async fn a_file_is_seen_when_it_is_complete_and_reads_as_it_was_written() {
    let fixture = Fixture::new().await;
    let content = noise(300_000);
    let mut writer = Writer::open(&fixture.ctx, fixture.new_file("../a/noise.bin")).await.unwrap();
    for chunk in content.chunks(7_001) {
        writer.write(chunk).await.unwrap();
    }
    let id = writer.id();
    assert_eq!(manage::get(&fixture.ctx, &fixture.user, id).await.unwrap_err().code, Code::NotFound);
    let file = writer.finish().await.unwrap();
    assert_eq!(file, manage::get(&fixture.ctx, &fixture.user, id).await.unwrap());
    assert_eq!((file.name.as_str(), file.size_bytes, file.content_type.as_str()), ("noise.bin", 300_000, "application/octet-stream"));
    assert_eq!(file.sha256, crate::files::hexadecimal(&Sha256::digest(&content)));
    assert!(fixture.read(id).await.unwrap() == content);
    let part = content::open(&fixture.ctx, file, Some(65_000..200_001)).await.unwrap();
    assert!(bytes_of(part).await.unwrap() == content[65_000..200_001]);
    assert_eq!(fixture.usage().await, (1, 300_000));
}

#[tokio::test]
async fn a_file_is_read_by_jobs_of_its_owner_and_of_operators() {
    let fixture = Fixture::new().await;
    let file = fixture.write("a.txt", b"hello").await.unwrap();
    let (other, operator) = (account(&fixture.ctx, Role::User).await, account(&fixture.ctx, Role::Operator).await);
    let refused = content::open_for_job(&fixture.ctx, other.user_id, file.id).await.unwrap_err();
    assert_eq!((refused.code, refused.is_refusal()), (Code::NotFound, true));
    content::open_for_job(&fixture.ctx, operator.user_id, file.id).await.unwrap();
    content::open_for_job(&fixture.ctx, UserId(uuid::Uuid::nil()), file.id).await.unwrap();
    assert_eq!(manage::require_readable(&fixture.ctx, &other, file.id).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn whoever_gives_up_leaves_nothing() {
    let fixture = Fixture::new().await;
    for drops in [false, true] {
        let mut writer = Writer::open(&fixture.ctx, fixture.new_file("a")).await.unwrap();
        writer.write(&noise(200_000)).await.unwrap();
        assert_eq!((fixture.objects().len(), fixture.usage().await.0), (1, 1));
        if drops {
            drop(writer)
        } else {
            writer.abandon().await
        }
        let deadline = Instant::now() + StdDuration::from_secs(10);
        while fixture.usage().await != (0, 0) || !fixture.objects().is_empty() {
            assert!(Instant::now() < deadline, "left: {:?}", fixture.objects());
            tokio::time::sleep(StdDuration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_as_soon_as_it_is() {
    let fixture = Fixture::with(&[("MAX_UPLOAD_BYTES", "100KiB")]).await;
    let told = NewFile { size_hint: Some(200_000), ..fixture.new_file("a") };
    assert_eq!(Writer::open(&fixture.ctx, told).await.unwrap_err().code, Code::BodyTooLarge);
    let mut writer = Writer::open(&fixture.ctx, fixture.new_file("a")).await.unwrap();
    writer.write(&noise(100 << 10)).await.unwrap();
    assert_eq!(writer.write(b"x").await.unwrap_err().code, Code::BodyTooLarge);
    writer.abandon().await;
    assert_eq!((fixture.objects().len(), fixture.usage().await), (0, (0, 0)));
}

#[tokio::test]
async fn a_quota_holds_while_many_write_at_once_and_is_used_up_to_its_end() {
    let fixture = Fixture::with(&[("FILE_QUOTA_BYTES", "1000KiB"), ("DB_POOL_MAX", "4")]).await;
    let content = noise(90 << 10);
    let written = futures_util::future::join_all((0..20).map(|_| fixture.write("a", &content))).await;
    let n_written = written.iter().filter(|written| written.is_ok()).count();
    assert!((1..=11).contains(&n_written), "{n_written}");
    for refused in written.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code, Code::QuotaExceeded);
    }
    // What those reserved who were refused is free again, once they have gone.
    let deadline = Instant::now() + StdDuration::from_secs(10);
    let mut n_files = n_written;
    while n_files < 11 {
        n_files += usize::from(fixture.write("b", &content).await.is_ok());
        assert!(Instant::now() < deadline, "there is room: {:?}", fixture.usage().await);
    }
    assert_eq!(fixture.write("b", &content).await.unwrap_err().code, Code::QuotaExceeded);
    fixture.write("the rest", &noise(10 << 10)).await.unwrap();
    assert_eq!(fixture.usage().await, (12, 1000 << 10));
}

#[tokio::test]
async fn a_user_may_have_so_many_files() {
    let fixture = Fixture::with(&[("FILES_PER_USER_MAX", "2")]).await;
    let first = fixture.write("a", b"a").await.unwrap();
    fixture.write("b", b"b").await.unwrap();
    assert_eq!(fixture.write("c", b"c").await.unwrap_err().code, Code::QuotaExceeded);
    manage::delete(&fixture.ctx, &fixture.user, first.id, &Origin::default()).await.unwrap();
    fixture.write("c", b"c").await.unwrap();
}

#[tokio::test]
async fn a_job_that_runs_again_leaves_one_file_of_a_name() {
    let fixture = Fixture::new().await;
    let by_job = |name| NewFile { made_by: Some(JobId(uuid::Uuid::nil())), content_type: Some("text/csv"), ..fixture.new_file(name) };
    let first = fixture.write_as(by_job("report.csv"), b"1").await.unwrap();
    fixture.write_as(by_job("report.html"), b"2").await.unwrap();
    let again = fixture.write_as(by_job("report.csv"), b"3").await.unwrap();
    assert_eq!(fixture.read(first.id).await.unwrap_err().code, Code::NotFound);
    assert_eq!((fixture.read(again.id).await.unwrap(), again.content_type.as_str()), (b"3".to_vec(), "text/csv"));
    assert_eq!(fixture.usage().await, (2, 2));
    fixture.sweep_after(Duration::ZERO).await;
    assert_eq!(fixture.objects().len(), 2);
}

#[tokio::test]
async fn a_run_that_was_given_up_for_lost_takes_no_newer_file_away() {
    let fixture = Fixture::new().await;
    let by_job = || NewFile { made_by: Some(JobId(uuid::Uuid::nil())), ..fixture.new_file("report.csv") };
    let mut lost = Writer::open(&fixture.ctx, by_job()).await.unwrap();
    lost.write(b"old").await.unwrap();
    let file = fixture.write_as(by_job(), b"new").await.unwrap();
    lost.finish().await.unwrap_err();
    assert_eq!(fixture.read(file.id).await.unwrap(), b"new");
}

#[tokio::test]
async fn a_deleted_file_takes_its_content_along() {
    let fixture = Fixture::new().await;
    let file = fixture.write("a.txt", b"hello").await.unwrap();
    let other = account(&fixture.ctx, Role::User).await;
    assert_eq!(manage::delete(&fixture.ctx, &other, file.id, &Origin::default()).await.unwrap_err().code, Code::NotFound);
    manage::delete(&fixture.ctx, &fixture.user, file.id, &Origin::default()).await.unwrap();
    assert_eq!(fixture.read(file.id).await.unwrap_err().code, Code::NotFound);
    let meanwhile = content::open(&fixture.ctx, file, None).await;
    assert_eq!(meanwhile.unwrap_err().code, Code::NotFound, "its row was read before");
    assert_eq!((fixture.objects().len(), fixture.usage().await, fixture.count("files_removed").await), (0, (0, 0), 0));
}

#[tokio::test]
async fn a_content_that_is_not_what_was_stored_is_told() {
    let fixture = Fixture::new().await;
    let (gone, cut) = (fixture.write("a", b"hello").await.unwrap(), fixture.write("b", b"hello").await.unwrap());
    for object in fixture.objects() {
        if object.to_string_lossy().contains(&gone.id.to_string()) {
            fs::remove_file(object).unwrap()
        } else {
            fs::write(object, b"hell").unwrap()
        }
    }
    assert_eq!(fixture.read(gone.id).await.unwrap_err().code, Code::FileLost);
    assert_eq!(fixture.read(cut.id).await.unwrap_err().code, Code::FileLost);
}

#[tokio::test]
async fn what_a_file_will_replace_does_not_count_against_it() {
    let fixture = Fixture::with(&[("FILE_QUOTA_BYTES", "100KiB"), ("FILES_PER_USER_MAX", "1")]).await;
    let content = noise(90 << 10);
    let of_job = |made_by| NewFile { made_by: Some(made_by), size_hint: Some(90 << 10), ..fixture.new_file("report.csv") };
    let job_id = JobId::new();
    fixture.write_as(of_job(job_id), &content).await.unwrap();
    let again = fixture.write_as(of_job(job_id), &content).await.unwrap();
    assert_eq!(fixture.usage().await, (1, 90 << 10));
    // Nor where nothing was said of its size.
    fixture.write_as(NewFile { size_hint: None, ..of_job(job_id) }, &content).await.unwrap();
    assert_eq!(fixture.read(again.id).await.unwrap_err().code, Code::NotFound);
    for other in [of_job(JobId::new()), NewFile { name: "other.csv", ..of_job(job_id) }, fixture.new_file("report.csv")] {
        assert_eq!(fixture.write_as(other, &content).await.unwrap_err().code, Code::QuotaExceeded);
    }
}

#[tokio::test]
async fn a_store_that_is_away_refuses_and_takes_again_when_it_is_back() {
    let stores = TestStores::create().await;
    let file = std::env::temp_dir().join(format!("{}-not-a-folder", uuid::Uuid::new_v4()));
    fs::write(&file, b"").unwrap();
    let ctx = stores.context(&[("STORAGE_URL", &format!("file://{}", file.display()))]);
    let user = account(&ctx, Role::User).await;
    let fixture = Fixture { ctx, user, stores };
    let refused = fixture.write("a", b"a").await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after.is_some(), fixture.usage().await), (Code::StorageUnavailable, true, (0, 0)));
    fs::remove_file(&file).unwrap();
    let written = fixture.write("a", b"a").await.unwrap();
    assert_eq!(fixture.read(written.id).await.unwrap(), b"a");
    fs::remove_dir_all(&file).unwrap();
}

#[tokio::test]
async fn a_store_that_goes_away_in_between_is_told_and_nothing_is_left() {
    let fixture = Fixture::new().await;
    let mut writer = Writer::open(&fixture.ctx, fixture.new_file("a")).await.unwrap();
    writer.write(&noise(200_000)).await.unwrap();
    let partial = fixture.objects().remove(0);
    fs::remove_dir_all(partial.parent().unwrap()).unwrap();
    assert_eq!(writer.finish().await.unwrap_err().code, Code::StorageUnavailable);
    let deadline = Instant::now() + StdDuration::from_secs(10);
    while fixture.usage().await != (0, 0) {
        assert!(Instant::now() < deadline, "it is given up");
        tokio::time::sleep(StdDuration::from_millis(5)).await;
    }
}

#[test]
fn a_full_disk_is_told_as_one() {
    use crate::files::storage::{failed, io_error};
    let full = failed("write", io_error(std::io::ErrorKind::StorageFull.into()));
    assert_eq!((full.code, full.is_refusal()), (Code::StorageFull, false));
    let broken = failed("write", io_error(std::io::ErrorKind::PermissionDenied.into()));
    assert_eq!((broken.code, broken.is_refusal()), (Code::StorageUnavailable, false));
}

#[tokio::test]
async fn readers_get_the_same_as_streams() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};
    let fixture = Fixture::new().await;
    let file = fixture.write("a.csv", format!("first\n{}", "x".repeat(100_000)).as_bytes()).await.unwrap();
    let mut reader = content::open_for_job(&fixture.ctx, fixture.user.user_id, file.id).await.unwrap().into_reader();
    let (mut line, mut rest) = (String::new(), String::new());
    reader.read_line(&mut line).await.unwrap();
    reader.read_to_string(&mut rest).await.unwrap();
    assert_eq!((line.as_str(), rest.len()), ("first\n", 100_000));
}
