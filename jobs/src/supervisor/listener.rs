//! `WORKER_METRICS_ADDR`: health of the worker and metrics of all its processes, on plain hyper.

use super::{child::Children, merge::merge};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use shared::telemetry::{metrics::MetricsHandle, process};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};

/// Scrapers and probes are few; more connections wait.
const CONNECTIONS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Listener {
    tcp: TcpListener,
    children: Arc<Children>,
    metrics: MetricsHandle,
}

impl Listener {
    pub(super) async fn bind(address: SocketAddr, children: Arc<Children>, metrics: MetricsHandle) -> io::Result<Arc<Self>> {
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("WORKER_METRICS_ADDR={address}: {error}")))?;
        tracing::info!(address = %tcp.local_addr()?, "health and metrics");
        Ok(Arc::new(Self { tcp, children, metrics }))
    }

    pub(super) async fn serve(self: Arc<Self>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            let Ok((stream, _)) = self.tcp.accept().await else { continue };
            let listener = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let listener = Arc::clone(&listener);
                    async move { Ok::<_, Infallible>(listener.answer(&request).await) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "connection ended");
                }
                drop(place);
            });
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/healthz" | "/readyz" => self.health(),
            "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics().await),
            _ => text(StatusCode::NOT_FOUND, "text/plain", "/healthz, /readyz and /metrics are here\n".to_owned()),
        }
    }

    /// 200 while every place is filled; a child that is being restarted makes it 503.
    fn health(&self) -> Response<Full<Bytes>> {
        let children = self.children.health();
        let is_whole = !children.is_empty() && children.iter().all(|child| child.pid.is_some());
        let (status, word) = if is_whole { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "restarting") };
        text(status, "application/json", json!({ "status": word, "children": children }).to_string())
    }

    async fn metrics(&self) -> String {
        process::observe();
        let mut texts = vec![("supervisor".to_owned(), self.metrics.render())];
        for (index, running) in self.children.running() {
            match running.pipe.ask_metrics().await {
                Ok(text) => texts.push((index.to_string(), text)),
                Err(error) => tracing::warn!(index, %error, "child does not tell its metrics"),
            }
        }
        merge(&texts)
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    response.body(Full::from(body)).expect("the parts are valid")
}
