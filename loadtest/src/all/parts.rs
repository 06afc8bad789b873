//! The list of parts: what each is called, the command that makes it, and how long that takes. To add one: a line in [`list`], and what
//! is read of its report in `promises` and `page`.

use std::time::Duration;

use super::args::AllArgs;
use crate::address::HttpUrl;

/// Connections above which one server process is not enough: it may open 20,000 files on many machines.
const LADDER_OF_ONE_SERVER: [u32; 5] = [100, 500, 1_000, 5_000, 10_000];
const LADDER_TOP: u32 = 24_000;

/// One part as it is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What is typed after the program's name, but for address and account.
    pub(super) words: Vec<String>,
    pub(super) expected: Duration,
    /// How the platform is named.
    pub(super) address: Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// All API processes.
    Http,
    /// The first one.
    FirstHttp,
    /// The one whose limits can be reached, else the first.
    Limited,
    /// All of them, as sockets.
    Ws,
}

/// A line of the list: name, title, address, words of the quick and of the long form, seconds of each.
type Line = (&'static str, &'static str, Address, &'static str, &'static str, [u64; 2]);

/// Sockets go first and the ladder last: where tens of thousands of connections were closed, the kernel is slow to make new ones for a
/// minute. Overload brings verdicts of its own.
const LINES: [Line; 15] = [
    (
        "sockets",
        "Sockets, more and more",
        Address::Ws,
        "ws capacity --max 10000 --step 2500 --hold 1s --soak 3s --repeat 1",
        "ws capacity --max 15000 --step 2500 --repeat 1",
        [12, 60],
    ),
    ("broadcast", "Publications to many sockets", Address::Ws, "ws fan-out -n 500 -d 3s --repeat 1", "ws fan-out -n 1000 -d 10s", [7, 40]),
    ("echo", "Requests and replies on sockets", Address::Ws, "ws echo -c 100 -d 3s --repeat 1", "ws echo -c 100 -d 5s", [6, 25]),
    (
        "calls",
        "Simple calls at half of the peak",
        Address::Http,
        "http --target healthz -c 100 --rate-ladder 0.5x --repeat 1 -d 2s",
        "http --target healthz -c 100 --rate-ladder 0.5x -d 10s",
        [7, 70],
    ),
    (
        "reads",
        "Database reads, 0.5 to 3 times the peak",
        Address::Http,
        "http --target job-get -c 100 --rate-ladder 0.5x,0.8x,1x,1.5x,2x,3x --repeat 1 -d 2s",
        "http --target job-get -c 100 --rate-ladder 0.5x,0.8x,1x,1.5x,2x,3x --repeat 1 -d 10s",
        [24, 85],
    ),
    (
        "queues",
        "What operators look at",
        Address::Http,
        "http --target queues -c 50 --rate-ladder 0.5x --repeat 1 -d 2s",
        "http --target queues -c 50 --rate-ladder 0.5x -d 10s",
        [7, 70],
    ),
    (
        "sustained",
        "1,000 submits a second",
        Address::Http,
        "http --target job-submit -c 50 --rate 1000 --repeat 1 -d 10s",
        "http --target job-submit -c 50 --rate 1000 --repeat 1 -d 60s",
        [12, 62],
    ),
    ("submits", "Single submits", Address::FirstHttp, "jobs enqueue -d 3s --repeat 1", "jobs enqueue -d 5s", [8, 40]),
    ("jobs", "50,000 jobs: filled, then drained", Address::FirstHttp, "jobs drain -n 50000 --repeat 1", "jobs drain -n 50000", [15, 45]),
    ("pickup", "From submit to start", Address::FirstHttp, "jobs pickup -n 200 --repeat 1", "jobs pickup -n 1000", [4, 15]),
    ("points", "Points accepted and stored", Address::FirstHttp, "ingest store -n 100000 --repeat 1", "ingest store -n 500000", [5, 30]),
    ("files", "Uploads of 10 MiB", Address::FirstHttp, "files --size 10 -c 1,10 -n 5", "files --size 10 -c 1,10,50 -n 5", [5, 20]),
    ("saturation", "More connections than there may be", Address::Limited, "saturation --hold 1s", "saturation", [30, 60]),
    (
        "overload",
        "More requests than can be answered",
        Address::Limited,
        "overload --loads 0.8,2 --peak-connections 64 --peak-duration 3s -d 5s",
        "overload",
        [35, 150],
    ),
    (
        "ladder",
        "Requests by connections",
        Address::Http,
        "http --target healthz --repeat 1 -d 3s",
        "http --target healthz -d 10s",
        [25, 230],
    ),
];

/// The parts that `args` ask for.
pub(super) fn list(args: &AllArgs) -> Vec<Planned> {
    let is_wanted = |name: &str| match args.only.is_empty() {
        true => !args.skip.iter().any(|skipped| skipped == name),
        false => args.only.iter().any(|wanted| wanted == name),
    };
    let lines = LINES.iter().filter(|line| is_wanted(line.0));
    lines.map(|line| planned(line, args)).collect()
}

/// Names that no part has.
pub(super) fn unknown(args: &AllArgs) -> Option<&String> {
    let is_known = |name: &String| LINES.iter().any(|line| line.0 == name);
    args.only.iter().chain(&args.skip).find(|name| !is_known(name))
}

