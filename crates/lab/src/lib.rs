//! The lab: starts servers and load generators as processes, observes them, judges whether a point counts,
//! records it, and reports.
//!
//! In reading order: `experiment` is what a definition can say, `plan` decides the points and their order from it,
//! `trial` measures one point with the help of `process` (a child that cannot be left behind) and `observe` (what a server
//! with all its processes does and holds) and, where that is the question, `restart`; `canary` tells how fast the machine was, `judge` says whether it counts, [`record`] writes it down,
//! and `measure` does this for all of them. `stats` knows what a handful of rounds can tell; [`report`], `compare` and
//! `verify` work from the recorded files alone.

mod activity;
mod bounds;
mod calibration;
mod canary;
mod checksums;
mod collection;
mod compare;
mod counters;
pub mod difference;
mod environment;
mod error;
mod experiment;
mod external;
mod files;
mod format;
mod judge;
mod lock;
mod machine;
mod measure;
mod mechanism;
mod observe;
mod plan;
mod proc;
mod process;
mod progress;
mod quantity;
mod quota;
pub mod record;
pub mod report;
mod restart;
mod rounds;
mod run;
mod sample;
mod say;
mod setting;
mod stats;
mod summary;
mod syscalls;
mod table;
mod terminal;
pub mod text;
mod tree;
mod trial;
mod usage;
mod verdict;
mod verify;

pub use compare::{
    CompareError, CompareOptions, CompareRow, Comparison, Figure, Gate, GateOutcome, RowVerdict, compare,
};
pub use error::LabError;
pub use experiment::{
    AxisDefinition, Budget, Constants, Effort, Efforts, Experiment, Fit, Subject, definition, experiments,
};
pub use external::{External, ExternalServer};
pub use mechanism::MechanismName;
pub use plan::{Job, Plan};
pub use progress::Progress;
pub use quantity::{Quantity, Unit};
pub use quota::Throttled;
pub use run::{Interrupt, RunOptions, run};
pub use setting::{Axes, Axis, Place, Range, Setting, Spread};
pub use stats::{Estimate, Law, LawKind, Method, Parameter, Ratio};
pub use summary::{ExperimentSummary, FittedLaw, PerConnection, PerMessage, Row, RowLimiter, RunSummary};
pub use syscalls::{CensusLine, CensusSetting, calls_of_a_message};
pub use verify::{Examined, Verification, verify, verify_all};

/// This moment in UTC, to the second, as in `2026-11-20T22:31:43Z`.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
