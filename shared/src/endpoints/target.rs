//! Where a job goes: checked when it is submitted, so that what can be known then is told then.
//!
//! Headers that a target brings to an endpoint, and that are secrets by their names, are for the origin that the endpoint has when they
//! are given: whoever may move an endpoint could have them sent to a host of their own. Beside `endpoint_id` a target that is kept has
//! that origin in `url`, which code from before this rule passes over.

use super::{
    EndpointState, Headers, KIND,
    input::{SubmitTarget, check_headers},
    masking,
    store::{self, EndpointRow},
};
use crate::{Caller, Code, Context, Error, Result};
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
    let mut kept = target.clone();
    match (target.endpoint_id, &target.url) {
        (Some(id), None) => {
            let endpoint = store::find(&ctx.pg, id, caller.owner_filter()).await?;
            let endpoint = endpoint.ok_or_else(|| Error::invalid("/target/endpoint_id", "unknown", "is no endpoint of yours"))?;
            if endpoint.state == EndpointState::Disabled {
                return Err(Error::invalid("/target/endpoint_id", "disabled", "is disabled: it said that it is gone"));
            }
            if !target.hidden().is_empty() {
                kept.url = masking::origin(&endpoint.url);
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
    to_raw_value(&kept).map(Some).map_err(Error::internal)
}

/// The origin that the headers of a target that is kept were given for, where they are for one alone.
pub(crate) fn origin_of(kept: Option<&RawValue>) -> Result<Option<String>> {
    let Some(kept) = kept else { return Ok(None) };
    let SubmitTarget { endpoint_id, url, .. } = serde_json::from_str(kept.get()).map_err(Error::internal)?;
    Ok(url.filter(|_| endpoint_id.is_some()))
}

/// A target that was just checked, with headers that were given for `origin` earlier. Refused where the endpoint has left it; where nobody
/// noted it, the delivery finds out.
pub(crate) fn given_earlier(checked: Option<Box<RawValue>>, origin: Option<&str>) -> Result<Option<Box<RawValue>>> {
    let (Some(target), Some(now)) = (&checked, origin_of(checked.as_deref())?) else { return Ok(checked) };
    let target: SubmitTarget = serde_json::from_str(target.get()).map_err(Error::internal)?;
    match origin {
        Some(origin) if origin == now => Ok(checked),
        Some(origin) => Err(target.has_moved_from(Some(origin))),
        None => to_raw_value(&SubmitTarget { url: None, ..target }).map(Some).map_err(Error::internal),
    }
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

    /// Refuses to bring what is not shown of its headers where `endpoint` leads, if they were given before it did.
    pub(super) fn refuse_to_follow(&self, endpoint: &EndpointRow) -> Result<()> {
        let has_left = match &self.url {
            Some(origin) => !masking::is_same_origin(&endpoint.url, origin),
            None => endpoint.has_moved,
        };
        if has_left && !self.hidden().is_empty() { Err(self.has_moved_from(self.url.as_deref())) } else { Ok(()) }
    }

    /// The names of its headers whose values are not shown.
    fn hidden(&self) -> Vec<&str> {
        self.headers.as_ref().map(masking::hidden).unwrap_or_default()
    }

    fn has_moved_from(&self, origin: Option<&str>) -> Error {
        let names = self.hidden().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let origin = origin.map_or_else(|| "where it led".to_owned(), |origin| format!("`{origin}`"));
        let detail = format!(
            "The endpoint has left {origin} since {names} of the target's headers came, and no such value goes to another origin: send \
             a target with them anew, or move the endpoint back."
        );
        Error::new(Code::EndpointMoved, detail)
    }

    /// The origin that headers are for which a change `sent`, to be kept: where their endpoint leads `now`, if none of those that were for
    /// `before` is to stay. `at` is where the request has its headers.
    pub(crate) fn origin_after(&self, now: Option<String>, before: Option<String>, at: &str) -> Result<Option<String>> {
        let Some(sent) = self.headers.as_ref().filter(|headers| masking::keeps_any(headers)) else { return Ok(now) };
        if before.is_some() && before != now {
            masking::refuse_to_take_along(Some(sent), &Headers::new(), at)?;
        }
        Ok(before)
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
