//! The load generator: plan, schedule, drive, verify.
//!
//! In reading order: [`LoadPlan`] (what is asked for), `stamp` (what a message carries, and how a receiver knows that
//! it is right), `sequence` (lost, duplicated, reordered), `line` (one connection), `worker` (one loop over many of
//! them), `run` (the phases of a run), [`LoadReport`] (what came of it).

mod connect;
mod line;
mod plan;
mod publish;
mod recorder;
mod report;
mod run;
mod schedule;
mod sequence;
mod stamp;
pub mod trend;
mod worker;

pub use plan::{LoadError, LoadPlan, Mechanism};
pub use report::{LoadReport, Percentiles};
pub use run::run;
pub use stamp::{LEAST_PAYLOAD_BYTES, STAMP_BYTES};
