//! From one line of a message to what carries it out: at once, or as work that waits for something.

use super::{Connection, Phase, driver::Work, rpc};
use crate::socket::{
    limits::Allowed,
    protocol::{
        close::{self, CloseReason},
        command::{Command, Request},
        error::Refusal,
        reply::{self, Done},
    },
};
use serde::Serialize;
use std::rc::Rc;

/// How a command that did not succeed ends.
#[derive(Debug)]
pub(super) enum Failure {
    /// With an error; the connection goes on.
    Refused(Refusal),
    /// With the connection.
    Closed(CloseReason),
}

impl<E: Into<Refusal>> From<E> for Failure {
    fn from(refusal: E) -> Self {
        Self::Refused(refusal.into())
    }
}

pub(super) type Outcome = Result<(), Failure>;

impl Connection {
    /// Begins the command on `line`. What it waits for, if it does, is given back; the next command comes after it.
    pub(super) fn begin(self: &Rc<Self>, line: &[u8]) -> Option<Work> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        let Ok(command) = serde_json::from_slice::<Command<'_>>(line) else {
            self.close(close::BAD_REQUEST);
            return None;
        };
        let Some(request) = command.request else {
            self.take_pong(command.id);
            return None;
        };
        let is_first = self.phase() == Phase::Opening;
        let is_connect = matches!(request, Request::Connect(_));
        let needs_id = !matches!(request, Request::Send(_));
        if is_first != is_connect || (needs_id && command.id == 0) {
            self.close(close::BAD_REQUEST);
            return None;
        }
        self.hub.meters.command(request.method());
        match self.spend_allowance() {
            Allowed::Yes => self.carry_out(command.id, request),
            Allowed::No => {
                self.refuse(command.id, &Refusal::TOO_MANY_REQUESTS);
                None
            }
            Allowed::Flood => {
                self.close(close::TOO_MANY_REQUESTS);
                None
            }
        }
    }

    fn carry_out(self: &Rc<Self>, id: u32, request: Request<'_>) -> Option<Work> {
        let connection = Rc::clone(self);
        match request {
            Request::Connect(request) => Some(Box::pin(connection.connect(id, request.into_owned()))),
            Request::Ping(_) => self.done(id, "ping", Ok(Done {})),
            // Messages to the server itself have no meaning here; the protocol lets clients send them.
            Request::Send(_) => None,
            Request::Rpc(request) => match rpc::Method::parse(&request) {
                Ok(rpc::Method::Time) => self.done(id, "rpc", rpc::time(&self.hub)),
                Ok(method) => Some(Box::pin(connection.call(id, method))),
                Err(failure) => self.done(id, "rpc", Err::<Done, _>(failure)),
            },
            Request::Subscribe(request) => Some(Box::pin(connection.subscribe(id, request.into_owned()))),
            Request::Unsubscribe(request) => self.unsubscribe(id, &request.channel),
            Request::Publish(request) => self.owned(id, request.into_owned(), |request| Box::pin(connection.publish(id, request))),
            Request::History(request) => self.owned(id, request.into_owned(), |request| Box::pin(connection.read_history(id, request))),
            Request::Presence(request) => Some(Box::pin(connection.read_presence(id, request.channel.into_owned()))),
            Request::PresenceStats(request) => Some(Box::pin(connection.count_presence(id, request.channel.into_owned()))),
            Request::Refresh(request) => Some(Box::pin(connection.refresh(id, request.token.into_owned()))),
            Request::SubRefresh(request) => self.done(id, "sub_refresh", self.sub_refresh(&request.into_owned())),
        }
    }

    /// Begins work on a request that could be taken out of its message.
    fn owned<T>(&self, id: u32, request: Result<T, Failure>, begin: impl FnOnce(T) -> Work) -> Option<Work> {
        match request {
            Ok(request) => Some(begin(request)),
            Err(failure) => {
                self.fail(id, failure);
                None
            }
        }
    }

    /// Answers a command that ended where it began.
    pub(super) fn done<T: Serialize>(&self, id: u32, method: &'static str, outcome: Result<T, Failure>) -> Option<Work> {
        self.answer(id, method, outcome);
        None
    }

    pub(super) fn answer<T: Serialize>(&self, id: u32, method: &'static str, outcome: Result<T, Failure>) {
        if let Err(failure) = outcome.and_then(|result| self.send_answer(reply::success(id, method, &result))) {
            self.fail(id, failure);
        }
    }

    pub(super) fn fail(&self, id: u32, failure: Failure) {
        match failure {
            Failure::Refused(refusal) => self.refuse(id, &refusal),
            Failure::Closed(reason) => self.close(reason),
        }
    }

    fn refuse(&self, id: u32, refusal: &Refusal) {
        if id > 0 {
            self.send(reply::refusal(id, refusal));
        }
    }

    /// An empty command answers a ping; without a ping it is an error of the client's.
    fn take_pong(&self, id: u32) {
        if id != 0 || !self.pong_received() {
            self.close(close::BAD_REQUEST);
        }
    }

    /// Counts one command or control frame.
    pub(super) fn spend_allowance(&self) -> Allowed {
        let rules = &self.hub.rules;
        if rules.commands_per_s == 0 {
            return Allowed::Yes;
        }
        let mut allowance = self.allowance.get();
        let allowed = allowance.take(rules.commands_per_s, rules.commands_burst(), self.hub.now());
        self.allowance.set(allowance);
        allowed
    }
}
