//! The load generator: plan, schedule, drive, verify.
//!
//! In reading order: [`LoadPlan`] (what is asked for), `stamp` (what a message carries, and how a receiver knows that
//! it is right), `sequence` (lost, duplicated, reordered), `line` (one connection), `web` (what is asked and heard over HTTP), `worker`
//! (one loop over many connections), `again` (what it costs to lose the server), `run` (the phases of a run), [`LoadReport`] (what came of it).

mod again;
mod connect;
mod line;
mod plan;
mod printable;
mod publish;
mod recorder;
mod report;
mod run;
mod schedule;
mod sequence;
mod stamp;
mod target;
mod text;
mod trace;
pub mod trend;
mod web;
mod worker;

pub use again::Reconnect;
pub use plan::{LoadError, LoadPlan};
pub use printable::printable;
pub use recorder::Traffic;
pub use report::{LoadReport, PerDelivery, Percentiles};
pub use run::run;
pub use schedule::Arrivals;
pub use stamp::{LEAST_PAYLOAD_BYTES, STAMP_BYTES};
pub use target::Mechanism;
pub use text::LEAST_TEXT_BYTES;
