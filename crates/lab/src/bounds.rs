//! How much of everything a run may be asked for: on the command line, in a definition, and in the plan of a folder that is read again.
//!
//! Each is far above what a run of days can use and far below what would fill the memory before the first point.

use std::time::Duration;

/// Rounds of one experiment.
pub(crate) const MOST_ROUNDS: u32 = 10_000;
/// Points of one experiment, in all its rounds.
pub(crate) const MOST_POINTS: usize = 50_000;
/// Values of an axis.
pub(crate) const MOST_VALUES: usize = 1_000;
/// Servers in a definition that are none of the models.
pub(crate) const MOST_SERVERS: usize = 100;
/// Letters in the name of a server.
pub(crate) const LONGEST_NAME: usize = 64;
/// Experiments of one run.
pub(crate) const MOST_EXPERIMENTS: usize = 100;
/// The time of an experiment, of its warm-up and of its window.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Connections: more than one machine has ports and memory for.
pub(crate) const MOST_CONNECTIONS: f64 = 16_777_216.0;
/// Messages in flight per connection.
pub(crate) const MOST_DEPTH: f64 = 65_536.0;
/// A message: the models close a connection with a longer one (`serve --max-message-bytes`).
pub(crate) const MOST_PAYLOAD_BYTES: f64 = 16_777_216.0;
/// Messages per second.
pub(crate) const MOST_RATE_PER_S: f64 = 1e9;
/// An offered load, as a share of what the server can do.
pub(crate) const MOST_LOAD: f64 = 10.0;
/// A second of work for each message.
pub(crate) const MOST_WORK_US: f64 = 1e6;
/// For how long a server can be stopped or away.
pub(crate) const LONGEST_AWAY_MS: f64 = 3_600_000.0;
/// Loops of one server: more than there are cores in the largest machine that Linux can be built for.
pub(crate) const MOST_WORKERS: f64 = 8_192.0;
