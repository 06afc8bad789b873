//! Layers, ranges, masking, and that all problems are told at once.

use super::{Layers, LogFormat, Profile, Settings};
use crate::capacity::tiers;
use std::path::Path;

fn load(variables: &[(&str, &str)]) -> Result<Settings, super::Problems> {
    let servers = [("DATABASE_URL", "postgres://u@h/d"), ("REDIS_URL", "redis://h")];
    let environment = servers.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(&Layers::new(environment, &[])?)
}

#[test]
fn every_profile_loads() {
    for profile in Profile::ALL {
        let settings = load(&[("APP_PROFILE", profile.as_str())]).expect("a profile's own values pass the checks");
        assert_eq!(settings.profile, *profile);
    }
}

/// One row of the table that operators size by.
#[rstest::rstest]
#[case::development("development", (Some(2), 1_000, 1_024, 65), ("debug", LogFormat::Pretty), (4, 1), 50)]
#[case::staging("staging", (Some(4), 1_000, 2_048, 65), ("info", LogFormat::Json), (4, 1), 50)]
#[case::production("production", (Some(6), 1_000, 2_048, 65), ("info", LogFormat::Json), (8, 1), 50)]
#[case::high_traffic("high-traffic", (Some(8), 2_000, 4_096, 65), ("warn", LogFormat::Json), (12, 2), 50)]
#[case::maximum("maximum", (Some(12), 2_000, 8_192, 5), ("warn", LogFormat::Json), (12, 2), 600)]
fn profiles_have_the_values_of_the_table(
    #[case] name: &str,
    #[case] (workers, concurrency, backlog, keep_alive_s): (Option<usize>, usize, u32, u64),
    #[case] (log_level, log_format): (&str, LogFormat),
    #[case] (job_slots, replicas): (usize, u32),
    #[case] redis_connections: usize,
) {
    let settings = load(&[("APP_PROFILE", name)]).unwrap();
    assert_eq!(Some(settings.api_workers()), workers);
    assert_eq!((settings.api_concurrency_limit, settings.api_backlog, settings.api_keep_alive_s), (concurrency, backlog, keep_alive_s));
    assert_eq!((settings.log_level.split(',').next(), settings.log_format), (Some(log_level), log_format));
    assert_eq!((settings.worker_concurrency, tiers::workers_of(settings.profile)), (job_slots, replicas));
    assert_eq!(settings.redis_max_connections, redis_connections);
    let workers = u32::try_from(settings.api_workers()).unwrap();
    let per_worker = if name == "maximum" { 20 } else { 10 };
    assert_eq!((settings.db_pool_min(), settings.db_pool_max()), (2 * workers, 24.max(per_worker * workers)));
    assert!(settings.shutdown_timeout_s > settings.drain_delay_s + settings.ws_drain_s);
}

#[test]
fn a_pool_that_is_left_to_us_is_no_larger_than_the_servers_share() {
    let fitted = |variables: &[(&str, &str)], max_connections| {
        let mut settings = load(variables).unwrap();
        settings.fit_pool(settings.db_pool_max(), max_connections);
        (settings.db_pool_min(), settings.db_pool_max())
    };
    let maximum = ("APP_PROFILE", "maximum");
    assert_eq!([fitted(&[maximum], 1_000), fitted(&[maximum, ("DB_PROCESSES", "2")], 500)], [(24, 240), (24, 240)]);
    assert_eq!([fitted(&[maximum], 200), fitted(&[maximum], 50)], [(24, 60), (10, 10)]);
    assert_eq!(fitted(&[maximum, ("DB_POOL_MAX", "300")], 100), (24, 300), "what somebody chose stays");
    assert_eq!(fitted(&[maximum, ("DB_POOL_MIN", "20")], 50), (10, 10), "nobody keeps more than there may be");
}

