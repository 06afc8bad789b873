//! Channels against a real Redis, each test with names of its own.

mod history;
mod permission;
mod presence;
mod publish;
mod publish_job;
mod sessions;
mod token;

use super::*;
use crate::{
    Context,
    channels::{NamespaceTable, Namespaces},
    testing::TestStores,
};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};

/// A platform with the namespaces that tests are about.
pub(super) struct Channels {
    pub(super) stores: TestStores,
    pub(super) ctx: Context,
}

impl Channels {
    pub(super) async fn open() -> Self {
        let stores = TestStores::create().await;
        let ctx = with_namespaces(stores.context(&[]));
        Self { stores, ctx }
    }

    pub(super) fn channel(&self, name: &str) -> Channel {
        self.ctx.namespaces.resolve(name).expect("a test names a channel of its namespaces")
    }

    pub(super) async fn publish(&self, channel: &Channel, data: &str) -> Position {
        publish(&self.ctx, channel, &NewPublication::new(&json(data)).unwrap()).await.expect("Redis answers")
    }
}

pub(super) fn with_namespaces(mut ctx: Context) -> Context {
    let tables: BTreeMap<String, NamespaceTable> = [
        ("kept", "history_size = 5\nrecovery = \"forced\"\npresence = true\njoin_leave = true"),
        ("long", "history_size = 1000\nrecovery = \"forced\""),
        ("live", "presence = true"),
        ("saved", "history_size = 3\npersist = true"),
    ]
    .map(|(name, toml)| (name.to_owned(), table(toml)))
    .into();
    ctx.namespaces = Namespaces::from_tables(&tables, Duration::from_hours(24)).expect("a test's tables are good");
    ctx
}

fn table(toml: &str) -> NamespaceTable {
    let source = config::File::from_str(toml, config::FileFormat::Toml);
    let parsed = config::Config::builder().add_source(source).build().expect("a test's TOML is well-formed");
    parsed.try_deserialize().expect("a test's table is well-formed")
}

pub(super) fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("a test publishes JSON")
}

pub(super) fn offsets(publications: &[Publication]) -> Vec<u64> {
    publications.iter().map(|publication| publication.offset).collect()
}

fn bodies(publications: &[Publication]) -> Vec<&str> {
    publications.iter().map(|publication| std::str::from_utf8(&publication.body).expect("bodies are JSON")).collect()
}
