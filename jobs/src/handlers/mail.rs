//! `mail.*`: kinds that send mail by the server of `SMTP_URL`.

use crate::registry::JobContext;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, MultiPart},
    transport::smtp,
};
use secrecy::ExposeSecret;
use serde_json::json;
use shared::{
    Context,
    accounts::{Origin, reset},
    jobs::{JobError, engine::Outcome},
    mail::{Mail, PasswordReset},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Longest wait for the server's next line.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Kept open between mails.
const IDLE_CONNECTIONS_MAX: u32 = 4;

type Server = AsyncSmtpTransport<Tokio1Executor>;

/// The connections to the mail server, made when the first mail is sent. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Mailer(Arc<OnceLock<Server>>);

/// Why a mail is not sent.
#[derive(Debug)]
enum Failure {
    /// Nothing will make it good.
    Never {
        code: &'static str,
        why: String,
    },
    Later {
        code: &'static str,
        why: String,
    },
}

impl Mailer {
    fn server(&self, ctx: &Context) -> Result<&Server, Failure> {
        if let Some(server) = self.0.get() {
            return Ok(server);
        }
        let misconfigured = |why: String| Failure::Later { code: "smtp_misconfigured", why };
        let settings = ctx.settings();
        let url = settings.smtp_url.as_ref().ok_or_else(|| misconfigured("SMTP_URL is not set".to_owned()))?;
        let pool = smtp::PoolConfig::new().max_size(IDLE_CONNECTIONS_MAX);
        // The error would tell the URL, and with it the password.
        let builder = Server::from_url(url.expose_secret()).map_err(|_| misconfigured("SMTP_URL is no URL of a mail server".to_owned()))?;
        Ok(self.0.get_or_init(|| builder.timeout(Some(ANSWER_WITHIN)).pool_config(pool).build()))
    }

    /// Each run of a job sends the same mail under the same id, so that receivers know one again that came twice.
    async fn send(&self, context: &JobContext, mail: &Mail) -> Result<String, Failure> {
        let ctx = &context.ctx;
        let message = message(mail, &ctx.settings().smtp_from, &context.job.id().to_string())?;
        let answer = self.server(ctx)?.send(message).await.map_err(Failure::from)?;
        Ok(answer.message().collect::<Vec<_>>().join(" "))
    }
}

impl From<smtp::Error> for Failure {
    fn from(error: smtp::Error) -> Self {
        let why = error.to_string();
        // 530, 534, 535: the server does not know us, which is not the mail's fault.
        let is_ours = error.status().is_some_and(|status| matches!(u16::from(status), 530 | 534 | 535));
        if error.is_permanent() && !is_ours {
            return Self::Never { code: "mail_refused", why };
        }
        Self::Later { code: "mail_not_sent", why }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Never { code, why } => Self::Discard(JobError { code: code.to_owned(), message: why }),
            Failure::Later { code, why } => Self::retry(code, why),
        }
    }
}

/// `mail.send`: sends one mail; its result is what the server said. A mail that the server refuses for good is dead.
pub async fn send(mailer: Mailer, context: JobContext, mail: Mail) -> Outcome {
    match context.until_stopped(mailer.send(&context, &mail)).await {
        None => Outcome::Cancelled,
        Some(Ok(answer)) => done(&answer),
        Some(Err(failure)) => failure.into(),
    }
}

/// `mail.password_reset`: sends a token to set a new password to whoever has the address; where nobody has it, nothing is sent,
/// and the job succeeds all the same.
pub async fn password_reset(mailer: Mailer, context: JobContext, asked: PasswordReset) -> Outcome {
    let origin = Origin { request_id: context.job.request_id.clone(), ..Origin::default() };
    let token = match reset::issue_reset(&context.ctx, &asked.email, &origin).await {
        Ok(Some(token)) => token,
        Ok(None) => return done("nobody to send it to"),
        Err(error) => return Outcome::retry(error.code.as_str(), error.detail),
    };
    let settings = context.ctx.settings().clone();
    let link = settings.password_reset_url.as_deref().unwrap_or_default();
    let mail = Mail {
        to: vec![asked.email],
        cc: Vec::new(),
        bcc: Vec::new(),
        reply_to: None,
        subject: "Set a new password".to_owned(),
        text: Some(format!(
            "Somebody, probably you, asked to set a new password for this address.\r\n\r\n{}:\r\n\r\n{link}{}\r\n\r\n\
             It is good once, for {} minutes. If it was not you, ignore this mail: nothing has changed.\r\n",
            if link.is_empty() { "The token for it" } else { "Open this link to do so" },
            token.expose_secret(),
            reset::GOOD_FOR.whole_minutes(),
        )),
        html: None,
    };
    send(mailer, context, mail).await
}

fn done(answer: &str) -> Outcome {
    match serde_json::value::to_raw_value(&json!({"answer": answer})) {
        Ok(result) => Outcome::Done(result),
        Err(error) => Outcome::retry("report", error.to_string()),
    }
}

fn message(mail: &Mail, from: &str, id: &str) -> Result<Message, Failure> {
    let never = |why: String| Failure::Never { code: "mail_invalid", why };
    let from: Mailbox =
        from.parse().map_err(|_| Failure::Later { code: "smtp_misconfigured", why: "SMTP_FROM is no address".to_owned() })?;
    let mailbox = |text: &String| -> Result<Mailbox, Failure> {
        let address: Address = text.parse().map_err(|error| never(format!("{text}: {error}")))?;
        Ok(Mailbox::new(None, address))
    };
    let id = format!("<{id}@{}>", from.email.domain());
    let mut builder = Message::builder().from(from).subject(&mail.subject).message_id(Some(id));
    for to in &mail.to {
        builder = builder.to(mailbox(to)?);
    }
    for cc in &mail.cc {
        builder = builder.cc(mailbox(cc)?);
    }
    for bcc in &mail.bcc {
        builder = builder.bcc(mailbox(bcc)?);
    }
    if let Some(reply_to) = &mail.reply_to {
        builder = builder.reply_to(mailbox(reply_to)?);
    }
    let message = match (&mail.text, &mail.html) {
        (Some(text), Some(html)) => builder.multipart(MultiPart::alternative_plain_html(text.clone(), html.clone())),
        (Some(text), None) => builder.header(lettre::message::header::ContentType::TEXT_PLAIN).body(text.clone()),
        (None, html) => builder.header(lettre::message::header::ContentType::TEXT_HTML).body(html.clone().unwrap_or_default()),
    };
    message.map_err(|error| never(error.to_string()))
}
