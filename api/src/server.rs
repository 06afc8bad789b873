//! The HTTP server: actix wired to the settings, the middleware in its order. [`takeover`]: how connections leave it; [`sips`]: how
//! far they are read, [`ends`]: one request at a time, [`pacing`]: when the next request is read, [`deadlines`]: how long a client has for a head,
//! and [`telling`]: to take an answer.

mod deadlines;
mod ends;
mod leaving;
pub(crate) mod pacing;
mod sips;
mod takeover;
mod telling;

pub(crate) use self::leaving::{has_left, left};
pub use self::sips::Grown;
use self::{sips::GULP_BYTES, telling::Unsent};
use crate::{
    drain::Drain,
    edge::{Edge, Traffic, compression, spans::RequestSpans},
    extract::BodyBudget,
    filling::Filling,
    health::Health,
    routes::{self, probes},
    socket::{Hub, Sockets},
    state::AppState,
};
use actix_cors::Cors;
use actix_web::{
    App, HttpResponse, HttpServer,
    body::MessageBody,
    dev::{Server, Service, ServiceFactory, ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::{Compress, Condition},
    rt::{self, net::TcpStream},
    web::Data,
};
use metrics::Gauge;
use shared::{
    Context, Result,
    accounts::Accounts,
    config::Settings,
    ids::NodeId,
    limits::Limiter,
    overview::Overview,
    pg,
    telemetry::{
        metrics::{self as names, APP_ACTIVE_CONNECTIONS, Teller},
        pulse,
    },
};
use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpSocket, sync::Semaphore};
use tracing_actix_web::TracingLogger;

/// So many connections that have had a large body may stay for each gulp that `BODIES_MAX_BYTES` has room for: 1,024 of some 200 KB as it is shipped.
const GROWN_PER_GULP: usize = 2;

/// Everything a process needs before it can listen.
pub async fn open_state(mut settings: Settings) -> Result<AppState> {
    // Before anything that has a metric of its own.
    let metrics = names::install(Teller::Api);
    pg::fit_pool(&mut settings).await;
    let bodies = BodyBudget::new(settings.bodies_max_bytes.0, settings.max_bulk_bytes.0, settings.max_body_bytes.0);
    let grown = Grown::up_to(GROWN_PER_GULP * settings.bodies_max_bytes.0 / GULP_BYTES);
    let n_workers = settings.api_workers();
    let ctx = Context::open_beside_workers(settings, n_workers)?;
    let sockets = Sockets::start(&ctx);
    let health = Health::start(&ctx)?;
    // Those of the threads, unless they have one together, and the process's.
    let filling = Filling::of(if ctx.has_pool_of_threads() { 1 } else { n_workers + 1 });
    tokio::spawn(filling.fill(ctx.clone()));
    let limiter = Limiter::new(ctx.settings().rate_limit_callers);
    let accounts = Accounts::open(ctx.clone(), limiter.clone()).await?;
    let started_at = ctx.clock.now();
    Ok(AppState {
        ctx,
        limiter,
        accounts,
        drain: Drain::default(),
        health,
        filling,
        bodies,
        grown,
        sockets,
        metrics,
        overview: Arc::<Overview>::default(),
        scrapes: Arc::new(Semaphore::new(probes::SCRAPES_MAX)),
        node_id: NodeId::new(),
        started_at,
    })
}

/// A server that listens and is not running yet, with the address it got. Call it inside a runtime.
pub fn bind(state: AppState) -> io::Result<(Server, SocketAddr)> {
    let settings = Settings::clone(&state.ctx.settings());
    let n_workers = settings.api_workers();
    let builder = Server::build()
        .workers(n_workers)
        .max_concurrent_connections(settings.connections_per_worker())
        .worker_max_blocking_threads((settings.blocking_threads() / n_workers).max(1))
        .shutdown_timeout(settings.shutdown_timeout_s - settings.drain_delay_s - settings.ws_drain_s)
        .disable_signals();
    let listener = listen(SocketAddr::new(settings.api_host, settings.api_port), settings.api_backlog)?;
    let address = listener.local_addr()?;
    let (n_started, stopping) = (Arc::new(AtomicUsize::new(0)), builder.graceful_shutdown_signal());
    let unsent = Unsent::up_to(settings.api_unsent_max_bytes.0);
    let builder = builder.listen("api", listener, move || {
        let thread = name_thread(n_started.fetch_add(1, Ordering::Relaxed));
        let data = Data::new(state.for_worker(n_workers).expect("the settings opened once before"));
        let traffic = Traffic::start(&thread);
        if !data.ctx.has_pool_of_threads() {
            rt::spawn(data.filling.fill(data.ctx.clone()));
        }
        rt::spawn(keep_pulse(data.clone(), thread.clone()));
        let hub = Hub::start(data.clone(), thread);
        takeover::http(site(&data, hub, traffic, &settings.cors_origins.0), &settings, &unsent, stopping.clone())
    })?;
    Ok((builder.run(), address))
}

