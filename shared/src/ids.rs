//! Ids as types: UUIDv7, so that they sort by time of creation, and one type per noun, so that they cannot be mixed up.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type, utoipa::ToSchema)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        #[schema(value_type = uuid::Uuid)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// A new id, later than every id made before it in this process.
            #[expect(clippy::new_without_default, reason = "a default id would be a hidden source of randomness")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A person or service that signs in.
    UserId,
    /// One sign-in of a user; its refresh tokens are one family.
    SessionId,
    ApiKeyId,
    JobId,
    /// A receiver of jobs that are delivered over HTTP.
    EndpointId,
    /// One running worker instance.
    WorkerId,
    /// One running process of the platform.
    NodeId,
    AuditId,
    ScheduleId,
    BatchId,
    /// A device or route being followed.
    TrackId,
    /// An uploaded file, or one that a job made.
    FileId,
}
