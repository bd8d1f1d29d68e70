//! The lab: starts servers and load generators as processes, observes them, judges whether a point counts,
//! records it, and reports.

pub mod record;
pub mod report;
