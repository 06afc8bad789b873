//! What a connection does by the clock: it looks at its deadlines when the wheel says so, and names the next.

use super::{Connection, Phase};
use crate::socket::{
    hub::{NEVER, Tick, ticks},
    protocol::{close, reply},
};
use std::time::Duration;

/// Deadlines of one connection; [`NEVER`] for those that do not stand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    connect_by: Tick,
    ping_at: Tick,
    pong_by: Tick,
    expires_at: Tick,
    /// When the first of the subscriptions expires.
    subscription_expires_at: Tick,
    /// When the subscriptions of a closing connection end at the latest, and when it does itself.
    part_by: Tick,
    goodbye_by: Tick,
}

impl Clock {
    fn next(&self) -> Option<Tick> {
        let Self { connect_by, ping_at, pong_by, expires_at, subscription_expires_at, part_by, goodbye_by } = *self;
        [connect_by, ping_at, pong_by, expires_at, subscription_expires_at, part_by, goodbye_by]
            .into_iter()
            .filter(|tick| *tick != NEVER)
            .min()
    }
}

const fn is_due(deadline: Tick, now: Tick) -> bool {
    deadline != NEVER && deadline <= now
}

impl Connection {
    pub(in crate::socket) fn expect_connect(&self) {
        let connect_by = self.hub.now() + self.hub.rules.connect_within;
        self.set_clock(Clock { connect_by, ..Clock::default() });
    }

    /// The first ping comes after half a period to a whole one, so that those who came together are not pinged together.
    pub(super) fn expect_pings(&self) {
        let period = self.hub.rules.ping_every;
        let first = rand::random_range(period / 2..=period).max(1);
        self.set_clock(Clock { connect_by: NEVER, ping_at: self.hub.now() + first, ..self.clock.get() });
    }

    /// `None` is for ever.
    pub(super) fn expect_expiry(&self, ttl_s: Option<u32>) {
        self.set_clock(Clock { expires_at: self.deadline_of(ttl_s), ..self.clock.get() });
    }

    /// One subscription more that expires at `deadline`.
    pub(super) fn expect_subscription_expiry(&self, deadline: Tick) {
        let clock = self.clock.get();
        let first = [deadline, clock.subscription_expires_at].into_iter().filter(|tick| *tick != NEVER).min();
        self.set_clock(Clock { subscription_expires_at: first.unwrap_or(NEVER), ..clock });
    }

    /// When something that is good for so long has to be refreshed at the latest.
    pub(super) fn deadline_of(&self, ttl_s: Option<u32>) -> Tick {
        ttl_s.map_or(NEVER, |ttl_s| self.hub.now() + ticks(Duration::from_secs(ttl_s.into())) + self.hub.rules.expiry_grace)
    }

    /// The last frame is on its way; the next tick ends the subscriptions, whether it is taken or not.
    pub(super) fn expect_goodbye(&self) {
        let now = self.hub.now();
        self.set_clock(Clock { part_by: now + 1, goodbye_by: now + self.hub.rules.goodbye_within, ..Clock::default() });
    }

    /// Whether a ping was open.
    pub(super) fn pong_received(&self) -> bool {
        let clock = self.clock.get();
        self.clock.set(Clock { pong_by: NEVER, ..clock });
        clock.pong_by != NEVER
    }

    fn set_clock(&self, clock: Clock) {
        self.clock.set(clock);
        self.plan_look();
    }

    fn plan_look(&self) {
        let planned = self.looked_at.get();
        if let Some(next) = self.clock.get().next()
            && (planned == NEVER || next < planned)
        {
            self.looked_at.set(self.hub.schedule(self.key, next));
        }
    }

    pub(in crate::socket) fn look_at_clock(&self) {
        let (now, mut clock) = (self.hub.now(), self.clock.get());
        if self.looked_at.get() > now {
            // Left over from a plan that was overtaken by a sooner one.
            return;
        }
        self.looked_at.set(NEVER);
        if is_due(clock.goodbye_by, now) {
            self.clock.set(Clock::default());
            // The task sees the end of it.
            self.wire.cut();
        } else if is_due(clock.part_by, now) {
            clock.part_by = NEVER;
            self.clock.set(clock);
            self.leave_all();
        } else if is_due(clock.connect_by, now) {
            self.close(close::STALE);
        } else if is_due(clock.pong_by, now) {
            self.close(close::NO_PONG);
        } else if is_due(clock.expires_at, now) {
            self.close(close::EXPIRED);
        } else if is_due(clock.subscription_expires_at, now) {
            clock.subscription_expires_at = self.expire_subscriptions(now);
            if self.phase.get() != Phase::Closing {
                self.clock.set(clock);
            }
        } else if is_due(clock.ping_at, now) && self.phase.get() == Phase::Open {
            clock.ping_at = now + self.hub.rules.ping_every;
            clock.pong_by = now + self.hub.rules.pong_within;
            self.clock.set(clock);
            self.send(reply::PING);
        }
        self.plan_look();
    }
}
