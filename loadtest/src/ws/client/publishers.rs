//! Who sends publications, and when a fan-out begins and ends.

use std::collections::BTreeMap;

use mio::{Token, event::Event};

use super::super::orders::{ChannelEnd, Dialect, FanOutOrder, FannedOut, PublishBy, StuckEnd, Told};
use super::fan_out::{Answers, FanOutRun};
use super::http::HttpPublisher;
use super::ledger::Totals;
use super::reactor::{HTTP_TOKENS, Reactor, tell};
use super::script::{Publication, padding, text_frame};
use super::slot::{Kind, Stage};
use crate::error::Error;
use crate::generator::Counts;

/// Commands that a publisher may have unanswered: a server takes the next when it has done the last.
const MAX_IN_FLIGHT: u32 = 64;
/// Longest wait for what a stuck reader has left unread, once everything else is over.
const ROUSE_NS: u64 = 3_000_000_000;

/// The publishers of a fan-out.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    all: Vec<Publisher>,
    https: Vec<HttpPublisher>,
    /// Whose turn it is.
    turn: usize,
    padding: String,
    /// When stuck readers were told to read what is left.
    roused_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Publisher {
    number: u32,
    channel: usize,
    way: Way,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    /// Through this socket, which is a subscriber too.
    Slot(usize),
    /// Through this connection of its own.
    Http(usize),
}

impl Reactor {
    pub(super) fn begin_fan_out(&mut self, order: FanOutOrder) -> Result<(), Error> {
        let n_channels = self.shared.plan.channels.len();
        let mut n_subscribers = vec![0; n_channels];
        for slot in self.slots.iter().filter(|slot| slot.stage == Stage::Ready && slot.kind == Kind::Reader) {
            n_subscribers[slot.channel] += 1;
        }
        self.publishers = Publishers { padding: padding(order.n_padding), ..Publishers::default() };
        for number in order.first_publisher..order.first_publisher + order.n_publishers {
            let channel = number as usize % n_channels;
            let way = match order.by {
                PublishBy::Socket => Way::Slot(self.free_subscriber(channel)?),
                PublishBy::Http => {
                    let target = &self.shared.plan.targets[number as usize % self.shared.plan.targets.len()];
                    let at = self.publishers.https.len();
                    let path = format!("/api/v1/channels/{}/publications", self.shared.plan.channels[channel]);
                    let token = self.shared.plan.http_token.as_deref();
                    let http = HttpPublisher::new(target, &path, token, self.poll.registry(), Token(HTTP_TOKENS + at));
                    self.publishers.https.push(http.map_err(|error| Error::failed(format!("cannot publish over HTTP: {error}")))?);
                    Way::Http(at)
                }
            };
            self.publishers.all.push(Publisher { number, channel, way });
        }
        self.shared.fan_out = Some(FanOutRun::new(order, &n_subscribers));
        Ok(())
    }

    /// A subscriber of `channel` that does not publish yet.
    fn free_subscriber(&self, channel: usize) -> Result<usize, Error> {
        let is_taken = |at: usize| self.publishers.all.iter().any(|publisher| matches!(publisher.way, Way::Slot(taken) if taken == at));
        let mut subscribers = self.slots.iter().enumerate();
        let found = subscribers
            .find(|(at, slot)| slot.channel == channel && slot.stage == Stage::Ready && slot.kind == Kind::Reader && !is_taken(*at));
        found.map(|(at, _)| at).ok_or_else(|| Error::failed("there are fewer subscribers than publishers"))
    }

    /// Sends what is due, each publisher in its turn.
    pub(super) fn publish(&mut self, now_ns: u64) {
        let n_publishers = self.publishers.all.len();
        let mut n_idle = 0;
        while n_idle < n_publishers {
            let publisher = self.publishers.all[self.publishers.turn % n_publishers];
            self.publishers.turn = (self.publishers.turn + 1) % n_publishers;
            n_idle = if self.publish_one(publisher, now_ns) { 0 } else { n_idle + 1 };
        }
    }

    /// False when this publisher has nothing to send now, or cannot.
    fn publish_one(&mut self, publisher: Publisher, now_ns: u64) -> bool {
        let Some(fan_out) = &mut self.shared.fan_out else { return false };
        let is_free = match publisher.way {
            Way::Slot(at) => self.slots[at].stage == Stage::Ready && self.slots[at].in_flight < MAX_IN_FLIGHT,
            Way::Http(at) => self.publishers.https[at].is_free(),
        };
        let Some(at_ns) = is_free.then(|| fan_out.next(publisher.channel, now_ns)).flatten() else { return false };
        let dialect = self.shared.plan.dialect;
        let publication = Publication {
            channel: &self.shared.plan.channels[publisher.channel],
            at_ns,
            publisher: publisher.number,
            number: fan_out.channels[publisher.channel].published + 1,
            padding: &self.publishers.padding,
        };
        let answers = match (publisher.way, dialect) {
            (Way::Slot(_), Dialect::Bare) => Answers::Never,
            (Way::Slot(_), Dialect::Protocol) | (Way::Http(_), _) => Answers::Come,
        };
        fan_out.sent(publisher.channel, at_ns, now_ns, answers);
        match publisher.way {
            Way::Slot(at) => {
                let slot = &mut self.slots[at];
                slot.in_flight += u32::from(answers == Answers::Come);
                if let Err(loss) = slot.send(&text_frame(&publication.text(dialect))) {
                    self.lose(at, &loss);
                }
            }
            Way::Http(at) => {
                let failed = self.publishers.https[at].send(&publication.data(), self.poll.registry()).err();
                if let Some(error) = failed {
                    self.close_http(at, &error);
                }
            }
        }
        true
    }

