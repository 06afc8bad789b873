//! A timer exact to some tens of microseconds. Tokio's own rounds up to whole milliseconds, which
//! an open loop would measure as the server's latency.

use std::io;
use std::time::Instant;

#[cfg(target_os = "linux")]
mod exact {
    use std::os::fd::AsFd;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::Receiver;

    use super::{Instant, io};

    /// A timer descriptor in the thread's own event loop.
    #[derive(Debug)]
    pub(crate) struct ExactTimer {
        timer: TimerFd,
        /// The same timer, read like a pipe: that is the event loop's only descriptor type that
        /// takes any readable file without unsafe code.
        expirations: Receiver,
    }

    impl ExactTimer {
        pub(crate) fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            let same_timer = timer.as_fd().try_clone_to_owned()?;
            Ok(Self { timer, expirations: Receiver::from_owned_fd_unchecked(same_timer)? })
        }

        /// Returns at `at`, at once when it has passed.
        pub(crate) async fn wait_until(&mut self, at: Instant) -> io::Result<()> {
            let delay = at.saturating_duration_since(Instant::now());
            if delay.is_zero() {
                tokio::task::yield_now().await;
                return Ok(());
            }
            let expiration = Expiration::OneShot(TimeSpec::from_duration(delay));
            self.timer.set(expiration, TimerSetTimeFlags::empty())?;
            self.expirations.read_u64().await?;
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod exact {
    use super::{Instant, io};

    /// Where there are no timer descriptors: tokio's timer, late by up to two milliseconds.
    #[derive(Debug)]
    pub(crate) struct ExactTimer;

    impl ExactTimer {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Returns at `at`, at once when it has passed.
        pub(crate) async fn wait_until(&mut self, at: Instant) -> io::Result<()> {
            tokio::time::sleep_until(at.into()).await;
            Ok(())
        }
    }
}

pub(super) use exact::ExactTimer;
