//! Publications to everyone: when the next is due, who sends it, what has arrived of it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::super::causes;
use super::super::orders::{FanOutOrder, Pace};
use super::scanner::Delivery;
use crate::generator::new_histogram;

/// A closed window that nothing arrives in for so long is given up: a loss must not end the load.
const STALL_NS: u64 = 1_000_000_000;
/// Nothing arriving for so long after the end means that nothing more will.
const QUIET_NS: u64 = 500_000_000;

/// One fan-out under way.
#[derive(Debug)]
pub(super) struct FanOutRun {
    pub(super) order: FanOutOrder,
    pub(super) channels: Vec<ChannelPace>,
    /// Publications sent.
    pub(super) published: u64,
    pub(super) published_in_window: u64,
    pub(super) refused: BTreeMap<String, u64>,
    /// Sent and not answered yet.
    pub(super) in_flight: u64,
    /// Sent over a connection that was lost before it answered.
    pub(super) in_doubt: u64,
    pub(super) stalls: u64,
    pub(super) deliveries_in_window: u64,
    pub(super) last_delivery_ns: u64,
    pub(super) latency: Histogram<u64>,
}

/// One channel as this process sees it.
#[derive(Debug, Default)]
pub(super) struct ChannelPace {
    /// Subscribers in this process.
    pub(super) n_subscribers: u64,
    /// Publications by this process.
    pub(super) published: u64,
    /// What subscribers of this process got of them.
    arrived: u64,
    pub(super) acknowledged: u64,
    progress_ns: u64,
}

impl FanOutRun {
    pub(super) fn new(order: FanOutOrder, n_subscribers: &[u64]) -> Self {
        let channel = |n_subscribers: &u64| ChannelPace { n_subscribers: *n_subscribers, ..ChannelPace::default() };
        Self {
            order,
            channels: n_subscribers.iter().map(channel).collect(),
            published: 0,
            published_in_window: 0,
            refused: BTreeMap::new(),
            in_flight: 0,
            in_doubt: 0,
            stalls: 0,
            deliveries_in_window: 0,
            last_delivery_ns: 0,
            latency: new_histogram(),
        }
    }

    pub(super) fn delivered(&mut self, channel: usize, delivery: Delivery, now_ns: u64) {
        let window = self.order.window;
        self.deliveries_in_window += u64::from((window.start_ns..window.end_ns).contains(&now_ns));
        if let Some(published_ns) = delivery.published_ns.filter(|at_ns| (window.start_ns..window.end_ns).contains(at_ns)) {
            self.latency.saturating_record(now_ns.saturating_sub(published_ns));
        }
        self.arrived(channel, delivery.publisher, now_ns);
    }

    /// A publication has reached one subscriber.
    pub(super) fn arrived(&mut self, channel: usize, publisher: u32, now_ns: u64) {
        self.last_delivery_ns = now_ns;
        let own = self.order.first_publisher..self.order.first_publisher + self.order.n_publishers;
        if own.contains(&publisher) {
            let pace = &mut self.channels[channel];
            pace.arrived += 1;
            pace.progress_ns = now_ns;
        }
    }

    pub(super) fn answered(&mut self, channel: usize, outcome: Result<(), String>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Ok(()) => self.channels[channel].acknowledged += 1,
            Err(reason) => {
                // What was refused will not arrive: it must not hold a place in the window.
                let pace = &mut self.channels[channel];
                pace.arrived += pace.n_subscribers;
                self.refuse(reason);
            }
        }
    }

    pub(super) fn refuse(&mut self, reason: String) {
        causes::note(&mut self.refused, reason);
    }

    /// The publisher's connection is lost with so many commands unanswered.
    pub(super) fn lost(&mut self, n_in_flight: u32) {
        self.in_flight = self.in_flight.saturating_sub(u64::from(n_in_flight));
        self.in_doubt += u64::from(n_in_flight);
    }

    /// The time that the next publication on `channel` carries, when one is to be sent now.
    pub(super) fn next(&mut self, channel: usize, now_ns: u64) -> Option<u64> {
        let window = self.order.window;
        let has_budget = self.order.budget == 0 || self.published < self.order.budget;
        if now_ns < window.launch_ns || !has_budget {
            return None;
        }
        match self.order.pace {
            Pace::Closed { window: n_at_once } => {
                let is_open = now_ns < window.end_ns && self.channels[channel].has_room(u64::from(n_at_once));
                is_open.then_some(now_ns)
            }
            Pace::Open { .. } => self.due_ns(self.published).filter(|due_ns| *due_ns <= now_ns),
        }
    }

    /// A publication that [`FanOutRun::next`] asked for has been sent.
    pub(super) fn sent(&mut self, channel: usize, at_ns: u64, now_ns: u64, answers: Answers) {
        let window = self.order.window;
        let pace = &mut self.channels[channel];
        self.published += 1;
        pace.published += 1;
        if pace.progress_ns == 0 {
            pace.progress_ns = now_ns;
        }
        self.published_in_window += u64::from((window.start_ns..window.end_ns).contains(&at_ns));
        match answers {
            Answers::Come => self.in_flight += 1,
            Answers::Never => pace.acknowledged += 1,
        }
    }

    /// Gives up windows in which nothing has arrived for long.
    pub(super) fn give_up_stalled(&mut self, now_ns: u64) {
        let Pace::Closed { window } = self.order.pace else { return };
        if now_ns >= self.order.window.end_ns {
            return;
        }
        for pace in &mut self.channels {
            let is_stalled = pace.published > 0 && !pace.has_room(u64::from(window)) && now_ns > pace.progress_ns + STALL_NS;
            if is_stalled {
                pace.arrived = pace.published * pace.n_subscribers;
                pace.progress_ns = now_ns;
                self.stalls += 1;
            }
        }
    }

    /// When the next publication of the schedule is due; None when there is none before the end, or no schedule.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        match self.order.pace {
            Pace::Closed { .. } => None,
            Pace::Open { .. } => self.due_ns(self.published),
        }
    }

    fn due_ns(&self, publication_idx: u64) -> Option<u64> {
        let Pace::Open { interval_ns, offset_ns } = self.order.pace else { return None };
        if self.order.n_publishers == 0 {
            return None;
        }
        let due_ns = self.order.window.launch_ns + (offset_ns + publication_idx as f64 * interval_ns) as u64;
        (due_ns < self.order.window.end_ns).then_some(due_ns)
    }

    /// Publications that the schedule had and nobody sent.
    pub(super) fn n_unsent(&self) -> u64 {
        let has_budget = |idx: u64| self.order.budget == 0 || idx < self.order.budget;
        (self.published..).take_while(|idx| has_budget(*idx) && self.due_ns(*idx).is_some()).count() as u64
    }

    /// Over when nothing is under way after the end, or the wait for it is.
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        let window = self.order.window;
        let has_spent = self.order.budget != 0 && self.published >= self.order.budget;
        let end_ns = if has_spent { window.launch_ns } else { window.end_ns };
        if now_ns < end_ns {
            return false;
        }
        let is_quiet = self.in_flight == 0 && now_ns > self.last_delivery_ns.max(end_ns) + QUIET_NS;
        is_quiet || now_ns > window.end_ns + self.order.settle_ns
    }
}

