//! A size for people to read: what there is, a line for each figure with its reason, marks, and settings to paste.

use super::{Advice, Capacity, Signal};
use std::fmt::{self, Write};

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head())?;
        writeln!(
            f,
            "\nAdvice: {} node{}, tier {}, {}",
            self.nodes,
            if self.nodes == 1 { "" } else { "s" },
            self.tier.as_str(),
            self.band.rule()
        )?;
        for advice in &self.advice {
            write_advice(f, advice)?;
        }
        writeln!(f, "\nWhen to add:")?;
        for signal in &self.signals {
            write_signal(f, signal)?;
        }
        writeln!(f, "  More places, or one that may fail: 3 API containers and 4 workers in several zones, whatever the load.")?;
        writeln!(f, "\nTo paste into .env:")?;
        self.env.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Capacity {
    fn head(&self) -> String {
        let machine = &self.machine;
        let mut head = format!("This machine: {} cores", machine.cores);
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        if let Some(bytes) = machine.memory_bytes {
            let limited = if machine.is_memory_limited { " (the container's limit)" } else { "" };
            write!(head, ", {:.1} GiB{limited}", gib(bytes)).expect("writing to a string cannot fail");
        }
        if let Some(files) = machine.open_files_max {
            write!(head, ", {files} open files").expect("writing to a string cannot fail");
        }
        head.push_str(&match self.postgres {
            Some(room) => format!("\nPostgreSQL: {} of {} connections", room.connections, room.max_connections),
            None => "\nPostgreSQL does not answer".to_owned(),
        });
        head.push_str(&match self.redis {
            Some(room) if room.maxmemory_bytes > 0 => {
                format!(
                    "\nRedis: {:.2} of {:.1} GiB, {} of {} clients",
                    gib(room.used_memory_bytes),
                    gib(room.maxmemory_bytes),
                    room.clients,
                    room.maxclients
                )
            }
            Some(room) => {
                format!("\nRedis: {:.2} GiB, no limit set, {} of {} clients", gib(room.used_memory_bytes), room.clients, room.maxclients)
            }
            None => "\nRedis does not answer".to_owned(),
        });
        let question = if self.load.is_asked { "asked about" } else { "now" };
        write!(head, "\nUsers: {} ({question})", self.load.users).expect("writing to a string cannot fail");
        head
    }
}

fn write_advice(f: &mut fmt::Formatter<'_>, advice: &Advice) -> fmt::Result {
    let now = advice.now.filter(|now| *now != advice.value).map_or(String::new(), |now| format!(", now {now}"));
    writeln!(f, "  {:<26} {:>7} {}{now}", advice.name, advice.value, advice.unit)?;
    writeln!(f, "  {:<26}         {} [{}]", "", advice.reason, advice.rule)
}

fn write_signal(f: &mut fmt::Formatter<'_>, signal: &Signal) -> fmt::Result {
    let mark = if signal.is_raised { "!" } else { " " };
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value}"));
    writeln!(f, "{mark} {:<28} {:>8} of {:>6}: {}", signal.name, shown(signal.value), shown(signal.limit), signal.then)
}
