//! Sending spans to the collector, now and then and a batch at a time. A collector that is away costs a try every second, and the
//! spans of that time; it holds nobody up.
//!
//! A child of a worker has no business with the collector: it lives too shortly. It hands its spans to its supervisor, which sends them.

use super::{otlp, tracer};
use crate::{
    Error, Result,
    config::Settings,
    outbound::{Guard, Outbound, Request, SendError},
    telemetry::metrics::TRACES_SPANS,
};
use hyper::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

const EVERY: Duration = Duration::from_secs(1);
/// Spans of one request to the collector, about 300 KB at most.
const BATCH_MAX: usize = 512;
/// Longest that the collector may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the spans of this process go.
#[derive(Debug)]
pub struct Exporter {
    outbound: Outbound,
    url: String,
    headers: HeaderMap,
    service: String,
}

impl Exporter {
    /// `None` where traces are off; `service` is what the process is called unless a setting says otherwise.
    pub fn new(settings: &Settings, service: &str) -> Result<Option<Self>> {
        let Some(endpoint) = &settings.otel_exporter_otlp_endpoint else { return Ok(None) };
        let mut headers = match &settings.otel_exporter_otlp_headers {
            Some(given) => self::headers(given.expose_secret())?,
            None => HeaderMap::new(),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Some(Self {
            outbound: Outbound::new(Guard::anywhere()),
            url: format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            headers,
            service: settings.otel_service_name.clone().unwrap_or_else(|| service.to_owned()),
        }))
    }

    /// Sends for as long as it is polled.
    pub async fn keep_sending(&self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_heard = true;
        loop {
            ticks.tick().await;
            match self.send_all().await {
                Ok(()) if !was_heard => {
                    tracing::info!("the collector takes traces again");
                    was_heard = true;
                }
                Err(error) if was_heard => {
                    tracing::warn!(%error, "the collector takes no traces; those of the meantime are dropped");
                    was_heard = false;
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Sends what is left, within so long; for the end of a process.
    pub async fn flush(&self, within: Duration) {
        if let Ok(Err(error)) = timeout_at(Instant::now() + within, self.send_all()).await {
            tracing::debug!(%error, "the last traces are dropped");
        }
    }

    async fn send_all(&self) -> std::result::Result<(), String> {
        loop {
            let spans = take(BATCH_MAX);
            if spans.is_empty() {
                return Ok(());
            }
            let sent = self.send(&spans).await;
            let outcome = if sent.is_ok() { "sent" } else { "dropped" };
            metrics::counter!(TRACES_SPANS, "outcome" => outcome).increment(spans.len() as u64);
            sent?;
        }
    }

    async fn send(&self, spans: &[Box<RawValue>]) -> std::result::Result<(), String> {
        let target = self.outbound.guard().parse(&self.url).map_err(|refused| refused.to_string())?;
        let (method, headers) = (Method::POST, self.headers.clone());
        let body = otlp::request(&self.service, spans).into();
        let answer = self.outbound.send(Request { target, method, headers, body, timeout: PATIENCE }).await;
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status)),
            Err(error @ (SendError::Refused(_) | SendError::Timeout(_) | SendError::Connect(_) | SendError::Broken(_))) => {
                Err(error.to_string())
            }
        }
    }
}

/// `name=value` with commas, values percent-encoded where they need to be, as OpenTelemetry's variable has them.
pub(crate) fn headers(text: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| Error::internal("a header without a value"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(Error::internal)?;
        let value: Vec<u8> = percent_decode_str(value.trim()).collect();
        headers.insert(name, HeaderValue::from_bytes(&value).map_err(Error::internal)?);
    }
    Ok(headers)
}

/// Spans that wait to be sent or handed on, the oldest first; none where traces are off.
pub fn take(n: usize) -> Vec<Box<RawValue>> {
    tracer().map(|tracer| tracer.basket.take(n)).unwrap_or_default()
}

/// Takes spans of another process over.
pub fn put(spans: Vec<Box<RawValue>>) {
    if let Some(tracer) = tracer() {
        tracer.basket.put(spans);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_opentelemetry_writes_them() {
        let given = headers("authorization=Basic%20dTpwYQ%3D%3D, x-tenant = a+b ,").unwrap();
        let value = |name: &str| given[name].to_str().unwrap();
        assert_eq!((value("authorization"), value("x-tenant"), given.len()), ("Basic dTpwYQ==", "a+b", 2));
        assert!(headers("x-tenant=a%0Ab").is_err(), "no header ends another");
    }
}
