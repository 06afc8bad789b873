//! The layers a setting is read from, and the list of what was wrong with them.

use super::{names, placeholders, profile::Profile, values::Value};
use crate::channels::{NamespaceTable, Namespaces};
use config::{Config, File, FileFormat, Map, Value as ConfigValue};
use std::{collections::BTreeMap, env, fmt, fs, path::Path, time::Duration};

/// One setting that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub name: String,
    /// As found; secrets are masked.
    pub value: String,
    pub allowed: String,
}

/// Everything wrong with a configuration, told at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The configuration has {} problem(s):", self.0.len())?;
        for Problem { name, value, allowed } in &self.0 {
            // A table has no value of one line.
            let equals = if name.starts_with('[') { "" } else { "=" };
            writeln!(f, "  {name}{equals}{value}: must be {allowed}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    pub fn add(&mut self, name: &str, value: impl Into<String>, allowed: impl Into<String>) {
        self.0.push(Problem { name: name.to_owned(), value: value.into(), allowed: allowed.into() });
    }
}

/// The table of `CONFIG_FILE` that holds the rules of channels, one table for each namespace.
const CHANNELS: &str = "channels";

/// Names that other stacks use for a setting of ours; each use is noted at start.
const ALIASES: &[(&str, &str)] = &[("UVICORN_WORKERS", "API_WORKERS"), ("WORKERS", "API_WORKERS")];

/// The merged text of all layers.
#[derive(Debug)]
pub struct Layers {
    merged: Config,
    /// What is worth a warning and no reason to refuse: old names, and names that are probably misspelt. To log once logging is up.
    pub notices: Vec<String>,
}

impl Layers {
    /// Profile file, then the process environment, then `flags` (name → value).
    pub fn from_process(flags: &[(&str, String)]) -> Result<Self, Problems> {
        let environment = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::new(environment, flags)
    }

