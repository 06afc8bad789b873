//! Where a job goes: checked when it is submitted, so that what can be known then is told then.

use super::{
    EndpointState, Headers, KIND,
    input::{SubmitTarget, check_headers},
    masking, store,
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

impl SubmitTarget {
    /// As it is shown: with the headers' values masked that an endpoint's are.
    pub(crate) fn shown(&self) -> Self {
        Self { headers: self.headers.as_ref().map(masking::shown), ..self.clone() }
    }

    /// As it is kept, in the place of `before`: with the values that are to stay as they are. `at` is where the request has its headers.
    pub(crate) fn unmasked(self, before: Option<&Self>, at: &str) -> Result<Self> {
        let Some(new) = &self.headers else { return Ok(self) };
        let none = Headers::new();
        let known = before.and_then(|before| before.headers.as_ref()).unwrap_or(&none);
        if before.is_some_and(|before| !self.leads_as(before)) {
            masking::refuse_to_take_along(Some(new), known, at)?;
        }
        Ok(Self { headers: Some(masking::unmask(new, known, at)?), ..self })
    }

    /// Whether both lead to one endpoint, or to one origin.
    fn leads_as(&self, before: &Self) -> bool {
        match (&self.url, &before.url) {
            (Some(url), Some(before)) => masking::is_same_origin(url, before),
            (None, None) => self.endpoint_id == before.endpoint_id,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}
