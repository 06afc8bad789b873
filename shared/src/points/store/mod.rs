//! Statements on `points`, `point_hours`, `points_dead` and `tracks_removed`.

pub(super) mod dead;
pub(super) mod hours;
pub(super) mod read;
pub(super) mod upkeep;
pub(super) mod write;
