//! The settings that a socket asks for again and again, in the units it counts in. Read once per thread.

use super::{
    hub::{Tick, ticks},
    outbox::OutboxLimits,
};
use shared::config::Settings;
use std::time::Duration;

/// How long a closing connection has to take its last frame and to answer it.
const GOODBYE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) outbox: OutboxLimits,
    pub(super) message_max_bytes: usize,
    pub(super) channels_max: usize,
    /// 0 is no limit.
    pub(super) connections_per_user: usize,
    /// Commands per second; 0 is no limit.
    pub(super) commands_per_s: u32,
    pub(super) ping_s: u64,
    pub(super) ping_every: Tick,
    pub(super) pong_within: Tick,
    pub(super) connect_within: Tick,
    pub(super) expiry_grace: Tick,
    pub(super) goodbye_within: Tick,
    /// Between two looks whether something of a channel was missed.
    pub(super) position_check_every: Tick,
    pub(super) presence_refresh_every: Tick,
}

/// A client that comes back sends `connect` and all its `subscribe`s at once.
const BESIDE_SUBSCRIBES: u32 = 16;

impl Rules {
    /// Commands that may come at once.
    pub(super) fn commands_burst(&self) -> u32 {
        let all_channels = u32::try_from(self.channels_max).unwrap_or(u32::MAX).saturating_add(BESIDE_SUBSCRIBES);
        self.commands_per_s.max(all_channels)
    }

    pub(super) fn of(settings: &Settings) -> Self {
        let seconds = |s| ticks(Duration::from_secs(s));
        Self {
            outbox: OutboxLimits { messages: settings.channel_layer_capacity, bytes: settings.ws_outbox_bytes.0 },
            message_max_bytes: settings.ws_frame_max_bytes.0,
            channels_max: settings.ws_channels_per_client,
            connections_per_user: settings.ws_max_connections_per_user,
            commands_per_s: settings.ws_commands_per_s,
            ping_s: settings.ws_ping_s,
            ping_every: seconds(settings.ws_ping_s),
            pong_within: seconds(settings.ws_pong_s),
            connect_within: seconds(settings.ws_connect_timeout_s),
            expiry_grace: seconds(settings.ws_expiry_grace_s),
            goodbye_within: ticks(GOODBYE),
            position_check_every: seconds(settings.ws_position_check_s),
            presence_refresh_every: seconds(settings.ws_presence_refresh_s),
        }
    }
}
