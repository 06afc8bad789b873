//! Configuration: every setting in one list, the layers it is read from, and the checks it must pass.
//!
//! Layers, weakest first: the default in [`settings`], the profile's file (`infra/config/<profile>.toml`, built into the
//! binary), the file that `CONFIG_FILE` names, the environment, command-line flags. To add a setting: one line in [`settings`], one in `.env.example`, and
//! its use. Nothing else in the platform reads the environment.

mod layers;
mod names;
mod placeholders;
mod profile;
mod rules;
mod setting;
mod settings;
mod values;

pub use layers::{Layers, Problem, Problems};
pub use profile::Profile;
pub use setting::Setting;
pub use settings::{SETTINGS, Settings};
pub use values::{
    Auto, Bytes, ClientAddressHeader, ConcurrencyMode, DiskBytes, Exposure, JwtAlgorithm, LogFormat, Origins, Rate, Registration,
    StorageUrl,
};

#[cfg(test)]
mod tests;
