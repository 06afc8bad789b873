//! What is left behind, and who removes it.

use super::*;
use crate::ids::FileId;
use std::fs::File as OpenFile;

/// As a process that is killed leaves it: neither its destructors run, nor anything else.
fn die(writer: Writer) {
    std::mem::forget(writer);
}

#[tokio::test]
async fn what_a_killed_process_was_writing_is_removed_in_time() {
    let fixture = Fixture::new().await;
    let mut writer = Writer::open(&fixture.ctx, fixture.new_file("a")).await.unwrap();
    writer.write(&noise(200_000)).await.unwrap();
    die(writer);
    let mut complete = Writer::open(&fixture.ctx, fixture.new_file("b")).await.unwrap();
    complete.write(b"b").await.unwrap();
    complete.complete().await.unwrap();
    die(complete);
    fixture.sweep_after(Duration::minutes(59)).await;
    assert_eq!((fixture.objects().len(), fixture.usage().await.0), (2, 2), "they may still be alive");
    fixture.sweep_after(Duration::minutes(2)).await;
    assert_eq!((fixture.objects().len(), fixture.usage().await, fixture.count("files").await), (0, (0, 0), 0));
}

#[tokio::test]
async fn one_that_was_given_up_and_goes_on_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new().await;
    let mut slow = Writer::open(&fixture.ctx, fixture.new_file("slow")).await.unwrap();
    slow.write(&noise(100_000)).await.unwrap();
    fixture.sweep_after(Duration::minutes(61)).await;
    slow.write(&noise(100)).await.unwrap();
    slow.finish().await.unwrap_err();
    assert_eq!((fixture.objects().len(), fixture.count("files").await), (0, 0));
    assert_eq!(fixture.count("files_removed").await, 1, "it is looked at once more");
    fixture.sweep_after(Duration::minutes(61)).await;
    assert_eq!(fixture.count("files_removed").await, 0);
}

#[tokio::test]
async fn the_files_of_a_deleted_user_go_with_them() {
    let fixture = Fixture::new().await;
    for name in ["a", "b", "c"] {
        fixture.write(name, b"hello").await.unwrap();
    }
    sqlx::query("DELETE FROM users").execute(&fixture.ctx.pg).await.unwrap();
    assert_eq!((fixture.objects().len(), fixture.count("files_removed").await), (3, 3));
    fixture.sweep_after(Duration::ZERO).await;
    assert_eq!((fixture.objects().len(), fixture.count("files_removed").await, fixture.count("file_usage").await), (0, 0, 0));
}

#[tokio::test]
async fn objects_that_no_file_names_are_removed_once_they_are_old() {
    let fixture = Fixture::new().await;
    let kept = fixture.write("kept", b"hello").await.unwrap();
    let object = fixture.objects().remove(0);
    let beside = |name: String| OpenFile::create(object.with_file_name(name)).unwrap();
    beside(FileId::new().to_string());
    beside(format!("{}#1", FileId::new()));
    beside("not-ours.txt".to_owned());
    fixture.sweep_after(Duration::hours(23)).await;
    assert_eq!(fixture.objects().len(), 4, "there was no comparison yet");
    fixture.sweep_after(Duration::hours(2)).await;
    let mut left: Vec<String> = fixture.objects().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    left.sort();
    assert_eq!(left, [kept.id.to_string(), "not-ours.txt".to_owned()]);
    assert_eq!(fixture.read(kept.id).await.unwrap(), b"hello");
}

#[tokio::test]
async fn another_databases_objects_are_left_alone() {
    let (ours, theirs) = (Fixture::new().await, Fixture::new().await);
    sqlx::query("UPDATE file_store SET id = gen_random_uuid()").execute(&theirs.ctx.pg).await.unwrap();
    let folder = &ours.stores.variables.iter().find(|(name, _)| name == "STORAGE_URL").unwrap().1;
    let ctx = theirs.stores.context(&[("STORAGE_URL", folder)]);
    let sharing = Fixture { user: account(&ctx, Role::User).await, ctx, stores: TestStores::create().await };
    let (a, b) = (ours.write("a", b"a").await.unwrap(), sharing.write("b", b"b").await.unwrap());
    for fixture in [&ours, &sharing] {
        fixture.sweep_after(Duration::hours(49)).await;
    }
    assert_eq!((ours.read(a.id).await.unwrap(), sharing.read(b.id).await.unwrap()), (b"a".to_vec(), b"b".to_vec()));
}

#[tokio::test]
async fn files_without_an_object_are_marked_and_the_mark_goes_when_it_is_back() {
    let fixture = Fixture::new().await;
    let (lost, _there) = (fixture.write("lost", b"lost").await.unwrap(), fixture.write("there", b"there").await.unwrap());
    let object = fixture.objects().into_iter().find(|path| path.ends_with(lost.id.to_string())).unwrap();
    let missing = async || -> Vec<uuid::Uuid> {
        sqlx::query_scalar("SELECT id FROM files WHERE missing_since IS NOT NULL").fetch_all(&fixture.ctx.pg).await.unwrap()
    };
    fs::remove_file(&object).unwrap();
    fixture.sweep_after(Duration::hours(25)).await;
    assert_eq!(missing().await, [lost.id.0]);
    fs::write(&object, b"lost").unwrap();
    fixture.sweep_after(Duration::hours(25)).await;
    assert_eq!(missing().await, [] as [uuid::Uuid; 0]);
    fs::remove_dir_all(object.parent().unwrap()).unwrap();
    fixture.sweep_after(Duration::hours(25)).await;
    assert_eq!((missing().await.len(), fixture.count("files").await), (2, 2), "what cannot be read is not given up");
}
