//! Pages that show how a browser talks to us. For development alone: outside it there is nothing at these paths.

use crate::{
    error::{ApiError, ApiResult},
    state::AppState,
};
use actix_web::{HttpResponse, http::header, web::Data};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use shared::Code;
use std::sync::LazyLock;

/// One page with all it needs, and the policy that lets a browser run this and nothing else.
struct Page {
    html: String,
    content_security_policy: String,
}

static CHAT: LazyLock<Page> = LazyLock::new(|| {
    let script =
        concat!(include_str!("examples/client.js"), "\n", include_str!("examples/entrance.js"), "\n", include_str!("examples/chat.js"));
    Page::new(include_str!("examples/chat.html"), include_str!("examples/chat.css"), script)
});

static LIVE: LazyLock<Page> = LazyLock::new(|| {
    let script = concat!(
        include_str!("examples/client.js"),
        "\n",
        include_str!("examples/entrance.js"),
        "\n",
        include_str!("examples/map.js"),
        "\n",
        include_str!("examples/live.js")
    );
    Page::new(include_str!("examples/live.html"), include_str!("examples/live.css"), script)
});

impl Page {
    fn new(html: &str, style: &str, script: &str) -> Self {
        Self {
            html: html.replace("{{style}}", style).replace("{{script}}", script),
            // A form that is sent before the script runs must not carry a password into an address.
            content_security_policy: format!(
                "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self' ws: wss:; form-action 'none'; \
                 base-uri 'none'; frame-ancestors 'none'",
                hash_source(style),
                hash_source(script)
            ),
        }
    }
}

/// The name of an inline text in a content security policy.
fn hash_source(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

/// A chat over channels: presence, history, and what a lost connection recovers.
pub async fn get_chat(state: Data<AppState>) -> ApiResult {
    answer(&state, &CHAT)
}

/// Tracks that move as their points come.
pub async fn get_live(state: Data<AppState>) -> ApiResult {
    answer(&state, &LIVE)
}

fn answer(state: &AppState, page: &'static LazyLock<Page>) -> ApiResult {
    if !state.ctx.settings().profile.is_development() {
        return Err(ApiError::new(Code::NotFound, "There is nothing at this path."));
    }
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, page.content_security_policy.as_str()))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(page.html.as_str()))
}
