//! Health and metrics of a worker, on plain hyper: `/healthz`, `/readyz`, `/metrics`.

use super::{Order, Pulses, exposition};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::telemetry::{self, metrics::MetricsHandle, page::Page};
use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
struct State {
    pulses: Pulses,
    order: watch::Receiver<Order>,
    recorder: MetricsHandle,
}

/// Binds, and returns what serves for as long as it is polled.
pub(super) async fn bind(
    addr: SocketAddr,
    pulses: Pulses,
    order: watch::Receiver<Order>,
    recorder: MetricsHandle,
) -> io::Result<impl Future<Output = ()> + Send> {
    let listener = TcpListener::bind(addr).await?;
    tracing::info!(addr = %listener.local_addr()?, "health and metrics are served");
    Ok(serve(listener, Arc::new(State { pulses, order, recorder })))
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&connections).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: wait rather than spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            drop(connection.await);
            drop(permit);
        });
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refusal);
    }
    Ok(match request.uri().path() {
        "/healthz" | "/health" => plain(StatusCode::OK, "application/json", r#"{"status":"ok"}"#.to_owned()),
        "/readyz" => readiness(&state),
        "/metrics" => metrics(&state).await,
        _ => plain(StatusCode::NOT_FOUND, "text/plain", "there is /healthz, /readyz and /metrics".to_owned()),
    })
}

/// Ready while every child is up and the worker leases.
fn readiness(state: &State) -> Response<Full<Bytes>> {
    let is_draining = *state.order.borrow() != Order::Run;
    let pulses = &state.pulses.ordinary;
    let n_up = pulses.iter().filter(|pulse| pulse.is_beating()).count();
    let (status, word) = match (is_draining, n_up == pulses.len()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, true) => (StatusCode::OK, "ready"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
    };
    plain(status, "application/json", format!(r#"{{"status":"{word}","children":{{"up":{n_up},"of":{}}}}}"#, pulses.len()))
}

async fn metrics(state: &State) -> Response<Full<Bytes>> {
    let mut own = Page::default();
    own.append(&state.recorder.render());
    telemetry::process::tell(&mut own);
    let (mut texts, mut past) = (vec![("supervisor".to_owned(), own.into_text())], Vec::new());
    let Pulses { ordinary, wards, maintenance } = &state.pulses;
    let all = ordinary.iter().chain(wards).enumerate().map(|(index, pulse)| (index.to_string(), pulse));
    for (label, pulse) in all.chain([("maintenance".to_owned(), maintenance)]) {
        let (present, gone) = pulse.metrics().await;
        texts.extend(present.into_iter().map(|text| (label.clone(), text)));
        past.extend(gone);
    }
    plain(StatusCode::OK, PROMETHEUS_TEXT, exposition::merge(&texts, &past))
}

fn plain(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
