//! What operators meet on the command line of `millrace-api`: words on standard error, and exit codes.

use crate::{programs::Program, support::TestApp};
use shared::pg::MIGRATIONS;
use sqlx::Executor;
use std::process::{Command, Output};

/// The program with these settings, and nothing else of our environment.
fn command(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let servers = [("DATABASE_URL", "postgres://u@127.0.0.1:1/d"), ("REDIS_URL", "redis://127.0.0.1:1")];
    Command::new(env!("CARGO_BIN_EXE_millrace-api"))
        .args(arguments)
        .env_clear()
        .envs(servers.iter().chain(settings).copied())
        .output()
        .expect("the binary was built with this test")
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn check_config_tells_names_that_are_no_settings_and_refuses_templates() {
    let misspelt = ("DB_POOL_MAXX", "hunter2");
    let notice = "DB_POOL_MAXX is no setting and is not read: is DB_POOL_MAX meant?\n";
    let output = command(&["check-config"], &[misspelt]);
    assert_eq!(told(&output), (Some(0), notice.to_owned()));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\nDB_POOL_MAX=auto "), "what is in force is on standard output alone");

    let template = [misspelt, ("APP_PROFILE", "production"), ("PUBLIC_URL", "https://api.example.org")];
    let (code, words) = told(&command(&["check-config"], &template));
    assert_eq!(code, Some(2));
    assert!(words.starts_with(notice) && words.contains("PUBLIC_URL=***: must be your own") && !words.contains("hunter2"), "{words}");
}

#[test]
fn a_server_that_cannot_start_tells_the_misspelt_name_first() {
    let (code, words) = told(&command(&["serve"], &[("DATABASE_URL", ""), ("DATABSE_URL", "postgres://hunter2@h/d")]));
    assert_eq!(code, Some(2));
    assert!(words.starts_with("DATABSE_URL is no setting") && words.contains("\n  DATABASE_URL=") && !words.contains("hunter2"), "{words}");
}

#[tokio::test]
async fn a_server_that_starts_logs_the_misspelt_name() {
    let app = TestApp::start().await;
    let (program, _) = Program::api(&app, &[("API_PROT", "hunter2")]).await;
    let log = program.log();
    let line = log.lines().find(|line| line.contains("API_PROT is no setting and is not read: is API_PORT meant?")).expect("it is logged");
    assert!(line.contains(r#""level":"WARN""#) && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn migrate_names_what_it_applied() {
    let app = TestApp::start().await;
    let migrate = || {
        let variables: Vec<(&str, &str)> = app.stores.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let output = command(&["migrate"], &variables);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(migrate(), "The database is up to date: nothing to do.\n");

    // As the release before left it.
    let last = MIGRATIONS.iter().rfind(|migration| migration.migration_type.is_up_migration()).unwrap();
    let down = MIGRATIONS.iter().find(|down| down.migration_type.is_down_migration() && down.version == last.version).unwrap();
    app.state.ctx.pg.execute(down.sql.clone()).await.unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = $1").bind(last.version).execute(&app.state.ctx.pg).await.unwrap();
    let told = migrate();
    let lines: Vec<&str> = told.lines().collect();
    let named = format!("applied {:04} {} (", last.version, last.description);
    assert!(lines.len() == 2 && lines[0].starts_with(&named) && lines[0].ends_with(" s)"), "{told}");
    assert_eq!(lines[1], "The database is up to date: 1 applied.");
}

#[test]
fn a_port_that_is_told_goes_before_that_of_the_settings() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (code, words) = told(&command(&["healthcheck", "--port", &free], &[("API_PORT", "8000")]));
    assert_eq!(code, Some(1));
    assert!(words.starts_with(&format!("127.0.0.1:{free} does not answer")), "{words}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let output = command(&["doctor", "--port", &free, "--port", &taken], &[("WORKER_METRICS_ADDR", "none")]);
    let findings = String::from_utf8(output.stdout).unwrap();
    let ports: Vec<&str> = findings.lines().filter(|line| line.contains("  port: ")).collect();
    assert_eq!(ports.len(), 2, "{findings}");
    assert!(
        ports[0] == format!("ok    port: 127.0.0.1:{free} is free (--port)")
            && ports[1].contains(&format!(":{taken} cannot be bound (--port"))
    );
}

#[test]
fn the_doctor_says_that_there_are_no_keys() {
    let output = command(&["doctor"], &[("JWT_KEYS_DIR", "/nowhere"), ("JWT_ALG", "EdDSA")]);
    let findings = String::from_utf8(output.stdout).unwrap();
    let keys = findings.lines().find(|line| line.contains("  keys: ")).unwrap_or_default();
    assert!(keys.starts_with("warn  keys: /nowhere holds no signing key: run `millrace-api token keygen`"), "{findings}");
}

/// As a systemd unit gives an instance its port and its own settings (`infra/systemd`).
#[test]
fn millrace_run_is_an_instance_with_the_settings_of_its_own() {
    let folder = std::env::temp_dir().join(format!("millrace-run-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    file(
        "millrace.env",
        "# of all\nDATABASE_URL=postgres://u@h/d\nREDIS_URL=redis://h\nMETRICS_ADDR=127.0.0.1:1\nLOG_LEVEL=info\nLOG_LEVEL=warn\n",
    );
    file("api-8001.env", "METRICS_ADDR=\"127.0.0.1:9201\"\n");
    let run = |arguments: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/systemd/millrace-run");
        let programs = std::path::Path::new(env!("CARGO_BIN_EXE_millrace-api")).parent().unwrap();
        let mut command = Command::new(script);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("MILLRACE_BIN", programs);
        command.env("MILLRACE_ENV", folder.join("millrace.env")).output().expect("a shell runs it")
    };
    let in_force = |instance: &[&str]| String::from_utf8(run(&[instance, &["millrace-api", "check-config"]].concat()).stdout).unwrap();
    let has = |text: &str, line: &str| text.lines().any(|one| one == line);
    let (one, other, all) = (in_force(&["@8001"]), in_force(&["@8002"]), in_force(&[]));
    assert!(has(&one, "API_PORT=8001") && has(&one, "METRICS_ADDR=127.0.0.1:9201") && has(&one, "LOG_LEVEL=warn"), "{one}");
    assert!(has(&other, "API_PORT=8002") && has(&other, "METRICS_ADDR=127.0.0.1:1"), "{other}");
    assert!(has(&all, "LOG_LEVEL=warn"), "the last line counts, as for systemd: {all}");
    assert!(has(&all, "API_PORT=8000") && has(&all, "METRICS_ADDR=127.0.0.1:1"), "{all}");
    for misused in [&[][..], &["@8001"], &["@api", "millrace-api"]] {
        assert_eq!(run(misused).status.code(), Some(2), "{misused:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
