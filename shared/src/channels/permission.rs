//! Who may do what on a channel: the namespace's rules, the rights of the subject's account or token, and what the channel is about.

use super::{Action, Audience, Authority, Capability, Channel, ChannelError, Membership, Pattern, Subject, Who};
use crate::{
    Caller, Context, Role, Scope,
    jobs::{QueueName, events, queues, read},
    points::live,
    tracks::manage,
};

/// Refuses what `subject` may not do. Only channels of jobs, queues and tracks are looked up, and those in PostgreSQL; all else is told
/// from memory.
pub async fn may(ctx: &Context, subject: &Subject, channel: &Channel, action: Action, membership: Membership) -> Result<(), ChannelError> {
    if ctx.settings().realtime_insecure || holds_capability(subject, channel, action) {
        return Ok(());
    }
    let is_allowed = has_scope(subject, action)
        && satisfies(subject, channel, action, membership)
        && (membership == Membership::Subscribed || is_for(ctx, subject, channel).await?);
    if is_allowed { Ok(()) } else { Err(ChannelError::PermissionDenied) }
}

/// An account needs the scope as well: its API keys may have fewer.
fn has_scope(subject: &Subject, action: Action) -> bool {
    let scope = match action {
        Action::Publish => Scope::ChannelsPublish,
        Action::Subscribe | Action::ReadHistory | Action::ReadPresence => Scope::ChannelsRead,
    };
    caller(subject).is_none_or(|caller| caller.scopes.contains(scope))
}

/// Whether the namespace's rule for the action is met.
fn satisfies(subject: &Subject, channel: &Channel, action: Action, membership: Membership) -> bool {
    let who = channel.namespace.who_may(action);
    let is_private = action == Action::Subscribe && channel.name.is_private();
    match who {
        Who::Admin => subject.role() == Some(Role::Admin),
        Who::Operator => subject.role() >= Some(Role::Operator),
        Who::Anyone | Who::User | Who::Subscriber | Who::Token if sees_all(subject) => true,
        Who::Anyone | Who::User if is_private => false,
        Who::Anyone => true,
        Who::User => !subject.user.is_empty(),
        Who::Subscriber => membership == Membership::Subscribed,
        // Only by what a token says, which was looked at before.
        Who::Token => false,
    }
}

/// Whether the channel's own audience takes the subject in.
async fn is_for(ctx: &Context, subject: &Subject, channel: &Channel) -> Result<bool, ChannelError> {
    if channel.namespace.audience == Audience::Open || sees_all(subject) {
        return Ok(true);
    }
    match (channel.namespace.audience, caller(subject)) {
        (Audience::Personal, _) => Ok(!subject.user.is_empty() && channel.named_users().any(|user| user == &*subject.user)),
        (Audience::Job, Some(caller)) => match events::job_of(channel) {
            Some(id) => Ok(read::is_visible(ctx, caller, id).await?),
            None => Ok(false),
        },
        (Audience::Queue, Some(caller)) => match QueueName::new(channel.rest()) {
            Ok(name) => Ok(queues::is_visible(ctx, caller, &name).await?),
            Err(_) => Ok(false),
        },
        (Audience::Track, Some(caller)) => match live::track_of(channel) {
            Some(id) => Ok(manage::is_visible(ctx, caller, id).await?),
            None => Ok(false),
        },
        (Audience::Open, _) => Ok(true),
        (Audience::Job | Audience::Queue | Audience::Track, None) => Ok(false),
    }
}

fn caller(subject: &Subject) -> Option<&Caller> {
    match &subject.authority {
        Authority::Account(proof) => Some(&proof.caller),
        Authority::Anonymous | Authority::Token(_) | Authority::Insecure => None,
    }
}

fn sees_all(subject: &Subject) -> bool {
    caller(subject).is_some_and(Caller::sees_all)
}

fn holds_capability(subject: &Subject, channel: &Channel, action: Action) -> bool {
    let Authority::Token(capabilities) = &subject.authority else { return false };
    capabilities.iter().any(|capability| capability.grants(channel.name.as_str(), action))
}

impl Capability {
    fn grants(&self, channel: &str, action: Action) -> bool {
        self.allow.contains(&action) && self.channels.iter().any(|pattern| pattern.matches(channel))
    }
}

impl Pattern {
    fn matches(&self, channel: &str) -> bool {
        match self {
            Self::Exact(name) => name == channel,
            Self::Wildcard(pattern) => matches_wildcard(pattern, channel),
        }
    }
}

/// Takes time in proportion to the text for each `*`, never more: patterns come in tokens.
fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in
            [("*", ""), ("chat:*", "chat:1"), ("*:1", "chat:1"), ("a*c*e", "abcde"), ("a*a", "aa"), ("**", "x"), ("x", "x")]
        {
            assert!(matches_wildcard(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("chat:*", "chats:1"), ("a*a", "a"), ("a*c*e", "aec"), ("", "x"), ("x", ""), ("*b", "ba")] {
            assert!(!matches_wildcard(pattern, text), "{pattern} {text}");
        }
    }

    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => model(rest, text) || (!text.is_empty() && model(pattern, &text[1..])),
            ([p, pattern @ ..], [t, text @ ..]) if p == t => model(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn wildcards_match_as_their_definition_says(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches_wildcard(&pattern, &text), model(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
