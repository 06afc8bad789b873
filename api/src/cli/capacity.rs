//! `capacity`: what to set for this machine and load, and why.

use shared::{Context, capacity, config::Settings};
use std::process::ExitCode;

pub(super) fn run(settings: Settings, users: Option<u64>, is_json: bool) -> ExitCode {
    let looked = super::block_on(async {
        let ctx = Context::open_spare(settings)?;
        Ok::<_, shared::Error>(capacity::look(&ctx, None, users).await)
    });
    match looked {
        Ok(capacity) if is_json => super::print(serde_json::to_string_pretty(&capacity).expect("figures and text are JSON") + "\n"),
        Ok(capacity) => super::print(capacity.to_string()),
        Err(error) => super::failed(&error),
    }
}
