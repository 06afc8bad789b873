//! Both programs as processes of their own, with their logs kept to be read.

use crate::support::TestApp;
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running program; killed when dropped.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// `millrace-api serve` on a port of its own; also returns its address, as a URL.
    pub(crate) async fn api(app: &TestApp, settings: &[(&str, &str)]) -> (Self, String) {
        let own = [("API_PORT", "0"), ("API_WORKERS", "2"), ("RATE_LIMITS", "off"), ("OUTBOUND_ALLOW", "127.0.0.0/8")];
        let program = Self::start(app, "millrace-api", "serve", &[&own, settings].concat());
        let listening = program.until_logged("listening").await;
        let url = format!("http://{}", listening["address"].as_str().expect("it says where"));
        (program, url)
    }

    /// `millrace-jobs work`. The program of another package, which a test of the whole workspace has built as well.
    pub(crate) async fn worker(app: &TestApp, settings: &[(&str, &str)]) -> Self {
        let own = [("WORKER_METRICS_ADDR", "none"), ("WORKER_CHILDREN", "1"), ("OUTBOUND_ALLOW", "127.0.0.0/8")];
        let program = Self::start(app, "millrace-jobs", "work", &[&own, settings].concat());
        program.until_logged("the worker is up").await;
        program
    }

    fn start(app: &TestApp, name: &str, argument: &str, settings: &[(&str, &str)]) -> Self {
        let path = Path::new(env!("CARGO_BIN_EXE_millrace-api")).with_file_name(name);
        assert!(path.exists(), "build it first: cargo build --bin {name}");
        let log = std::env::temp_dir().join(format!("millrace-{name}-{}.log", uuid::Uuid::new_v4()));
        let child = Command::new(path)
            .arg(argument)
            .env_clear()
            .envs(app.stores.variables.iter().cloned())
            .envs([("APP_PROFILE", "development"), ("LOG_FORMAT", "json"), ("LOG_LEVEL", "info")])
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("it starts");
        Self { child, log }
    }

    /// Waits for a line with this message.
    async fn until_logged(&self, message: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let lines = self.log();
            let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(event) = events.into_iter().find(|event| event["message"] == message) {
                return event;
            }
            assert!(Instant::now() < deadline, "it never said `{message}`: {lines}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it never ended: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_file(&self.log));
    }
}
