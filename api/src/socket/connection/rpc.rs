//! `rpc`: operations of REST over the socket, with the same permissions, rate limits and errors.
//!
//! To add a method: its name in [`Method::parse`], its call in `Connection::perform`.

use super::{Connection, commands::Failure};
use crate::{
    extract,
    socket::{
        hub::Hub,
        protocol::{command::Rpc, error::Refusal, reply::RpcDone},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use shared::{
    Caller, Code, Error, Scope,
    channels::Authority,
    clock::unix_ms,
    ids::JobId,
    jobs::{self, Origin, SubmitJob, cancel::Cancelled, submit},
    limits::{Class, Principal},
};
use std::rc::Rc;
use validator::Validate;

#[derive(Debug)]
pub(super) enum Method {
    Time,
    SubmitJob(Box<SubmitJob>),
    GetJob(JobId),
    CancelJob(JobId),
}

#[derive(Debug, Deserialize, Validate)]
struct JobNamed {
    id: JobId,
}

impl Method {
    pub(super) fn parse(request: &Rpc<'_>) -> Result<Self, Failure> {
        let data = request.data.map_or("null", RawValue::get).as_bytes();
        let id = || extract::parse::<JobNamed>(data).map(|job| job.id);
        Ok(match &*request.method {
            "time" => Self::Time,
            "jobs.submit" => Self::SubmitJob(Box::new(extract::parse(data)?)),
            "jobs.get" => Self::GetJob(id()?),
            "jobs.cancel" => Self::CancelJob(id()?),
            _ => return Err(Refusal::METHOD_NOT_FOUND.into()),
        })
    }

    const fn demands(&self) -> Option<(Scope, Class)> {
        match self {
            Self::Time => None,
            Self::SubmitJob(_) | Self::CancelJob(_) => Some((Scope::JobsWrite, Class::Write)),
            Self::GetJob(_) => Some((Scope::JobsRead, Class::Read)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Time {
    unix_ms: i64,
}

/// What time it is here. The one method that waits for nothing, and so the one to measure a round trip with.
pub(super) fn time(hub: &Hub) -> Result<RpcDone, Failure> {
    done(&Time { unix_ms: unix_ms(hub.state.ctx.clock.now()) })
}

impl Connection {
    pub(super) async fn call(self: Rc<Self>, id: u32, method: Method) {
        let outcome = self.perform(method).await;
        self.answer(id, "rpc", outcome);
    }

    async fn perform(&self, method: Method) -> Result<RpcDone, Failure> {
        let ctx = &self.hub.state.ctx;
        let Some((scope, class)) = method.demands() else { return time(&self.hub) };
        let caller = self.account()?;
        caller.require(scope)?;
        let verdict = self.hub.state.limiter.check(ctx, class, Principal::User(caller.user_id)).await;
        if let Some(refusal) = verdict.and_then(|verdict| verdict.refusal()) {
            return Err(refusal.into());
        }
        if class == Class::Write {
            self.require_room(self.hub.rules.message_max_bytes)?;
        }
        match method {
            Method::Time => time(&self.hub),
            Method::SubmitJob(job) => {
                let origin = Origin { request_id: Some(self.id.to_string()), traceparent: None };
                let job = submit::prepare(ctx, &caller, *job, origin).await?;
                done(&submit::submit(ctx, job).await?)
            }
            Method::GetJob(id) => done(&jobs::read::get(ctx, &caller, id).await?),
            Method::CancelJob(id) => match jobs::cancel::cancel(ctx, &caller, id).await? {
                Cancelled::Done(job) | Cancelled::Signalled(job) => done(&job),
            },
        }
    }

    /// Jobs belong to accounts: who came by another backend's token has none.
    fn account(&self) -> Result<Caller, Failure> {
        match self.holder().subject.authority {
            Authority::Account(proof) => Ok(proof.caller),
            Authority::Anonymous => Err(Error::new(Code::Unauthenticated, "Jobs need an account.").into()),
            Authority::Token(_) | Authority::Insecure => Err(Refusal::PERMISSION_DENIED.into()),
        }
    }
}

fn done(value: &impl Serialize) -> Result<RpcDone, Failure> {
    Ok(RpcDone { data: to_raw_value(value).map_err(Error::internal)? })
}
