//! Mail that jobs send: what `mail.send` takes, and how a password reset asks for one. Who sends it is the worker.

use crate::{Code, Context, Error, Result, accounts::rules, jobs::platform, json_words};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{value::RawValue, value::to_raw_value};

/// Addresses of one mail, in all.
const RECIPIENTS_MAX: usize = 50;
/// What a line of a header may be long (RFC 5322), in characters.
const SUBJECT_MAX: usize = 998;
/// Seconds in which one address is sent one mail to reset its password.
const RESET_ONCE_IN_S: i32 = 60;

pub const SEND: &str = "mail.send";
pub const PASSWORD_RESET: &str = "mail.password_reset";

/// The payload of `mail.send`. The sender is always `SMTP_FROM`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub to: Vec<String>,
    #[serde(default)]
    pub cc: Vec<String>,
    #[serde(default)]
    pub bcc: Vec<String>,
    pub reply_to: Option<String>,
    pub subject: String,
    pub text: Option<String>,
    pub html: Option<String>,
}

impl Mail {
    fn check(&self) -> Result<()> {
        let mut error = Error::new(Code::ValidationFailed, "The payload is no mail.");
        let n_recipients = self.to.len() + self.cc.len() + self.bcc.len();
        if self.to.is_empty() || n_recipients > RECIPIENTS_MAX {
            error = error.with_field(
                "/payload/to",
                "length",
                format!("must name 1 to {RECIPIENTS_MAX} addresses, those of `cc` and `bcc` counted"),
            );
        }
        for (field, addresses) in [("to", &self.to[..]), ("cc", &self.cc), ("bcc", &self.bcc), ("reply_to", self.reply_to.as_slice())] {
            if let Some(bad) = addresses.iter().position(|address| rules::email(address).is_err()) {
                let place = if field == "reply_to" { String::new() } else { format!("/{bad}") };
                error = error.with_field(format!("/payload/{field}{place}"), "email", "must be an e-mail address");
            }
        }
        if self.subject.is_empty() || self.subject.chars().count() > SUBJECT_MAX || self.subject.contains(char::is_control) {
            error = error.with_field("/payload/subject", "length", format!("must be one line of 1 to {SUBJECT_MAX} characters"));
        }
        if self.text.is_none() && self.html.is_none() {
            error = error.with_field("/payload/text", "required", "`text` or `html` must be there");
        }
        if error.fields.is_empty() { Ok(()) } else { Err(error) }
    }
}

/// The payload of `mail.password_reset`: whose password. The token is made when the mail is written, and stands nowhere else.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordReset {
    pub email: String,
}

/// Refuses a submit whose payload is no mail, or that nobody could send.
pub(crate) fn check(ctx: &Context, payload: Option<&RawValue>) -> Result<()> {
    if ctx.settings().smtp_url.is_none() {
        return Err(Error::invalid("/kind", "not_configured", "needs a mail server: `SMTP_URL` is not set"));
    }
    let payload = payload.ok_or_else(|| Error::invalid("/payload", "required", "must be a mail"))?;
    let mail: Mail = json_words::parse_at(payload.get(), "/payload")?;
    mail.check()
}

/// Has a mail sent to whoever has the address, if somebody has. What is done here is the same for every address, so that nobody can
/// tell by the time it takes.
pub(crate) async fn ask_password_reset(ctx: &Context, email: &str, request_id: Option<String>) -> Result<()> {
    let email = rules::normal_email(email);
    let payload = to_raw_value(&PasswordReset { email: email.clone() }).map_err(|error| Error::internal(error.to_string()))?;
    let asked = platform::Asked { kind: PASSWORD_RESET, payload, once: Some((email, RESET_ONCE_IN_S)), request_id };
    platform::submit(ctx, asked).await
}

/// Whether a URL names a mail server; what it must be like if not.
pub(crate) fn check_url(url: &secrecy::SecretString) -> Result<(), &'static str> {
    let url = url.expose_secret();
    if url.starts_with("smtp://") || url.starts_with("smtps://") {
        return Ok(());
    }
    Err("a URL such as smtps://user:password@mail.example.org or smtp://mail.example.org:587?tls=required")
}
