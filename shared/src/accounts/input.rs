//! What operations on accounts are given: the bodies of their requests, with the rules they must keep ([`super::rules`]).

use super::rules;
use crate::{Role, Scope};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use std::ops::Deref;
use time::OffsetDateTime;
use utoipa::ToSchema;
use validator::Validate;

/// Text that only its operation may read. It serialises to a mask: `validator` keeps a copy of what broke a rule.
#[derive(Debug, Clone, Deserialize)]
pub struct Secret(pub SecretString);

impl Deref for Secret {
    type Target = SecretString;

    fn deref(&self) -> &SecretString {
        &self.0
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.org", "password": "correct horse battery", "display_name": "Ada"}))]
pub struct NewUser {
    #[schema(format = "email", max_length = 254)]
    #[validate(custom(function = "rules::email"))]
    pub email: String,
    /// 8 to 128 characters, and not a common one.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128, pattern = r"^[^\u0000]*$")]
    #[validate(custom(function = "rules::new_password"))]
    pub password: Secret,
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    #[validate(custom(function = "rules::name"))]
    pub display_name: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.org", "password": "correct horse battery"}))]
pub struct Credentials {
    #[schema(max_length = 254, pattern = r"^[^\u0000]*$")]
    #[validate(length(max = 254))]
    pub email: String,
    #[schema(value_type = String, format = "password", max_length = 128, pattern = r"^[^\u0000]*$")]
    #[validate(custom(function = "rules::presented_password"))]
    pub password: Secret,
}

#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"refresh_token": "mrr_0199d8c27e1a7b2c8d3e4f5a6b7c8d9e_1_8RbVYtYB1hYt0e2mPq1YJ1cX9m1m0u3Hq6cVbJ5wY3A"}))]
pub struct RefreshRequest {
    #[schema(value_type = String, max_length = 256, pattern = "^mrr_[0-9A-Za-z_-]+$")]
    pub refresh_token: Secret,
}

#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"current_password": "correct horse battery", "new_password": "staple correct horse"}))]
pub struct PasswordChange {
    #[schema(value_type = String, format = "password", max_length = 128, pattern = r"^[^\u0000]*$")]
    #[validate(custom(function = "rules::presented_password"))]
    pub current_password: Secret,
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128, pattern = r"^[^\u0000]*$")]
    #[validate(custom(function = "rules::new_password"))]
    pub new_password: Secret,
}

#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.org"}))]
pub struct ForgottenPassword {
    #[schema(format = "email", max_length = 254)]
    #[validate(custom(function = "rules::email"))]
    pub email: String,
}

#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "mrp_0199d8c27e1a7b2c8d3e4f5a6b7c8d9e_Q1w2E3r4T5y6U7i8O9p0A1s2D3f4G5h6J7k8L9z0X1c", "new_password": "staple correct horse"}))]
pub struct PasswordReset {
    #[schema(value_type = String, max_length = 256, pattern = "^mrp_[0-9A-Za-z_]+$")]
    pub token: Secret,
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128, pattern = r"^[^\u0000]*$")]
    #[validate(custom(function = "rules::new_password"))]
    pub new_password: Secret,
}

#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "nightly import", "scopes": ["jobs:read", "jobs:write"]}))]
pub struct NewApiKey {
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    #[validate(custom(function = "rules::name"))]
    pub name: String,
    /// Each within what the user's role allows.
    #[schema(min_items = 1, max_items = 32)]
    #[validate(length(min = 1, max = 32))]
    pub scopes: Vec<Scope>,
    /// Never, when absent.
    #[serde(default, with = "crate::instant")]
    #[schema(format = "date-time", value_type = Option<String>)]
    pub expires_at: Option<OffsetDateTime>,
}

/// What an administrator may change of a user; what is absent stays.
#[derive(Debug, Clone, Copy, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "operator"}))]
pub struct UserChange {
    pub role: Option<Role>,
    pub disabled: Option<bool>,
}