#[test]
fn a_worker_counts_its_children() {
    let most = |variables: &[(&str, &str)]| {
        let mut variables = variables.to_vec();
        variables.extend([("WORKER_CHILDREN", "4"), ("WORKER_CONCURRENCY", "8"), ("API_WORKERS", "1")]);
        load(&variables).unwrap().db_pool_max_of_worker()
    };
    assert_eq!([most(&[]), most(&[("APP_PROFILE", "maximum")]), most(&[("DB_POOL_MAX", "30")])], [60, 120, 30]);
}

#[test]
fn connections_are_dealt_out_over_the_threads() {
    let of_worker =
        |most: &str| load(&[("API_WORKERS", "4"), ("API_MAX_CONNECTIONS", most)]).map(|settings| settings.connections_per_worker());
    assert_eq!(["auto", "4001", "1"].map(|most| of_worker(most).unwrap()), [25_600, 1_001, 1]);
    assert!(of_worker("0").unwrap_err().to_string().contains("API_MAX_CONNECTIONS"));
}

#[test]
fn the_environment_overrides_the_profile() {
    assert_eq!(load(&[("APP_PROFILE", "maximum")]).unwrap().api_workers(), 12);
    assert_eq!(load(&[("APP_PROFILE", "maximum"), ("API_WORKERS", "3")]).unwrap().api_workers(), 3);
}

#[test]
fn a_name_of_another_stack_is_taken_with_a_notice() {
    let environment = [("UVICORN_WORKERS", "5"), ("DATABASE_URL", "postgres://u@h/d"), ("REDIS_URL", "redis://h")];
    let layers = Layers::new(environment.map(|(n, v)| (n.to_owned(), v.to_owned())), &[]).unwrap();
    assert_eq!(Settings::load(&layers).unwrap().api_workers(), 5);
    assert_eq!(layers.notices, ["UVICORN_WORKERS is an old name: use API_WORKERS"]);
}

