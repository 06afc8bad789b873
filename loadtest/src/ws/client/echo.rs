//! A request and its reply, over and over: the next is sent when the last is answered, or a pause later.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use super::super::causes::{self, Causes};
use super::super::orders::{EchoOrder, Echoed, State};
use super::scanner::Verdict;
use crate::generator::{Counts, new_histogram};

#[derive(Debug)]
pub(super) struct EchoRun {
    order: EchoOrder,
    replies: u64,
    errors: u64,
    causes: Causes,
    latency: Histogram<u64>,
    /// Requests without a reply.
    n_under_way: u32,
    /// Sockets that send again later, with the time; in the order of their times, every pause being the same.
    paused: VecDeque<u64>,
    launched: bool,
}

impl EchoRun {
    pub(super) fn new(order: EchoOrder) -> Self {
        Self {
            order,
            replies: 0,
            errors: 0,
            causes: Causes::new(),
            latency: new_histogram(),
            n_under_way: 0,
            paused: VecDeque::new(),
            launched: false,
        }
    }

    /// How many sockets are to send their first request now.
    pub(super) fn launch(&mut self, now_ns: u64) -> u32 {
        if self.launched || now_ns < self.order.window.launch_ns {
            return 0;
        }
        self.launched = true;
        self.order.n_sockets
    }

    pub(super) fn sent(&mut self) {
        self.n_under_way += 1;
    }

    pub(super) fn forget_one(&mut self) {
        self.n_under_way = self.n_under_way.saturating_sub(1);
        self.errors += 1;
    }

    /// Records a reply; true when the socket is to send the next request at once.
    pub(super) fn answered(&mut self, sent_ns: u64, now_ns: u64, verdict: Verdict) -> bool {
        let window = self.order.window;
        match verdict {
            Verdict::Ok if (window.start_ns..window.end_ns).contains(&now_ns) => {
                self.replies += 1;
                self.latency.saturating_record(now_ns.saturating_sub(sent_ns));
            }
            Verdict::Ok => {}
            Verdict::Error { code } => {
                self.errors += 1;
                causes::note(&mut self.causes, format!("error {code}"));
            }
        }
        if now_ns < window.end_ns && self.order.pause_ns == 0 {
            return true;
        }
        self.n_under_way = self.n_under_way.saturating_sub(1);
        if now_ns + self.order.pause_ns < window.end_ns {
            self.paused.push_back(now_ns + self.order.pause_ns);
        }
        false
    }

    /// How many paused sockets are to send again now.
    pub(super) fn resume(&mut self, now_ns: u64) -> u32 {
        let mut n_due = 0;
        while self.paused.front().is_some_and(|due_ns| *due_ns <= now_ns) {
            self.paused.pop_front();
            n_due += 1;
        }
        n_due
    }

    pub(super) fn next_due_ns(&self) -> Option<u64> {
        match self.launched {
            false => Some(self.order.window.launch_ns),
            true => self.paused.front().copied(),
        }
    }

    /// Over when all is answered after the end, or the wait for it is.
    pub(super) fn is_over(&self, now_ns: u64, timeout_ns: u64) -> bool {
        let end_ns = self.order.window.end_ns;
        self.launched && now_ns >= end_ns && (self.n_under_way == 0 || now_ns >= end_ns + timeout_ns)
    }

    pub(super) fn result(&self, mut state: State) -> Echoed {
        causes::add(&mut state.causes, &self.causes);
        if self.n_under_way > 0 {
            state.causes.insert("no reply in time".to_owned(), self.n_under_way.into());
        }
        Echoed { replies: self.replies, errors: self.errors + u64::from(self.n_under_way), latency: Counts::of(&self.latency), state }
    }
}
