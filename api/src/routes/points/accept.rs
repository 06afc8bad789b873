//! One request with points on its way: refused while too much waits, read in its form, judged point by point, appended, answered.

use super::{Durability, RejectedPoint, SendQuery};
use crate::{
    edge::RequestScope,
    error::{ApiResult, Problem},
    extract::Lines,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::Payload,
};
use shared::{
    Caller, Code, Context, Error, FieldError, Result,
    ids::TrackId,
    points::{
        POINTS_MAX, Point,
        append::Appending,
        depth,
        forms::{self, Sink, json},
        process::now,
    },
    telemetry::metrics::INGEST_REJECTED,
};

/// Broken rules of an atomic request that are told: the first ones say enough.
const ERRORS_MAX: usize = 100;

/// What a request is made of beside its body.
pub(super) struct Accepting<'a> {
    pub(super) ctx: &'a Context,
    pub(super) caller: &'a Caller,
    pub(super) request_id: &'a str,
    pub(super) scope: &'a RequestScope,
    /// The track that the request names.
    pub(super) of_track: Option<TrackId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
    Csv,
    Gpx,
}

impl Accepting<'_> {
    pub(super) async fn run(&self, query: SendQuery, request: &HttpRequest, payload: Payload) -> ApiResult {
        let form = form(request)?;
        if query.durability == Durability::Redis {
            depth::check(self.ctx, self.caller.user_id).await?;
        }
        let mut lines = Lines::open(request, payload.into_inner())?;
        let mut taker = Taker::new(self, query);
        if form == Form::Lines && query.durability == Durability::Redis && !query.atomic {
            return self.stream(&mut lines, taker).await;
        }
        let body = lines.whole().await?;
        match form {
            Form::Json => match json::Body::parse(&body)? {
                json::Body::One(point) => return self.one(point, query.durability).await,
                json::Body::Many(items) if items.len() > POINTS_MAX => return Err(wrong_number().into()),
                json::Body::Many(items) => json::each(&items, self.of_track, &mut taker)?,
            },
            Form::Lines => forms::lines::each_of(&body, self.of_track, &mut taker)?,
            Form::Csv => forms::csv::each(&body[..], self.of_track, &mut taker)?,
            Form::Gpx => forms::gpx::each(&body[..], self.of_track, &mut taker)?,
        }
        if taker.index == 0 {
            return Err(wrong_number().into());
        }
        taker.finish(self).await
    }

    /// Block by block as the body arrives. What was appended stays, so a later failure is told beside it.
    async fn stream(&self, lines: &mut Lines, mut taker: Taker<'_>) -> ApiResult {
        loop {
            match self.next_block(lines, &mut taker).await {
                Ok(true) => {}
                Ok(false) if taker.index == 0 => return Err(wrong_number().into()),
                Ok(false) => return Ok(taker.answer(StatusCode::MULTI_STATUS, None)?),
                Err(error) if taker.n_accepted == 0 => return Err(error.into()),
                Err(error) => {
                    let index = taker.n_done;
                    taker.forget_from(index);
                    let stopped = RejectedPoint { index, problem: Problem::new(&error, self.request_id) };
                    return Ok(taker.answer(StatusCode::MULTI_STATUS, Some(&stopped))?);
                }
            }
        }
    }

    /// `false` at the end of the body.
    async fn next_block(&self, lines: &mut Lines, taker: &mut Taker<'_>) -> Result<bool> {
        let Some(block) = lines.next_block().await? else { return Ok(false) };
        let read = forms::lines::each_of(&block, self.of_track, taker);
        // Also those before a line that is one too many.
        taker.send(self).await?;
        read.map(|()| true)
    }

    /// A point alone: what is wrong with it is the answer.
    async fn one(&self, json: &[u8], durability: Durability) -> ApiResult {
        let point = json::point(json, self.of_track).inspect_err(count_rejected)?;
        let status = match durability {
            Durability::Redis => {
                let mut appending = Appending::new(self.ctx, self.caller);
                appending.add(&point);
                appending.send(self.ctx).await?;
                StatusCode::ACCEPTED
            }
            Durability::Postgres => {
                let point = [point];
                if !now::unknown(self.ctx, self.caller, &point).await?.is_empty() {
                    return Err(unknown_track().into());
                }
                let _turn = self.ctx.points.commit_turn(self.caller.user_id, self.scope).await?;
                now::store(self.ctx, &point).await?;
                StatusCode::OK
            }
        };
        Ok(HttpResponse::build(status).content_type("application/json").body(r#"{"accepted":1,"rejected":[]}"#))
    }
}

/// Takes points as they are read, and remembers what is wrong with others.
struct Taker<'a> {
    target: Target,
    /// The next point's place in the body.
    index: usize,
    n_accepted: usize,
    /// Points from the first on with which everything was done that there is to do.
    n_done: usize,
    /// What a request is answered with that takes all or nothing; `None` for one that does not.
    errors: Option<Vec<FieldError>>,
    rejected: Rejected,
    request_id: &'a str,
}

enum Target {
    Streams(Appending),
    /// With their places in the body.
    Table(Vec<(usize, Point<'static>)>),
}

impl Sink for Taker<'_> {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()> {
        if self.index == POINTS_MAX {
            return Err(Error::new(Code::BodyTooLarge, format!("A request may hold {POINTS_MAX} points.")));
        }
        let index = self.index;
        self.index += 1;
        match (point, &mut self.target) {
            (Ok(point), Target::Streams(appending)) => appending.add(&point),
            (Ok(point), Target::Table(points)) => points.push((index, point.into_owned())),
            (Err(error), _) => self.reject(index, &error)?,
        }
        Ok(())
    }
}

