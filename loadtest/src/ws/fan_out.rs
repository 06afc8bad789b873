//! One run of `ws fan-out`, and of `ws stuck`, which is the same with readers that never read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::args::{FanOutArgs, PublishWay};
use super::causes;
use super::client::Totals;
use super::client::now_ns;
use super::crew::{Crew, unexpected};
use super::meter::{Meter, Usages};
use super::orders::{ChannelEnd, Dialect, FanOutOrder, FannedOut, Order, Pace, PublishBy, State, Told, Window};
use super::report::{FanOut, Ledger, Opening, StuckReader};
use super::site::{Side, Site, Sockets, shares, wait_until, window};
use crate::error::Error;
use crate::generator::new_histogram;
use crate::http::Percentiles;

/// Longest wait for what a client process has to say, beyond the time for publications to settle.
const END_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn run(site: &mut Site<'_>, side: &Side, args: &FanOutArgs, n_stuck: u32) -> Result<FanOut, Error> {
    // The bare server numbers nothing: one publisher numbers for it, and everyone is in its one room.
    let n_channels = match side.dialect {
        Dialect::Protocol => args.channels,
        Dialect::Bare => 1,
    };
    let sockets = Sockets { n_sockets: args.subscribers + n_stuck, n_channels, reconnects: true, rpc_method: "" };
    let needed_for = args.warmup + args.duration + args.settle + site.args.timeout;
    let mut crew = site.crew(side, sockets, needed_for)?;
    let shares = shares(args.subscribers + n_stuck, crew.len() as u32, n_stuck);
    let opening = Opening::of(&crew.open(&shares, &mut || ())?);
    if opening.opened < args.subscribers + n_stuck {
        return Err(Error::failed(format!(
            "only {} of {} sockets could be opened: {:?}",
            opening.opened, sockets.n_sockets, opening.causes
        )));
    }
    let orders = orders(args, side.dialect, crew.len() as u32, n_channels);
    for (at, order) in orders.iter().enumerate() {
        crew.order(at, &Order::FanOut(*order))?;
    }
    let (ends, usages) = collect(&mut crew, side, orders[0].window, args.settle + END_WITHIN)?;
    let totals = Sums::of(&ends);
    let duration_s = match args.publications {
        // It may have ended before its time.
        Some(_) => totals.last_delivery_ns.min(orders[0].window.end_ns).saturating_sub(orders[0].window.start_ns) as f64 / 1e9,
        None => args.duration.as_secs_f64(),
    };
    let per_s = |count: u64| if duration_s > 0.0 { count as f64 / duration_s } else { 0.0 };
    let ledger = draw_up(&ends, side.dialect, opening.opened - n_stuck);
    Ok(FanOut {
        subscribers: args.subscribers,
        channels: n_channels,
        publishers: orders.iter().map(|order| order.n_publishers).sum(),
        rate_per_s: args.rate,
        window: args.rate.is_none().then_some(args.window),
        opening,
        published: totals.published,
        acknowledged: totals.acknowledged,
        refused: totals.refused,
        in_doubt: totals.in_doubt,
        unsent: totals.unsent,
        stalls: totals.stalls,
        publications_per_s: per_s(totals.published_in_window),
        deliveries_per_s: per_s(totals.deliveries_in_window),
        latency_ms: totals.latency_ms,
        ledger,
        lost_connections: totals.state.lost,
        reconnects: totals.state.reconnects,
        closes: totals.state.closes,
        causes: totals.state.causes,
        stuck: ends.iter().flat_map(|end| &end.stuck).map(stuck_reader).collect(),
        server_cpu_us_per_delivery: usages.server_cpu_us_per(totals.deliveries_in_window),
        memory_growth_percent: usages.growth_percent(),
        usages,
    })
}

/// What each client process is to do; publishers are dealt out evenly, and with them the rate and the budget.
fn orders(args: &FanOutArgs, dialect: Dialect, n_clients: u32, n_channels: u32) -> Vec<FanOutOrder> {
    let window = window(args.warmup, args.duration);
    let n_publishers = match dialect {
        Dialect::Protocol => args.publishers.unwrap_or(n_channels.max(n_clients)).max(n_channels),
        Dialect::Bare => 1,
    };
    let mut first_publisher = 0;
    (0..n_clients)
        .map(|client| {
            let mine = n_publishers / n_clients + u32::from(client < n_publishers % n_clients);
            let part = f64::from(mine) / f64::from(n_publishers);
            let order = FanOutOrder {
                window,
                pace: pace(args, part, client, n_clients),
                n_publishers: mine,
                first_publisher,
                by: match (dialect, args.publish_by) {
                    (Dialect::Bare, _) | (_, PublishWay::Socket) => PublishBy::Socket,
                    (Dialect::Protocol, PublishWay::Http) => PublishBy::Http,
                },
                n_padding: args.size,
                budget: args.publications.map_or(0, |in_all| (in_all as f64 * part).round() as u64),
                settle_ns: args.settle.as_nanos() as u64,
            };
            first_publisher += mine;
            order
        })
        .collect()
}

