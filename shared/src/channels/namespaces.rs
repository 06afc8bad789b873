//! All namespaces of a platform: those that are shipped, and those of the configuration's `[channels.<name>]` tables.
//!
//! To ship another: its row in [`shipped`].

use super::{
    Channel, ChannelError, ChannelName,
    namespace::{Audience, HistoryRules, Namespace, Offer, Who},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The table whose rules hold for names without `:`.
const DEFAULT_TABLE: &str = "default";
/// The one channel that is called as its namespace.
pub const SYSTEM: &str = "system";
/// Namespace of the channels that are one user's.
pub const USER: &str = "user";

/// Publications that one channel may keep in Redis.
const HISTORY_SIZE_MAX: u32 = 10_000;
const HISTORY_TTL_DEFAULT: Duration = Duration::from_hours(24);
const PUBLICATION_BYTES_DEFAULT: usize = 64 << 10;
/// Above this, a channel is the wrong tool: files are for that.
const PUBLICATION_BYTES_MAX: usize = 4 << 20;
const NAME_BYTES_MAX: usize = 64;

/// Every namespace, by name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Namespaces {
    by_name: Arc<BTreeMap<Arc<str>, Arc<Namespace>>>,
}

impl Namespaces {
    /// The channel of this name with its rules.
    pub fn resolve(&self, name: &str) -> Result<Channel, ChannelError> {
        let name = ChannelName::new(name)?;
        let namespace = match name.parts() {
            // `system` is one channel: names that only look like its are nobody's.
            Some(("" | DEFAULT_TABLE | SYSTEM, _)) => return Err(ChannelError::Unknown),
            Some((namespace, _)) => namespace,
            None if name.as_str() == SYSTEM => SYSTEM,
            None => DEFAULT_TABLE,
        };
        let namespace = self.by_name.get(namespace).ok_or(ChannelError::Unknown)?;
        Ok(Channel { name, namespace: Arc::clone(namespace) })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.by_name.values().map(|namespace| &**namespace)
    }

