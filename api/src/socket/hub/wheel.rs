//! One timer wheel per thread in the place of one timer per connection. It says which connections to look at, not what is
//! due: each knows that itself. An entry that came to nothing is cheap, so nothing is ever taken out.

use super::registry::Key;
use std::{
    mem,
    time::{Duration, Instant},
};

/// How exact the wheel is. A tick of a thread without due connections costs nothing worth counting.
pub(in crate::socket) const TICK: Duration = Duration::from_millis(250);

/// Slots: what is further away is looked at once in between.
const N_SLOTS: u32 = 512;

/// A moment on a thread's wheel, in ticks since the thread began; 0 is never.
pub(in crate::socket) type Tick = u32;

pub(in crate::socket) const NEVER: Tick = 0;

#[derive(Debug)]
pub(in crate::socket) struct Wheel {
    began: Instant,
    /// The last tick that was handled.
    now: Tick,
    slots: Vec<Vec<Key>>,
}

impl Wheel {
    pub(in crate::socket) fn new() -> Self {
        Self { began: Instant::now(), now: 1, slots: (0..N_SLOTS).map(|_| Vec::new()).collect() }
    }

    pub(in crate::socket) fn now(&self) -> Tick {
        self.now
    }

    /// Looks at `key` at `tick`, or a full turn from now if that is sooner. Gives the tick that it came to.
    pub(in crate::socket) fn schedule(&mut self, key: Key, tick: Tick) -> Tick {
        let tick = tick.clamp(self.now + 1, self.now + N_SLOTS - 1);
        self.slots[(tick % N_SLOTS) as usize].push(key);
        tick
    }

    /// Goes on to the present, and gives whom to look at.
    pub(in crate::socket) fn advance(&mut self) -> Vec<Key> {
        let present = ticks(self.began.elapsed()) + 1;
        self.advance_to(present)
    }

    fn advance_to(&mut self, present: Tick) -> Vec<Key> {
        let mut due = Vec::new();
        // After a long stop, every slot once is all there is.
        let from = self.now.max(present.saturating_sub(N_SLOTS));
        for tick in from + 1..=present {
            due.append(&mut mem::take(&mut self.slots[(tick % N_SLOTS) as usize]));
        }
        self.now = self.now.max(present);
        due
    }
}

/// How many ticks a time is, rounded up; 17 years at most, so that it can be added to the present.
pub(in crate::socket) fn ticks(time: Duration) -> Tick {
    const MOST: Tick = u32::MAX / 2;
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).map_or(MOST, |ticks| ticks.min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn each_is_looked_at_when_its_tick_comes_and_no_sooner() {
        let mut wheel = Wheel::new();
        wheel.schedule(key(1), 5);
        wheel.schedule(key(2), 5);
        wheel.schedule(key(3), 7);
        assert_eq!(wheel.advance_to(4), []);
        assert_eq!(wheel.advance_to(6), [key(1), key(2)]);
        assert_eq!(wheel.advance_to(6), []);
        assert_eq!(wheel.advance_to(100), [key(3)]);
    }

    #[test]
    fn a_time_of_many_years_can_be_added_to_the_present() {
        for seconds in [u32::MAX / 4, u32::MAX] {
            assert_eq!(ticks(Duration::from_secs(seconds.into())), u32::MAX / 2);
        }
        assert_eq!(ticks(Duration::from_millis(251)), 2);
    }

    #[test]
    fn what_is_past_comes_with_the_next_tick_and_what_is_far_within_a_turn() {
        let mut wheel = Wheel::new();
        wheel.advance_to(1_000);
        wheel.schedule(key(1), 3);
        wheel.schedule(key(2), 100_000);
        assert_eq!(wheel.advance_to(1_001), [key(1)]);
        assert_eq!(wheel.advance_to(1_000 + N_SLOTS), [key(2)]);
    }

    #[test]
    fn a_long_stop_skips_nobody() {
        let mut wheel = Wheel::new();
        for index in 0..600 {
            wheel.schedule(key(index), index + 1);
        }
        assert_eq!(wheel.advance_to(1_000_000).len(), 600);
    }
}
