//! Time as all processes of a machine share it, and a wake-up exact to some tens of microseconds.

use std::io;

use mio::{Registry, Token};
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock: comparable between processes, which Instant is not.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Unix has a monotonic clock");
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

#[cfg(target_os = "linux")]
mod exact {
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use mio::Interest;
    use mio::unix::SourceFd;
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    use super::{Registry, Token, io};

    /// A timer descriptor in the poll's own set: waiting itself rounds up to whole milliseconds, which would be measured
    /// as the server's latency.
    #[derive(Debug)]
    pub(crate) struct WakeUp {
        timer: TimerFd,
        armed_for_ns: u64,
    }

    impl WakeUp {
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
            registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self { timer, armed_for_ns: 0 })
        }

        /// Wakes the poll at `at_ns`.
        pub(crate) fn at(&mut self, at_ns: u64) -> io::Result<()> {
            if at_ns != self.armed_for_ns {
                self.armed_for_ns = at_ns;
                let at = TimeSpec::from_duration(Duration::from_nanos(at_ns));
                self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod exact {
    use super::{Registry, Token, io};

    /// Where there are no timer descriptors the poll's own bound on waiting must do.
    #[derive(Debug)]
    pub(crate) struct WakeUp;

    impl WakeUp {
        pub(crate) fn new(_: &Registry, _: Token) -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) fn at(&mut self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }
}

pub(super) use exact::WakeUp;