fn pace(args: &FanOutArgs, part: f64, client: u32, n_clients: u32) -> Pace {
    match args.rate {
        Some(rate_per_s) => {
            let interval_ns = 1e9 / (rate_per_s * part.max(f64::MIN_POSITIVE));
            // Processes take turns, so that together they send evenly.
            Pace::Open { interval_ns, offset_ns: 1e9 / rate_per_s * f64::from(client) / f64::from(n_clients) }
        }
        // Each keeps its part of the window, at least one.
        None => Pace::Closed { window: ((f64::from(args.window) * part).round() as u32).max(1) },
    }
}

/// Waits for all to end, and tells what was used in the measured time, which a spent budget may cut short.
fn collect(crew: &mut Crew, side: &Side, window: Window, within: Duration) -> Result<(Vec<FannedOut>, Usages), Error> {
    wait_until(window.start_ns, &mut || ());
    let within = within + Duration::from_nanos(window.end_ns.saturating_sub(now_ns()));
    let mut meter = Some(Meter::begin(&side.pids, &crew.pids()));
    let mut usages = None;
    let mut ends = Vec::with_capacity(crew.len());
    for at in 0..crew.len() {
        let told = crew.told(at, within, &mut || match &mut meter {
            Some(running) if now_ns() < window.end_ns => running.sample(),
            Some(_) => usages = meter.take().map(Meter::finish),
            None => {}
        })?;
        let Told::FannedOut(end) = told else { return Err(unexpected(&told)) };
        ends.push(*end);
    }
    let usages = usages.or(meter.map(Meter::finish));
    Ok((ends, usages.ok_or_else(|| Error::failed("nothing was measured"))?))
}

fn stuck_reader(end: &super::orders::StuckEnd) -> StuckReader {
    StuckReader { is_closed: end.closed_after_ns.is_some(), seen_after_s: end.closed_after_ns.map(|ns| ns as f64 / 1e9), code: end.code }
}

/// What all processes counted.
struct Sums {
    published: u64,
    published_in_window: u64,
    acknowledged: u64,
    refused: BTreeMap<String, u64>,
    in_doubt: u64,
    unsent: u64,
    stalls: u64,
    deliveries_in_window: u64,
    last_delivery_ns: u64,
    latency_ms: Option<Percentiles>,
    state: State,
}

impl Sums {
    fn of(ends: &[FannedOut]) -> Self {
        let sum = |of: fn(&FannedOut) -> u64| ends.iter().map(of).sum();
        let mut latency = new_histogram();
        let mut state = State::default();
        let mut refused = BTreeMap::new();
        for end in ends {
            end.latency.add_to(&mut latency);
            state.add(&end.state);
            causes::add(&mut refused, &end.refused);
        }
        Self {
            published: sum(|end| end.published),
            published_in_window: sum(|end| end.published_in_window),
            acknowledged: sum(|end| end.acknowledged),
            refused,
            in_doubt: sum(|end| end.in_doubt),
            unsent: sum(|end| end.unsent),
            stalls: sum(|end| end.stalls),
            deliveries_in_window: sum(|end| end.deliveries_in_window),
            last_delivery_ns: ends.iter().map(|end| end.last_delivery_ns).max().unwrap_or(0),
            latency_ms: Percentiles::of(&latency),
            state,
        }
    }
}