    pub fn new(environment: impl IntoIterator<Item = (String, String)>, flags: &[(&str, String)]) -> Result<Self, Problems> {
        let mut variables: Map<String, String> = environment.into_iter().collect();
        variables.extend(flags.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut notices = rename_aliases(&mut variables);
        let mut problems = Problems::default();
        let profile =
            match variables.get("APP_PROFILE").filter(|name| !name.is_empty()).map_or(Ok(Profile::Development), |name| name.parse()) {
                Ok(profile) => profile,
                Err(allowed) => {
                    problems.add("APP_PROFILE", variables["APP_PROFILE"].clone(), allowed);
                    return Err(problems);
                }
            };
        let file = read_file(&variables)?;
        // The crate lower-cases keys of its sources; settings are looked up by their lower-case names.
        let mut builder = Config::builder().add_source(File::from_str(profile.toml(), FileFormat::Toml)).add_source(file);
        for (name, value) in variables {
            if super::SETTINGS.iter().any(|setting| setting.answers_to(&name)) {
                builder = builder.set_override(name.to_lowercase(), value).expect("a flat name is a valid key");
            } else if let Some(meant) = names::meant_by(&name) {
                notices.push(format!("{name} is no setting and is not read: is {meant} meant?"));
            }
        }
        notices.sort_unstable();
        let merged = builder.build().map_err(|error| {
            Problems(vec![Problem { name: "APP_PROFILE".into(), value: profile.to_string(), allowed: error.to_string() }])
        })?;
        Ok(Self { merged, notices })
    }

    /// Every setting as it stands, in the order of the list; secrets are masked, `auto` is left as it is.
    pub fn in_force(&self) -> impl Iterator<Item = (&'static str, String)> {
        super::SETTINGS.iter().map(|setting| {
            let text = self.text(setting.name).filter(|text| !text.is_empty()).unwrap_or_else(|| setting.default.to_owned());
            (setting.name, if setting.secret && !text.is_empty() { "***".to_owned() } else { text })
        })
    }

    /// The merged text of one setting.
    fn text(&self, name: &str) -> Option<String> {
        self.merged.get_string(&name.to_lowercase()).ok()
    }

    /// Reads one setting; a problem is noted and gives `None`. A set but empty variable counts as absent.
    pub(super) fn read<T: Value>(&self, name: &str, default: &str, problems: &mut Problems) -> Option<T> {
        let text = match self.given(name, T::SECRET) {
            Ok(text) => text.unwrap_or_else(|| default.to_owned()),
            Err(unreadable) => {
                problems.0.push(unreadable);
                return None;
            }
        };
        match T::parse(&text) {
            Ok(value) => Some(value),
            Err(allowed) => {
                problems.add(name, if T::SECRET { "***".to_owned() } else { text }, allowed);
                None
            }
        }
    }

    /// What was given for a setting, in the layers or in the file of a secret.
    fn given(&self, name: &str, is_secret: bool) -> Result<Option<String>, Problem> {
        let text = self.text(name).filter(|text| !text.is_empty());
        if text.is_some() || !is_secret {
            return Ok(text);
        }
        let name = format!("{name}_FILE");
        let Some(path) = self.text(&name).filter(|path| !path.is_empty()) else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(secret) => Ok(Some(secret.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => Err(Problem { name, value: path, allowed: format!("a readable file ({error})") }),
        }
    }

    /// Settings that still say what the templates do.
    pub(super) fn check_placeholders(&self, problems: &mut Problems) {
        for setting in super::SETTINGS {
            let given = self.given(setting.name, setting.secret).ok().flatten();
            if let Some(placeholder) = given.as_deref().and_then(placeholders::left_in) {
                problems.add(setting.name, "***", format!("your own outside development; it still has the template's `{placeholder}`"));
            }
        }
    }

    /// The rules of channels; `None` when a table is not as it must be.
    pub(super) fn namespaces(&self, history_ttl_max: Duration, problems: &mut Problems) -> Option<Namespaces> {
        let before = problems.0.len();
        let mut tables = BTreeMap::<String, NamespaceTable>::new();
        for (name, value) in self.merged.get_table(CHANNELS).unwrap_or_default() {
            match value.try_deserialize() {
                Ok(table) => drop(tables.insert(name, table)),
                Err(error) => problems.add(&format!("[{CHANNELS}.{name}]"), "", format!("a table of a namespace's rules ({error})")),
            }
        }
        match Namespaces::from_tables(&tables, history_ttl_max) {
            Ok(namespaces) => (problems.0.len() == before).then_some(namespaces),
            Err(broken) => {
                for (name, allowed) in broken {
                    problems.add(&format!("[{CHANNELS}.{name}]"), "", allowed);
                }
                None
            }
        }
    }
}

/// The file that `CONFIG_FILE` names, or an empty one. A name that is no setting is a mistake worth hearing of.
fn read_file(variables: &Map<String, String>) -> Result<Config, Problems> {
    let Some(path) = variables.get("CONFIG_FILE").filter(|path| !path.is_empty()) else { return Ok(Config::default()) };
    let mut problems = Problems::default();
    match Config::builder().add_source(File::from(Path::new(path)).format(FileFormat::Toml)).build() {
        Ok(file) => {
            let table: Map<String, ConfigValue> = file.clone().try_deserialize().unwrap_or_default();
            let is_known = |name: &str| name == CHANNELS || super::SETTINGS.iter().any(|setting| setting.answers_to(&name.to_uppercase()));
            for name in table.keys().filter(|name| !is_known(name)) {
                let meant = names::meant_by(name).map_or(String::new(), |meant| format!(", is `{}` meant?", meant.to_lowercase()));
                problems.add("CONFIG_FILE", path.clone(), format!("a file of settings; `{name}` is none{meant}"));
            }
            if problems.0.is_empty() { Ok(file) } else { Err(problems) }
        }
        Err(error) => {
            problems.add("CONFIG_FILE", path.clone(), format!("a readable TOML file ({})", without_lines(&error.to_string())));
            Err(problems)
        }
    }
}

/// What is wrong with a file and where, without the lines of the file that TOML's parser shows: secrets may stand there.
fn without_lines(error: &str) -> String {
    let is_shown = |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    error.lines().map(str::trim_end).filter(|line| !is_shown(line) && !line.is_empty()).collect::<Vec<_>>().join(": ")
}

fn rename_aliases(variables: &mut Map<String, String>) -> Vec<String> {
    let mut notices = Vec::new();
    for (alias, name) in ALIASES {
        if let Some(value) = variables.remove(*alias) {
            notices.push(format!("{alias} is an old name: use {name}"));
            variables.entry((*name).to_owned()).or_insert(value);
        }
    }
    notices
}
