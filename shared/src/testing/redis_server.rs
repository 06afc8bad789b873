//! A Redis of a test's own, to be killed, started again and stopped in its tracks.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A server on a socket in a folder of its own, with an append-only file; killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    folder: PathBuf,
    child: Child,
}

impl RedisServer {
    /// Starts one, with nothing in it.
    pub async fn start() -> Self {
        let folder = env::temp_dir().join(format!("millrace-redis-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder).expect("a test may make folders");
        let server = Self { child: spawn(&folder), folder };
        server.until_up().await;
        server
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.join("socket").display())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As with `kill -9`; what its file holds is there when it comes back.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Starts it again, and returns once it answers.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.folder);
        self.until_up().await;
    }

    async fn until_up(&self) {
        let client = redis::Client::open(self.url()).expect("the URL is well-formed");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
            {
                return;
            }
            assert!(Instant::now() < deadline, "Redis never came up in {}", self.folder.display());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn spawn(folder: &std::path::Path) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]);
    command.arg("--dir").arg(folder).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("redis-server is installed: the servers of the tests need it as well")
}
