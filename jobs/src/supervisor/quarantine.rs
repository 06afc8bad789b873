//! Suspects of a crash run alone: in children with one slot, started when suspects wait and ending by themselves when none do.

use super::{Crew, Order, Plan, aftermath, child_process::ChildProcess, child_process::Pulse};
use shared::jobs::engine::salvage;
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until the worker stops and the last of these children has ended.
pub(super) async fn run(crew: Arc<Crew>, plan: Plan, pulses: Vec<Arc<Pulse>>) {
    let mut order = crew.order.clone();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wards = JoinSet::new();
    let mut free: Vec<usize> = (0..pulses.len()).rev().collect();
    let mut n_waited = 0;
    while *order.borrow() < Order::Warm {
        let is_ours = tokio::select! {
            _ = looks.tick() => false,
            () = crew.suspects.notified() => true,
            Some(place) = wards.join_next() => {
                free.extend(place);
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
            wards.spawn(keep(Arc::clone(&crew), plan, place, Arc::clone(&pulses[place])));
        }
    }
    while wards.join_next().await.is_some() {}
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
async fn keep(crew: Arc<Crew>, plan: Plan, place: usize, pulse: Arc<Pulse>) -> usize {
    match ChildProcess::start(&plan, &pulse).await {
        Ok(child) => {
            let ended = child.run(&mut crew.order.clone(), &crew.ctx.settings()).await;
            aftermath::begin(&crew, &plan, ended);
        }
        Err(error) => tracing::error!(index = plan.index, %error, "a child for suspects could not be started"),
    }
    place
}