fn planned((name, title, address, quick, long, seconds): &Line, args: &AllArgs) -> Planned {
    let text = if args.quick { quick } else { long };
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    if *name == "ladder" {
        let top = (args.url.len() > 1).then_some(LADDER_TOP);
        let steps: Vec<String> = LADDER_OF_ONE_SERVER.into_iter().chain(top).map(|step| step.to_string()).collect();
        words.extend(["--ladder".to_owned(), steps.join(",")]);
    }
    let expected = Duration::from_secs(seconds[usize::from(!args.quick)]);
    Planned { name, title, words, expected, address: *address }
}

impl Planned {
    /// Everything after the program's name: words, address, processes and account.
    pub(super) fn command(&self, args: &AllArgs) -> Vec<String> {
        let mut words = self.words.clone();
        let first = args.url.first().into_iter();
        let (scheme, urls): (_, Vec<&HttpUrl>) = match (self.address, &args.limited_url) {
            (Address::Http, _) => ("http", args.url.iter().collect()),
            (Address::Ws, _) => ("ws", args.url.iter().collect()),
            (Address::Limited, Some(limited)) => ("http", vec![limited]),
            (Address::FirstHttp, _) | (Address::Limited, None) => ("http", first.collect()),
        };
        let urls: Vec<String> = urls.iter().map(|url| format!("{scheme}://{}", url.authority())).collect();
        words.extend(["--url".to_owned(), urls.join(",")]);
        let is_tree = matches!(self.words.first().map(String::as_str), Some("jobs" | "ingest"));
        // Whoever is not asked would only add his memory to that of the one who is.
        let servers = match (self.address, &args.limited_url) {
            (Address::Http | Address::Ws, _) => args.server_pid.as_slice(),
            (Address::Limited, Some(_)) => args.limited_pid.as_slice(),
            (Address::FirstHttp, _) | (Address::Limited, None) => args.server_pid.get(..1).unwrap_or_default(),
        };
        let pids: Vec<String> = servers.iter().chain(args.tree_pid.iter().filter(|_| is_tree)).map(u32::to_string).collect();
        if !pids.is_empty() {
            words.extend(["--server-pid".to_owned(), pids.join(",")]);
        }
        if args.i_own_this_host {
            words.push("--i-own-this-host".to_owned());
        }
        words.extend(account(args));
        words
    }
}

fn account(args: &AllArgs) -> Vec<String> {
    let account = &args.account;
    match (&account.token, &account.email, &account.password) {
        (Some(token), _, _) => vec!["--token".to_owned(), token.clone()],
        (None, Some(email), Some(password)) => ["--email", email, "--password", password].map(str::to_owned).to_vec(),
        _ => vec!["--admin-env".to_owned(), account.admin_env.display().to_string()],
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: AllArgs,
    }

    fn args(line: &str) -> AllArgs {
        Command::parse_from(line.split(' ')).args
    }

    #[test]
    fn every_command_is_one_that_can_be_typed() {
        for line in ["x --quick", "x --url http://127.0.0.1:1,http://127.0.0.1:2 --server-pid 1 --tree-pid 2 --token t"] {
            let args = args(line);
            for planned in &list(&args) {
                let words = [vec!["millrace-loadtest".to_owned()], planned.command(&args)].concat();
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{words:?}: {:?}", parsed.err().map(|error| error.to_string()));
            }
        }
    }

    #[test]
    fn a_part_that_asks_one_server_watches_that_one() {
        let option = |args: &AllArgs, part: &str, option: &str| {
            let command = list(args).iter().find(|planned| planned.name == part).map(|planned| planned.command(args)).unwrap_or_default();
            command.iter().skip_while(|word| *word != option).nth(1).cloned().unwrap_or_default()
        };
        let line = "x --url http://a:1,http://b:2 --server-pid 1,2 --tree-pid 7,8 --token t";
        let (two, limited) = (args(line), args(&format!("{line} --limited-url http://c:3 --limited-pid 3")));
        let found = ["overload", "saturation", "files", "jobs", "ladder", "sockets"].map(|part| option(&two, part, "--server-pid"));
        assert_eq!(found, ["1", "1", "1", "1,7,8", "1,2", "1,2"]);
        assert_eq!(["--url", "--server-pid"].map(|of| option(&limited, "overload", of)), ["http://c:3", "3"]);
        assert_eq!(["--url", "--server-pid"].map(|of| option(&limited, "files", of)), ["http://a:1", "1"]);
    }

    #[test]
    fn parts_are_chosen_by_name_and_the_top_of_the_ladder_needs_two_servers() {
        let names = |line: &str| list(&args(line)).iter().map(|planned| planned.name).collect::<Vec<_>>();
        assert_eq!(names("x --only echo,jobs"), ["echo", "jobs"]);
        assert_eq!(names("x --skip overload").len(), LINES.len() - 1);
        assert_eq!(unknown(&args("x --only echo,nothing")), Some(&"nothing".to_owned()));
        let ladder = |line: &str| list(&args(line)).last().and_then(|planned| planned.words.last().cloned());
        assert_eq!(ladder("x --quick").as_deref(), Some("100,500,1000,5000,10000"));
        assert_eq!(ladder("x --url http://a:1,http://a:2").as_deref(), Some("100,500,1000,5000,10000,24000"));
    }

    #[test]
    fn the_quick_form_takes_about_three_minutes() {
        let seconds: u64 = list(&args("x --quick")).iter().map(|planned| planned.expected.as_secs()).sum();
        assert!((120..=210).contains(&seconds), "{seconds} s");
    }
}
