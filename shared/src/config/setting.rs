//! One setting as such, and how all of them are read together. Which there are: [`settings`](super::settings).

use super::{Layers, Problems, Settings};
use std::{ops::RangeBounds, time::Duration};

/// What is known of a setting without reading it.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
    pub secret: bool,
}

impl Setting {
    /// Whether `variable` is this setting, or the file its secret is kept in.
    pub fn answers_to(&self, variable: &str) -> bool {
        variable == self.name || (self.secret && variable.strip_suffix("_FILE") == Some(self.name))
    }
}

pub(super) fn in_range<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: &T,
    range: impl RangeBounds<T> + std::fmt::Debug,
    problems: &mut Problems,
) -> bool {
    let inside = range.contains(value);
    if !inside {
        problems.add(name, value.to_string(), format!("in {range:?}"));
    }
    inside
}

/// The list becomes the struct, the table of what is known of each, and their reading.
macro_rules! settings {
    ($($(#[doc = $meaning:literal])+ $name:ident $field:ident: $ty:ty = $default:literal $(in $range:expr)?;)*) => {
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $meaning])+ pub $field: $ty,)*
            /// The rules of channels: those that are shipped, and the `[channels.<name>]` tables of `CONFIG_FILE`.
            pub namespaces: $crate::channels::Namespaces,
        }

        pub static SETTINGS: &[$crate::config::Setting] = &[$($crate::config::Setting {
            name: stringify!($name),
            default: $default,
            meaning: concat!($($meaning),+),
            secret: <$ty as $crate::config::values::Value>::SECRET,
        },)*];

        impl Settings {
            pub(super) fn read(layers: &$crate::config::Layers, problems: &mut $crate::config::Problems) -> Option<Self> {
                $(
                    let $field = layers.read::<$ty>(stringify!($name), $default, problems);
                    $(let $field = $field.filter(|value| $crate::config::setting::in_range(stringify!($name), value, $range, problems));)?
                )*
                Some(Self { $($field: $field?,)* namespaces: Default::default() })
            }
        }
    };
}

pub(super) use settings;

impl Settings {
    /// Reads and checks everything; the error lists all that is wrong.
    pub fn load(layers: &Layers) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut settings = Self::read(layers, &mut problems);
        let history_ttl_max_s = settings.as_ref().map_or(u64::MAX, |settings| settings.channel_layer_group_expiry);
        let namespaces = layers.namespaces(Duration::from_secs(history_ttl_max_s), &mut problems);
        if let (Some(settings), Some(namespaces)) = (&mut settings, namespaces) {
            settings.namespaces = namespaces;
            settings.check(&mut problems);
            if !settings.profile.is_development() {
                layers.check_placeholders(&mut problems);
            }
        }
        settings.filter(|_| problems.0.is_empty()).ok_or(problems)
    }
}
