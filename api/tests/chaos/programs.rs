//! The platform's own programs as processes: started, killed, stopped for a while, started again.

use crate::{client, processes};
use nix::sys::signal::Signal;
use shared::testing::TestStores;
use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Short leases: what a killed worker held is to run again while the test looks.
pub(crate) const LEASE_MS: u64 = 3_000;

const SETTINGS: &[(&str, &str)] = &[
    ("APP_PROFILE", "development"),
    ("LOG_FORMAT", "json"),
    ("RATE_LIMITS", "off"),
    ("JWT_ACCESS_TTL_S", "86400"),
    // As in production, unlike in the tests of one thing at a time.
    ("DB_ACQUIRE_TIMEOUT_MS", "1000"),
    ("REDIS_ACQUIRE_TIMEOUT_MS", "500"),
    ("HEALTH_PROBE_TIMEOUT_MS", "1000"),
    ("API_WORKERS", "2"),
    ("WORKER_METRICS_ADDR", "none"),
    ("WORKER_CHILDREN", "2"),
    ("WORKER_CONCURRENCY", "8"),
    ("WORKER_LEASE_MS", "3000"),
    ("WORKER_HEARTBEAT_MS", "500"),
    ("WORKER_RECONCILE_MS", "500"),
    ("WORKER_SWEEP_MS", "50"),
];

/// How the programs of this run are started, and where they log.
#[derive(Debug)]
pub(crate) struct Programs {
    variables: Vec<(String, String)>,
    pub(crate) logs: PathBuf,
    pub(crate) port: u16,
    n_started: usize,
}

/// A running program; killed with its children when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
}

impl Programs {
    /// Makes what a first start makes: keys and an administrator.
    pub(crate) fn prepare(stores: &TestStores) -> Self {
        let logs = std::env::temp_dir().join(format!("millrace-chaos-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&logs).unwrap();
        let programs = Self { variables: stores.variables.clone(), logs, port: free_port(), n_started: 0 };
        let keys_dir = programs.variables.iter().find(|(name, _)| name == "JWT_KEYS_DIR").unwrap().1.clone();
        std::fs::create_dir_all(&keys_dir).unwrap();
        for arguments in [&["token", "keygen", "--dir", &keys_dir][..], &["admin", "create", "--email", client::EMAIL]] {
            let output = programs.command("millrace-api").args(arguments).env("ADMIN_PASSWORD", client::PASSWORD).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        programs
    }

    pub(crate) fn api(&mut self) -> Program {
        let port = self.port.to_string();
        self.start("millrace-api", &["serve"], &[("API_PORT", &port)])
    }

    /// One more API, for sockets that may do anything, at a port of its own.
    pub(crate) fn socket_api(&mut self) -> (Program, SocketAddr) {
        let port = free_port();
        let settings = [("API_PORT", &*port.to_string()), ("REALTIME_INSECURE", "on"), ("WS_COMMANDS_PER_S", "0")];
        (self.start("millrace-api", &["serve"], &settings), SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Each start of an attempt is in its log.
    pub(crate) fn worker(&mut self) -> Program {
        self.start("millrace-jobs", &["work"], &[("LOG_LEVEL", "info,jobs::attempt=debug")])
    }

    /// A worker that stores points, with `settings` on top of those of all.
    pub(crate) fn points_worker(&mut self, settings: &[(&str, &str)]) -> Program {
        self.start("millrace-jobs", &["work"], settings)
    }

    fn start(&mut self, name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Program {
        self.n_started += 1;
        let log = File::create(self.logs.join(format!("{name}-{}.log", self.n_started))).unwrap();
        let child = self
            .command(name)
            .args(arguments)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Program { child: child.expect("infra/local/chaos builds both programs") }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_millrace-api")).with_file_name(name));
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value))).envs(SETTINGS.iter().copied());
        command
    }
}

impl Program {
    /// The process and its children, with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let pid = self.pid();
        let children = processes::children(pid);
        processes::send(pid, Signal::SIGKILL);
        for child in children {
            processes::send(child, Signal::SIGKILL);
        }
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Below the range that the kernel deals out to outgoing connections: while the API is down nobody sits on it.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::random_range(10_000..30_000)).take(50);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}
