//! The way to ask whichever processes are in one place right now, and what those counted that were there before.

use super::exposition;
use crate::link::{News, Told, Wish};
use shared::telemetry::traces::export;
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions that wait for a child, at most.
const QUESTIONS_MAX: usize = 16;
/// Last words that are kept apart before they are added up.
const WORDS_MAX: usize = 64;

/// A place's processes, empty between children.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<Arc<Line>>,
    /// What processes that are gone counted, in Prometheus' text form.
    past: Vec<String>,
}

/// One process's end of its pipes, as others hold it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) pid: u32,
    wish: watch::Sender<Wish>,
    questions: mpsc::Sender<Told>,
    state: Mutex<LineState>,
}

#[derive(Debug, Default)]
struct LineState {
    is_ready: bool,
    asking: Vec<oneshot::Sender<()>>,
    /// What it counted when it was last asked.
    metrics: Option<String>,
}

impl Line {
    /// Also returns what the process is to be told, for whoever writes it.
    pub(super) fn new(pid: u32, wish: Wish) -> (Arc<Self>, watch::Receiver<Wish>, mpsc::Receiver<Told>) {
        let (wish, wishes) = watch::channel(wish);
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        (Arc::new(Self { pid, wish, questions, state: Mutex::default() }), wishes, asked)
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn wish(&self, change: impl FnOnce(&mut Wish)) {
        self.wish.send_modify(change);
    }

    /// Notes what only concerns those who ask.
    pub(super) fn hear(&self, news: &News) {
        match news {
            News::Ready => self.state().is_ready = true,
            News::Metrics(text) => {
                let mut state = self.state();
                state.metrics = Some(text.clone());
                for asking in state.asking.drain(..) {
                    let _ = asking.send(());
                }
            }
            News::Farewell(farewell) => self.state().metrics = Some(farewell.metrics.clone()),
            News::Spans(spans) => export::put(spans.clone()),
            News::Ageing(_) | News::Keeps(_) | News::UnknownQueue | News::Write { .. } => {}
        }
    }

    /// Answers the process.
    pub(super) async fn answer(&self, told: Told) {
        drop(self.questions.send(told).await);
    }

    /// What the process counted: now, or when it last answered.
    async fn metrics(&self) -> Option<String> {
        let (asking, answered) = oneshot::channel();
        self.state().asking.push(asking);
        if self.questions.try_send(Told::Metrics).is_err() || timeout(ANSWER_TIMEOUT, answered).await.is_err() {
            tracing::warn!(pid = self.pid, "a child does not answer");
        }
        self.state().metrics.clone()
    }
}

impl Pulse {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn enter(&self, line: &Arc<Line>) {
        self.inner().lines.push(Arc::clone(line));
    }

    /// What the process counted goes on counting: a sum that falls would be taken for a restart of everything.
    pub(super) fn leave(&self, line: &Arc<Line>) {
        let last_word = line.state().metrics.take();
        let mut inner = self.inner();
        inner.lines.retain(|other| !Arc::ptr_eq(other, line));
        inner.past.extend(last_word);
        if inner.past.len() > WORDS_MAX {
            inner.past = vec![exposition::add_up(&inner.past)];
        }
    }

    /// Metrics in Prometheus' text form: of those that are here, then what those counted that were.
    pub(super) async fn metrics(&self) -> (Vec<String>, Vec<String>) {
        let (lines, past) = {
            let inner = self.inner();
            (inner.lines.clone(), inner.past.clone())
        };
        let answers = futures_util::future::join_all(lines.iter().map(|line| line.metrics())).await;
        (answers.into_iter().flatten().collect(), past)
    }

    /// Whether a process is here that is ready to work.
    pub(super) fn is_beating(&self) -> bool {
        self.inner().lines.iter().any(|line| line.state().is_ready)
    }
}
