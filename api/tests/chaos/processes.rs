//! Processes of this machine, as `/proc` shows them: who is whose child, who works where; and what is done to them.

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, path::Path, time::Duration};

/// Sends `signal`; one that has ended meanwhile needs none.
pub(crate) fn send(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("process {pid} cannot be sent {signal}: {error}"),
    }
}

/// Waits until nothing of the process runs any more.
pub(crate) async fn gone(pid: i32) {
    while stat(pid).is_some_and(|stat| !stat.starts_with('Z')) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The children of a process.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    all().filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// All that work in a directory: every process of a PostgreSQL works in its data directory.
pub(crate) fn working_in(folder: &Path) -> Vec<i32> {
    all().filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)).collect()
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(pid: i32) -> Option<i32> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// State, parent and so on: what comes after the name, which stands in parentheses and may hold anything.
fn stat(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}
