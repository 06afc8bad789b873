//! Suspects of a crash run alone: in children with one slot, started when suspects wait and ending by themselves when none do.

use super::{
    Crew, Order, Plan, aftermath,
    child_process::{ChildProcess, World},
    pulse::{Line, Pulse},
};
use crate::link::{News, Wish};
use shared::{jobs::engine::salvage, vital::vital};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// News of these children that wait to be taken in.
const NEWS_MAX: usize = 64;

/// Runs until the worker stops and the last of these children has ended.
pub(super) async fn run(crew: Arc<Crew>, plan: Plan, pulses: Vec<Arc<Pulse>>) {
    let mut order = crew.order.clone();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wards = JoinSet::new();
    let mut free: Vec<usize> = (0..pulses.len()).rev().collect();
    let mut n_waited = 0;
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    while *order.borrow() < Order::Warm {
        let is_ours = tokio::select! {
            _ = looks.tick() => false,
            () = crew.suspects.notified() => true,
            Some(place) = wards.join_next() => {
                free.extend(place);
                continue;
            }
            Some((_, told)) = heard.recv() => {
                take_in(&crew, told);
                continue;
            }
            _ = order.wait_for(|order| *order >= Order::Warm) => break,
        };
        let n_waiting = if free.is_empty() || *order.borrow() > Order::Run { 0 } else { waiting(&crew).await };
        // Those that another instance made are its own to run, unless they still wait a second later.
        let n_wanted = if is_ours { n_waiting } else { n_waiting.min(n_waited) };
        n_waited = n_waiting;
        for _ in 0..n_wanted.min(free.len()) {
            let Some(place) = free.pop() else { break };
            let plan = Plan { index: plan.index + place, ..plan.clone() };
            wards.spawn(vital("a child for suspects", keep(Arc::clone(&crew), plan, place, Arc::clone(&pulses[place]), news.clone())));
        }
    }
    drop(news);
    while let Some((_, told)) = heard.recv().await {
        take_in(&crew, told);
    }
    while wards.join_next().await.is_some() {}
}

fn take_in(crew: &Crew, news: News) {
    match news {
        News::UnknownQueue => crew.unknown_queue.notify_one(),
        News::Farewell(farewell) => crew.count_past(farewell.n_done, farewell.n_failed),
        News::Ready | News::Ageing(_) | News::Keeps(_) | News::Metrics(_) | News::Spans(_) | News::Write { .. } => {}
    }
}

async fn waiting(crew: &Crew) -> usize {
    match salvage::suspects(&crew.ctx, &crew.open_queues()).await {
        Ok(n) => usize::try_from(n).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::debug!(%error, "suspects cannot be counted");
            0
        }
    }
}

/// One child, to its end; returns its place.
async fn keep(crew: Arc<Crew>, plan: Plan, place: usize, pulse: Arc<Pulse>, news: mpsc::Sender<(Arc<Line>, News)>) -> usize {
    let child = match ChildProcess::start(&crew, &plan, Wish { slots: 1, ..Wish::default() }) {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(index = plan.index, %error, "a child for suspects could not be started");
            return place;
        }
    };
    let line = Arc::clone(&child.line);
    pulse.enter(&line);
    let ended = child.run(World::new(&crew), news).await;
    pulse.leave(&line);
    aftermath::begin(&crew, &plan, ended);
    place
}
