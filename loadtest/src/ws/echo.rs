//! One run of `ws echo`.

use std::time::Duration;

use super::args::EchoArgs;
use super::causes::{self, Causes};
use super::client::now_ns;
use super::crew::{Crew, unexpected};
use super::meter::{Meter, Usages};
use super::orders::{EchoOrder, Told, Window};
use super::report::{Echo, Opening};
use super::site::{Side, Site, Sockets, shares, wait_until, window};
use crate::error::Error;
use crate::generator::new_histogram;
use crate::http::Percentiles;

/// Longest wait for the last replies, beyond the timeout of one.
const END_WITHIN: Duration = Duration::from_secs(30);

/// What all processes counted.
pub(super) struct Replies {
    pub(super) replies: u64,
    pub(super) errors: u64,
    pub(super) causes: Causes,
    pub(super) latency_ms: Option<Percentiles>,
}

pub(super) fn run(site: &mut Site<'_>, side: &Side, args: &EchoArgs) -> Result<Echo, Error> {
    let sockets = Sockets { n_sockets: args.connections, n_channels: 0, reconnects: false, rpc_method: &args.method };
    let mut crew = site.crew(side, sockets, args.warmup + args.duration + site.args.timeout)?;
    let shares = shares(args.connections, crew.len() as u32, 0);
    let opening = Opening::of(&crew.open(&shares, &mut || ())?);
    if opening.opened == 0 {
        return Err(Error::failed(format!("no socket could be opened: {:?}", opening.causes)));
    }
    let order = EchoOrder { n_sockets: 0, pause_ns: 0, window: window(args.warmup, args.duration), n_padding: args.size };
    for (at, share) in shares.iter().enumerate() {
        crew.order(at, &super::orders::Order::Echo(EchoOrder { n_sockets: share.n_sockets, ..order }))?;
    }
    let usages = measure(order.window, side, &crew);
    let replies = collect(&mut crew, shares.len(), site.args.timeout + END_WITHIN)?;
    let duration_s = args.duration.as_secs_f64();
    Ok(Echo {
        connections: args.connections,
        replies: replies.replies,
        errors: replies.errors,
        causes: replies.causes,
        per_s: replies.replies as f64 / duration_s,
        latency_ms: replies.latency_ms,
        server_cpu_us_per_reply: usages.server_cpu_us_per(replies.replies),
        opening,
        usages,
    })
}

/// Waits for the measured time to pass, and tells what was used in it.
pub(super) fn measure(window: Window, side: &Side, crew: &Crew) -> Usages {
    wait_until(window.start_ns, &mut || ());
    let mut meter = Meter::begin(&side.pids, &crew.pids());
    wait_until(window.end_ns, &mut || meter.sample());
    meter.finish()
}

/// Adds up what the first `n_clients` processes counted.
pub(super) fn collect(crew: &mut Crew, n_clients: usize, within: Duration) -> Result<Replies, Error> {
    let mut latency = new_histogram();
    let mut sum = Replies { replies: 0, errors: 0, causes: Causes::new(), latency_ms: None };
    let deadline_ns = now_ns() + within.as_nanos() as u64;
    for at in 0..n_clients {
        let left = Duration::from_nanos(deadline_ns.saturating_sub(now_ns()));
        let told = crew.told(at, left, &mut || ())?;
        let Told::Echoed(echoed) = told else { return Err(unexpected(&told)) };
        sum.replies += echoed.replies;
        sum.errors += echoed.errors;
        causes::add(&mut sum.causes, &echoed.state.causes);
        echoed.latency.add_to(&mut latency);
    }
    sum.latency_ms = Percentiles::of(&latency);
    Ok(sum)
}
