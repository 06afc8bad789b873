//! What an e-mail address, a name and a password must be, wherever they come from.

use crate::{Error, Result as DomainResult};
use secrecy::{ExposeSecret, SecretString};
use std::{borrow::Cow, collections::HashSet, sync::LazyLock};
use validator::{ValidateEmail, ValidationError};

pub const EMAIL_MAX: usize = 254;
pub const NAME_MAX: usize = 100;
pub const PASSWORD_MIN: usize = 8;
pub const PASSWORD_MAX: usize = 128;

/// Lower-case lines; `#` starts a comment.
static COMMON_PASSWORDS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().filter(|line| !line.starts_with("# ")).collect());

/// What an address must be before [`normal_email`] makes it what it is kept as.
pub fn email(text: &str) -> Result<(), ValidationError> {
    if text.chars().count() > EMAIL_MAX {
        return broken("length", format!("is longer than {EMAIL_MAX} characters"));
    }
    // A domain outside ASCII is written in its ASCII form (xn--…): else two addresses could look and even be the same.
    if text.validate_email() && text.is_ascii() { Ok(()) } else { broken("email", "is not an e-mail address") }
}

/// The form in which an address is kept and looked up.
pub fn normal_email(text: &str) -> String {
    text.to_lowercase()
}

/// A name of a user or key: something to see, on one line.
pub fn name(text: &str) -> Result<(), ValidationError> {
    if !(1..=NAME_MAX).contains(&text.chars().count()) {
        return broken("length", format!("must be 1 to {NAME_MAX} characters"));
    }
    if text.chars().any(char::is_control) {
        return broken("characters", "must not hold control characters");
    }
    Ok(())
}

/// A password to be compared: no hashing of megabytes.
pub fn presented_password(password: &SecretString) -> Result<(), ValidationError> {
    if password.expose_secret().chars().count() <= PASSWORD_MAX {
        return Ok(());
    }
    broken("length", format!("must be at most {PASSWORD_MAX} characters"))
}

/// A password to be set.
pub fn new_password(password: &SecretString) -> Result<(), ValidationError> {
    let text = password.expose_secret();
    if !(PASSWORD_MIN..=PASSWORD_MAX).contains(&text.chars().count()) {
        return broken("length", format!("must be {PASSWORD_MIN} to {PASSWORD_MAX} characters"));
    }
    if COMMON_PASSWORDS.contains(text.to_lowercase().as_str()) {
        return broken("common", "is among the most common passwords");
    }
    Ok(())
}

/// A password that is the first one somebody would try: the address (in the form in which it is kept) or what stands before its `@`.
/// `pointer` is the password's place in the body.
pub fn not_the_address(password: &SecretString, email: &str, pointer: &str) -> DomainResult<()> {
    let text = password.expose_secret().to_lowercase();
    let is_guessed = text == email || email.split_once('@').is_some_and(|(local, _)| text == local);
    if is_guessed { Err(Error::invalid(pointer, "common", "is the e-mail address, or a part of it")) } else { Ok(()) }
}

fn broken(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Result<(), ValidationError> {
    Err(ValidationError::new(code).with_message(detail.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_common_passwords_is_whole() {
        assert_eq!(COMMON_PASSWORDS.len(), 3_000);
        assert!(COMMON_PASSWORDS.iter().all(|password| password.chars().count() >= PASSWORD_MIN));
        for common in ["password", "12345678", "Password123", "QWERTYUIOP"] {
            assert_eq!(new_password(&common.into()).unwrap_err().code, "common", "{common}");
        }
    }

    #[test]
    fn the_address_is_no_password() {
        for guessed in ["ada.lovelace@example.org", "Ada.Lovelace"] {
            assert!(not_the_address(&guessed.into(), "ada.lovelace@example.org", "/password").is_err(), "{guessed}");
        }
        assert!(not_the_address(&"ada.lovelace-1843".into(), "ada.lovelace@example.org", "/password").is_ok());
    }

    #[test]
    fn a_password_is_measured_in_characters() {
        assert_eq!(new_password(&"ünf-z\u{1F600}".into()).unwrap_err().code, "length");
        assert!(new_password(&"ü".repeat(128).into()).is_ok());
        assert_eq!(new_password(&"ü".repeat(129).into()).unwrap_err().code, "length");
    }

    #[test]
    fn an_address_is_kept_in_lower_case() {
        assert!(email("Ada@Example.ORG").is_ok());
        assert_eq!(normal_email("Ada@Example.ORG"), "ada@example.org");
        for wrong in [
            "",
            "ada",
            "ada@",
            "@example.org",
            "a b@example.org",
            "ada@exa mple.org",
            "ada@example.org\n",
            "a\0@example.org",
            "bob@example.org\u{200B}",
            "bob@exämple.org",
        ] {
            assert_eq!(email(wrong).unwrap_err().code, "email", "{wrong:?}");
        }
        assert_eq!(email(&format!("a@{}", "x".repeat(254))).unwrap_err().code, "length");
    }

    #[test]
    fn a_name_is_one_line() {
        assert!(name("Ada Lovelace").is_ok());
        for wrong in ["", "Ada\n", "\u{7}", &"x".repeat(101)] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
