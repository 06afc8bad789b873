//! Whether those who stop our processes wait for as long as a stop takes: what is killed before leaves its work to be repaired.

use super::Finding;
use shared::config::Settings;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where systemd looks for units, the strongest first.
const UNIT_FOLDERS: [&str; 4] = ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];
/// What systemd waits where a unit does not say.
const SYSTEMD_DEFAULT_S: u64 = 90;
/// From the last of the written steps to the end of the process.
const MARGIN_S: u64 = 2;

/// A program, and the seconds that its stop may take.
struct Stop {
    units: [&'static str; 2],
    what: &'static str,
    takes_s: u64,
}

pub(super) fn look(settings: &Settings, told_s: Option<u64>) -> Vec<Finding> {
    look_in(&UNIT_FOLDERS.map(PathBuf::from), settings, told_s)
}

fn look_in(folders: &[PathBuf], settings: &Settings, told_s: Option<u64>) -> Vec<Finding> {
    let api =
        Stop { units: ["millrace-api@.service", "millrace-api.service"], what: "SHUTDOWN_TIMEOUT_S", takes_s: settings.shutdown_timeout_s };
    let jobs =
        Stop { units: ["millrace-jobs.service", "millrace-jobs@.service"], what: "WORKER_GRACE_S", takes_s: settings.worker_grace_s };
    let stops = [api, jobs];
    let mut findings: Vec<Finding> = stops
        .iter()
        .flat_map(|stop| stop.units.map(|unit| (unit, stop)))
        .filter_map(|(unit, stop)| {
            let (path, text) = folders.iter().find_map(|folder| read(&folder.join(unit)))?;
            Some(judge(&path, timeout_s(&text), stop))
        })
        .collect();
    if let Some(told_s) = told_s {
        findings.extend(stops.iter().map(|stop| judge("--stop-timeout", Some(told_s), stop)));
    }
    if findings.is_empty() {
        let longest = settings.shutdown_timeout_s.max(settings.worker_grace_s) + MARGIN_S;
        findings.push(Finding::good("stopping", format!("no systemd unit of ours is installed; whoever stops us must wait {longest} s at least (stop_grace_period, terminationGracePeriodSeconds; check with --stop-timeout)")));
    }
    findings
}

fn read(path: &Path) -> Option<(String, String)> {
    Some((path.display().to_string(), fs::read_to_string(path).ok()?))
}

/// The last `TimeoutStopSec=` of a unit in seconds; `None` is without end.
fn timeout_s(unit: &str) -> Option<u64> {
    let lines = unit.lines().map(str::trim);
    let said = lines.filter_map(|line| line.strip_prefix("TimeoutStopSec=").or_else(|| line.strip_prefix("TimeoutSec="))).next_back();
    match said.map(str::trim) {
        None | Some("") => Some(SYSTEMD_DEFAULT_S),
        Some("infinity" | "0") => None,
        Some(text) => text.split_whitespace().map(part_s).sum::<Option<u64>>().or(Some(SYSTEMD_DEFAULT_S)),
    }
}

/// One part of `1min 30s`; a bare number is seconds.
fn part_s(part: &str) -> Option<u64> {
    let (number, unit) = part.split_at(part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len()));
    let number = number.parse::<u64>().ok()?;
    match unit {
        "" | "s" | "sec" => Some(number),
        "m" | "min" => Some(60 * number),
        "h" => Some(3_600 * number),
        "ms" => Some(number / 1_000),
        _ => None,
    }
}

fn judge(place: &str, timeout_s: Option<u64>, stop: &Stop) -> Finding {
    let Stop { what, takes_s, .. } = stop;
    let needed_s = takes_s + MARGIN_S;
    match timeout_s {
        Some(timeout_s) if timeout_s < needed_s => Finding::bad(
            "stopping",
            format!("{place} kills after {timeout_s} s, and {what}={takes_s} may take {needed_s}: raise the one or lower the other"),
        ),
        Some(timeout_s) => Finding::good("stopping", format!("{place} waits {timeout_s} s, {what} takes {takes_s}")),
        None => Finding::doubt("stopping", format!("{place} waits without end: a process that hangs would never be ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn verdict(unit: &str, takes_s: u64) -> Verdict {
        let stop = Stop { units: ["", ""], what: "WORKER_GRACE_S", takes_s };
        judge("unit", timeout_s(unit), &stop).verdict
    }

    #[test]
    fn a_unit_must_wait_for_as_long_as_a_stop_takes() {
        assert_eq!(verdict("[Service]\nTimeoutStopSec=32\n", 30), Verdict::Good);
        assert_eq!(verdict("[Service]\nTimeoutStopSec=31\n", 30), Verdict::Bad);
        assert_eq!(verdict("[Service]\nTimeoutStopSec=10\nTimeoutStopSec=1min 30s\n", 60), Verdict::Good, "the last one counts");
        assert_eq!((verdict("[Service]\n", 80), verdict("[Service]\n", 89)), (Verdict::Good, Verdict::Bad), "90 s is systemd's own");
        assert_eq!(verdict("TimeoutStopSec=infinity", 30), Verdict::Doubt);
    }
}
