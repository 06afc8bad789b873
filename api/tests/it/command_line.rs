//! What operators meet on the command line of `millrace-api`: words on standard error, and exit codes.

use crate::{programs::Program, support::TestApp};
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
