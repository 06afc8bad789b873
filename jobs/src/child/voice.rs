//! A child's ends of the pipes to its supervisor. The end of the incoming one means that the supervisor is gone, however it died; a
//! child never outlives it.

use crate::link::{self, Farewell, News, Told, Wish};
use shared::{
    Error, Result,
    config::Settings,
    jobs::{
        QueueName,
        engine::relay::{Relay, Unwritten},
    },
    telemetry::{logs::LogLevel, page::Page, process, tally::Tally, traces},
    vital::vital,
};
use std::{
    collections::HashMap,
    future::Future,
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::BufReader,
    net::unix::pipe,
    sync::{Mutex, mpsc, oneshot, watch},
    time::{interval, timeout},
};

/// Beyond what PostgreSQL may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often spans of traces are handed on, and how many at once.
const SPANS_EVERY: Duration = Duration::from_millis(200);
const SPANS_MAX: usize = 256;

/// Speaks to the supervisor.
#[derive(Debug, Clone)]
pub(super) struct Voice(Arc<Mutex<pipe::Sender>>);

/// Has the supervisor write successes.
#[derive(Debug)]
pub(super) struct Dictation {
    voice: Voice,
    answers: Answers,
    next: AtomicU64,
    patience: Duration,
}

type Answers = Arc<std::sync::Mutex<HashMap<u64, oneshot::Sender<Unwritten>>>>;

impl Relay for Dictation {
    fn write(&self, bytes: Vec<u8>) -> Pin<Box<dyn Future<Output = Unwritten> + Send + '_>> {
        Box::pin(async move {
            let batch = self.next.fetch_add(1, Ordering::Relaxed);
            let (answer, answered) = oneshot::channel();
            lock(&self.answers).insert(batch, answer);
            let n_bytes = bytes.len();
            if let Err(error) = link::write_with_bytes(&mut *self.voice.0.lock().await, &News::Write { batch, n_bytes }, &bytes).await {
                tracing::debug!(%error, "the supervisor does not hear");
            }
            let answer = timeout(self.patience, answered).await;
            lock(&self.answers).remove(&batch);
            answer.ok()?.ok()?
        })
    }
}

fn lock(answers: &Answers) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Unwritten>>> {
    answers.lock().expect("nothing panics while it holds this lock")
}

impl Voice {
    /// A supervisor that does not hear is gone, which is noticed elsewhere.
    pub(super) async fn tell(&self, news: &News) {
        if let Err(error) = link::write(&mut *self.0.lock().await, news).await {
            tracing::debug!(%error, "the supervisor does not hear");
        }
    }

    /// Hands spans on for as long as it is polled.
    pub(super) async fn keep_telling_spans(&self) {
        let mut ticks = interval(SPANS_EVERY);
        loop {
            ticks.tick().await;
            self.tell_spans().await;
        }
    }

    async fn tell_spans(&self) {
        loop {
            let spans = traces::export::take(SPANS_MAX);
            if spans.is_empty() {
                return;
            }
            self.tell(&News::Spans(spans)).await;
        }
    }

    pub(super) async fn bid_farewell(&self, counts: (u64, u64), recorder: &Tally) {
        self.tell_spans().await;
        let (n_done, n_failed) = counts;
        self.tell(&News::Farewell(Farewell { n_done, n_failed, metrics: recorder.render() })).await;
    }
}

/// What the supervisor tells, as it stands.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) wish: watch::Receiver<Wish>,
    pub(super) queues: watch::Receiver<Vec<QueueName>>,
    pub(super) supervisor_gone: mpsc::Receiver<()>,
    pub(super) dictation: Arc<Dictation>,
}

/// Takes over standard input and output.
pub(super) fn connect(settings: &Settings, recorder: Tally, log_level: LogLevel) -> Result<(Voice, Ear)> {
    let (from, to) = pipes().map_err(Error::internal)?;
    let voice = Voice(Arc::new(Mutex::new(to)));
    let (wishes, wish) = watch::channel(Wish::default());
    let (names, queues) = watch::channel(Vec::new());
    let (gone, supervisor_gone) = mpsc::channel(1);
    let (answering, answers) = (voice.clone(), Answers::default());
    // The supervisor gives up before.
    let patience = Duration::from_millis(2 * settings.db_acquire_timeout_ms + settings.db_statement_timeout_ms) + PATIENCE;
    let dictation = Arc::new(Dictation { voice: voice.clone(), answers: Arc::clone(&answers), next: AtomicU64::new(0), patience });
    let hearing = async move {
        let told = Hearing { voice: answering, recorder, log_level, wishes, names, answers };
        if let Err(error) = told.hear(from).await {
            tracing::debug!(%error, "the pipe to the supervisor broke");
        }
        lock(&told.answers).clear();
        let _ = gone.send(()).await;
        // Nothing that waits for a wish takes the silence for one.
        std::future::pending::<()>().await;
    };
    tokio::spawn(vital("hearing the supervisor", hearing));
    Ok((voice, Ear { wish, queues, supervisor_gone, dictation }))
}

fn pipes() -> io::Result<(pipe::Receiver, pipe::Sender)> {
    let from = io::stdin().as_fd().try_clone_to_owned()?;
    let to = io::stdout().as_fd().try_clone_to_owned()?;
    Ok((pipe::Receiver::from_owned_fd(from)?, pipe::Sender::from_owned_fd(to)?))
}

/// Where what the supervisor tells goes.
struct Hearing {
    voice: Voice,
    recorder: Tally,
    log_level: LogLevel,
    wishes: watch::Sender<Wish>,
    names: watch::Sender<Vec<QueueName>>,
    answers: Answers,
}

impl Hearing {
    async fn hear(&self, from: pipe::Receiver) -> io::Result<()> {
        let mut from = BufReader::new(from);
        while let Some(told) = link::read(&mut from).await? {
            match told {
                Told::Wish(wish) => drop(self.wishes.send_replace(wish)),
                Told::Queues(queues) => {
                    self.names.send_replace(queues.iter().filter_map(|name| QueueName::new(name).ok()).collect());
                }
                Told::LogLevel(directives) => self.log_level.set(&directives),
                Told::Metrics => {
                    let mut page = Page::default();
                    page.append(&self.recorder.render());
                    process::tell(&mut page);
                    self.voice.tell(&News::Metrics(page.into_text())).await;
                }
                Told::Written { batch, unwritten } => {
                    if let Some(answer) = lock(&self.answers).remove(&batch) {
                        drop(answer.send(unwritten));
                    }
                }
            }
        }
        Ok(())
    }
}
