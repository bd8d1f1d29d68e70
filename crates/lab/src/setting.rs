//! What is done to a server at one point, and along which axes of it an experiment varies.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::format;

/// What the load generator does at a point, and what the server is asked to do for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Connections that are wanted.
    pub connections: usize,
    /// Connections that talk, the others are silent; `null`: all of them talk.
    #[serde(default)]
    pub active: Option<usize>,
    /// The same as a share of them.
    #[serde(default)]
    pub active_share: Option<f64>,
    /// Bytes of payload a message.
    pub payload_bytes: usize,
    /// Messages in flight per connection that talks; of the one publisher in a broadcast.
    pub depth: usize,
    /// Messages to be sent per second over all connections, in an open loop; `null` in a closed one.
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    /// In an open loop: messages are due at random, as a Poisson process has it, and this is the seed of the first round; each of the others has the
    /// next. What is due when is the same for all lines of a round. `null`: messages are due with even gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals_seed: Option<u64>,
    /// In an open loop, `rate_per_s` as a share of what the same server did in a closed loop at the start of the run.
    #[serde(default)]
    pub load: Option<f64>,
    /// Simulated work per message in the server, in microseconds.
    #[serde(default)]
    pub work_us: f64,
    /// Receivers of a broadcast that read nothing.
    #[serde(default)]
    pub slow: usize,
    /// For how long the server is stopped (SIGSTOP) in the middle of the window, in milliseconds.
    #[serde(default)]
    pub pause_ms: u64,
    /// The server is told to stop (SIGTERM) when a quarter of the window is over, and started again on its port so many milliseconds later; 0:
    /// never. Subscribers and publisher come again (`--reconnect`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restart_ms: u64,
    /// Each connection carries one message and is closed, and the next one opened in its place; a message is a connection then.
    #[serde(default)]
    pub churn: bool,
    /// Loops of a server that has several (`--workers`); `null`: one for each core that it may use.
    #[serde(default)]
    pub workers: Option<usize>,
    /// The server may use every core, that of the load generator included, not only the one that it is pinned to otherwise.
    #[serde(default)]
    pub all_cores: bool,
    /// How long an event loop looks for events before it blocks, in microseconds (`--busy-poll`).
    #[serde(default)]
    pub busy_poll_us: f64,
    /// Threads of the load generator: more than one where its connections need more descriptors than one may have.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub load_threads: usize,
}

fn one() -> usize {
    1
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for Setting {
    fn default() -> Setting {
        Setting {
            connections: 64,
            active: None,
            active_share: None,
            payload_bytes: 64,
            depth: 1,
            rate_per_s: None,
            arrivals_seed: None,
            load: None,
            work_us: 0.0,
            slow: 0,
            pause_ms: 0,
            restart_ms: 0,
            churn: false,
            workers: None,
            all_cores: false,
            busy_poll_us: 0.0,
            load_threads: 1,
        }
    }
}

impl Setting {
    /// Connections that talk.
    pub fn talking(&self) -> usize {
        let share =
            self.active_share.map(|share| (share * self.connections as f64).round().max(1.0) as usize);
        self.active.or(share).unwrap_or(self.connections)
    }

    /// Whether messages are sent by a schedule, whatever comes back.
    pub fn is_open_loop(&self) -> bool {
        self.rate_per_s.is_some() || self.load.is_some()
    }
}

/// A part of the [`Setting`] that an experiment can vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The names are those of the fields.
pub enum Axis {
    Connections,
    Active,
    ActiveShare,
    PayloadBytes,
    Depth,
    RatePerS,
    Load,
    WorkUs,
    Slow,
    PauseMs,
    RestartMs,
    Workers,
    BusyPollUs,
}

/// How the values of an axis are spread over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Each doubling takes the same room.
    Logarithmic,
    /// Each value takes the same room, whatever it is.
    Steps,
    /// In proportion.
    Linear,
}

