//! The throw-away PostgreSQL and Redis of this run: killed as a crash would, and started again as an operator would.

use crate::processes;
use nix::sys::signal::Signal;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// How much of its append-only file a Redis loses at most with its machine here: far more than a second's worth.
const CUT_BYTES: u64 = 256 * 1_024;

#[derive(Debug)]
pub(crate) struct Servers {
    /// Where `infra/local/with-servers --ephemeral` keeps them.
    data_dir: PathBuf,
}

/// One server that runs.
#[derive(Debug)]
struct Server {
    pid: i32,
    folder: PathBuf,
}

impl Servers {
    pub(crate) fn of_this_run() -> Self {
        #[expect(clippy::disallowed_methods, reason = "no setting of the platform: it says which servers may be killed")]
        let data_dir = env::var("MILLRACE_SERVERS_DIR").expect("run infra/local/chaos: it has servers to be killed");
        Self { data_dir: data_dir.into() }
    }

    /// Starts what does not run.
    pub(crate) async fn revive(&self) {
        let status = self.script("start").stdout(Stdio::null()).stderr(Stdio::null()).status().await.unwrap();
        assert!(status.success(), "the servers start again");
    }

    /// The postmaster and everything below it, at once: what was not written to the log is gone.
    pub(crate) async fn kill_postgres(&self) {
        let server = self.find("postgres").await;
        let backends = processes::working_in(&server.folder);
        processes::send(server.pid, Signal::SIGKILL);
        for pid in backends {
            processes::send(pid, Signal::SIGKILL);
        }
    }

    /// As an operator does who does not wait for anybody's connection; returns once nothing of it runs.
    pub(crate) async fn stop_postgres(&self) {
        let pid = self.find("postgres").await.pid;
        processes::send(pid, Signal::SIGINT);
        processes::gone(pid).await;
    }

    pub(crate) async fn kill_redis(&self) {
        processes::send(self.find("redis").await.pid, Signal::SIGKILL);
    }

    /// What a machine that loses its power does to a Redis: the last writes had not reached the disk.
    pub(crate) async fn roll_redis_back(&self) {
        let server = self.find("redis").await;
        processes::send(server.pid, Signal::SIGKILL);
        processes::gone(server.pid).await;
        let file = append_only_file(&server.folder);
        let length = fs::metadata(&file).unwrap().len();
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - CUT_BYTES.min(length / 2)).unwrap();
    }

    pub(crate) async fn signal_redis(&self, signal: Signal) {
        processes::send(self.find("redis").await.pid, signal);
    }

    async fn find(&self, name: &str) -> Server {
        let output = self.script("status").output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).expect("the script knows both servers");
        // postgres  running   pid 4711, 127.0.0.1:5432, /path
        let (_, rest) = line.split_once("pid ").unwrap_or_else(|| panic!("it runs: {line}"));
        let mut parts = rest.splitn(3, ", ");
        let pid = parts.next().unwrap().parse().unwrap();
        Server { pid, folder: parts.nth(1).unwrap().into() }
    }

    fn script(&self, what: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/local/servers");
        let mut command = Command::new(script);
        // Their own URLs would make them look like somebody else's servers.
        command.arg(what).env("MILLRACE_DATA_DIR", &self.data_dir).env("DATABASE_URL", "").env("REDIS_URL", "");
        command
    }
}

/// The file that a Redis appends to now.
fn append_only_file(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("appendonlydir")).expect("it is written from the start").flatten().map(|entry| entry.path());
    let incremental = files.filter(|path| path.extension().is_some_and(|extension| extension == "aof"));
    let newest = incremental
        .filter(|path| path.to_string_lossy().contains(".incr."))
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    newest.expect("there is one")
}
