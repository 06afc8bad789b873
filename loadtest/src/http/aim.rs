//! Makes the requests of a target: signs in, and for job-get submits the jobs that are then read.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::{HttpArgs, Target};
use crate::address::HttpUrl;
use crate::client::{BodyRule, Request};
use crate::control::Control;
use crate::error::Error;
use crate::session::{Identity, Need};

/// What a page of queues asks for. There always is a queue `default`.
const QUEUE_PATHS: [&str; 4] =
    ["/api/v1/queues?limit=20", "/api/v1/queues/default", "/api/v1/queues/default/dead?limit=20", "/api/v1/workers?limit=20"];
const JOBS_PATH: &str = "/api/v1/jobs";
/// Longest wait for the jobs of job-get to end.
const JOBS_END_WITHIN: Duration = Duration::from_secs(60);
const JOBS_POLL: Duration = Duration::from_millis(50);

/// Everything a run needs to know of a target.
pub(super) struct Aim {
    pub(super) label: String,
    pub(super) peer: SocketAddr,
    pub(super) body_rule: BodyRule,
    authority: String,
    requests: Vec<Request>,
    identity: Identity,
    control: Control,
}

impl Aim {
    /// Prepares what the command line asks for, on the platform itself where need be.
    pub(super) fn at_target(args: &HttpArgs, peer: SocketAddr, setting_up: Duration) -> Result<Self, Error> {
        let mut aim = Self {
            label: String::new(),
            peer,
            body_rule: BodyRule::Expected,
            authority: first(args)?.authority(),
            requests: Vec::new(),
            identity: identity(args)?,
            control: Control::new(peer, &first(args)?.authority())?,
        };
        match &args.path {
            Some(path) => aim.take_custom_request(args, path),
            None => aim.take_target(args.target, args.jobs, setting_up)?,
        }
        for request in &mut aim.requests {
            for line in &args.headers {
                request.add_header_line(line).map_err(Error::usage)?;
            }
            // Says what is wrong with a path before anything is measured.
            request.to_bytes(&aim.authority).map_err(Error::usage)?;
        }
        Ok(aim)
    }

    /// The server to compare with: a GET of its URL.
    pub(super) fn at_reference(url: &HttpUrl, peer: SocketAddr) -> Result<Self, Error> {
        Ok(Self {
            label: "reference".to_owned(),
            peer,
            body_rule: BodyRule::Expected,
            authority: url.authority(),
            requests: vec![Request::get(url.path())],
            identity: Identity::Anonymous,
            control: Control::new(peer, &url.authority())?,
        })
    }

    /// The bytes to send, with a token that lasts for `needed_for`.
    pub(super) fn request_bytes(&mut self, needed_for: Duration) -> Result<Vec<Box<[u8]>>, Error> {
        let token = self.identity.token(&mut self.control, needed_for)?;
        self.requests
            .iter()
            .map(|request| {
                let request = match token {
                    Some(token) => request.clone().with_bearer(token),
                    None => request.clone(),
                };
                request.to_bytes(&self.authority).map_err(Error::usage)
            })
            .collect()
    }

    fn take_custom_request(&mut self, args: &HttpArgs, path: &str) {
        let body = args.body.clone().unwrap_or_default().into_bytes();
        let has_type = |line: &String| line.to_ascii_lowercase().starts_with("content-type");
        let mut headers = Vec::new();
        if !body.is_empty() && !args.headers.iter().any(has_type) {
            headers.push(("Content-Type".into(), "application/json".into()));
        }
        self.label = format!("{} {path}", args.method.as_str());
        self.body_rule = args.method.body_rule();
        self.requests = vec![Request { method: args.method, path: path.to_owned(), headers, body }];
    }

    fn take_target(&mut self, target: Target, n_jobs: u32, setting_up: Duration) -> Result<(), Error> {
        self.label = target.name().to_owned();
        self.requests = match target {
            Target::Healthz => vec![Request::get("/healthz")],
            Target::Me => vec![Request::get("/api/v1/auth/me")],
            Target::JobsList => vec![Request::get(JOBS_PATH)],
            Target::JobSubmit => vec![Request::post_json(JOBS_PATH, &echo_job(0))],
            Target::JobGet => self.submit_jobs(n_jobs, setting_up)?,
            Target::Queues => QUEUE_PATHS.map(Request::get).to_vec(),
        };
        Ok(())
    }

    /// Submits `n_jobs` jobs, waits until they have ended, and returns the requests that read them.
    fn submit_jobs(&mut self, n_jobs: u32, setting_up: Duration) -> Result<Vec<Request>, Error> {
        let token = self.identity.token(&mut self.control, setting_up)?;
        let token = token.unwrap_or_default().to_owned();
        let jobs: Vec<_> = (0..n_jobs).map(echo_job).collect();
        let bulk = Request::post_json(format!("{JOBS_PATH}/bulk"), &json!({ "jobs": jobs }));
        let answer = self.control.expect(207, "submitting jobs to read", &bulk.with_bearer(&token))?;
        let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
        let ids: Vec<&str> = items.iter().filter_map(|item| item["id"].as_str()).collect();
        if ids.len() != n_jobs as usize {
            let n_accepted = ids.len();
            let reason = format!("only {n_accepted} of {n_jobs} jobs to read were accepted");
            return Err(Error::failed(reason));
        }
        let deadline = Instant::now() + JOBS_END_WITHIN;
        let mut requests = Vec::with_capacity(ids.len());
        for id in ids {
            let request = Request::get(format!("{JOBS_PATH}/{id}"));
            self.wait_until_ended(&request.clone().with_bearer(&token), deadline)?;
            requests.push(request);
        }
        Ok(requests)
    }

    fn wait_until_ended(&mut self, request: &Request, deadline: Instant) -> Result<(), Error> {
        loop {
            let job = self.control.expect(200, "waiting for a job to end", request)?;
            match job["state"].as_str() {
                Some("succeeded") => return Ok(()),
                Some(state @ ("dead" | "cancelled" | "expired")) => {
                    return Err(Error::failed(format!("a debug.echo job ended {state}")));
                }
                Some(_) | None if Instant::now() < deadline => self.control.pause(JOBS_POLL),
                Some(_) | None => {
                    return Err(Error::failed("the jobs to read have not ended within 60 s: is a worker running?"));
                }
            }
        }
    }
}

pub(crate) fn echo_job(number: u32) -> serde_json::Value {
    json!({"kind": "debug.echo", "payload": {"message": "load test", "number": number}})
}

/// The process that is asked while setting up.
fn first(args: &HttpArgs) -> Result<&HttpUrl, Error> {
    args.url.first().ok_or_else(|| Error::usage("--url names no server"))
}

fn identity(args: &HttpArgs) -> Result<Identity, Error> {
    args.account.identity(match (&args.path, args.target) {
        (Some(_), _) | (None, Target::Healthz) => Need::Nobody,
        (None, Target::JobGet | Target::JobSubmit | Target::JobsList | Target::Me | Target::Queues) => Need::Somebody,
    })
}