impl Axis {
    /// The value of a setting.
    pub fn of(self, setting: &Setting) -> f64 {
        match self {
            Axis::Connections => setting.connections as f64,
            Axis::Active => setting.talking() as f64,
            Axis::ActiveShare => setting.active_share.unwrap_or(1.0),
            Axis::PayloadBytes => setting.payload_bytes as f64,
            Axis::Depth => setting.depth as f64,
            Axis::RatePerS => setting.rate_per_s.unwrap_or(0.0),
            Axis::Load => setting.load.unwrap_or(0.0),
            Axis::WorkUs => setting.work_us,
            Axis::Slow => setting.slow as f64,
            Axis::PauseMs => setting.pause_ms as f64,
            Axis::RestartMs => setting.restart_ms as f64,
            Axis::Workers => setting.workers.unwrap_or(1) as f64,
            Axis::BusyPollUs => setting.busy_poll_us,
        }
    }

    /// The setting with another value.
    pub(crate) fn set(self, setting: Setting, value: f64) -> Setting {
        let count = value.round() as usize;
        match self {
            Axis::Connections => Setting { connections: count, ..setting },
            Axis::Active => Setting { active: Some(count), ..setting },
            Axis::ActiveShare => Setting { active_share: Some(value), ..setting },
            Axis::PayloadBytes => Setting { payload_bytes: count, ..setting },
            Axis::Depth => Setting { depth: count, ..setting },
            Axis::RatePerS => Setting { rate_per_s: Some(value), ..setting },
            Axis::Load => Setting { load: Some(value), ..setting },
            Axis::WorkUs => Setting { work_us: value, ..setting },
            Axis::Slow => Setting { slow: count, ..setting },
            Axis::PauseMs => Setting { pause_ms: count as u64, ..setting },
            Axis::RestartMs => Setting { restart_ms: count as u64, ..setting },
            Axis::Workers => Setting { workers: Some(count), ..setting },
            Axis::BusyPollUs => Setting { busy_poll_us: value, ..setting },
        }
    }

