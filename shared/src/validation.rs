//! Broken field rules, as `validator` reports them, in our own words: one pointer, code and sentence per field.

use crate::{Code, Error, error::BROKEN_RULE};
use validator::{ValidationError, ValidationErrors, ValidationErrorsKind};

impl From<ValidationErrors> for Error {
    fn from(errors: ValidationErrors) -> Self {
        let mut error = Self::new(Code::ValidationFailed, BROKEN_RULE);
        collect("", &errors, &mut error);
        error.fields.sort_by(|a, b| a.pointer.cmp(&b.pointer));
        error
    }
}

fn collect(at: &str, errors: &ValidationErrors, error: &mut Error) {
    for (field, kind) in errors.errors() {
        // Rules on the whole object are filed under this name by the crate.
        let pointer = if field == "__all__" { at.to_owned() } else { format!("{at}/{field}") };
        match kind {
            ValidationErrorsKind::Struct(inner) => collect(&pointer, inner, error),
            ValidationErrorsKind::List(items) => {
                items.iter().for_each(|(index, inner)| collect(&format!("{pointer}/{index}"), inner, error));
            }
            ValidationErrorsKind::Field(broken) => {
                for rule in broken {
                    error.fields.push(crate::FieldError { pointer: pointer.clone(), code: rule.code.to_string(), detail: detail(rule) });
                }
            }
        }
    }
}

fn detail(rule: &ValidationError) -> String {
    if let Some(message) = &rule.message {
        return message.to_string();
    }
    let bound = |name: &str| rule.params.get(name).map(ToString::to_string);
    match (rule.code.as_ref(), bound("min"), bound("max")) {
        ("range", Some(min), Some(max)) => format!("must be {min} to {max}"),
        ("range", Some(min), None) => format!("must be at least {min}"),
        ("range", None, Some(max)) => format!("must be at most {max}"),
        ("length", Some(min), Some(max)) => format!("must have {min} to {max} characters or items"),
        ("length", Some(min), None) => format!("must have at least {min} characters or items"),
        ("length", None, Some(max)) => format!("must have at most {max} characters or items"),
        ("email", ..) => "is not an e-mail address".to_owned(),
        ("url", ..) => "is not a URL".to_owned(),
        (code, ..) => format!("breaks the rule `{code}`"),
    }
}
