//! Maximum values of a run: on the command line, in a definition, and in the plan of a folder that is read again.
//!
//! Each is far above what a run of days can use, and far below what would fill the memory before the first point.

use std::time::Duration;

/// Rounds of one experiment.
pub(crate) const MOST_ROUNDS: u32 = 10_000;
/// Points of one experiment, in all its rounds.
pub(crate) const MOST_POINTS: usize = 50_000;
/// Values of an axis.
pub(crate) const MOST_VALUES: usize = 1_000;
/// Servers beside the models in one definition.
pub(crate) const MOST_SERVERS: usize = 100;
/// Characters in the name of a server.
pub(crate) const LONGEST_NAME: usize = 64;
/// Experiments of one run.
pub(crate) const MOST_EXPERIMENTS: usize = 100;
/// The duration of an experiment, of its warm-up and of its window.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Connections: more than one machine has ports and memory for.
pub(crate) const MOST_CONNECTIONS: f64 = 16_777_216.0;
/// Messages in flight per connection.
pub(crate) const MOST_DEPTH: f64 = 65_536.0;
/// Bytes of a message: the models close a connection that sends a longer one (`serve --max-message-bytes`).
pub(crate) const MOST_PAYLOAD_BYTES: f64 = 16_777_216.0;
/// Messages per second.
pub(crate) const MOST_RATE_PER_S: f64 = 1e9;
/// Offered load, as a multiple of what the server can do.
pub(crate) const MOST_LOAD: f64 = 10.0;
/// Work for each message, in microseconds: one second.
pub(crate) const MOST_WORK_US: f64 = 1e6;
/// How long a server can be stopped or absent, in milliseconds: one hour.
pub(crate) const LONGEST_AWAY_MS: f64 = 3_600_000.0;
/// Loops of one server: more than the largest number of cores that Linux can be built for.
pub(crate) const MOST_WORKERS: f64 = 8_192.0;
