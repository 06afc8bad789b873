//! The codes that end a connection or a subscription. Clients come back after 3000–3499, stay away after 3500–4999, and
//! subscribe again after 2500–2999.

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::socket) struct CloseReason {
    pub(in crate::socket) code: u16,
    /// Never JSON: clients would take it for an advice of the protocol's first version.
    pub(in crate::socket) text: &'static str,
}

const fn reason(code: u16, text: &'static str) -> CloseReason {
    CloseReason { code, text }
}

/// The answer to a client that closes.
pub(in crate::socket) const NORMAL: CloseReason = reason(1000, "");
// The client may come back.
pub(in crate::socket) const SHUTDOWN: CloseReason = reason(3001, "shutdown");
pub(in crate::socket) const INTERNAL: CloseReason = reason(3004, "internal server error");
pub(in crate::socket) const EXPIRED: CloseReason = reason(3005, "connection expired");
pub(in crate::socket) const SUBSCRIPTION_EXPIRED: CloseReason = reason(3006, "subscription expired");
pub(in crate::socket) const SLOW: CloseReason = reason(3008, "slow");
pub(in crate::socket) const INSUFFICIENT_STATE: CloseReason = reason(3010, "insufficient state");
pub(in crate::socket) const NO_PONG: CloseReason = reason(3012, "no pong");
pub(in crate::socket) const TOO_MANY_REQUESTS: CloseReason = reason(3013, "too many requests");
// The client should stay away.
pub(in crate::socket) const INVALID_TOKEN: CloseReason = reason(3500, "invalid token");
pub(in crate::socket) const BAD_REQUEST: CloseReason = reason(3501, "bad request");
pub(in crate::socket) const STALE: CloseReason = reason(3502, "stale");
pub(in crate::socket) const FORCE_DISCONNECT: CloseReason = reason(3503, "force disconnect");
pub(in crate::socket) const CONNECTION_LIMIT: CloseReason = reason(3504, "connection limit");
pub(in crate::socket) const CHANNEL_LIMIT: CloseReason = reason(3505, "channel limit");
pub(in crate::socket) const INAPPROPRIATE_PROTOCOL: CloseReason = reason(3506, "inappropriate protocol");

/// Why the server ends a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::socket) struct UnsubscribeReason {
    pub(in crate::socket) code: u32,
    pub(in crate::socket) text: &'static str,
}

/// Publications may have been missed: whoever subscribes again is told which.
pub(in crate::socket) const UNSUBSCRIBED_GAP: UnsubscribeReason = UnsubscribeReason { code: 2500, text: "insufficient state" };
pub(in crate::socket) const UNSUBSCRIBED_EXPIRED: UnsubscribeReason = UnsubscribeReason { code: 2501, text: "expired" };
