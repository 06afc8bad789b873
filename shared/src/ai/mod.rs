//! `ai.complete`: what jobs may ask of the language model that the operator has chosen (`AI_BASE_URL`). Who asks it is the worker.
//!
//! In reading order: this file (the payload, and its check at the submit), `complete` (one attempt), `chat` (one exchange with the
//! service), `sse` (how its answer comes), `telling` (what subscribers hear of it meanwhile).

mod chat;
mod complete;
mod sse;
mod telling;

pub use complete::Model;

use crate::{Code, Context, Error, Result, json_words};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub const KIND: &str = "ai.complete";

/// Messages of one prompt.
const MESSAGES_MAX: usize = 200;
/// What OpenAI's API takes.
const TEMPERATURE_MAX: f64 = 2.0;

/// The payload of `ai.complete`: one `prompt`, or the `messages` of a conversation. Where it goes, and under which key, callers cannot
/// say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    pub prompt: Option<String>,
    #[serde(default)]
    pub messages: Vec<Message>,
    /// One of `AI_MODEL`; the first when absent.
    pub model: Option<String>,
    /// At most `AI_MAX_TOKENS`, and that when absent.
    pub max_tokens: Option<u32>,
    /// 0 to 2; the service's default when absent.
    pub temperature: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Prompt {
    /// What is asked, as a conversation.
    pub fn conversation(&self) -> Vec<Message> {
        let prompt = self.prompt.iter().map(|content| Message { role: Role::User, content: content.clone() });
        self.messages.iter().cloned().chain(prompt).collect()
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let mut error = Error::new(Code::ValidationFailed, "The payload is no prompt.");
        if self.prompt.is_some() != self.messages.is_empty() || self.messages.len() > MESSAGES_MAX {
            let detail = format!("must have either a `prompt`, or 1 to {MESSAGES_MAX} `messages`");
            error = error.with_field("/payload/messages", "exclusive", detail);
        }
        let n_bytes = self.prompt.iter().chain(self.messages.iter().map(|message| &message.content)).map(String::len).sum::<usize>();
        if n_bytes == 0 || n_bytes > limits.prompt_bytes {
            error =
                error.with_field("/payload", "length", format!("must ask in 1 to {} bytes, all messages together", limits.prompt_bytes));
        }
        if self.model.as_ref().is_some_and(|model| !limits.models.contains(model)) {
            error = error.with_field("/payload/model", "unknown", format!("must be one of {}", limits.models.join(", ")));
        }
        if self.max_tokens.is_some_and(|n| n == 0 || n > limits.tokens) {
            error = error.with_field("/payload/max_tokens", "range", format!("must be 1 to {}", limits.tokens));
        }
        if self.temperature.is_some_and(|temperature| !(0.0..=TEMPERATURE_MAX).contains(&temperature)) {
            error = error.with_field("/payload/temperature", "range", "must be 0 to 2");
        }
        if error.fields.is_empty() { Ok(()) } else { Err(error) }
    }
}

/// What the operator allows.
struct Limits {
    prompt_bytes: usize,
    models: Vec<String>,
    tokens: u32,
}

/// Refuses a submit whose payload is no prompt, or that nobody could answer.
pub(crate) fn check(ctx: &Context, payload: Option<&RawValue>) -> Result<()> {
    let limits = {
        let settings = ctx.settings();
        if settings.ai_base_url.is_none() {
            return Err(Error::invalid("/kind", "not_configured", "needs a language model: `AI_BASE_URL` is not set"));
        }
        Limits { prompt_bytes: settings.ai_prompt_max_bytes.0, models: settings.ai_model.clone(), tokens: settings.ai_max_tokens }
    };
    let payload = payload.ok_or_else(|| Error::invalid("/payload", "required", "must be a prompt"))?;
    let prompt: Prompt = json_words::parse_at(payload.get(), "/payload")?;
    prompt.check(&limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn fields(payload: Value) -> Vec<String> {
        let limits = Limits { prompt_bytes: 20, models: vec!["small".to_owned(), "large".to_owned()], tokens: 100 };
        let prompt: Prompt = serde_json::from_value(payload).unwrap();
        let checked = prompt.check(&limits);
        checked.err().map(|error| error.fields.into_iter().map(|field| field.pointer).collect()).unwrap_or_default()
    }

    #[rstest]
    #[case::a_prompt(json!({"prompt": "hello", "model": "large", "max_tokens": 100, "temperature": 0.0}))]
    #[case::a_conversation(json!({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]}))]
    fn what_may_be_asked(#[case] payload: Value) {
        assert_eq!(fields(payload), <[String; 0]>::default());
    }

    #[rstest]
    #[case::nothing(json!({}), &["/payload/messages", "/payload"])]
    #[case::both(json!({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}), &["/payload/messages"])]
    #[case::empty(json!({"prompt": ""}), &["/payload"])]
    #[case::too_long(json!({"prompt": "x".repeat(21)}), &["/payload"])]
    #[case::too_long_together(json!({"messages": [{"role": "user", "content": "x".repeat(11)}, {"role": "user", "content": "x".repeat(11)}]}), &["/payload"])]
    #[case::another_model(json!({"prompt": "a", "model": "largest"}), &["/payload/model"])]
    #[case::numbers(json!({"prompt": "a", "max_tokens": 101, "temperature": -0.1}), &["/payload/max_tokens", "/payload/temperature"])]
    fn what_may_not(#[case] payload: Value, #[case] pointers: &[&str]) {
        assert_eq!(fields(payload), pointers);
    }
}
