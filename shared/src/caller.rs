//! Who asks, and what they may do: every operation takes a [`Caller`] and says in its first lines what it demands of it.

use crate::{
    Code, Error, Result,
    ids::{ApiKeyId, BatchId, ScheduleId, SessionId, UserId},
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What a user is trusted with. Each role may all that the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Role {
    /// Their own jobs, channels, tracks and files.
    User,
    /// Jobs, queues, workers and channels of all.
    Operator,
    /// Accounts and the platform itself.
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// What the role allows when a person signs in with it.
    pub fn scopes(self) -> Scopes {
        let user = [
            Scope::JobsRead,
            Scope::JobsWrite,
            Scope::ChannelsPublish,
            Scope::ChannelsRead,
            Scope::TracksRead,
            Scope::TracksWrite,
            Scope::FilesRead,
            Scope::FilesWrite,
        ];
        let user = user.into_iter().collect::<Scopes>();
        match self {
            Self::User => user,
            Self::Operator => user.with(Scope::QueuesAdmin).with(Scope::Workers).with(Scope::JobsWork),
            Self::Admin => Scope::ALL.iter().copied().collect(),
        }
    }
}

macro_rules! scopes {
    // `tt`, as utoipa does not look into a captured literal and would document the variant's Rust name.
    ($($variant:ident = $text:tt,)*) => {
        /// One permission of an API key or access token.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum Scope { $(#[serde(rename = $text)] $variant,)* }

        impl Scope {
            pub const ALL: &[Scope] = &[$(Scope::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Scope::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for Scope {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Scope::$variant),)*
                    _ => Err(Error::new(Code::ValidationFailed, format!("There is no scope `{}`.", text.escape_debug()))),
                }
            }
        }
    };
}

scopes! {
    JobsRead = "jobs:read",
    JobsWrite = "jobs:write",
    JobsWork = "jobs:work",
    QueuesAdmin = "queues:admin",
    Workers = "workers",
    ChannelsPublish = "channels:publish",
    ChannelsRead = "channels:read",
    TracksRead = "tracks:read",
    TracksWrite = "tracks:write",
    FilesRead = "files:read",
    FilesWrite = "files:write",
    Admin = "admin",
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u16)
    }

    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16) != 0
    }

    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::default(), Self::with)
    }
}

/// By what the caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    Session(SessionId),
    ApiKey(ApiKeyId),
    /// Nobody asked: a schedule submits in its owner's name.
    Schedule(ScheduleId),
    /// Nobody asked: a batch that is complete submits in its owner's name.
    Batch(BatchId),
}

/// An authenticated caller. `scopes` is already cut to what the role allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub user_id: UserId,
    pub role: Role,
    pub scopes: Scopes,
    pub credential: Credential,
}

impl Caller {
    pub fn new(user_id: UserId, role: Role, scopes: Scopes, credential: Credential) -> Self {
        Self { user_id, role, scopes: scopes.intersection(role.scopes()), credential }
    }

    /// Refuses callers without `scope`: 403 `insufficient_scope`.
    pub fn require(&self, scope: Scope) -> Result<()> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        Err(Error::new(Code::InsufficientScope, format!("This needs the scope `{scope}`.")))
    }

    /// Refuses callers whose role is trusted with less.
    pub fn require_role(&self, role: Role) -> Result<()> {
        if self.role >= role {
            return Ok(());
        }
        Err(Error::new(Code::Forbidden, format!("This is for the role `{}`.", role.as_str())))
    }

    /// Refuses API keys: managing credentials takes a signed-in person.
    pub fn require_session(&self) -> Result<SessionId> {
        match self.credential {
            Credential::Session(session_id) => Ok(session_id),
            Credential::ApiKey(_) | Credential::Schedule(_) | Credential::Batch(_) => {
                Err(Error::new(Code::Forbidden, "This needs a signed-in session; an API key is not enough."))
            }
        }
    }

    /// Whether the caller sees the jobs, queues and channels of all users.
    pub fn sees_all(&self) -> bool {
        self.scopes.contains(Scope::QueuesAdmin)
    }

    /// `None` sees everyone's, `Some` only that owner's: the shape that stores filter by.
    pub fn owner_filter(&self) -> Option<UserId> {
        (!self.sees_all()).then_some(self.user_id)
    }
}