    /// Those that are shipped, changed and added to by `tables`. The error lists every table that cannot be: name, and why.
    pub fn from_tables(tables: &BTreeMap<String, NamespaceTable>, history_ttl_max: Duration) -> Result<Self, Vec<(String, String)>> {
        let mut by_name: BTreeMap<Arc<str>, Namespace> = shipped().into();
        let mut problems = Vec::new();
        for (name, table) in tables {
            let known = by_name.get(name.as_str()).cloned();
            let namespace = table.over(known.unwrap_or_else(|| blank(name)));
            match check(&namespace, history_ttl_max) {
                Ok(()) => drop(by_name.insert(name.as_str().into(), namespace)),
                Err(allowed) => problems.push((name.clone(), allowed)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { by_name: Arc::new(by_name.into_iter().map(|(name, namespace)| (name, Arc::new(namespace))).collect()) })
    }
}

/// Those that are shipped.
impl Default for Namespaces {
    fn default() -> Self {
        Self::from_tables(&BTreeMap::new(), Duration::MAX).expect("what is shipped passes the checks")
    }
}

/// What a table without a line gives: nothing is kept or shown, and only tokens open a channel.
fn blank(name: &str) -> Namespace {
    Namespace {
        name: name.into(),
        history: None,
        recovery: Offer::Off,
        presence: false,
        join_leave: Offer::Off,
        audience: Audience::Open,
        subscribe: Who::Token,
        publish: Who::Operator,
        read_history: Who::Subscriber,
        read_presence: Who::Subscriber,
        publication_max_bytes: PUBLICATION_BYTES_DEFAULT,
        persist: false,
    }
}

fn shipped() -> [(Arc<str>, Namespace); 7] {
    const fn keeps(size: u32, hours: u64) -> Option<HistoryRules> {
        Some(HistoryRules { size, ttl: Duration::from_hours(hours) })
    }
    let forced = Offer::Forced;
    [
        Namespace {
            history: keeps(300, 24),
            recovery: forced,
            presence: true,
            // Everybody hearing of everybody costs the square of a room's size: clients ask for it.
            join_leave: Offer::Asked,
            subscribe: Who::User,
            publish: Who::Subscriber,
            persist: true,
            ..blank("chat")
        },
        Namespace { history: keeps(100, 1), recovery: forced, audience: Audience::Job, subscribe: Who::User, ..blank("job") },
        Namespace { history: keeps(100, 1), recovery: forced, audience: Audience::Queue, subscribe: Who::User, ..blank("queue") },
        Namespace { history: keeps(300, 1), recovery: forced, audience: Audience::Track, subscribe: Who::User, ..blank("track") },
        Namespace { history: keeps(100, 24), recovery: forced, audience: Audience::Personal, subscribe: Who::User, ..blank(USER) },
        Namespace { history: keeps(100, 24), recovery: forced, subscribe: Who::User, publish: Who::Admin, ..blank(SYSTEM) },
        // The latest value is there for whoever comes.
        Namespace { history: keeps(1, 24), recovery: forced, subscribe: Who::Anyone, read_history: Who::Anyone, ..blank("public") },
    ]
    .map(|namespace| (Arc::clone(&namespace.name), namespace))
}

/// One `[channels.<name>]` table: what it leaves out stays as it is shipped, or off.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceTable {
    /// Newest publications that are kept; 0 keeps none.
    history_size: Option<u32>,
    /// Seconds they are kept after the last one.
    history_ttl_s: Option<u64>,
    recovery: Option<Offer>,
    presence: Option<bool>,
    join_leave: Option<Offer>,
    /// Channels are `<namespace>:#<user>[,<user>…]`, for these users alone.
    personal: Option<bool>,
    subscribe: Option<Who>,
    publish: Option<Who>,
    history: Option<Who>,
    read_presence: Option<Who>,
    publication_max_bytes: Option<usize>,
    persist: Option<bool>,
}

impl NamespaceTable {
    fn over(&self, base: Namespace) -> Namespace {
        let size = self.history_size.unwrap_or(base.history.map_or(0, |history| history.size));
        let ttl = self.history_ttl_s.map_or(base.history.map_or(HISTORY_TTL_DEFAULT, |history| history.ttl), Duration::from_secs);
        Namespace {
            history: (size > 0).then_some(HistoryRules { size, ttl }),
            recovery: self.recovery.unwrap_or(base.recovery),
            presence: self.presence.unwrap_or(base.presence),
            join_leave: self.join_leave.unwrap_or(base.join_leave),
            audience: match self.personal {
                Some(true) => Audience::Personal,
                Some(false) => Audience::Open,
                None => base.audience,
            },
            subscribe: self.subscribe.unwrap_or(base.subscribe),
            publish: self.publish.unwrap_or(base.publish),
            read_history: self.history.unwrap_or(base.read_history),
            read_presence: self.read_presence.unwrap_or(base.read_presence),
            publication_max_bytes: self.publication_max_bytes.unwrap_or(base.publication_max_bytes),
            persist: self.persist.unwrap_or(base.persist),
            name: base.name,
        }
    }
}

fn check(namespace: &Namespace, history_ttl_max: Duration) -> Result<(), String> {
    let is_name = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains([':', '$', '#']);
    if !is_name(&namespace.name) || namespace.name.chars().any(char::is_control) {
        return Err(format!("a table whose name is 1 to {NAME_BYTES_MAX} bytes without `:`, `$` and `#`"));
    }
    if let Some(history) = namespace.history
        && (history.size > HISTORY_SIZE_MAX || history.ttl.is_zero() || history.ttl > history_ttl_max)
    {
        let ttl_max_s = history_ttl_max.as_secs();
        return Err(format!(
            "a table with history_size up to {HISTORY_SIZE_MAX} and history_ttl_s 1 to CHANNEL_LAYER_GROUP_EXPIRY ({ttl_max_s})"
        ));
    }
    if namespace.history.is_none() && (namespace.recovery != Offer::Off || namespace.persist) {
        return Err("a table with history_size above 0, for recovery or persist is on".to_owned());
    }
    if !namespace.presence && namespace.join_leave != Offer::Off {
        return Err("a table with presence on, for join_leave is on".to_owned());
    }
    if !(1..=PUBLICATION_BYTES_MAX).contains(&namespace.publication_max_bytes) {
        return Err(format!("a table with publication_max_bytes 1 to {PUBLICATION_BYTES_MAX}"));
    }
    Ok(())
}

/// `false`, `true` (for clients that ask), or `"forced"` (for all).
impl<'de> Deserialize<'de> for Offer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Switch(bool),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Switch(false) => Ok(Self::Off),
            Written::Switch(true) => Ok(Self::Asked),
            Written::Word(word) if word == "forced" => Ok(Self::Forced),
            Written::Word(_) => Err(D::Error::custom("must be true, false or \"forced\"")),
        }
    }
}

#[cfg(test)]
mod tests;
