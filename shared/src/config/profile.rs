//! The profiles: named sets of values for the kinds of place Millrace runs in.

use std::{fmt, str::FromStr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Development,
    Staging,
    Production,
    HighTraffic,
    Maximum,
}

impl Profile {
    pub const ALL: &[Profile] = &[Self::Development, Self::Staging, Self::Production, Self::HighTraffic, Self::Maximum];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
            Self::HighTraffic => "high-traffic",
            Self::Maximum => "maximum",
        }
    }

    /// The profile's file, built in so that a binary alone can run.
    pub(super) const fn toml(self) -> &'static str {
        match self {
            Self::Development => include_str!("../../../infra/config/development.toml"),
            Self::Staging => include_str!("../../../infra/config/staging.toml"),
            Self::Production => include_str!("../../../infra/config/production.toml"),
            Self::HighTraffic => include_str!("../../../infra/config/high-traffic.toml"),
            Self::Maximum => include_str!("../../../infra/config/maximum.toml"),
        }
    }

    pub const fn is_development(self) -> bool {
        matches!(self, Self::Development)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|profile| profile.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|profile| profile.as_str()).collect();
            format!("one of {}", names.join(", "))
        })
    }
}
