//! What the platform is asked beside the load: tracks of our own, and how many points it has stored.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Method, Request};
use crate::control::Control;
use crate::error::Error;
use crate::session::Identity;

/// How long a token must last that is used for one question.
const TOKEN_LASTS: Duration = Duration::from_secs(30);
/// How often the stored points are counted: from what is kept of hours, so that it costs little.
const COUNT_EVERY: Duration = Duration::from_millis(50);

pub(crate) struct Platform {
    control: Control,
    identity: Identity,
}

impl Platform {
    pub(crate) fn new(control: Control, identity: Identity) -> Self {
        Self { control, identity }
    }

    pub(crate) fn token(&mut self, needed_for: Duration) -> Result<String, Error> {
        Ok(self.identity.token(&mut self.control, needed_for)?.unwrap_or_default().to_owned())
    }

    /// Ids of new tracks, called `name` with a number.
    pub(crate) fn make_tracks(&mut self, n: u32, name: &str) -> Result<Vec<String>, Error> {
        (1..=n)
            .map(|n| {
                let track =
                    self.ask(201, "making a track", Request::post_json("/api/v1/tracks", &json!({"name": format!("{name} {n}")})))?;
                track["id"].as_str().map(str::to_owned).ok_or_else(|| Error::failed("a track has no id"))
            })
            .collect()
    }

    pub(crate) fn delete_tracks(&mut self, ids: &[String]) -> Result<(), Error> {
        for id in ids {
            self.ask(204, "deleting a track", Request::json(Method::Delete, format!("/api/v1/tracks/{id}"), &json!({})))?;
        }
        Ok(())
    }

    pub(crate) fn delete_file(&mut self, id: &str) -> Result<(), Error> {
        self.ask(204, "deleting a file", Request::json(Method::Delete, format!("/api/v1/files/{id}"), &json!({}))).map(drop)
    }

    pub(crate) fn send_points(&mut self, points: &Value) -> Result<(), Error> {
        let answer = self.ask(207, "sending points", Request::post_json("/api/v1/points", points))?;
        match answer["rejected"].as_array().is_some_and(Vec::is_empty) {
            true => Ok(()),
            false => Err(Error::failed(format!("points were rejected: {answer}"))),
        }
    }

    /// The id of a new job.
    pub(crate) fn submit(&mut self, job: &Value) -> Result<String, Error> {
        let job = self.ask(202, "submitting a job", Request::post_json("/api/v1/jobs", job))?;
        job["id"].as_str().map(str::to_owned).ok_or_else(|| Error::failed("a job has no id"))
    }

    pub(crate) fn result_of(&mut self, job_id: &str) -> Result<Value, Error> {
        let mut job = self.ask(200, "reading a job", Request::get(format!("/api/v1/jobs/{job_id}")))?;
        Ok(job["result"].take())
    }

    /// Lets `pause` pass; `true` when Ctrl-C was pressed meanwhile, or since it was asked for the first time.
    pub(crate) fn pause_unless_interrupted(&mut self, pause: Duration) -> bool {
        self.control.pause_unless_interrupted(pause)
    }

    /// Points of all tracks that the account sees.
    pub(crate) fn n_stored(&mut self) -> Result<u64, Error> {
        let stats = self.ask(200, "counting points", Request::get("/api/v1/points/stats?bucket=day"))?;
        let counts = stats["items"].as_array().into_iter().flatten().filter_map(|day| day["count"].as_u64());
        Ok(counts.sum())
    }

    /// Points of these tracks.
    pub(crate) fn n_stored_of(&mut self, ids: &[String]) -> Result<u64, Error> {
        let mut n_points = 0;
        for id in ids {
            let stats = self.ask(200, "counting points", Request::get(format!("/api/v1/tracks/{id}/stats?bucket=day")))?;
            n_points += stats["items"].as_array().into_iter().flatten().filter_map(|day| day["count"].as_u64()).sum::<u64>();
        }
        Ok(n_points)
    }

    /// Waits until `n` points are stored; returns how many there are when the time is over.
    pub(crate) fn until_stored(&mut self, n: u64, deadline: Instant, mut look: impl FnMut()) -> Result<u64, Error> {
        loop {
            look();
            let n_stored = self.n_stored()?;
            if n_stored >= n || Instant::now() > deadline {
                return Ok(n_stored);
            }
            self.control.pause(COUNT_EVERY);
        }
    }

    /// The same for points of these tracks.
    pub(crate) fn until_stored_of(&mut self, ids: &[String], n: u64, deadline: Instant) -> Result<u64, Error> {
        loop {
            let n_stored = self.n_stored_of(ids)?;
            if n_stored >= n || Instant::now() > deadline {
                return Ok(n_stored);
            }
            self.control.pause(COUNT_EVERY);
        }
    }

    fn ask(&mut self, expected: u16, purpose: &str, request: Request) -> Result<Value, Error> {
        let token = self.token(TOKEN_LASTS)?;
        self.control.expect(expected, purpose, &request.with_bearer(&token))
    }
}
