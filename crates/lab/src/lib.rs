//! The lab: starts servers and load generators as processes, observes them, judges whether a point counts,
//! records it, and reports.

mod error;
mod experiment;
mod machine;
mod process;
pub mod record;
pub mod report;
mod tree;

pub use error::LabError;
pub use experiment::{Budget, Counts, Effort, Efforts, Experiment, MechanismName, Subject, experiments};
