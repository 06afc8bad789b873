//! This process's memory, CPU time and open files, read from `/proc` when metrics are scraped. Elsewhere than on Linux
//! they are absent. The recorder knows nothing of them: its counters are whole numbers, and CPU time is not.

use super::{
    metrics::{PROCESS_CPU, PROCESS_FDS, PROCESS_FDS_MAX, PROCESS_RSS, PROCESS_START, PROCESS_THREAD_CPU},
    page::Page,
};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// The kernel counts CPU time in hundredths of a second on every platform we run on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Names of our threads that stand for themselves; those of the API's workers go on with a number.
const THREADS: [&str; 4] = ["api-background", "jobs-engine", "jobs-handler", "jobs-supervisor"];
const API_WORKER: &str = "api-w";

/// Notes when the process started; the first call counts.
pub fn started() -> f64 {
    static STARTED: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *STARTED.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()))
}

/// Tells what the process uses now.
pub fn tell(page: &mut Page) {
    page.single(PROCESS_START, started());
    if let Some(rss_kb) = rss_kb() {
        page.single(PROCESS_RSS, rss_kb * 1_024);
    }
    if let Some((_, ticks)) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(name_and_ticks) {
        page.single(PROCESS_CPU, seconds(ticks));
    }
    page.series(PROCESS_THREAD_CPU, threads().into_iter().map(|(thread, ticks)| ([thread], seconds(ticks))));
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        page.single(PROCESS_FDS, entries.count());
    }
    if let Some(fds_max) = fds_max() {
        page.single(PROCESS_FDS_MAX, fds_max);
    }
}

/// Resident memory in KiB.
pub fn rss_kb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// `Max open files  <soft>  <hard>  files`
fn fds_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "hundredths of seconds, of 2 million years")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// Of a `stat` file, the name in parentheses, and user and system time: fields 14 and 15, counted behind the closing parenthesis.
fn name_and_ticks(stat: &str) -> Option<(&str, u64)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((name, ticks()? + ticks()?))
}

/// What threads have used so far, those that are gone included.
#[derive(Debug, Default)]
struct Times {
    /// By thread, as it was last seen.
    seen: HashMap<String, u64>,
    sums: BTreeMap<String, u64>,
}

impl Times {
    fn see(&mut self, threads: Vec<(String, String, u64)>) {
        let mut now = HashMap::with_capacity(threads.len());
        for (id, name, ticks) in threads {
            // A number that fell is another thread's, which got the id of one that is gone.
            let before = self.seen.get(&id).copied().filter(|before| *before <= ticks).unwrap_or(0);
            *self.sums.entry(label(&name)).or_default() += ticks - before;
            now.insert(id, ticks);
        }
        self.seen = now;
    }
}

/// CPU time by name of thread. What a thread used since it was last looked at, and then ended, is in the process's sum alone.
fn threads() -> Vec<(String, u64)> {
    static TIMES: Mutex<Option<Times>> = Mutex::new(None);
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let threads = entries.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, ticks) = name_and_ticks(&stat)?;
        Some((entry.file_name().to_string_lossy().into_owned(), name.to_owned(), ticks))
    });
    let threads = threads.collect();
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let times = times.get_or_insert_default();
    times.see(threads);
    times.sums.iter().map(|(name, ticks)| (name.clone(), *ticks)).collect()
}

fn label(name: &str) -> String {
    let is_worker = name.strip_prefix(API_WORKER).is_some_and(|number| number.parse::<u16>().is_ok());
    if is_worker || THREADS.contains(&name) { name.to_owned() } else { "other".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_name_of_the_thread() {
        let stat = "12 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 70 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(name_and_ticks(stat), Some(("a) b (c", 100)));
    }

    #[test]
    fn times_of_threads_only_grow_and_unknown_names_share_one() {
        let mut times = Times::default();
        let thread = |id: &str, name: &str, ticks| (id.to_owned(), name.to_owned(), ticks);
        times.see(vec![thread("1", "api-w0", 10), thread("2", "tokio-rt-worker", 5), thread("3", "api-wx", 1)]);
        // The second ended; its id is another's now.
        times.see(vec![thread("1", "api-w0", 15), thread("2", "jobs-engine", 2)]);
        let sums: Vec<_> = times.sums.iter().map(|(name, ticks)| (name.as_str(), *ticks)).collect();
        assert_eq!(sums, [("api-w0", 15), ("jobs-engine", 2), ("other", 6)]);
    }
}
