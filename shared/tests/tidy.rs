//! The invariants of ARCHITECTURE.md, held over the source itself. Each test names the rule and lists who breaks it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use shared::config::SETTINGS;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A source file: its path from the root, with slashes, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Code without comments, so that prose may name what code may not.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(|line| line.split("//").next().unwrap_or_default())
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("/testing.rs")
            || self.path.contains("/testing/")
            || self.path.contains("/benches/")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for member in ["api", "jobs", "loadtest", "shared"] {
        collect(&root().join(member), &mut files);
    }
    assert!(files.len() > 30, "the source tree was not found");
    files
}

fn collect(folder: &Path, files: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let from_root = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            // This file has to name what the others may not.
            if from_root == "shared/tests/tidy.rs" {
                continue;
            }
            files.push(Source { path: from_root, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// Fails with the files for which `is_broken` holds.
fn nobody(rule: &str, is_broken: impl Fn(&Source) -> bool) {
    let breakers: Vec<String> = sources().into_iter().filter(|source| is_broken(source)).map(|source| source.path).collect();
    assert!(breakers.is_empty(), "{rule}: {breakers:#?}");
}

#[test]
fn every_file_says_what_it_is() {
    nobody("every file opens with //!", |source| !source.text.starts_with("//!"));
}

#[test]
fn no_file_outgrows_its_reader() {
    nobody("no file has more than 400 lines", |source| source.text.lines().count() > 400);
}

#[test]
fn names_say_what_a_file_is_for() {
    let vague = ["utils", "util", "common", "helpers", "helper", "manager", "misc"];
    nobody("no file or folder is called utils, common, helpers or manager", |source| {
        source.path.trim_end_matches(".rs").split('/').any(|part| vague.contains(&part))
    });
}

#[test]
fn only_the_api_knows_actix() {
    nobody("actix* only in api", |source| {
        !source.path.starts_with("api/") && source.code().any(|line| line.contains("actix") && !line.contains('"'))
    });
}

#[test]
fn only_the_worker_knows_apalis() {
    let may =
        |path: &str| path.starts_with("jobs/") || path == "shared/src/jobs/backend.rs" || path.starts_with("shared/src/jobs/backend/");
    nobody("apalis* only in jobs and in the shared backend", |source| {
        !may(&source.path) && source.code().any(|line| line.contains("apalis"))
    });
}

#[test]
fn sql_lives_in_stores() {
    let is_store = |path: &str| path.ends_with("/store.rs") || path.contains("/store/");
    let queries = ["query!(", "query_as!(", "query_scalar!(", "sqlx::query", "query_as(", "query_scalar("];
    nobody("SQL only in store.rs files", |source| {
        !is_store(&source.path) && !source.is_test() && source.code().any(|line| queries.iter().any(|query| line.contains(query)))
    });
}

#[test]
fn keys_of_redis_are_named_in_one_place() {
    let may = ["shared/src/keys.rs", "shared/src/context.rs", "shared/src/config/settings.rs", "shared/src/config/rules.rs"];
    nobody("only Keys may prefix a key", |source| {
        !may.contains(&source.path.as_str()) && !source.is_test() && source.code().any(|line| line.contains("redis_prefix"))
    });
}

#[test]
fn the_environment_is_read_in_config_alone() {
    let reads = ["env::var(", "env::vars(", "env::var_os(", "env::vars_os("];
    nobody("the environment is read only in config/", |source| {
        !source.path.starts_with("shared/src/config/")
            && !source.is_test()
            && source.code().any(|line| reads.iter().any(|read| line.contains(read)))
    });
}

#[test]
fn every_queue_is_bounded() {
    nobody("no unbounded channel", |source| source.code().any(|line| line.contains("unbounded_channel") || line.contains("unbounded()")));
}

#[test]
fn domain_code_knows_no_http() {
    nobody("shared knows no HTTP status", |source| {
        source.path.starts_with("shared/src/") && source.code().any(|line| line.contains("StatusCode"))
    });
}

#[test]
fn the_example_environment_lists_every_setting_and_nothing_else() {
    let example = fs::read_to_string(root().join(".env.example")).unwrap();
    let listed: BTreeSet<&str> = example.lines().filter_map(listed_setting).map(|(name, _)| name).collect();
    let read: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(listed, read);
}

#[test]
fn the_example_environment_shows_the_defaults() {
    let example = fs::read_to_string(root().join(".env.example")).unwrap();
    let listed: BTreeSet<(&str, &str)> = example.lines().filter_map(listed_setting).collect();
    let other: Vec<_> =
        SETTINGS.iter().filter(|setting| !setting.name.ends_with("_URL") && !listed.contains(&(setting.name, setting.default))).collect();
    assert!(other.is_empty(), ".env.example shows other defaults than the code for {other:#?}");
}

/// `NAME=value`, commented out or not; prose has a space behind its `#`.
fn listed_setting(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#').unwrap_or(line).split_once('=')?;
    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_').then_some((name, value))
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let reasons = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let (_, dependencies) = manifest.split_once("[workspace.dependencies]").unwrap();
    let names = dependencies
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim());
    let missing: Vec<&str> = names.filter(|name| *name != "shared" && !reasons.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/dependencies.md gives no reason for {missing:?}");
}

/// docs/security.md says which test shows each item; a test that is renamed takes its line with it.
#[test]
fn the_security_checklist_names_tests_that_there_are() {
    let checklist = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut code: String = sources().into_iter().map(|source| source.text).collect();
    code.push_str(include_str!("tidy.rs"));
    let rows = checklist.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Item"));
    let mut n_rows = 0;
    for row in rows {
        n_rows += 1;
        let shown_by = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test shows this: {row}");
        for name in names {
            assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
        }
    }
    assert!(n_rows > 30, "the rows were not found");
}