    /// What is varied, in words.
    pub fn label(self) -> &'static str {
        match self {
            Axis::Connections => "connections",
            Axis::Active => "connections that talk",
            Axis::ActiveShare => "share of the connections that talk",
            Axis::PayloadBytes => "payload",
            Axis::Depth => "messages in flight per connection",
            Axis::RatePerS => "messages per second offered",
            Axis::Load => "offered load, of what the server can do",
            Axis::WorkUs => "work per message",
            Axis::Slow => "receivers that do not read",
            Axis::PauseMs => "server stopped for",
            Axis::RestartMs => "server away for",
            Axis::Workers => "workers",
            Axis::BusyPollUs => "looking for events before the loop blocks",
        }
    }

    /// What stands behind a value in a sentence: `10 %` of the connections talking.
    pub fn of_what(self) -> &'static str {
        match self {
            Axis::ActiveShare => "of them talking",
            _ => self.label(),
        }
    }

    /// A value as people write it.
    pub fn show(self, value: f64) -> String {
        match self {
            Axis::PayloadBytes => format::bytes(value),
            Axis::Load | Axis::ActiveShare => format!("{:.0} %", 100.0 * value),
            Axis::WorkUs | Axis::BusyPollUs if value == 0.0 => "none".to_owned(),
            Axis::WorkUs | Axis::BusyPollUs => format!("{value} µs"),
            Axis::PauseMs | Axis::RestartMs => format!("{value:.0} ms"),
            _ => format::count(value.round() as usize),
        }
    }

    /// Whether zero, or a share of one, is a sensible value.
    pub(crate) fn least(self) -> f64 {
        match self {
            Axis::Active | Axis::WorkUs | Axis::Slow | Axis::PauseMs | Axis::RestartMs | Axis::BusyPollUs => {
                0.0
            }
            Axis::Load | Axis::ActiveShare => 0.01,
            Axis::PayloadBytes => switchboard_load::LEAST_PAYLOAD_BYTES as f64,
            Axis::Connections | Axis::Depth | Axis::RatePerS | Axis::Workers => 1.0,
        }
    }

    /// The largest value that can be asked for.
    pub(crate) fn most(self) -> f64 {
        match self {
            Axis::Connections | Axis::Active | Axis::Slow => bounds::MOST_CONNECTIONS,
            Axis::ActiveShare => 1.0,
            Axis::PayloadBytes => bounds::MOST_PAYLOAD_BYTES,
            Axis::Depth => bounds::MOST_DEPTH,
            Axis::RatePerS => bounds::MOST_RATE_PER_S,
            Axis::Load => bounds::MOST_LOAD,
            Axis::WorkUs | Axis::BusyPollUs => bounds::MOST_WORK_US,
            Axis::PauseMs | Axis::RestartMs => bounds::LONGEST_AWAY_MS,
            Axis::Workers => bounds::MOST_WORKERS,
        }
    }

    /// Why a value cannot be asked for, in words behind its name.
    pub(crate) fn objection(self, value: f64) -> Option<String> {
        if value.is_finite() && value <= self.most() {
            return None;
        }
        let advice = match self {
            Axis::PayloadBytes => "; the servers take no longer message (serve --max-message-bytes)",
            Axis::PauseMs | Axis::RestartMs => ", an hour",
            Axis::WorkUs | Axis::BusyPollUs => ", a second",
            _ => "",
        };
        Some(format!("{value}: must be at most {}{advice}", self.most()))
    }

    /// Every one of them, with its key in a definition's constants.
    pub(crate) const ALL: [(Axis, &'static str); 13] = [
        (Axis::Connections, "setting.connections"),
        (Axis::Active, "setting.active"),
        (Axis::ActiveShare, "setting.active_share"),
        (Axis::PayloadBytes, "setting.payload_bytes"),
        (Axis::Depth, "setting.depth"),
        (Axis::RatePerS, "setting.rate_per_s"),
        (Axis::Load, "setting.load"),
        (Axis::WorkUs, "setting.work_us"),
        (Axis::Slow, "setting.slow"),
        (Axis::PauseMs, "setting.pause_ms"),
        (Axis::RestartMs, "setting.restart_ms"),
        (Axis::Workers, "setting.workers"),
        (Axis::BusyPollUs, "setting.busy_poll_us"),
    ];

    /// Whether only whole numbers mean something.
    pub(crate) fn is_whole(self) -> bool {
        !matches!(self, Axis::Load | Axis::ActiveShare | Axis::WorkUs | Axis::RatePerS | Axis::BusyPollUs)
    }

    /// How its values are spread over a picture.
    pub fn spread(self) -> Spread {
        match self {
            Axis::Load => Spread::Linear,
            Axis::WorkUs | Axis::Slow | Axis::PauseMs | Axis::RestartMs | Axis::BusyPollUs => Spread::Steps,
            _ => Spread::Logarithmic,
        }
    }
}

/// An axis with the values that are measured on it, ascending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// What is varied.
    pub axis: Axis,
    /// Its values.
    pub values: Vec<f64>,
}

/// One axis or two of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axes {
    /// What figures are drawn against.
    pub x: Range,
    /// A second axis, such as the rows of a map.
    #[serde(default)]
    pub by: Option<Range>,
}

impl Axes {
    /// Where a setting stands.
    pub fn place(&self, setting: &Setting) -> Place {
        Place { x: self.x.axis.of(setting), by: self.by.as_ref().map(|by| by.axis.of(setting)) }
    }

    /// Every setting that follows from `base`. More connections cannot talk than there are.
    pub(crate) fn settings(&self, base: Setting) -> Vec<Setting> {
        let rows = match &self.by {
            Some(by) => by.values.iter().map(|value| by.axis.set(base, *value)).collect(),
            None => vec![base],
        };
        let row = |base: Setting| self.x.values.iter().map(move |value| self.x.axis.set(base, *value));
        let is_possible = |setting: &Setting| setting.talking() <= setting.connections;
        rows.into_iter().flat_map(row).filter(is_possible).collect()
    }