#[test]
fn all_problems_are_listed_and_secrets_masked() {
    let problems =
        load(&[("API_PORT", "eighty"), ("API_BACKLOG", "0"), ("DATABASE_URL", "mysql://u:hunter2@h/d"), ("RATE_LIMIT_READ", "many")])
            .unwrap_err();
    let text = problems.to_string() + &load(&[("API_HEAD_MAX_BYTES", "128KiB")]).unwrap_err().to_string();
    for name in ["API_PORT=eighty", "API_BACKLOG=0", "RATE_LIMIT_READ=many", "API_HEAD_MAX_BYTES=131072"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

/// The settings of an `.env` file that is in the repository, for `profile`.
fn template(path: &str, profile: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap();
    let settings = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    // What these name is on the host that they are for.
    let here = settings.filter(|(name, _)| *name != "CONFIG_FILE").map(|(name, value)| (name.to_owned(), value.to_owned()));
    here.chain([("APP_PROFILE".to_owned(), profile.to_owned())]).collect()
}

fn refused(environment: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let layers = Layers::new(environment, &[]).unwrap();
    Settings::load(&layers).map_or_else(|problems| problems.0.into_iter().map(|problem| problem.name).collect(), |_| Vec::new())
}

#[rstest::rstest]
#[case::example(".env.example", &["DATABASE_URL"])]
#[case::systemd("infra/systemd/millrace.env", &["DATABASE_URL", "REDIS_URL", "PUBLIC_URL"])]
fn an_untouched_template_is_for_development_alone(#[case] path: &str, #[case] names: &[&str]) {
    for profile in Profile::ALL {
        let names = if profile.is_development() { &[] } else { names };
        assert_eq!(refused(template(path, profile.as_str())), names, "{profile}");
    }
}

#[test]
fn placeholders_in_files_of_secrets_are_told_all_at_once_without_what_is_beside_them() {
    let mut environment = template("infra/k8s/base/settings.env", "production");
    for (name, value) in &mut environment {
        if let Some(secret) = value.strip_prefix("/run/secrets/millrace/").filter(|_| name.ends_with("_FILE")) {
            *value = format!("{}/../infra/k8s/components/secrets/{secret}", env!("CARGO_MANIFEST_DIR"));
        }
    }
    let names =
        ["DATABASE_URL", "REDIS_URL", "STORAGE_S3_ENDPOINT", "STORAGE_S3_ACCESS_KEY_ID", "STORAGE_S3_SECRET_ACCESS_KEY", "PUBLIC_URL"];
    assert_eq!(refused(environment), names);
    let production =
        [("APP_PROFILE", "production"), ("DATABASE_URL", "postgres://hunter2:change-me@h/d"), ("PUBLIC_URL", "https://a.example.org/in")];
    let told = load(&production).unwrap_err().to_string();
    assert!(told.contains("DATABASE_URL=***: must be your own outside development; it still has the template's `change-me`"), "{told}");
    assert!(told.contains("PUBLIC_URL=***") && !told.contains("hunter2") && !told.contains("/in"), "{told}");
}

#[test]
fn a_name_that_is_probably_misspelt_is_noted_without_its_value() {
    let environment = [("API_PROT", "hunter2"), ("DB_POOL_MAXX", "hunter2"), ("DB_HOST", "hunter2"), ("PATH", "/bin"), ("API_PORT", "1")];
    let layers = Layers::new(environment.map(|(n, v)| (n.to_owned(), v.to_owned())), &[]).unwrap();
    let notices =
        ["API_PROT is no setting and is not read: is API_PORT meant?", "DB_POOL_MAXX is no setting and is not read: is DB_POOL_MAX meant?"];
    assert_eq!(layers.notices, notices);
}

#[test]
fn rules_across_settings_are_checked() {
    let problems = load(&[("WORKER_LEASE_MS", "1000"), ("WORKER_HEARTBEAT_MS", "900")]).unwrap_err();
    assert_eq!(problems.0[0].name, "WORKER_HEARTBEAT_MS");
}

#[test]
fn a_queue_that_cannot_exist_is_refused_rather_than_left_out() {
    let problems = load(&[("WORKER_QUEUES", "mail, no such:queue")]).unwrap_err();
    assert_eq!(problems.0[0].name, "WORKER_QUEUES");
}

#[test]
fn a_setting_with_a_default_can_be_switched_off() {
    assert!(load(&[]).unwrap().worker_metrics_addr.is_some());
    assert_eq!(load(&[("WORKER_METRICS_ADDR", "none")]).unwrap().worker_metrics_addr, None);
}

#[test]
fn a_short_secret_is_refused_for_hs256_without_showing_it() {
    let problems = load(&[("JWT_ALG", "HS256"), ("JWT_SECRET", "short-one")]).unwrap_err().to_string();
    assert!(problems.contains("JWT_SECRET=***") && !problems.contains("short-one"), "{problems}");
}

fn load_with_file(toml: &str, variables: &[(&str, &str)]) -> Result<Settings, super::Problems> {
    let path = std::env::temp_dir().join(format!("millrace-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&path, toml).unwrap();
    let mut all = vec![("CONFIG_FILE", path.to_str().unwrap())];
    all.extend(variables);
    let settings = load(&all);
    std::fs::remove_file(&path).unwrap();
    settings
}

#[test]
fn a_file_overrides_the_profile_and_the_environment_the_file() {
    let toml = "api_workers = 5\nlog_level = \"warn\"\n";
    let settings = load_with_file(toml, &[("APP_PROFILE", "maximum"), ("LOG_LEVEL", "error")]).unwrap();
    assert_eq!((settings.api_workers(), settings.log_level.as_str()), (5, "error"));
}

#[rstest::rstest]
#[case::open_string("jwt_secret = \"hunter2\n")]
#[case::open_list("api_port = 1\ncors_origins = [\"hunter2\"\n")]
#[case::no_value("hunter2\n")]
#[case::bare("jwt_secret = hunter2\n")]
#[case::two_in_a_line("jwt_secret = \"hunter2\" \"hunter2\"\n")]
#[case::escape("jwt_secret = \"hunter2\\q\"\n")]
#[case::over_lines("jwt_secret = \"\"\"\nhunter2\n12 | hunter2\n")]
fn a_file_that_is_no_toml_is_told_without_its_lines(#[case] file: &str) {
    let problems = load_with_file(file, &[]).unwrap_err().to_string();
    assert!(problems.contains("TOML parse error at line "), "{problems}");
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn a_file_with_an_unknown_name_or_none_at_all_is_told() {
    let problems = load_with_file("api_workerz = 5\n", &[]).unwrap_err().to_string();
    assert!(problems.contains("`api_workerz` is none, is `api_workers` meant?"), "{problems}");
    assert!(load(&[("CONFIG_FILE", "/nowhere/at/all.toml")]).unwrap_err().to_string().contains("CONFIG_FILE"));
}

#[test]
fn counts_and_log_levels_that_make_no_sense_are_told() {
    let problems = load(&[("API_WORKERS", "0"), ("DB_POOL_MAX", "5000"), ("LOG_LEVEL", "info,=bogus=")]).unwrap_err();
    let names: Vec<&str> = problems.0.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["API_WORKERS", "DB_POOL_MAX", "LOG_LEVEL"]);
}

#[test]
fn what_is_in_force_is_told_without_secrets() {
    let environment = [("DATABASE_URL", "postgres://u:hunter2@h/d"), ("REDIS_URL", "redis://h"), ("API_WORKERS", "3")];
    let layers = Layers::new(environment.map(|(n, v)| (n.to_owned(), v.to_owned())), &[]).unwrap();
    let text = layers.in_force().map(|(name, value)| format!("{name}={value}\n")).collect::<String>();
    assert!(text.contains("API_WORKERS=3\n") && text.contains("DATABASE_URL=***\n") && text.contains("LOG_FORMAT=pretty\n"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[test]
fn a_file_gives_namespaces_their_rules() {
    let toml = "[channels.chat]\nhistory_size = 7\n[channels.News]\nsubscribe = \"anyone\"\n";
    let namespaces = load_with_file(toml, &[]).unwrap().namespaces;
    assert_eq!(namespaces.resolve("chat:1").unwrap().namespace.history.unwrap().size, 7);
    assert!(namespaces.resolve("News:1").is_ok() && namespaces.resolve("job:1").is_ok() && namespaces.resolve("news:1").is_err());
}

#[test]
fn rules_of_channels_that_cannot_be_are_told_with_all_other_problems() {
    let toml = "api_port = 99999\n[channels.a]\nrecovery = true\n[channels.b]\nhistroy_size = 1\n";
    let problems = load_with_file(toml, &[]).unwrap_err();
    let names: Vec<&str> = problems.0.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["API_PORT", "[channels.b]", "[channels.a]"]);
}

#[test]
fn realtime_without_tokens_is_for_development_alone() {
    assert!(load(&[("REALTIME_INSECURE", "on")]).unwrap().realtime_insecure);
    let problems = load(&[("REALTIME_INSECURE", "on"), ("APP_PROFILE", "staging")]).unwrap_err();
    assert_eq!(problems.0[0].name, "REALTIME_INSECURE");
}

#[test]
fn a_word_that_is_none_is_told_with_those_that_are() {
    let problems = load_with_file("[channels.news]\nsubscribe = \"anyne\"\n", &[]).unwrap_err().to_string();
    assert!(problems.contains("`anyne` is none of anyone, user, subscriber, token, operator, admin"), "{problems}");
}

#[test]
fn the_rules_of_channels_are_told_as_a_file_would_say_them() {
    let shipped = load(&[]).unwrap().namespaces;
    let told: String = shipped.iter().map(ToString::to_string).collect();
    let again = load_with_file(&told, &[]).unwrap().namespaces;
    assert!(shipped.iter().eq(again.iter()), "{told}");
}