async fn keep_pulse(data: Data<AppState>, thread: String) {
    pulse::keep(&data.ctx, &thread).await;
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)?.into_std()
    };
    listen().map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// The routes and the middleware around them, as one worker thread has them.
fn site(
    data: &Data<AppState>,
    hub: Rc<Hub>,
    traffic: Rc<Traffic>,
    cors_origins: &[String],
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = actix_web::Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .app_data(data.clone())
        .app_data(hub)
        .configure(routes::configure)
        .default_service(actix_web::web::to(async || HttpResponse::NotFound()))
        .wrap_fn(|request, service| {
            let answer = service.call(request);
            async move {
                answer.await.map(|mut response| {
                    compression::mark_small(&mut response);
                    response
                })
            }
        })
        .wrap(Compress::default())
        .wrap_fn(|mut request: ServiceRequest, service| {
            compression::forgive_accept_encoding(&mut request);
            service.call(request)
        })
        .wrap(Condition::new(!cors_origins.is_empty(), cors(cors_origins)))
        .wrap(TracingLogger::<RequestSpans>::new())
        .wrap(Edge::new(data.clone(), traffic))
        .wrap_fn(|mut request, service| {
            let begun = sips::begin(&mut request);
            begun.answer(service.call(request))
        })
}

/// A second listener for `/metrics` alone.
pub fn bind_metrics(state: AppState, address: SocketAddr) -> io::Result<Server> {
    let data = Data::new(state);
    let server = HttpServer::new(move || {
        let metrics = actix_web::web::get().to(async |state: Data<AppState>| {
            HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(probes::render_metrics(&state))
        });
        App::new().app_data(data.clone()).route("/metrics", metrics)
    });
    Ok(server.workers(1).disable_signals().bind(address)?.run())
}

fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, header::IF_MATCH, header::IF_NONE_MATCH])
        .allowed_headers(["x-api-key", "x-request-id", "idempotency-key", "prefer", "traceparent"])
        .expose_headers([
            "location",
            "etag",
            "retry-after",
            "x-request-id",
            "traceparent",
            "idempotency-replayed",
            "ratelimit",
            "ratelimit-policy",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ])
        .max_age(3_600);
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

thread_local! {
    static OPEN_CONNECTIONS: RefCell<Option<Gauge>> = const { RefCell::new(None) };
}

/// Names the worker's thread, for profilers and `top -H`, and its connection gauge.
fn name_thread(worker: usize) -> String {
    let name = format!("api-w{worker}");
    OPEN_CONNECTIONS.with_borrow_mut(|gauge| *gauge = Some(metrics::gauge!(APP_ACTIVE_CONNECTIONS, "worker" => name.clone())));
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(name.as_str()) {
        // The name is a convenience; without it nothing is lost.
        let _ = nix::sys::prctl::set_name(&name);
    }
    name
}

/// Counts a connection for as long as it is kept.
#[derive(Debug)]
pub struct OpenConnection {
    gauge: Gauge,
    socket: RawFd,
}

impl OpenConnection {
    /// One more on this thread; `None` on threads that serve nobody.
    pub(crate) fn count(stream: &TcpStream) -> Option<Self> {
        let gauge = OPEN_CONNECTIONS.with_borrow(Clone::clone)?;
        gauge.increment(1.0);
        Some(Self { gauge, socket: stream.as_raw_fd() })
    }

    /// Its socket, valid as long as a request of the connection is being answered.
    pub(crate) fn socket(&self) -> RawFd {
        self.socket
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}

/// The HTTP server keeps its connections' data as long as them.
fn count_connection(stream: &TcpStream, data: &mut actix_web::dev::Extensions) {
    if let Some(connection) = OpenConnection::count(stream) {
        data.insert(connection);
    }
}
