//! Which rules a name comes under, and which tables are refused.

use super::*;
use crate::channels::Action;

const DAY: Duration = Duration::from_hours(24);

fn table(toml: &str) -> NamespaceTable {
    try_table(toml).expect("a test's table is well-formed")
}

fn try_table(toml: &str) -> Result<NamespaceTable, String> {
    let source = config::File::from_str(toml, config::FileFormat::Toml);
    let parsed = config::Config::builder().add_source(source).build().map_err(|error| error.to_string())?;
    parsed.try_deserialize().map_err(|error| error.to_string())
}

fn with(tables: &[(&str, &str)]) -> Result<Namespaces, Vec<(String, String)>> {
    let tables = tables.iter().map(|(name, toml)| ((*name).to_owned(), table(toml))).collect();
    Namespaces::from_tables(&tables, DAY)
}

#[test]
fn a_name_comes_under_the_namespace_before_its_colon() {
    let namespaces = with(&[]).unwrap();
    for (name, namespace) in [("chat:1", "chat"), ("$chat:1", "chat"), ("user:#7", "user"), ("system", "system"), ("public:", "public")] {
        assert_eq!(&*namespaces.resolve(name).unwrap().namespace.name, namespace, "{name}");
    }
    for unknown in ["news", "nope:1", "system:1", "default:1", ":1", "$system"] {
        assert!(matches!(namespaces.resolve(unknown), Err(ChannelError::Unknown)), "{unknown}");
    }
}

#[test]
fn the_default_table_gives_names_without_a_colon_their_rules() {
    let namespaces = with(&[("default", "history_size = 5\nsubscribe = \"anyone\"")]).unwrap();
    let news = namespaces.resolve("news").unwrap();
    assert_eq!(news.namespace.history, Some(HistoryRules { size: 5, ttl: DAY }));
    assert_eq!(news.namespace.who_may(Action::Subscribe), Who::Anyone);
    assert_eq!(&*namespaces.resolve("system").unwrap().namespace.name, "system");
}

#[test]
fn a_table_changes_only_what_it_says() {
    let namespaces = with(&[("chat", "history_size = 10\njoin_leave = \"forced\"\npersist = false")]).unwrap();
    let chat = namespaces.resolve("chat:1").unwrap().namespace;
    assert_eq!(chat.history, Some(HistoryRules { size: 10, ttl: DAY }));
    assert_eq!((chat.join_leave, chat.recovery, chat.persist), (Offer::Forced, Offer::Forced, false));
    assert_eq!(chat.who_may(Action::Publish), Who::Subscriber);
}

#[test]
fn a_new_namespace_is_closed_until_its_table_opens_it() {
    let news = with(&[("News", "")]).unwrap().resolve("News:1").unwrap().namespace;
    assert_eq!((news.history, news.presence, news.who_may(Action::Subscribe)), (None, false, Who::Token));
}

#[test]
fn tables_that_cannot_be_are_all_told() {
    let problems = with(&[
        ("a", "recovery = true"),
        ("b", "history_size = 1\nhistory_ttl_s = 100000"),
        ("c:d", ""),
        ("e", "join_leave = true"),
        ("f", "publication_max_bytes = 0"),
        ("g", "history_size = 3"),
    ])
    .unwrap_err();
    let names: Vec<&str> = problems.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c:d", "e", "f"]);
    for wrong in ["recovery = \"maybe\"", "subscribe = \"nobody\"", "histroy_size = 3", "history_size = -1"] {
        assert!(try_table(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_personal_channel_names_its_users() {
    let namespaces = with(&[]).unwrap();
    let users = |name| namespaces.resolve(name).unwrap().named_users().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(users("user:#7"), ["7"]);
    assert_eq!(users("user:room#7,8"), ["7", "8"]);
    assert!(users("user:7").is_empty() && users("user:#").is_empty());
}
