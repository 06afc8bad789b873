//! Traces: what one request caused, from the API through Redis to the job and what that asked of others. Spans are begun by hand, in
//! three places (a request, an attempt, a delivery), and sent as OTLP over HTTP in JSON. Without `OTEL_EXPORTER_OTLP_ENDPOINT` nothing is
//! begun, and nothing costs anything.
//!
//! In reading order: this file (spans), `context` (what travels: W3C `traceparent`), `sampler` (which traces are kept), `basket` (spans
//! that wait to be sent), [`export`] (sending them).

mod basket;
mod context;
pub mod export;
mod otlp;
mod sampler;

pub use context::{TraceContext, is_traceparent};
pub use sampler::{Sampler, Whose};

use crate::config::Settings;
use basket::Basket;
use std::{borrow::Cow, future::Future, sync::OnceLock, time::SystemTime};

/// What makes spans, one per process; `None` where nobody wants any.
static TRACER: OnceLock<Option<Tracer>> = OnceLock::new();

tokio::task_local! {
    /// The span that the current task works for.
    static CURRENT: TraceContext;
}

#[derive(Debug)]
struct Tracer {
    sampler: Sampler,
    ratio: f64,
    basket: Basket,
}

/// Begins to make spans, if the settings want any; the first call of the process counts.
pub fn install(settings: &Settings) {
    let tracer = || Tracer { sampler: settings.otel_traces_sampler, ratio: settings.otel_traces_sampler_arg, basket: Basket::default() };
    TRACER.get_or_init(|| settings.otel_exporter_otlp_endpoint.is_some().then(tracer));
}

fn tracer() -> Option<&'static Tracer> {
    TRACER.get()?.as_ref()
}

pub fn are_on() -> bool {
    tracer().is_some()
}

/// What stands on which side of the wire, numbered as OTLP does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers a request.
    Server = 2,
    /// Makes one.
    Client = 3,
    /// Works on what was put into a queue.
    Consumer = 5,
}

#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Something that takes time; over when it is dropped. What is told of it may be read by whoever reads the traces: no secrets, no bodies.
#[derive(Debug)]
pub struct Span {
    context: TraceContext,
    parent_id: Option<u64>,
    kind: Kind,
    name: Cow<'static, str>,
    began: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    failure: Option<String>,
}

impl Span {
    /// Begins one below `parent`, whose it is as `whose` says; `None` while traces are off.
    pub fn begin(kind: Kind, name: impl Into<Cow<'static, str>>, whose: Whose, parent: Option<TraceContext>) -> Option<Self> {
        let tracer = tracer()?;
        let mut context = TraceContext::new(parent.map(|parent| parent.trace_id));
        context.is_sampled = tracer.sampler.keeps(whose, parent, context, tracer.ratio);
        let (name, parent_id) = (name.into(), parent.map(|parent| parent.span_id));
        Some(Self { context, parent_id, kind, name, began: SystemTime::now(), attributes: Vec::new(), failure: None })
    }

    pub fn context(&self) -> TraceContext {
        self.context
    }

    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        self.name = name.into();
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if self.context.is_sampled {
            self.attributes.push((key, value.into()));
        }
    }

    pub fn fail(&mut self, why: impl Into<String>) {
        self.failure = Some(why.into());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(tracer) = tracer().filter(|_| self.context.is_sampled) {
            tracer.basket.put([otlp::encode(self, SystemTime::now())]);
        }
    }
}

/// The span that the current task works for.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Runs `work` for a span.
pub async fn within<T>(context: Option<TraceContext>, work: impl Future<Output = T>) -> T {
    match context {
        Some(context) => CURRENT.scope(context, work).await,
        None => work.await,
    }
}
