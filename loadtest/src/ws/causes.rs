//! Why something failed, and how often.

use std::collections::BTreeMap;

/// More different ones are counted as others.
const MAX_CAUSES: usize = 32;

pub(crate) type Causes = BTreeMap<String, u64>;

pub(crate) fn note(causes: &mut Causes, cause: String) {
    let is_known = causes.contains_key(&cause) || causes.len() < MAX_CAUSES;
    *causes.entry(if is_known { cause } else { "others".to_owned() }).or_default() += 1;
}

pub(crate) fn add(causes: &mut Causes, more: &Causes) {
    for (cause, count) in more {
        *causes.entry(cause.clone()).or_default() += count;
    }
}