/// Whether a server answers publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    Come,
    Never,
}

impl ChannelPace {
    /// True while fewer than `n_at_once` publications are on their way to somebody.
    fn has_room(&self, n_at_once: u64) -> bool {
        let expected = self.published * self.n_subscribers;
        expected.saturating_sub(self.arrived) < n_at_once * self.n_subscribers.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::orders::{PublishBy, Window};
    use super::*;

    fn run(pace: Pace, budget: u64) -> FanOutRun {
        let window = Window { launch_ns: 1_000, start_ns: 2_000, end_ns: 10_000 };
        let order = FanOutOrder {
            window,
            pace,
            n_publishers: 1,
            first_publisher: 5,
            by: PublishBy::Socket,
            n_padding: 0,
            budget,
            settle_ns: 1_000_000_000,
        };
        FanOutRun::new(order, &[2])
    }

    fn delivery(published_ns: u64) -> Delivery {
        Delivery { offset: 1, published_ns: Some(published_ns), publisher: 5 }
    }

    #[test]
    fn the_closed_loop_keeps_its_window_full_and_no_fuller() {
        let mut run = run(Pace::Closed { window: 2 }, 0);
        assert_eq!(run.next(0, 999), None);
        for _ in 0..2 {
            let at_ns = run.next(0, 2_500).expect("there is room");
            run.sent(0, at_ns, 2_500, Answers::Come);
        }
        assert_eq!(run.next(0, 2_500), None);
        run.delivered(0, delivery(2_500), 2_600);
        assert_eq!(run.next(0, 2_600), Some(2_600), "part of the first has arrived");
        assert_eq!(run.next(0, 10_000), None, "it is over");
        assert_eq!((run.deliveries_in_window, run.latency.len()), (1, 1));
    }

    #[test]
    fn the_open_loop_sends_when_due_and_counts_what_it_did_not() {
        let mut run = run(Pace::Open { interval_ns: 1_000.0, offset_ns: 0.0 }, 0);
        assert_eq!(run.next(0, 2_100), Some(1_000), "late, and it says when it was due");
        run.sent(0, 1_000, 2_100, Answers::Come);
        assert_eq!(run.next_due_ns(), Some(2_000));
        assert_eq!(run.n_unsent(), 8);
    }

    #[test]
    fn a_refused_publication_leaves_the_window() {
        let mut run = run(Pace::Closed { window: 1 }, 0);
        run.sent(0, 2_500, 2_500, Answers::Come);
        assert_eq!(run.next(0, 2_500), None);
        run.answered(0, Err("error 103".to_owned()));
        assert!(run.next(0, 2_500).is_some());
        assert_eq!(run.refused["error 103"], 1);
    }

    #[test]
    fn a_window_in_which_nothing_arrives_is_given_up() {
        let mut run = run(Pace::Closed { window: 1 }, 0);
        run.order.window.end_ns = u64::MAX;
        run.sent(0, 2_500, 2_500, Answers::Come);
        run.give_up_stalled(2_500 + STALL_NS);
        assert_eq!(run.stalls, 0);
        run.give_up_stalled(2_501 + STALL_NS);
        assert_eq!(run.stalls, 1);
        assert!(run.next(0, 3_000).is_some());
    }

    #[test]
    fn a_spent_budget_ends_the_run_before_its_time() {
        let mut run = run(Pace::Closed { window: 9 }, 1);
        run.sent(0, 2_500, 2_500, Answers::Never);
        assert_eq!(run.next(0, 2_500), None);
        assert!(!run.is_over(2_600) && run.is_over(2_600 + QUIET_NS));
    }
}