    /// What is varied.
    pub(crate) fn axes(&self) -> impl Iterator<Item = Axis> + '_ {
        std::iter::once(&self.x).chain(&self.by).map(|range| range.axis)
    }

    /// What is varied, in words.
    pub fn label(&self) -> String {
        match &self.by {
            Some(by) => format!("{}, {}", by.axis.label(), self.x.axis.label()),
            None => self.x.axis.label().to_owned(),
        }
    }

    /// A place as people write it in a table.
    pub fn show(&self, place: Place) -> String {
        match (&self.by, place.by) {
            (Some(by), Some(value)) => format!("{}, {}", by.axis.show(value), self.x.axis.show(place.x)),
            _ => self.x.axis.show(place.x),
        }
    }
}

/// Where a point stands on the axes of its experiment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Place {
    /// The value on the first axis.
    pub x: f64,
    /// The value on the second, if there is one.
    #[serde(default)]
    pub by: Option<f64>,
}

impl Place {
    /// A place on one axis.
    pub fn at(x: impl Into<f64>) -> Place {
        Place { x: x.into(), by: None }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Place) -> Ordering {
        let by = |place: &Place| place.by.unwrap_or(f64::NEG_INFINITY);
        by(self).total_cmp(&by(other)).then(self.x.total_cmp(&other.x))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Place) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.x.to_bits(), self.by.map(f64::to_bits)).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_axis_sets_it_reads_and_its_name_is_the_fields() {
        let fields = serde_json::to_value(Setting::default()).unwrap();
        for (axis, _) in Axis::ALL {
            let set = axis.set(Setting::default(), 7.0);
            assert_eq!(axis.of(&set), 7.0, "{axis:?}");
            let name = serde_json::to_value(axis).unwrap();
            let set = serde_json::to_value(set).unwrap();
            assert!(set.get(name.as_str().unwrap()).is_some(), "{name}");
            assert!(set != fields);
        }
    }

    #[test]
    fn two_axes_have_all_their_places_but_those_that_cannot_be() {
        let range = |axis, values: &[f64]| Range { axis, values: values.to_vec() };
        let axes = Axes {
            x: range(Axis::Active, &[1.0, 16.0, 64.0]),
            by: Some(range(Axis::Connections, &[16.0, 64.0])),
        };
        let places: Vec<Place> =
            axes.settings(Setting::default()).iter().map(|setting| axes.place(setting)).collect();
        let shown: Vec<String> = places.iter().map(|place| axes.show(*place)).collect();
        assert_eq!(shown, ["16, 1", "16, 16", "64, 1", "64, 16", "64, 64"]);
        assert!(places.is_sorted());
    }

    #[test]
    fn a_share_of_the_connections_talks_and_one_at_the_least() {
        let talking = |connections, share| {
            Setting { connections, active_share: Some(share), ..Setting::default() }.talking()
        };
        assert_eq!((talking(10_000, 0.01), talking(100, 0.5), talking(10, 0.01)), (100, 50, 1));
        assert_eq!(Setting { connections: 7, ..Setting::default() }.talking(), 7);
    }

    #[test]
    fn values_are_written_with_their_units() {
        let shown = |axis: Axis, value| axis.show(value);
        assert_eq!(shown(Axis::Connections, 1024.0), "1,024");
        assert_eq!(shown(Axis::PayloadBytes, 16384.0), "16 KiB");
        assert_eq!(shown(Axis::Load, 0.9), "90 %");
        assert_eq!(shown(Axis::WorkUs, 0.5), "0.5 µs");
        assert_eq!(shown(Axis::PauseMs, 200.0), "200 ms");
    }
}
