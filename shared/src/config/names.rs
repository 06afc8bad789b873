//! Variables that are no setting and look as if they were meant to be one: a misspelt name is silent otherwise.
//!
//! The environment is everybody's, so that a name has to be very near to one of ours. Names of one word (`DOCS`) are nobody's own.

use super::SETTINGS;
use strsim::osa_distance;

/// Letters that may be wrong, missing, too many or swapped with their neighbour.
const TYPOS_MAX: usize = 2;
/// Names that are shorter may have one: with two they are soon another program's.
const SHORT: usize = 10;
/// So long is the least first word (`REDIS`) that is known again with a typo in it. `APP_PORT` and `APM_HOST` are no typos.
const FIRST_WORD_LEAST: usize = 4;

/// The setting that `variable` was probably meant to be.
pub(super) fn meant_by(variable: &str) -> Option<String> {
    let variable = variable.to_uppercase();
    let files = SETTINGS.iter().filter(|setting| setting.secret).map(|setting| format!("{}_FILE", setting.name));
    let names = SETTINGS.iter().map(|setting| setting.name.to_owned()).chain(files);
    let near = names.filter_map(|name| Some((typos(&variable, &name)?, name)));
    near.min_by_key(|(n_typos, _)| *n_typos).map(|(_, name)| name)
}

/// How many typos make `variable` of `name`; `None` where it is another name.
fn typos(variable: &str, name: &str) -> Option<usize> {
    if variable.len().abs_diff(name.len()) > TYPOS_MAX {
        return None;
    }
    let (first, _) = name.split_once('_')?;
    let is_of_family = variable.split_once('_').is_some_and(|(word, _)| word == first);
    let most = match (is_of_family, name.len()) {
        (true, SHORT..) => TYPOS_MAX,
        (true, _) => 1,
        (false, _) if first.len() >= FIRST_WORD_LEAST => 1,
        (false, _) => return None,
    };
    Some(osa_distance(variable, name)).filter(|n_typos| *n_typos <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_told_from_names_of_others() {
        let misspelt = [
            ("API_PROT", "API_PORT"),
            ("DB_POOL_MAXX", "DB_POOL_MAX"),
            ("db_pool_max", "DB_POOL_MAX"),
            ("DATABSE_URL", "DATABASE_URL"),
            ("SMPT_URL", "SMTP_URL"),
            ("WORKER_CONCURENCY", "WORKER_CONCURRENCY"),
            ("FILE_PER_USER_MAX", "FILES_PER_USER_MAX"),
            ("REDIS_URL_FIEL", "REDIS_URL_FILE"),
        ];
        for (variable, name) in misspelt {
            assert_eq!(meant_by(variable).as_deref(), Some(name), "{variable}");
        }
    }

    /// What shells, service managers, Kubernetes, CI and programs beside us have set.
    #[test]
    fn an_ordinary_environment_rings_no_alarm() {
        let ordinary = "PATH HOME USER LOGNAME SHELL TERM LANG LC_ALL TZ PWD OLDPWD HOSTNAME MAIL EDITOR PAGER TMPDIR XDG_RUNTIME_DIR SSH_AUTH_SOCK \
            http_proxy https_proxy no_proxy HTTP_PROXY NO_PROXY CI DEBUG PORT HOST ENV docs metrics METRIC DOC WORKER REGISTRATIONS \
            NOTIFY_SOCKET WATCHDOG_PID WATCHDOG_USEC INVOCATION_ID JOURNAL_STREAM STATE_DIRECTORY CREDENTIALS_DIRECTORY LISTEN_FDS MAINPID \
            DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD DB_URL PGHOST PGPASSWORD POSTGRES_PASSWORD POSTGRES_URL DATABASE_USER DATABASE_HOST \
            REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_DB REDIS_SERVICE_HOST REDIS_PORT_6379_TCP_ADDR GRAFANA_PASSWORD \
            API_KEY API_URL API_TOKEN API_SERVICE_HOST API_SERVICE_PORT API_PORT_8000_TCP MILLRACE_API_PORT MILLRACE_VERSION MILLRACE_ENV_FILE \
            APP_PORT APP_HOST APP_ENV APP_NAME APP_KEY AWS_PROFILE AWS_REGION S3_ENDPOINT STORAGE_DIR OPENAI_API_KEY OPENAI_BASE_URL AI_URL \
            SMTP_HOST SMTP_PORT SMTP_USER SMTP_PASSWORD MAIL_FROM JWT_KEY JWT_SECRET_KEY SECRET_KEY PUBLIC_IP PUBLIC_KEY LOG_DIR LOG_FILE \
            WS_PORT WS_URL CONFIG_DIR CONFIG_PATH FILE_PATH TOKEN_URL CORS_ALLOW_ORIGIN BACKUP_DIR BACKUP_KEEP RUST_LOG RUST_BACKTRACE \
            OTEL_TRACES_EXPORTER OTEL_RESOURCE_ATTRIBUTES OTEL_EXPORTER_OTLP_PROTOCOL OTEL_EXPORTER_OTLP_TRACES_ENDPOINT \
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT OTEL_SDK_DISABLED CARGO_HOME CARGO_INCREMENTAL KUBERNETES_SERVICE_HOST";
        for variable in ordinary.split_whitespace() {
            assert_eq!(meant_by(variable), None, "{variable}");
        }
    }
}