    pub(super) fn on_http(&mut self, at: usize, event: &Event) {
        let channel_of = |publisher: &Publisher| matches!(publisher.way, Way::Http(http) if http == at).then_some(publisher.channel);
        let Some(channel) = self.publishers.all.iter().find_map(channel_of) else { return };
        match self.publishers.https[at].on_event(event) {
            Ok(Some(200..=299)) => self.answer_http(channel, Ok(())),
            Ok(Some(status)) => self.answer_http(channel, Err(format!("status {status}"))),
            Ok(None) => {}
            Err(error) => self.close_http(at, &error),
        }
    }

    fn answer_http(&mut self, channel: usize, outcome: Result<(), String>) {
        if let Some(fan_out) = &mut self.shared.fan_out {
            fan_out.answered(channel, outcome);
        }
    }

    fn close_http(&mut self, at: usize, error: &std::io::Error) {
        let n_in_flight = self.publishers.https[at].close();
        if let Some(fan_out) = &mut self.shared.fan_out {
            fan_out.lost(n_in_flight);
            fan_out.refuse(error.to_string());
        }
    }

    /// Looks whether the fan-out is over, and tells what came of it.
    pub(super) fn end_fan_out(&mut self, now: u64) -> Result<(), Error> {
        let Some(fan_out) = &mut self.shared.fan_out else { return Ok(()) };
        fan_out.give_up_stalled(now);
        if !fan_out.is_over(now) {
            return Ok(());
        }
        let is_last_call = now > fan_out.order.window.end_ns + fan_out.order.settle_ns;
        if !is_last_call && !self.are_all_level() {
            return Ok(());
        }
        if self.rouse_stuck(now) {
            return Ok(());
        }
        if let Some(fan_out) = self.shared.fan_out.take() {
            let told = self.result(&fan_out);
            tell(&Told::FannedOut(Box::new(told)))?;
        }
        Ok(())
    }

    /// True when every subscriber is connected and has got as far as the others of its channel.
    fn are_all_level(&self) -> bool {
        let mut positions = vec![None; self.shared.plan.channels.len()];
        let mut readers = self.slots.iter().filter(|slot| slot.kind == Kind::Reader && slot.stage != Stage::Ended);
        readers.all(|slot| {
            let position = slot.ledger.position();
            let first = positions[slot.channel].get_or_insert(position);
            slot.stage == Stage::Ready && *first == position
        })
    }

    /// Lets stuck readers read what is left; true while that is worth waiting for.
    fn rouse_stuck(&mut self, now_ns: u64) -> bool {
        let since_ns = *self.publishers.roused_ns.get_or_insert(now_ns);
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot.kind == Kind::Stuck {
                let before = slot.stage;
                slot.kind = Kind::Roused;
                let outcome = self.read_on(at);
                self.follow(at, before, outcome);
            }
        }
        let is_left = self.slots.iter().any(|slot| slot.kind == Kind::Roused && slot.stage != Stage::Ended);
        is_left && now_ns < since_ns + ROUSE_NS
    }

    fn result(&self, fan_out: &FanOutRun) -> FannedOut {
        let mut ledger = Totals::default();
        let mut channels: Vec<ChannelEnd> = Vec::new();
        for slot in self.slots.iter().filter(|slot| slot.kind == Kind::Reader && slot.was_ready) {
            ledger.add(&slot.ledger.totals());
            let Some((last, epoch)) = slot.ledger.position() else { continue };
            let (name, epoch) = (&self.shared.plan.channels[slot.channel], &self.shared.epochs[usize::from(epoch)]);
            let known = channels.iter().position(|end| end.channel == *name && end.epoch == *epoch);
            let at = known.unwrap_or_else(|| {
                let last_offsets = BTreeMap::new();
                channels.push(ChannelEnd { channel: name.clone(), epoch: epoch.clone(), base: slot.ledger.base(), last_offsets });
                channels.len() - 1
            });
            channels[at].base = channels[at].base.min(slot.ledger.base());
            *channels[at].last_offsets.entry(last).or_default() += 1;
        }
        let launch_ns = fan_out.order.window.launch_ns;
        let stuck = self.slots.iter().filter(|slot| slot.kind != Kind::Reader);
        let stuck_end = |slot: &super::slot::Slot| StuckEnd {
            closed_after_ns: slot.ended_ns.map(|ended_ns| ended_ns.saturating_sub(launch_ns)),
            code: slot.end_code,
        };
        FannedOut {
            published: fan_out.published,
            published_in_window: fan_out.published_in_window,
            acknowledged: fan_out.channels.iter().map(|channel| channel.acknowledged).sum(),
            refused: fan_out.refused.clone(),
            in_doubt: fan_out.in_doubt + fan_out.in_flight,
            unsent: fan_out.n_unsent(),
            stalls: fan_out.stalls,
            deliveries_in_window: fan_out.deliveries_in_window,
            last_delivery_ns: fan_out.last_delivery_ns,
            latency: Counts::of(&fan_out.latency),
            ledger,
            channels,
            stuck: stuck.map(stuck_end).collect(),
            state: self.state(),
        }
    }
}
