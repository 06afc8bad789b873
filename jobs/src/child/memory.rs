//! This process's resident memory, read often: one system call of a microsecond, on a file that stays open.

use nix::unistd::{SysconfVar, sysconf};
use std::{fs::File, os::unix::fs::FileExt};

#[derive(Debug)]
pub(super) struct Memory {
    statm: File,
    page_kb: u64,
}

impl Memory {
    /// `None` elsewhere than on Linux.
    pub(super) fn open() -> Option<Self> {
        let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok()??;
        Some(Self { statm: File::open("/proc/self/statm").ok()?, page_kb: u64::try_from(page_bytes).ok()? / 1_024 })
    }

    pub(super) fn rss_kb(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * self.page_kb)
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn it_is_what_the_kernel_says_elsewhere() {
        let kb = Memory::open().unwrap().rss_kb().unwrap();
        let told = shared::telemetry::process::rss_kb().unwrap();
        assert!(kb.abs_diff(told) < 16_384, "{kb} KiB, and {told} KiB");
    }
}