impl<'a> Taker<'a> {
    fn new(accepting: &Accepting<'a>, query: SendQuery) -> Self {
        let target = match query.durability {
            Durability::Redis => Target::Streams(Appending::new(accepting.ctx, accepting.caller)),
            Durability::Postgres => Target::Table(Vec::new()),
        };
        let errors = query.atomic.then(Vec::new);
        Self { target, index: 0, n_accepted: 0, n_done: 0, errors, rejected: Rejected::default(), request_id: accepting.request_id }
    }

    fn reject(&mut self, index: usize, error: &Error) -> Result<()> {
        count_rejected(error);
        match &mut self.errors {
            None => self.rejected.add(&RejectedPoint { index, problem: Problem::new(error, self.request_id) }),
            Some(errors) => {
                let broken =
                    error.fields.iter().map(|field| FieldError { pointer: format!("/points/{index}{}", field.pointer), ..field.clone() });
                errors.extend(broken);
                if error.fields.is_empty() {
                    let (code, detail) = (error.code.to_string(), error.detail.clone().into_owned());
                    errors.push(FieldError { pointer: format!("/points/{index}"), code, detail });
                }
                Ok(())
            }
        }
    }

    /// Of a block that failed: its points are told by where it began.
    fn forget_from(&mut self, index: usize) {
        self.rejected.forget_from(index);
    }

    async fn send(&mut self, accepting: &Accepting<'_>) -> Result<()> {
        if let Target::Streams(appending) = &mut self.target {
            let n_points = appending.n_points();
            appending.send(accepting.ctx).await?;
            self.n_accepted += n_points;
        }
        self.n_done = self.index;
        Ok(())
    }

    /// With the whole body read.
    async fn finish(mut self, accepting: &Accepting<'_>) -> ApiResult {
        let (ctx, caller) = (accepting.ctx, accepting.caller);
        let (places, points): (Vec<usize>, Vec<Point<'static>>) = match &mut self.target {
            Target::Streams(_) => {
                self.refuse_if_atomic()?;
                self.send(accepting).await?;
                return Ok(self.answer(StatusCode::MULTI_STATUS, None)?);
            }
            Target::Table(points) => std::mem::take(points).into_iter().unzip(),
        };
        let unknown = now::unknown(ctx, caller, &points).await?;
        for at in &unknown {
            self.reject(places[*at], &unknown_track())?;
        }
        self.refuse_if_atomic()?;
        let mut at = 0..;
        let known: Vec<Point<'static>> =
            points.into_iter().filter(|_| at.next().is_some_and(|at| unknown.binary_search(&at).is_err())).collect();
        let _turn = ctx.points.commit_turn(caller.user_id, accepting.scope).await?;
        now::store(ctx, &known).await?;
        self.n_accepted = known.len();
        Ok(self.answer(StatusCode::OK, None)?)
    }

    fn refuse_if_atomic(&mut self) -> Result<()> {
        let Some(errors) = self.errors.take_if(|errors| !errors.is_empty()) else { return Ok(()) };
        let mut refusal = Error::new(Code::ValidationFailed, "Points break a rule, and so none was accepted.");
        refusal.fields = errors;
        refusal.fields.truncate(ERRORS_MAX);
        Err(refusal)
    }

    fn answer(self, status: StatusCode, stopped: Option<&RejectedPoint<'_>>) -> Result<HttpResponse> {
        let mut body = format!("{{\"accepted\":{},\"rejected\":[", self.n_accepted).into_bytes();
        body.extend(self.rejected.json);
        body.push(b']');
        if let Some(stopped) = stopped {
            body.extend(b",\"stopped\":");
            serde_json::to_writer(&mut body, stopped).map_err(Error::internal)?;
        }
        body.push(b'}');
        Ok(HttpResponse::build(status).content_type("application/json").body(body))
    }
}

/// Refusals as they are sent, written one by one: ten thousand of them are never held as a tree.
#[derive(Default)]
struct Rejected {
    json: Vec<u8>,
    /// Where each begins, by its index.
    starts: Vec<(usize, usize)>,
}

impl Rejected {
    fn add(&mut self, rejected: &RejectedPoint<'_>) -> Result<()> {
        self.starts.push((rejected.index, self.json.len()));
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        serde_json::to_writer(&mut self.json, rejected).map_err(Error::internal)
    }

    fn forget_from(&mut self, index: usize) {
        if let Some((_, start)) = self.starts.iter().find(|(of, _)| *of >= index) {
            self.json.truncate(*start);
        }
    }
}

fn form(request: &HttpRequest) -> Result<Form> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Form::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Form::Lines),
        "text/csv" => Ok(Form::Csv),
        "application/gpx+xml" => Ok(Form::Gpx),
        _ => {
            let forms = "`application/json`, `application/x-ndjson`, `text/csv` or `application/gpx+xml`";
            Err(Error::new(Code::UnsupportedMediaType, format!("Send {forms}.")))
        }
    }
}

fn wrong_number() -> Error {
    Error::invalid("/points", "length", format!("must hold 1 to {POINTS_MAX} points"))
}

fn unknown_track() -> Error {
    Error::new(Code::ValidationFailed, "The point breaks a rule.").with_field(
        "/track_id",
        "unknown_track",
        "names no track, or one that is not yours",
    )
}

fn count_rejected(error: &Error) {
    metrics::counter!(INGEST_REJECTED, "code" => error.code.as_str()).increment(1);
}
