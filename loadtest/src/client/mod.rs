//! A small HTTP/1.1 client made for measuring: request bytes are prepared once, one keep-alive
//! connection carries one request at a time, and bodies are counted off rather than kept.

mod accepted;
mod chunked;
mod job_ids;
mod link;
mod request;
mod response;

pub(crate) use accepted::AcceptedPoints;
pub(crate) use job_ids::{JobIds, parsed as parsed_id, shown as shown_id};
pub(crate) use link::{Failure, Link, Scratch};
pub use request::Method;
pub(crate) use request::Request;
pub(crate) use response::{BodyRule, Response, ResponseParser};
