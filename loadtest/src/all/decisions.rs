//! How large a platform should be, by number of users: asked of the platform itself, which knows its rules.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::args::AllArgs;
use super::report::Decision;
use crate::client::Request;
use crate::control::Control;
use crate::error::Error;
use crate::session::Need;

const TOKEN_LASTS: Duration = Duration::from_secs(30);

/// One for each number of users of `args`.
pub(super) fn ask(args: &AllArgs, peer: SocketAddr) -> Result<Vec<Decision>, Error> {
    let authority = args.url.first().map(crate::address::HttpUrl::authority).unwrap_or_default();
    let mut control = Control::new(peer, &authority)?;
    let mut identity = args.account.identity(Need::Somebody)?;
    let token = identity.token(&mut control, TOKEN_LASTS)?.unwrap_or_default().to_owned();
    let mut decisions = Vec::with_capacity(args.users.len());
    for users in &args.users {
        let request = Request::get(format!("/api/v1/system/capacity?users={users}")).with_bearer(&token);
        let capacity = control.expect(200, "asking how large it should be", &request)?;
        decisions.push(decision(*users, &capacity));
    }
    Ok(decisions)
}

fn decision(users: u64, capacity: &Value) -> Decision {
    let lines = capacity["advice"].as_array().into_iter().flatten();
    let figures = lines.filter_map(|line| Some((line["name"].as_str()?.to_owned(), line["value"].as_u64()?)));
    Decision {
        users,
        tier: capacity["tier"].as_str().unwrap_or_default().to_owned(),
        nodes: capacity["nodes"].as_u64().unwrap_or_default(),
        figures: figures.collect(),
    }
}
