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

/// Between two reports of `debug.sleep`, at least.
const REPORT_EVERY_MS: u64 = 100;

/// `debug.sleep`: takes so long, says how far it is, and stops when it is asked to.
pub async fn sleep(context: JobContext, payload: Sleep) -> Outcome {
    let n_naps = (payload.ms / REPORT_EVERY_MS).clamp(1, 100);
    let nap = Duration::from_millis(payload.ms) / u32::try_from(n_naps).unwrap_or(1);
    for n_done in 1..=n_naps {
        if context.until_stopped(tokio::time::sleep(nap)).await.is_none() {
            return Outcome::Cancelled;
        }
        if n_done < n_naps {
            #[expect(clippy::cast_precision_loss, reason = "both are at most 100")]
            context.progress(100.0 * n_done as f64 / n_naps as f64, Some("sleeping"));
        }
    }
    done("null")
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

/// Most that one `debug.leak` takes, in MiB.
const LEAK_MAX_MB: usize = 1_024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leak {
    pub mb: usize,
}

/// `debug.leak`: takes so much memory and never gives it back.
pub async fn leak(_: JobContext, payload: Leak) -> Outcome {
    // Not zeroes: pages that nobody wrote to are not resident.
    std::mem::forget(vec![1_u8; payload.mb.min(LEAK_MAX_MB) << 20]);
    done("null")
}

fn done(json: &str) -> Outcome {
    Outcome::Done(RawValue::from_string(json.to_owned()).expect("a literal that is JSON"))
}
