//! The server API for backends that know Centrifugo's: `POST /api/<method>`, always answered 200 with `result` or `error`. Its
//! libraries work unmodified; the operations are those of REST. To add a method: its line in [`commands`], its function there.

mod commands;
mod refusal;

use crate::{error::ApiResult, extract, gate::TrustedBackend, socket, state::AppState};
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    web::{Data, Path, Payload},
};
use commands::Method;
use futures_util::{StreamExt, stream};
use refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use shared::{Caller, Code, Context, Error, accounts::Proof, channels::requests::Requester, text};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Commands of one batch, at most; and those of a parallel one that are carried out at the same time.
const BATCH_MAX: usize = 1_000;
const AT_ONCE: usize = 16;

/// `result`, or `error`. Only the document knows this type.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "answers are written piece by piece")]
pub struct ServerReply {
    #[schema(nullable = false)]
    result: Option<Value>,
    #[schema(nullable = false)]
    error: Option<ServerError>,
    /// Of a batch.
    #[schema(nullable = false)]
    replies: Option<Vec<Value>>,
}

/// Why a command was refused. Only the document knows this type.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is written as `Refusal`")]
pub struct ServerError {
    #[schema(minimum = 100, example = 102)]
    code: u32,
    #[schema(example = "unknown channel")]
    message: String,
}

/// Does what another backend asks: `publish`, `broadcast`, `subscribe`, `unsubscribe`, `disconnect`, `presence`, `presence_stats`,
/// `history`, `history_remove`, `refresh`, `channels`, `info`, or a `batch` of them, in the shapes of Centrifugo's server API. The
/// key is `CHANNEL_API_KEY`, which may do everything, or an API key of ours, which may what its user may; it is sent as `X-API-Key`,
/// or as `Authorization: apikey <key>`.
#[utoipa::path(post, path = "/api/{method}", tag = "channels", operation_id = "call_server_api",
    request_body(content = Object, description = "The parameters of the method; those that it does not know are ignored",
        example = json!({"channel": "chat:lobby", "data": {"text": "hello"}})),
    params(("method" = String, Path, example = "publish")), security(("api_key" = [])),
    responses((status = 200, description = "What came of it, errors included", body = ServerReply)))]
pub async fn call_server_api(state: Data<AppState>, request: HttpRequest, method: Path<String>, payload: Payload) -> ApiResult {
    let requester = Asking::of(&request)?;
    let (body, _reservation) = extract::read(&request, payload.into_inner()).await?;
    let answer = match checked(&body) {
        Ok(params) if *method == "batch" => batch(&state.ctx, &requester, params).await,
        Ok(params) => Reply::of(call(&state.ctx, &requester, &method, params).await).to_json(),
        Err(refusal) => Reply::of(Err(refusal)).to_json(),
    };
    Ok(HttpResponse::Ok().content_type("application/json").body(answer))
}

/// Who asks, as the gate found out.
enum Asking {
    Account(Caller),
    Backend,
}

impl Asking {
    fn of(request: &HttpRequest) -> Result<Self, Error> {
        let extensions = request.extensions();
        match (extensions.get::<Proof>(), extensions.get::<TrustedBackend>()) {
            (Some(proof), _) => Ok(Self::Account(proof.caller)),
            (None, Some(TrustedBackend)) => Ok(Self::Backend),
            (None, None) => Err(Error::new(Code::Unauthenticated, "Credentials are needed.")),
        }
    }

    fn requester(&self) -> Requester<'_> {
        match self {
            Self::Account(caller) => Requester::Account(caller),
            Self::Backend => Requester::Backend,
        }
    }
}

/// No body is no parameters.
fn checked(body: &[u8]) -> Result<&str, Refusal> {
    let json = std::str::from_utf8(body).map_err(|_| socket::Refusal::BAD_REQUEST)?.trim();
    text::check_json_text(json.as_bytes()).map_err(|_| socket::Refusal::BAD_REQUEST)?;
    Ok(if json.is_empty() { "{}" } else { json })
}

async fn call(ctx: &Context, asking: &Asking, method: &str, params: &str) -> Result<Box<RawValue>, Refusal> {
    let method = Method::named(method).ok_or(socket::Refusal::METHOD_NOT_FOUND)?;
    method.call(ctx, asking.requester(), params).await
}

#[derive(Deserialize)]
struct Batch {
    commands: Vec<BTreeMap<String, Box<RawValue>>>,
    #[serde(default)]
    parallel: bool,
}

/// A reply for each command in order: `{"<method>": <result>}`, or `{"error": …}`.
async fn batch(ctx: &Context, asking: &Asking, params: &str) -> String {
    let batch = match serde_json::from_str::<Batch>(params) {
        Ok(batch) if batch.commands.len() <= BATCH_MAX => batch,
        Ok(_) | Err(_) => return Reply::of(Err(socket::Refusal::BAD_REQUEST.into())).to_json(),
    };
    let each = stream::iter(&batch.commands).map(async |command| match command.iter().next() {
        Some((method, params)) if command.len() == 1 => match call(ctx, asking, method, params.get()).await {
            Ok(result) => format!("{{\"{method}\":{}}}", result.get()),
            Err(refusal) => Reply::of(Err(refusal)).to_json(),
        },
        Some(_) | None => Reply::of(Err(socket::Refusal::BAD_REQUEST.into())).to_json(),
    });
    let replies: Vec<String> = each.buffered(if batch.parallel { AT_ONCE } else { 1 }).collect().await;
    format!("{{\"replies\":[{}]}}", replies.join(","))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Result(Box<RawValue>),
    Error(Refusal),
}

impl Reply {
    fn of(answer: Result<Box<RawValue>, Refusal>) -> Self {
        answer.map_or_else(Self::Error, Self::Result)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a reply has only text keys")
    }
}
