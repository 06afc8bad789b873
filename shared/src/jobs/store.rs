//! SQL of jobs: one query, one function, named as the question it answers. The engine's own statements are beside the engine.

pub(super) mod by_day;
pub(super) mod change;
pub(super) mod dead;
pub(super) mod insert;
pub(super) mod queues;
pub(super) mod read;
pub(super) mod unique;
