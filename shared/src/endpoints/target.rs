//! Where a job goes: checked when it is submitted, so that what can be known then is told then.

use super::{
    EndpointState, KIND,
    input::{SubmitTarget, check_headers},
    store,
};
use crate::{Caller, Context, Error, Result};
use serde_json::value::{RawValue, to_raw_value};

/// The target as the job keeps it, if it is one that `caller` may deliver to. A host is resolved when the job runs.
pub async fn check(ctx: &Context, caller: &Caller, kind: &str, target: Option<&SubmitTarget>) -> Result<Option<Box<RawValue>>> {
    let target = match (target, kind == KIND) {
        (None, false) => return Ok(None),
        (Some(target), true) => target,
        (None, true) => return Err(Error::invalid("/target", "required", format!("must say where a job of kind `{KIND}` goes"))),
        (Some(_), false) => return Err(Error::invalid("/kind", "kind", format!("must be `{KIND}` for a job with a `target`"))),
    };
    if let Some(headers) = &target.headers {
        check_headers(headers, "/target/headers")?;
    }
    match (target.endpoint_id, &target.url) {
        (Some(id), None) => {
            let endpoint = store::find(&ctx.pg, id, caller.owner_filter()).await?;
            let endpoint = endpoint.ok_or_else(|| Error::invalid("/target/endpoint_id", "unknown", "is no endpoint of yours"))?;
            if endpoint.state == EndpointState::Disabled {
                return Err(Error::invalid("/target/endpoint_id", "disabled", "is disabled: it said that it is gone"));
            }
        }
        (None, Some(url)) => {
            let refused = |refused: crate::outbound::Refused| Error::invalid("/target/url", refused.code(), refused.to_string());
            ctx.outbound.guard().parse(url).map_err(refused)?;
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Error::invalid("/target", "exclusive", "must have either `endpoint_id` or `url`"));
        }
    }
    to_raw_value(target).map(Some).map_err(Error::internal)
}
