//! Which kind is run by what. To add a kind: its line in `shared/src/jobs/kinds.rs`, its payload and handler in a file of
//! [`crate::handlers`], and its line in [`Registry::new`].

use crate::handlers::{
    ai, channel, debug, files, http,
    mail::{self, Mailer},
    system, tracks,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use shared::{
    Context,
    ai::Model,
    config::Profile,
    files::inspect::ImageTurns,
    jobs::{
        Progress,
        engine::{
            Outcome,
            held::{LeasedJob, StopReason},
            progress::Board,
        },
    },
    json_words::Broken,
};
use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc};

/// What a handler is given besides its payload.
#[derive(Debug, Clone)]
pub struct JobContext {
    pub ctx: Context,
    pub job: Arc<LeasedJob>,
    pub progress: Arc<Board>,
}

impl JobContext {
    /// Returns when the attempt should end: its cancel was asked for, its soft limit passed, or the worker stops.
    pub async fn stop_asked(&self) {
        self.job.signals.soft.cancelled().await;
    }

    /// `work`'s answer, or `None` once the attempt should end. A handler then returns [`Outcome::Cancelled`]; what becomes
    /// of the job depends on who asked.
    pub async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = work => Some(answer),
            () = self.stop_asked() => None,
        }
    }

    /// Says how far the attempt is, 0 to 100, as callers see it on the job. Cheap: written at most every 100 ms, and the last
    /// value always. What is out of bounds is brought within, what is no number is ignored.
    pub fn progress(&self, percent: f64, message: Option<&str>) {
        if let Some(progress) = Progress::kept(percent, message) {
            self.progress.report(&self.job, progress);
        }
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        self.job.signals.reason()
    }
}

type BoxedOutcome = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Handler = Box<dyn Fn(JobContext) -> BoxedOutcome + Send + Sync>;

/// Handlers by kind.
pub struct Registry(HashMap<&'static str, Handler>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Registry {
    /// Every kind that this profile has.
    pub fn new(profile: Profile) -> Self {
        let mailer = Mailer::default();
        let resetter = mailer.clone();
        let (model, image_turns) = (Model::default(), ImageTurns::default());
        let mut handlers = HashMap::from([
            ("channel.publish", typed(channel::publish)),
            (shared::mail::SEND, typed(move |context, mail| mail::send(mailer.clone(), context, mail))),
            (shared::mail::PASSWORD_RESET, typed(move |context, asked| mail::password_reset(resetter.clone(), context, asked))),
            (shared::ai::KIND, typed(move |context, prompt| ai::complete(model.clone(), context, prompt))),
            (shared::files::inspect::KIND, typed(move |context, asked| files::inspect(image_turns.clone(), context, asked))),
            (shared::points::import::KIND, typed(tracks::import)),
            (shared::tracks::report::KIND, typed(tracks::report)),
            ("http.request", raw(http::request)),
            ("system.heartbeat", raw(system::heartbeat)),
            ("debug.echo", raw(debug::echo)),
            ("debug.sleep", typed(debug::sleep)),
            ("debug.fail", typed(debug::fail)),
        ]);
        if profile.is_development() {
            handlers.insert("debug.crash", raw(debug::crash));
            handlers.insert("debug.block", typed(debug::block));
            handlers.insert("debug.leak", typed(debug::leak));
        }
        Self(handlers)
    }

    pub fn find(&self, kind: &str) -> Option<&Handler> {
        self.0.get(kind)
    }
}

/// A handler that takes the payload as the bytes it came in.
fn raw<F, O>(run: F) -> Handler
where
    F: Fn(JobContext, Box<RawValue>) -> O + Send + Sync + 'static,
    O: Future<Output = Outcome> + Send + 'static,
{
    Box::new(move |context| {
        let payload = context.job.payload.clone();
        Box::pin(run(context, payload))
    })
}

/// A handler that takes a payload type; a payload that is not one is a dead letter.
fn typed<P, F, O>(run: F) -> Handler
where
    P: DeserializeOwned + Send,
    F: Fn(JobContext, P) -> O + Send + Sync + 'static,
    O: Future<Output = Outcome> + Send + 'static,
{
    Box::new(move |context| match serde_json::from_str(context.job.payload.get()) {
        Ok(payload) => Box::pin(run(context, payload)),
        Err(error) => {
            let why = Broken::new(&error, context.job.payload.get().as_bytes()).sentence();
            Box::pin(std::future::ready(Outcome::Undecodable(why)))
        }
    })
}

#[cfg(test)]
mod tests {
    //! Holds the author's guide to the code: what it shows is there, and what is there it names.

    use super::*;
    use shared::jobs::kinds::KINDS;
    use std::{collections::HashSet, path::Path};

    fn read(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The blocks of Rust: the file that each is of, and its lines without their indentation.
    fn blocks(guide: &str) -> Vec<(&str, Vec<&str>)> {
        let blocks = guide.split("```rust\n").skip(1).map(|rest| {
            let mut lines = rest.lines().map(str::trim).take_while(|line| *line != "```");
            let path = lines.next().and_then(|line| line.strip_prefix("// ")).expect("a block says first which file it is of");
            (path, lines.collect())
        });
        blocks.collect()
    }

    #[test]
    fn every_block_of_the_guide_stands_in_the_file_that_it_names() {
        let guide = read("docs/guides/kinds.md");
        let blocks = blocks(&guide);
        assert_eq!(blocks.len(), 6, "a step that loses its block is no step");
        for (path, block) in blocks {
            let file = read(path);
            let lines: Vec<&str> = file.lines().map(str::trim).collect();
            assert!(lines.windows(block.len()).any(|window| window == block), "not in {path}:\n{}", block.join("\n"));
        }
    }

    #[test]
    fn every_kind_has_a_handler_and_is_in_the_guide() {
        let (registry, guide) = (Registry::new(Profile::Development), read("docs/guides/kinds.md"));
        let known: HashSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let handled: HashSet<&str> = registry.0.keys().copied().collect();
        assert_eq!(known, handled);
        let missing: Vec<&str> = known.into_iter().filter(|kind| !guide.contains(&format!("`{kind}`"))).collect();
        assert!(missing.is_empty(), "the guide does not name {missing:?}");
    }
}
