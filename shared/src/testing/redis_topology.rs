//! Redis on several servers of a test's own, to be killed and stopped in their tracks: `infra/local/redis-topology` starts them.

use crate::redis::Redis;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use uuid::Uuid;

/// Ended when dropped.
#[derive(Debug)]
pub struct RedisTopology {
    folder: PathBuf,
    url: String,
}

impl RedisTopology {
    /// A master, two replicas and three sentinels.
    pub fn sentinel() -> Self {
        Self::start("sentinel")
    }

    /// Three masters with a replica each.
    pub fn cluster() -> Self {
        Self::start("cluster")
    }

    fn start(kind: &str) -> Self {
        let folder = env::temp_dir().join(format!("millrace-{kind}-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder).expect("a test may make folders");
        let mut started = Self { folder, url: String::new() };
        let output = script(&["start", kind], &started.folder).output().expect("the script is there");
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        started.url = String::from_utf8(output.stdout).expect("it prints a URL").trim().to_owned();
        started
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts those that have ended again; they find out by themselves whose replicas they are now.
    pub fn revive(&self) {
        let status = script(&["revive"], &self.folder).status().expect("the script is there");
        assert!(status.success(), "the servers start again");
    }
}

impl Drop for RedisTopology {
    fn drop(&mut self) {
        drop(script(&["stop"], &self.folder).status());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// `INFO server` of the server that has `key`: the process that takes writes for it.
pub async fn server_of(redis: &Redis, key: &str) -> crate::Result<redis::InfoDict> {
    let script = redis::Script::new("return redis.call('INFO', 'server')");
    Ok(script.key(key).invoke_async(&mut redis.connection()).await?)
}

fn script(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/local/redis-topology"));
    command.args(arguments).arg(folder).stdin(Stdio::null());
    command
}
