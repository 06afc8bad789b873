//! What a file is called: the name that was sent, without anything that would mislead a person or a file system. It names nothing in the
//! store.

use crate::text::misleads;

/// Longest name, in bytes: what file systems take.
const NAME_BYTES: usize = 255;
/// For one that has nothing left.
const NAMELESS: &str = "file";

/// The last part of the path, without control characters and those that change the direction of writing, and not hidden.
pub(super) fn sanitise(sent: &str) -> String {
    let last = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|character| !misleads(*character)).map(plain).collect();
    let cut = shortened(kept.trim_matches(is_edge));
    // What is cut may end in what no name ends in.
    let named = cut.trim_end_matches(is_edge);
    if named.is_empty() { NAMELESS.to_owned() } else { named.to_owned() }
}

/// What no name begins or ends with: a dot hides a file or is lost, and a space is not seen.
fn is_edge(character: char) -> bool {
    character == '.' || character.is_whitespace()
}

/// What has a meaning to file systems, shells or headers becomes a line.
fn plain(character: char) -> char {
    if matches!(character, '<' | '>' | ':' | '"' | '|' | '?' | '*') { '_' } else { character }
}

/// Cut in front of its ending, which tells what it is.
fn shortened(name: &str) -> String {
    if name.len() <= NAME_BYTES {
        return name.to_owned();
    }
    let ending = name.rfind('.').map(|at| &name[at..]).filter(|ending| ending.len() <= 20).unwrap_or_default();
    let stem = &name[..name.len() - ending.len()];
    format!("{}{ending}", &stem[..stem.floor_char_boundary(NAME_BYTES - ending.len())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("bus 7 (2).gpx", "bus 7 (2).gpx")]
    #[case::folders("../../etc/passwd", "passwd")]
    #[case::folders_of_windows("C:\\Users\\a\\b.csv", "b.csv")]
    #[case::parents("..", "file")]
    #[case::a_folder("tracks/", "file")]
    #[case::hidden(".bashrc", "bashrc")]
    #[case::nothing("", "file")]
    #[case::nul("a\0b.csv", "ab.csv")]
    #[case::lines("a\r\nSet-Cookie: x=y", "aSet-Cookie_ x=y")]
    #[case::quotes("a\".exe", "a_.exe")]
    #[case::backwards("photo_\u{202e}gpj.exe", "photo_gpj.exe")]
    #[case::another_stream("a.txt:evil", "a.txt_evil")]
    #[case::end("name. . .", "name")]
    #[case::begin(". .name", "name")]
    #[case::wide_space("name\u{3000}.", "name")]
    #[case::foreign("Straße 東京.csv", "Straße 東京.csv")]
    fn names(#[case] sent: &str, #[case] kept: &str) {
        assert_eq!(sanitise(sent), kept);
    }

    #[test]
    fn a_long_name_keeps_its_ending() {
        let kept = sanitise(&format!("{}.geojson", "ü".repeat(300)));
        assert!(kept.len() <= NAME_BYTES && kept.ends_with("ü.geojson"), "{kept}");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_becomes_a_name(sent in ".*") {
            let kept = sanitise(&sent);
            prop_assert!(!kept.is_empty() && kept.len() <= NAME_BYTES);
            prop_assert!(!kept.contains(['/', '\\', '\0', '\n', '\r', '"']) && !kept.starts_with('.'));
            prop_assert_eq!(sanitise(&kept), kept.clone());
        }
    }
}
