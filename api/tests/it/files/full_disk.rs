//! A disk without room, a real one: its uploads are refused, and leave the room that there was.

use super::*;
use std::{fs, process::Command};

/// A file system of two mebibytes in memory, as far as this process may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("mr_small_disk_{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&folder).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        fs::remove_dir(&folder).unwrap();
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a file of it may still be open.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
        drop(fs::remove_dir(&self.0));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_an_upload_and_has_as_much_room_as_before() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: only root may mount a small disk, and not everywhere");
        return;
    };
    let world = World::with(&[("STORAGE_URL", &format!("file://{}", disk.0.display()))]).await;
    let refused = upload(world.post("/files"), "large.bin", vec![b'x'; 4 << 20]).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (507, true));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(
        (problem["code"].as_str(), problem["detail"].as_str()),
        (Some("storage_full"), Some("There is no room left in the store of files."))
    );
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !files_in(&disk.0).is_empty() || world.count("files").await > 0 {
        assert!(std::time::Instant::now() < deadline, "left: {:?}", files_in(&disk.0));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let content = vec![b'y'; 1 << 20];
    let file = world.uploaded("small.bin", &content).await;
    let read = world.get(&format!("/files/{}/content", id_of(&file))).send().await.unwrap().bytes().await.unwrap();
    assert!(read == content);
}
