//! Logs: one line per event on standard error, JSON or readable, at a level that can change while running.

use crate::config::{LogFormat, Settings};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, Registry, filter::ParseError, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Changes the log level while running.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Takes over `LOG_LEVEL`; an unreadable one leaves the old level and says so.
    pub fn set(&self, directives: &str) {
        match filter(directives) {
            Ok(filter) => drop(self.0.reload(filter)),
            Err(error) => tracing::warn!(%error, "LOG_LEVEL could not be read; the old level stays"),
        }
    }
}

/// The directives, and silence for what strangers could fill the log with: the server has an error line for every
/// malformed request head, without saying whose. Directives that name `actix_http` bring it back.
fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    const NOISE: &str = "actix_http::h1::dispatcher=off";
    let filter = EnvFilter::builder().parse(directives)?;
    if directives.contains("actix_http") {
        return Ok(filter);
    }
    Ok(filter.add_directive(NOISE.parse()?))
}

/// Sets the process's logger up; once. An unreadable `LOG_LEVEL` counts as `info`.
pub fn init(settings: &Settings) -> LogLevel {
    let filter = filter(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    match settings.log_format {
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false).with_writer(io::stderr))
            .init(),
        LogFormat::Pretty => registry.with(fmt::layer().compact().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr)).init(),
    }
    LogLevel(handle)
}
