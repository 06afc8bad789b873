//! A child that runs no jobs: it maintains the queues, or stands by to, and stores points. It is not replaced, and no job can take it down.

use super::{
    Assignment, ingest,
    orders::{Order, Orders},
    spawn,
    voice::{Ear, Voice},
};
use crate::{link::News, maintenance};
use shared::{Context, Result, jobs::engine::timekeeping, telemetry::pulse, vital::steadily};
use std::process::ExitCode;

/// Runs until the worker stops. Others take over at once then: a batch of points is all there is to finish.
pub(super) async fn run(ctx: Context, assignment: &Assignment, voice: &Voice, ear: Ear) -> Result<ExitCode> {
    let mut orders = Orders::listen(ear.wish.clone(), ear.supervisor_gone)?;
    let clock = ctx.clone();
    let _timekeeping = spawn(async move { steadily("timekeeping", || timekeeping::follow(&clock)).await });
    let pulse = ctx.clone();
    let _pulse = spawn(async move { steadily("pulse", || pulse::keep(&pulse, "jobs-engine")).await });
    let ingest = ingest::spawn(&ctx, assignment);
    let _maintenance = spawn(async move { steadily("maintenance", || Box::pin(maintenance::run(&ctx))).await });
    voice.tell(&News::Ready).await;
    while let Order::Quiet | Order::Resume = orders.next().await {}
    ingest.stop().await;
    Ok(ExitCode::SUCCESS)
}
