//! An error as it is told on a command line: what happened, once, and what to do about it where that is known.

use super::Error;
use std::error::Error as StdError;

impl Error {
    /// For whoever runs the programs. The outside words of a failure of ours are for clients: here its causes stand in their place.
    pub fn told(&self) -> String {
        let mut parts = Vec::new();
        if self.is_refusal() || self.cause.is_none() {
            // What was given here was no body; its fields say it all.
            let is_for_clients = self.detail == super::BROKEN_RULE && !self.fields.is_empty();
            parts.extend(Some(self.detail.to_string()).filter(|_| !is_for_clients));
            parts.extend(
                self.fields
                    .iter()
                    .map(|field| format!("{} {}", field.pointer.trim_start_matches('/'), field.detail).trim_start().to_owned()),
            );
        }
        parts.extend(said_once(self.causes().map(words)));
        let told = parts.iter().map(|part| part.trim_end_matches('.')).collect::<Vec<_>>().join(": ");
        match self.causes().find_map(advice) {
            Some(advice) => format!("{told}; {advice}"),
            None => told,
        }
    }

    pub(super) fn causes(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        let first = self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static));
        // The database's says all that its own source does.
        std::iter::successors(first, |cause| {
            let cause: &(dyn StdError + 'static) = *cause;
            if cause.is::<sqlx::Error>() { None } else { cause.source() }
        })
    }
}

/// Many an error's words hold those of its source already.
pub(super) fn said_once(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for text in texts {
        if !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
    }
    said
}

fn words(cause: &(dyn StdError + 'static)) -> String {
    if let Some(error) = cause.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error) {
        return error.message().to_owned();
    }
    match cause.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Io(error)) => error.to_string(),
        Some(sqlx::Error::PoolTimedOut) => "PostgreSQL gave no connection within DB_ACQUIRE_TIMEOUT_MS".to_owned(),
        _ => cause.to_string(),
    }
}

fn advice(cause: &(dyn StdError + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref::<sqlx::Error>() {
        return advice_on_postgres(error);
    }
    let error = cause.downcast_ref::<redis::RedisError>()?;
    let text = error.to_string();
    if ["NOAUTH", "WRONGPASS", "AuthenticationFailed"].iter().any(|word| text.contains(word)) {
        Some("look at the user and password in REDIS_URL")
    } else if text.contains("NOPERM") {
        Some("the user in REDIS_URL may not do that: look at its ACL")
    } else if error.is_io_error() || error.is_timeout() {
        Some("look whether Redis runs, and at host and port in REDIS_URL")
    } else {
        None
    }
}

fn advice_on_postgres(error: &sqlx::Error) -> Option<&'static str> {
    let code = error.as_database_error().and_then(|error| error.code());
    match (error, code.as_deref()) {
        (_, Some("28P01" | "28000")) => Some("look at the user and password in DATABASE_URL"),
        (_, Some("3D000")) => Some("make that database, or look at the one in DATABASE_URL"),
        (_, Some("42P01" | "42703")) => Some("run `millrace-api migrate`"),
        (_, Some("42501")) => Some("the user in DATABASE_URL may not do that: let it own the database"),
        (_, Some("53300")) => Some("raise max_connections, or lower DB_POOL_MAX"),
        (sqlx::Error::Io(_), _) => Some("look whether PostgreSQL runs, and at host and port in DATABASE_URL"),
        (sqlx::Error::PoolTimedOut, _) => Some("`millrace-api doctor` says why"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use std::io;

    #[test]
    fn a_failure_is_told_once_without_the_words_for_clients_and_with_advice() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused");
        let error = Error::from(sqlx::Error::Io(refused));
        assert_eq!(error.told(), "Connection refused; look whether PostgreSQL runs, and at host and port in DATABASE_URL");
        let logged = error.to_string();
        assert_eq!(logged.matches("Connection refused").count(), 1, "{logged}");
        let error = Error::internal("Redis has maxmemory-policy allkeys-lru");
        assert_eq!(error.told(), "Redis has maxmemory-policy allkeys-lru");
        assert_eq!(error.to_string(), "internal: Redis has maxmemory-policy allkeys-lru");
    }

    #[test]
    fn a_refusal_is_told_with_the_fields_that_break_a_rule() {
        assert_eq!(Error::new(Code::EmailTaken, "There is already one.").told(), "There is already one");
        let broken = Error::invalid("/password", "too_short", "has 3 characters, at least 8 are needed");
        assert_eq!(broken.told(), "password has 3 characters, at least 8 are needed");
        let whole = Error::invalid("", "exclusive", "must hold exactly one of `ids` and `all`");
        assert_eq!(whole.told(), "must hold exactly one of `ids` and `all`");
    }
}
