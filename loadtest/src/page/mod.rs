//! The report of `all` as one page: self-contained, without scripts, for light and dark screens and for phones.
//!
//! `element` escapes and makes tables · `chart` draws · `charts` says what is drawn. Written by hand: a template engine would be a
//! dependency for a dozen tags.

mod chart;
mod charts;
mod element;

use std::fmt::Write;

use time::format_description::well_known::Rfc3339;

use self::element::{Cell, Narrow, escape, table};
use crate::all::findings::Findings;
use crate::all::{AllReport, Decision, Judged, Part, Verdict};
use crate::columns::grouped;

const STYLE: &str = include_str!("style.css");
/// Why a result needs no look.
const STRING: &str = "writing to a string cannot fail";
const VERDICTS: [Verdict; 4] = [Verdict::Met, Verdict::Missed, Verdict::Refuted, Verdict::NotMeasured];

/// The whole page.
pub(crate) fn page(report: &AllReport) -> String {
    let findings = Findings(&report.parts);
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Millrace load report</title>\n",
    );
    write!(html, "<style>\n{STYLE}</style>\n</head>\n<body>\n{}<main>\n", head(report)).expect(STRING);
    write!(html, "<h2 id=\"promises\">Promises beside what was measured</h2>\n{}", promises(&report.promises)).expect(STRING);
    write!(html, "<h2 id=\"charts\">Charts</h2>\n<div class=\"charts\">\n{}</div>\n", charts::all(findings)).expect(STRING);
    write!(html, "<h2 id=\"sizes\">How large it should be</h2>\n{}", decisions(report)).expect(STRING);
    write!(html, "<h2 id=\"parts\">What was measured, and how to repeat it</h2>\n{}</main>\n", parts(&report.parts)).expect(STRING);
    html.push_str("<footer><p>Figures move with the machine: compare within one run. Latencies on a schedule count from when a request was due, so nothing is left out.</p></footer>\n</body>\n</html>\n");
    html
}

fn head(report: &AllReport) -> String {
    let provenance = &report.provenance;
    let machine = &provenance.machine;
    let gib = machine.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let facts = [
        ("Made", provenance.date.format(&Rfc3339).ok().map(|date| date.split('.').next().unwrap_or_default().replace('T', " "))),
        ("Cores", Some(machine.cores.to_string())),
        ("CPU", machine.cpu.clone()),
        ("Memory", gib),
        ("Kernel", machine.kernel.clone()),
        ("API processes", Some(report.urls.join(", "))),
        (
            "Runs",
            Some(
                if report.is_quick { "one short run of each part" } else { "several of each part; the one in the middle is shown" }
                    .to_owned(),
            ),
        ),
        ("Made by", Some(format!("{} {}", provenance.tool, provenance.version))),
    ];
    let mut html = String::from(
        "<header><h1>Millrace load report</h1><p class=\"soft\">Every promise beside what this machine did. Load generator and servers share it.</p>\n<dl class=\"facts\">",
    );
    for (name, fact) in facts {
        if let Some(fact) = fact {
            write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&fact)).expect(STRING);
        }
    }
    html.push_str("</dl>\n<ul class=\"counts\">");
    for verdict in VERDICTS {
        let n = report.promises.iter().filter(|judged| judged.verdict == verdict).count();
        write!(html, "<li class=\"{}\">{n} {}</li>", class(verdict), verdict.shown()).expect(STRING);
    }
    html.push_str("</ul></header>\n");
    html
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::Refuted => "refuted",
        Verdict::NotMeasured => "not_measured",
    }
}

/// A table for each group.
fn promises(promises: &[Judged]) -> String {
    let mut html = String::from(
        "<p class=\"soft\">Refuted: nobody could keep it on such a machine, whatever the software; the reason stands beside it.</p>\n",
    );
    for of_group in promises.chunk_by(|a, b| a.group == b.group) {
        let rows: Vec<Vec<Cell>> = of_group.iter().map(promise).collect();
        html.push_str(&table(&of_group[0].group, &["Promise", "Promised", "Measured", "Verdict"], &rows, Narrow::Stacks));
    }
    html
}

fn promise(judged: &Judged) -> Vec<Cell> {
    let measured = escape(judged.measured.as_deref().unwrap_or("–"));
    let why = judged.why.as_ref().map_or_else(String::new, |why| format!("<small>{}</small>", escape(why)));
    let verdict = format!("<span class=\"verdict {}\">{}</span>", class(judged.verdict), judged.verdict.shown());
    vec![Cell::text(&judged.what), Cell::text(&judged.promised), Cell::Html(measured + &why), Cell::Html(verdict)]
}

/// Columns of the decision table: what each is called, and which figure it shows.
const DECISIONS: [(&str, &str); 7] = [
    ("API processes", "api_processes"),
    ("Threads of each", "API_WORKERS"),
    ("DB pool of each", "DB_POOL_MAX"),
    ("Redis of each", "REDIS_MAX_CONNECTIONS"),
    ("Workers", "worker_processes"),
    ("Job slots of each", "WORKER_CONCURRENCY"),
    ("MiB of each API", "api memory"),
];

fn decisions(report: &AllReport) -> String {
    if let Some(why) = &report.undecided {
        return format!("<p>The platform could not be asked: {}</p>\n", escape(why));
    }
    let headings: Vec<&str> = ["Users", "Tier", "Nodes"].into_iter().chain(DECISIONS.map(|(heading, _)| heading)).collect();
    let row = |decision: &Decision| {
        let figure =
            |(_, name): &(&str, &str)| Cell::number(decision.figure(name).map_or_else(|| "–".to_owned(), |value| grouped(value as f64)));
        let first = [Cell::text(grouped(decision.users as f64)), Cell::number(&decision.tier), Cell::number(decision.nodes.to_string())];
        first.into_iter().chain(DECISIONS.iter().map(figure)).collect()
    };
    let rows: Vec<Vec<Cell>> = report.decisions.iter().map(row).collect();
    let words = "<p class=\"soft\">From the platform's own <code>GET /api/v1/system/capacity?users=N</code>, for nodes like this machine and the PostgreSQL server that was measured; it has the reason of each figure.</p>\n";
    words.to_owned() + &table("Nodes, workers and pools by users", &headings, &rows, Narrow::Scrolls)
}

fn parts(parts: &[Part]) -> String {
    let row = |part: &Part| {
        let outcome = match &part.failure {
            Some(failure) => format!("<span class=\"verdict missed\">failed</span><small>{}</small>", escape(failure)),
            None => format!("{:.0} s", part.elapsed_s),
        };
        let command = format!("<code>millrace-loadtest {}</code>", escape(&part.command.join(" ")));
        vec![Cell::text(&part.title), Cell::Html(command), Cell::Html(outcome)]
    };
    let rows: Vec<Vec<Cell>> = parts.iter().map(row).collect();
    table("Parts, in the order they ran", &["Part", "Command", "Took"], &rows, Narrow::Stacks)
}

#[cfg(test)]
mod tests;
