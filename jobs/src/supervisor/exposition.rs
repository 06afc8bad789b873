//! Several children's metrics as one page: what adds up is added up, what belongs to a process gets the child as a label.

use std::collections::BTreeMap;

/// One metric: its `# HELP` and `# TYPE` lines, and its samples in the order they came.
#[derive(Debug, Default)]
struct Family {
    comments: Vec<String>,
    order: Vec<String>,
    samples: BTreeMap<String, f64>,
}

type Families = BTreeMap<String, Family>;

/// Merges `(child, Prometheus text)` of processes that are there, and the texts of those that are gone.
pub(super) fn merge(texts: &[(String, String)], past: &[String]) -> String {
    let mut families = Families::new();
    for (child, text) in texts {
        read(&mut families, text, |name, series| if name.starts_with("process_") { with_label(series, child) } else { series.to_owned() });
    }
    let mut counted = Families::new();
    for text in past {
        read(&mut counted, text, |_, series| series.to_owned());
    }
    for (name, family) in counted.into_iter().filter(|(name, family)| family.goes_on(name)) {
        let known = families.entry(name.clone()).or_default();
        if known.comments.is_empty() {
            known.comments = family.comments;
        }
        for series in family.order {
            let value = family.samples[&series];
            known.add(&name, series, value);
        }
    }
    render(&families)
}

/// One text for those of several processes that are gone.
pub(super) fn add_up(past: &[String]) -> String {
    merge(&[], past)
}

fn read(families: &mut Families, text: &str, series_of: impl Fn(&str, &str) -> String) {
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            current = comment.split(' ').nth(1).unwrap_or_default().to_owned();
            let comments = &mut families.entry(current.clone()).or_default().comments;
            if !comments.iter().any(|known| known == line) {
                comments.push(line.to_owned());
            }
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let series = series_of(&current, series);
        families.entry(current.clone()).or_default().add(&current, series, value);
    }
}

impl Family {
    fn add(&mut self, name: &str, series: String, value: f64) {
        match self.samples.get_mut(&series) {
            // The latest moment is the one that matters; all else is a count.
            Some(sum) if name.ends_with("_timestamp_seconds") => *sum = sum.max(value),
            Some(sum) => *sum += value,
            None => {
                self.order.push(series.clone());
                self.samples.insert(series, value);
            }
        }
    }

    /// Whether it outlives the process: a count does, and the last moment of something.
    fn goes_on(&self, name: &str) -> bool {
        let is_gauge = self.comments.iter().any(|line| line.starts_with("# TYPE") && line.ends_with(" gauge"));
        !name.starts_with("process_") && (!is_gauge || name.ends_with("_timestamp_seconds"))
    }
}

fn with_label(series: &str, child: &str) -> String {
    match series.strip_suffix('}') {
        Some(labelled) => format!("{labelled},child=\"{child}\"}}"),
        None => format!("{series}{{child=\"{child}\"}}"),
    }
}

fn render(families: &Families) -> String {
    let mut page = String::new();
    for family in families.values() {
        for line in &family.comments {
            page.push_str(line);
            page.push('\n');
        }
        for series in &family.order {
            page.push_str(&format!("{series} {}\n", family.samples[series]));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{add_up, merge};

    const ONE: &str = "# TYPE job_finished_total counter\njob_finished_total{queue=\"a b\"} 3\n\n# TYPE job_last_processed_timestamp_seconds gauge\njob_last_processed_timestamp_seconds 10\n# TYPE process_open_fds gauge\nprocess_open_fds 7\n# TYPE job_running gauge\njob_running 2\n";

    #[test]
    fn counts_add_up_moments_do_not_and_processes_stay_apart() {
        let two = ONE.replace(" 3", " 4").replace(" 10", " 20");
        let page = merge(&[("0".to_owned(), ONE.to_owned()), ("1".to_owned(), two)], &[]);
        assert!(page.contains("job_finished_total{queue=\"a b\"} 7\n"), "{page}");
        assert!(page.contains("job_last_processed_timestamp_seconds 20\n"), "{page}");
        assert!(page.contains("process_open_fds{child=\"0\"} 7\nprocess_open_fds{child=\"1\"} 7\n"), "{page}");
        assert_eq!(page.matches("# TYPE job_finished_total").count(), 1);
    }

    #[test]
    fn of_a_process_that_is_gone_the_counts_stay_and_nothing_else() {
        let past = add_up(&[ONE.to_owned(), ONE.to_owned()]);
        let page = merge(&[("0".to_owned(), ONE.to_owned())], &[past]);
        assert!(page.contains("job_finished_total{queue=\"a b\"} 9\n"), "{page}");
        assert!(page.contains("job_running 2\n"), "{page}");
        assert!(page.contains("process_open_fds{child=\"0\"} 7\n"), "{page}");
        assert_eq!(page.matches("process_open_fds{").count(), 1, "{page}");
        assert_eq!(page.matches("# TYPE job_finished_total").count(), 1);
    }
}