/// Adds up the subscribers' accounts, and compares how far each has got with those who got furthest.
pub(super) fn draw_up(ends: &[FannedOut], dialect: Dialect, n_subscribers: u32) -> Ledger {
    let mut totals = Totals::default();
    for end in ends {
        totals.add(&end.ledger);
    }
    let channels: Vec<&ChannelEnd> = ends.iter().flat_map(|end| &end.channels).collect();
    let mut tops: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut bases: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut n_accounts = 0;
    for end in &channels {
        let key = (end.channel.as_str(), end.epoch.as_str());
        let furthest = end.last_offsets.keys().next_back().copied().unwrap_or(0);
        let top = tops.entry(key).or_default();
        *top = furthest.max(*top);
        let base = bases.entry(key).or_insert(end.base);
        *base = end.base.min(*base);
        n_accounts += end.last_offsets.values().sum::<u32>();
    }
    let behind = |end: &&ChannelEnd| {
        let top = tops[&(end.channel.as_str(), end.epoch.as_str())];
        end.last_offsets.iter().map(|(last, count)| (top - last) * u64::from(*count)).sum::<u64>()
    };
    let lost_at_the_end = channels.iter().map(behind).sum();
    let acknowledged: u64 = ends.iter().map(|end| end.acknowledged).sum();
    let seen: u64 = tops.iter().map(|(key, top)| top - bases[key]).sum();
    // After a change of epoch, or a gap that was announced, offsets do not tell how many there were.
    let is_countable = totals.announced_gaps == 0 && totals.received > 0 && seen > 0;
    let lost_to_all = if is_countable || (acknowledged > 0 && totals.received == 0) { acknowledged.saturating_sub(seen) } else { 0 };
    let has_offsets = dialect == Dialect::Bare || seen > 0 || acknowledged == 0;
    totals.lost += lost_at_the_end;
    let is_whole = totals.is_whole() && lost_to_all == 0 && has_offsets && n_accounts == n_subscribers;
    Ledger { totals, lost_at_the_end, lost_to_all, is_whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Counts;

    fn end(epoch: &str, acknowledged: u64, ledger: Totals, last_offsets: &[(u64, u32)]) -> FannedOut {
        let channel = ChannelEnd {
            channel: "chat:a".to_owned(),
            epoch: epoch.to_owned(),
            base: 0,
            last_offsets: last_offsets.iter().copied().collect(),
        };
        FannedOut {
            published: acknowledged,
            published_in_window: 0,
            acknowledged,
            refused: BTreeMap::new(),
            in_doubt: 0,
            unsent: 0,
            stalls: 0,
            deliveries_in_window: 0,
            last_delivery_ns: 0,
            latency: Counts::default(),
            ledger,
            channels: vec![channel],
            stuck: Vec::new(),
            state: State::default(),
        }
    }

    fn received(n_publications: u64) -> Totals {
        Totals { received: n_publications, ..Totals::default() }
    }

    #[test]
    fn subscribers_of_two_processes_are_held_against_each_other() {
        let whole = draw_up(&[end("e", 6, received(20), &[(10, 2)]), end("e", 4, received(10), &[(10, 1)])], Dialect::Protocol, 3);
        assert!(whole.is_whole, "{whole:?}");
        let behind = draw_up(&[end("e", 6, received(20), &[(10, 2)]), end("e", 4, received(8), &[(8, 1)])], Dialect::Protocol, 3);
        assert_eq!((behind.lost_at_the_end, behind.totals.lost, behind.is_whole), (2, 2, false));
    }

    #[test]
    fn what_was_acknowledged_and_reached_nobody_is_lost() {
        let ledger = draw_up(&[end("e", 12, received(20), &[(10, 2)])], Dialect::Protocol, 2);
        assert_eq!((ledger.lost_to_all, ledger.is_whole), (2, false));
        let none = draw_up(&[end("e", 5, received(0), &[(0, 2)])], Dialect::Protocol, 2);
        assert_eq!((none.lost_to_all, none.is_whole), (5, false));
    }

    #[test]
    fn a_subscriber_without_an_account_is_missed() {
        assert!(!draw_up(&[end("e", 10, received(20), &[(10, 2)])], Dialect::Protocol, 3).is_whole);
    }

    #[test]
    fn rate_window_and_budget_are_shared_by_publishers() {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            args: FanOutArgs,
        }
        let parse = |line: &str| <Command as clap::Parser>::parse_from(line.split(' ')).args;
        let closed = orders(&parse("x --window 9 --publishers 3 --publications 300"), Dialect::Protocol, 2, 1);
        assert_eq!((closed[0].pace, closed[1].pace), (Pace::Closed { window: 6 }, Pace::Closed { window: 3 }));
        assert_eq!((closed[0].budget, closed[1].budget, closed[1].first_publisher), (200, 100, 2));
        let open = orders(&parse("x --rate 100"), Dialect::Protocol, 2, 1);
        assert_eq!(open[1].pace, Pace::Open { interval_ns: 2e7, offset_ns: 5e6 });
        let bare = orders(&parse("x --publishers 5 --channels 5"), Dialect::Bare, 2, 1);
        assert_eq!((bare[0].n_publishers, bare[1].n_publishers), (1, 0));
    }
}
