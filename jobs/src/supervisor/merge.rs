//! Several processes' metrics as one text: each sample gets the label `child`, and the samples of one metric stand
//! together under its one description, as the format demands.

use std::fmt::Write;

/// One metric: its comment lines, and its samples from all processes.
#[derive(Debug, Default)]
struct Family {
    name: String,
    comments: String,
    samples: String,
}

/// `texts` are (value of the label `child`, metrics).
pub(super) fn merge(texts: &[(String, String)]) -> String {
    let mut families: Vec<Family> = Vec::new();
    for (child, text) in texts {
        let mut current = None;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("# ") {
                Some(comment) => current = Some(describe(&mut families, comment, line)),
                None => add_sample(&mut families, current, child, line),
            }
        }
    }
    families.into_iter().map(|family| family.comments + &family.samples).collect()
}

/// The place of the family that a comment such as `HELP name …` describes; the first process's words are kept.
fn describe(families: &mut Vec<Family>, comment: &str, line: &str) -> usize {
    let name = comment.split(' ').nth(1).unwrap_or_default();
    let place = families.iter().position(|family| family.name == name).unwrap_or_else(|| {
        families.push(Family { name: name.to_owned(), ..Family::default() });
        families.len() - 1
    });
    let comments = &mut families[place].comments;
    if !comments.lines().any(|known| known == line) {
        writeln!(comments, "{line}").expect("writing to a string cannot fail");
    }
    place
}

fn add_sample(families: &mut [Family], place: Option<usize>, child: &str, line: &str) {
    let Some(family) = place.and_then(|place| families.get_mut(place)) else { return };
    let labelled = match (line.split_once('{'), line.split_once(' ')) {
        (Some((name, rest)), _) => format!("{name}{{child=\"{child}\",{rest}"),
        (None, Some((name, value))) => format!("{name}{{child=\"{child}\"}} {value}"),
        (None, None) => return,
    };
    writeln!(family.samples, "{labelled}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn samples_of_one_metric_stand_together_and_tell_their_child() {
        let one = "# HELP a A.\n# TYPE a counter\na 1\n\n# TYPE b gauge\nb{x=\"y\"} 2\n";
        let other = "# HELP a A.\n# TYPE a counter\na 3\n";
        let merged = merge(&[("0".into(), one.into()), ("1".into(), other.into())]);
        assert_eq!(merged, "# HELP a A.\n# TYPE a counter\na{child=\"0\"} 1\na{child=\"1\"} 3\n# TYPE b gauge\nb{child=\"0\",x=\"y\"} 2\n");
    }
}
