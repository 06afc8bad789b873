//! Looking whether a channel stands where this thread believes: pub/sub may lose publications without a word, and nothing
//! else would tell as long as nothing more is published.

use super::{Hub, Tick, channel::HubChannel, ticks};
use actix_web::rt;
use shared::channels::{self, Position};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::time::sleep;

/// Between two looks at one channel.
const EVERY: Duration = Duration::from_secs(40);
/// A publication that Redis has counted may still be on its way to this thread.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// Between attempts to look while Redis is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Channels looked at in one go of a thread; the rest waits for the next.
const CHANNELS_AT_ONCE: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Whom to look at next, and when.
    due: RefCell<VecDeque<(Tick, Weak<HubChannel>)>>,
    is_under_way: Cell<bool>,
}

impl Rounds {
    pub(super) fn enter(&self, now: Tick, channel: &Rc<HubChannel>) {
        self.due.borrow_mut().push_back((now + ticks(EVERY), Rc::downgrade(channel)));
    }

    /// Everybody is due: publications may have been missed on all channels.
    pub(super) fn hurry(&self) {
        for (due, _) in self.due.borrow_mut().iter_mut() {
            *due = 0;
        }
    }

    /// Could not be looked at: soon again.
    fn retry(&self, now: Tick, channels: impl Iterator<Item = Rc<HubChannel>>) {
        let mut due = self.due.borrow_mut();
        for channel in channels {
            due.push_front((now + ticks(RETRY_AFTER), Rc::downgrade(&channel)));
        }
    }

    fn take_due(&self, now: Tick) -> Vec<Rc<HubChannel>> {
        let (mut due, mut taken) = (self.due.borrow_mut(), Vec::new());
        while taken.len() < CHANNELS_AT_ONCE
            && let Some((_, channel)) = due.pop_front_if(|(due, _)| *due <= now)
        {
            // Channels that are gone drop out here.
            taken.extend(channel.upgrade());
        }
        taken
    }
}

impl Hub {
    /// Looks at the channels that are due, unless the last look is not over: Redis may be slow.
    pub(super) fn check_positions(self: &Rc<Self>) {
        if self.rounds.is_under_way.get() {
            return;
        }
        let due = self.rounds.take_due(self.now());
        if due.is_empty() {
            return;
        }
        self.rounds.is_under_way.set(true);
        let hub = Rc::clone(self);
        rt::spawn(async move {
            hub.compare(due).await;
            hub.rounds.is_under_way.set(false);
        });
    }

    async fn compare(&self, channels: Vec<Rc<HubChannel>>) {
        let (followed, idle): (Vec<_>, Vec<_>) =
            channels.into_iter().map(|channel| (channel.followed(), channel)).partition(|(followed, _)| followed.is_some());
        for (_, channel) in &idle {
            self.rounds.enter(self.now(), channel);
        }
        let followed: Vec<_> = followed.into_iter().filter_map(|(believed, channel)| Some((believed?, channel))).collect();
        let names: Vec<_> = followed.iter().map(|(_, channel)| channel.channel.clone()).collect();
        let Ok(positions) = channels::positions(&self.state.ctx, &names).await else {
            return self.rounds.retry(self.now(), followed.into_iter().map(|(_, channel)| channel));
        };
        for (_, channel) in &followed {
            self.rounds.enter(self.now(), channel);
        }
        let is_elsewhere = |believed: &Position, real: &Position| believed.epoch != real.epoch || believed.offset < real.offset;
        let suspects: Vec<_> = followed
            .into_iter()
            .zip(positions)
            .filter_map(|((believed, channel), real)| {
                real.filter(|real| is_elsewhere(&believed, real)).map(|real| (channel, believed, real))
            })
            .collect();
        if suspects.is_empty() {
            return;
        }
        sleep(ON_ITS_WAY).await;
        for (channel, believed, real) in suspects {
            for connection in channel.missing(&believed.epoch, &real) {
                connection.fell_behind(&channel);
            }
        }
    }
}

impl HubChannel {
    /// Who follows and has not come to `real`, where the channel stood a while ago; `believed` is the epoch they were in then.
    fn missing(&self, believed: &Arc<str>, real: &Position) -> Vec<Rc<crate::socket::connection::Connection>> {
        match self.followed() {
            Some(now) if now.epoch == real.epoch => self.all_behind(real.offset),
            Some(now) if now.epoch == *believed => self.all_behind(u64::MAX),
            // It has gone on to an epoch of its own since, and those who had to be were told.
            Some(_) | None => Vec::new(),
        }
    }
}
