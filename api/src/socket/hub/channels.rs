//! The channels that the sockets of a thread are subscribed to, and what the thread hears of them.

use super::{
    Hub, Tick,
    channel::{HubChannel, Standing},
    ticks,
};
use crate::socket::{
    connection::Connection,
    fanout::{BATCHES_WAITING, Batch, Broadcast},
    protocol::error::Refusal,
};
use actix_web::rt;
use shared::{
    channels::{Channel, ChannelName},
    clock::unix_ms,
};
use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::yield_now, time::sleep};

/// A channel is heard for so long after its last subscriber left: they come back, after a reload of a page or a restart.
const LINGER: Duration = Duration::from_secs(5);
/// From here on a round of writing is followed by a rest of the same length, at most [`REST_MAX`]. A write costs more than all
/// else that a publication costs, so the busier the thread is, the less it costs to deliver one; a thread with time to spare
/// delays nothing.
const ROUND_NOTICED: Duration = Duration::from_micros(500);
/// Half of what a publication may take to its readers.
const REST_MAX: Duration = Duration::from_millis(5);
/// Sockets written to before others on the thread have their turn: a millisecond or less.
const WRITES_AT_ONCE: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Channels {
    by_name: RefCell<HashMap<ChannelName, Rc<HubChannel>>>,
    /// Channels that lost their last subscriber, and until when they linger; some have found others since.
    lingering: RefCell<VecDeque<(Tick, ChannelName)>>,
}

impl Hub {
    /// The channel as this thread sees it; asks to hear it if it is the first to want it.
    fn channel(&self, channel: &Channel) -> Result<Rc<HubChannel>, Refusal> {
        let mut by_name = self.channels.by_name.borrow_mut();
        if let Some(known) = by_name.get(&channel.name) {
            return Ok(Rc::clone(known));
        }
        self.sockets().fanout().listen(self, channel.name.clone()).map_err(|_| Refusal::INTERNAL)?;
        let fresh = Rc::new(HubChannel::new(channel.clone()));
        by_name.insert(channel.name.clone(), Rc::clone(&fresh));
        self.looks.enter(self.now(), &fresh);
        if channel.namespace.presence {
            self.refreshes.enter(self.now(), &fresh);
        }
        Ok(fresh)
    }

    /// Subscribes `connection`, and gives the channel and its place there.
    pub(in crate::socket) fn join(
        &self,
        channel: &Channel,
        connection: &Rc<Connection>,
        standing: Standing,
        hears_presence: bool,
    ) -> Result<(Rc<HubChannel>, u32), Refusal> {
        let channel = self.channel(channel)?;
        let place = channel.join(Rc::clone(connection), standing, hears_presence);
        self.meters.subscribed();
        Ok((channel, place))
    }

    pub(in crate::socket) fn leave(&self, channel: &HubChannel, place: u32) {
        channel.leave(place);
        self.meters.unsubscribed();
        if channel.is_empty() {
            let until = self.now() + ticks(LINGER);
            self.channels.lingering.borrow_mut().push_back((until, channel.channel.name.clone()));
        }
    }

    /// Stops hearing channels that nobody came back to.
    pub(super) fn forget_channels(&self) {
        let now = self.now();
        let mut lingering = self.channels.lingering.borrow_mut();
        while let Some((_, name)) = lingering.pop_front_if(|(until, _)| *until <= now) {
            let mut by_name = self.channels.by_name.borrow_mut();
            let Some(channel) = by_name.get(&name).filter(|channel| channel.is_empty()) else { continue };
            // What is asked for is waited for, so that an answer is never taken for that to a later question.
            if !channel.is_confirmed() || self.sockets().fanout().forget(self, name.clone()).is_err() {
                lingering.push_back((now + 1, name));
                break;
            }
            by_name.remove(&name);
        }
    }

    /// Hears what the fan-out tells this thread, for ever. What comes while sockets are written to, and while it rests from that,
    /// is told together in the next round.
    pub(super) async fn hear(self: Rc<Self>, mut batches: mpsc::Receiver<Batch>) {
        let (mut heard, mut unwritten) = (Vec::with_capacity(BATCHES_WAITING), Vec::new());
        while batches.recv_many(&mut heard, BATCHES_WAITING).await > 0 {
            let began = Instant::now();
            self.observe_lag(heard.last());
            for broadcast in heard.drain(..).flatten() {
                self.take(broadcast, &mut unwritten);
            }
            for (n_written, connection) in unwritten.drain(..).enumerate() {
                connection.write_for_hub();
                if (n_written + 1) % WRITES_AT_ONCE == 0 {
                    yield_now().await;
                }
            }
            match began.elapsed() {
                short if short < ROUND_NOTICED => yield_now().await,
                long => sleep(long.min(REST_MAX)).await,
            }
        }
    }

    /// Of the last publication: those before it came with it.
    fn observe_lag(&self, batch: Option<&Batch>) {
        let published_at_ms = batch.into_iter().flatten().rev().find_map(|broadcast| match broadcast {
            Broadcast::Publication { publication, .. } => Some(publication.published_at_ms),
            Broadcast::Presence { .. }
            | Broadcast::Listening { .. }
            | Broadcast::Control(_)
            | Broadcast::Restored
            | Broadcast::Drain(_) => None,
        });
        if let Some(published_at_ms) = published_at_ms {
            let lag_ms = unix_ms(self.state.ctx.clock.now()) - published_at_ms;
            self.meters.fanned_out(Duration::from_millis(u64::try_from(lag_ms).unwrap_or_default()));
        }
    }

    /// `unwritten` gets those who have to be written to after this.
    fn take(self: &Rc<Self>, broadcast: Broadcast, unwritten: &mut Vec<Rc<Connection>>) {
        match broadcast {
            Broadcast::Publication { channel, epoch, publication, frame } => {
                if let Some(channel) = self.heard_channel(&channel) {
                    let frame = channel.framed(frame, &self.memory);
                    for connection in channel.spread(&epoch, &publication, &frame, unwritten) {
                        connection.fell_behind(&channel);
                    }
                }
            }
            Broadcast::Presence { channel, frame } => {
                if let Some(channel) = self.heard_channel(&channel) {
                    channel.spread_presence(&channel.framed(frame, &self.memory), unwritten);
                }
            }
            Broadcast::Listening { channel, is_confirmed: true } => {
                if let Some(channel) = self.heard_channel(&channel) {
                    channel.confirm();
                }
            }
            Broadcast::Listening { channel, is_confirmed: false } => {
                if let Some(channel) = self.channels.by_name.borrow_mut().remove(&channel) {
                    channel.give_up();
                }
            }
            Broadcast::Control(control) => self.obey(&control),
            Broadcast::Restored => self.looks.hurry(),
            Broadcast::Drain(window) => drop(rt::spawn(Rc::clone(self).drain(window))),
        }
    }

    fn heard_channel(&self, name: &ChannelName) -> Option<Rc<HubChannel>> {
        self.channels.by_name.borrow().get(name).map(Rc::clone)
    }
}
