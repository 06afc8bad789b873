//! `debug.*`: kinds that try the engine out.

use crate::registry::JobContext;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::jobs::engine::Outcome;
use std::time::Duration;

/// `debug.echo`: its payload is its result.
pub async fn echo(_: JobContext, payload: Box<RawValue>) -> Outcome {
    Outcome::Done(payload)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    pub ms: u64,
}

/// `debug.sleep`: takes so long, and stops when it is asked to.
pub async fn sleep(context: JobContext, payload: Sleep) -> Outcome {
    match context.until_stopped(tokio::time::sleep(Duration::from_millis(payload.ms))).await {
        Some(()) => done("null"),
        None => Outcome::Cancelled,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    #[serde(default)]
    pub message: Option<String>,
}

/// `debug.fail`: fails every attempt.
pub async fn fail(_: JobContext, payload: Fail) -> Outcome {
    Outcome::retry("debug_fail", payload.message.unwrap_or_else(|| "it was asked to fail".to_owned()))
}

/// `debug.crash`: aborts its process.
pub async fn crash(_: JobContext, _: Box<RawValue>) -> Outcome {
    std::process::abort()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub ms: u64,
}

/// `debug.block`: keeps its thread for so long, and hears nothing meanwhile.
pub async fn block(_: JobContext, payload: Block) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "to block the thread is what it is for")]
    std::thread::sleep(Duration::from_millis(payload.ms));
    done("null")
}

fn done(json: &str) -> Outcome {
    Outcome::Done(RawValue::from_string(json.to_owned()).expect("a literal that is JSON"))
}
