//! The figures that are drawn, tabled, ranked and fitted: where each comes from, and how it is written.

use serde::{Deserialize, Serialize};

use switchboard_load::Traffic;

use crate::format;
use crate::record::Point;
use crate::stats::Estimate;
use crate::summary::Row;

/// A figure of a model at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Messages, deliveries or connections a second.
    Throughput,
    /// Bytes of payload a second, each counted once.
    PayloadPerS,
    /// Server CPU time per message, delivery or connection.
    Cpu,
    /// The median of the latency.
    P50,
    /// Its 90th percentile.
    P90,
    /// Its 99th percentile.
    P99,
    /// Its 99.9th percentile.
    #[serde(rename = "p99.9")]
    P999,
    /// The longest of all.
    Max,
    /// Requests that receivers make for each delivery.
    Requests,
    /// Those of them that bring nothing.
    EmptyAnswers,
    /// Bytes that receivers send for each delivery, with all heads of HTTP and of frames, but without those of TCP, UDP and IP.
    BytesSent,
    /// Bytes that they receive for it.
    BytesReceived,
    /// The median as a client sees it that waits when the server does.
    UncorrectedP50,
    /// The 99th percentile of that.
    UncorrectedP99,
    /// The 99.9th percentile of that.
    #[serde(rename = "uncorrected-p99.9")]
    UncorrectedP999,
    /// From publishing a message until its first receiver has it; median.
    FirstReceiver,
    /// From publishing a message until its last receiver has it; median.
    LastReceiver,
    /// Jain's index of the receivers' mean delivery times.
    Fairness,
    /// Datagrams that never came back, of those sent.
    Lost,
    /// For how long a subscriber was blind whose server was restarted: the median of all.
    Blind,
    /// The longest of all.
    BlindMax,
    /// Deliveries that a subscriber lost by that, on average.
    Missed,
    /// Deliveries that a subscriber got later, from the server's history, on average.
    Replayed,
    /// Datagrams that came more than once, of those that came.
    Duplicated,
    /// Datagrams that came back behind a later one, of those that came back.
    Reordered,
    /// Server memory per connection.
    Memory,
    /// Memory of the load generator per connection.
    ClientMemory,
    /// Connections opened a second, by the load generator's threads together.
    Opening,
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerS,
    /// Somethings per second.
    PerS,
    /// A part of one.
    Share,
    /// A pure number.
    Number,
}

impl Unit {
    /// A value as people write it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Unit::Ns => format::nanoseconds(value),
            Unit::Bytes => format::bytes(value),
            Unit::BytesPerS => format!("{}/s", format::bytes(value)),
            Unit::PerS => format::grouped(value),
            Unit::Share if value > 0.0 && value < 0.001 => format!("{:.3} %", 100.0 * value),
            Unit::Share => format!("{:.1} %", 100.0 * value),
            Unit::Number => format!("{value:.3}"),
        }
    }

    /// The same on an axis, where there is little room and the values are round.
    pub(crate) fn tick(self, value: f64) -> String {
        match self {
            Unit::PerS => format::thousands(value),
            Unit::Number => format!("{value}"),
            Unit::Share if value == 0.0 => "0 %".to_owned(),
            Unit::Share => format!("{} %", (1e4 * value).round() / 100.0),
            _ => self.show(value),
        }
    }
}

/// What is counted, in the words of the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words {
    /// `message`, `delivery`, `connection`
    pub(crate) one: &'static str,
    /// `messages`, …
    pub(crate) many: &'static str,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 28] = [
        Quantity::Throughput,
        Quantity::PayloadPerS,
        Quantity::Cpu,
        Quantity::P50,
        Quantity::P90,
        Quantity::P99,
        Quantity::P999,
        Quantity::Max,
        Quantity::Requests,
        Quantity::EmptyAnswers,
        Quantity::BytesSent,
        Quantity::BytesReceived,
        Quantity::UncorrectedP50,
        Quantity::UncorrectedP99,
        Quantity::UncorrectedP999,
        Quantity::FirstReceiver,
        Quantity::LastReceiver,
        Quantity::Fairness,
        Quantity::Lost,
        Quantity::Blind,
        Quantity::BlindMax,
        Quantity::Missed,
        Quantity::Replayed,
        Quantity::Duplicated,
        Quantity::Reordered,
        Quantity::Memory,
        Quantity::ClientMemory,
        Quantity::Opening,
    ];

    /// The figure of a row, with its interval.
    pub(crate) fn of(self, row: &Row) -> Option<Estimate> {
        match self {
            Quantity::Throughput => row.messages_per_s,
            Quantity::PayloadPerS => row.payload_bytes_per_s,
            Quantity::Cpu => row.server_cpu_ns_per_message,
            Quantity::P50 => row.latency_p50_ns,
            Quantity::P90 => row.latency_p90_ns,
            Quantity::P99 => row.latency_p99_ns,
            Quantity::P999 => row.latency_p99_9_ns,
            Quantity::Max => row.latency_max_ns,
            Quantity::Requests => row.requests_per_delivery,
            Quantity::EmptyAnswers => row.empty_answers_per_delivery,
            Quantity::BytesSent => row.bytes_sent_per_delivery,
            Quantity::BytesReceived => row.bytes_received_per_delivery,
            Quantity::UncorrectedP50 => row.uncorrected_p50_ns,
            Quantity::UncorrectedP99 => row.uncorrected_p99_ns,
            Quantity::UncorrectedP999 => row.uncorrected_p99_9_ns,
            Quantity::FirstReceiver => row.first_receiver_p50_ns,
            Quantity::LastReceiver => row.last_receiver_p50_ns,
            Quantity::Fairness => row.fairness,
            Quantity::Lost => row.lost_share,
            Quantity::Blind => row.blind_p50_ns,
            Quantity::BlindMax => row.blind_max_ns,
            Quantity::Missed => row.missed_per_subscriber,
            Quantity::Replayed => row.replayed_per_subscriber,
            Quantity::Duplicated => row.duplicated_share,
            Quantity::Reordered => row.reordered_share,
            Quantity::Memory => row.memory_bytes_per_connection,
            Quantity::ClientMemory => row.client_memory_bytes_per_connection,
            Quantity::Opening => row.opened_per_s,
        }
    }

    /// The figure of one round, by which rows that were measured side by side are told apart.
    pub(crate) fn of_point(self, point: &Point) -> Option<f64> {
        let share = |part: Option<u64>, whole: u64| (whole > 0).then_some(part? as f64 / whole as f64);
        let messages = point.messages.unwrap_or(0);
        let per_delivery = |of: fn(&Traffic) -> u64| {
            point
                .subscribers
                .as_ref()
                .filter(|_| messages > 0)
                .map(|heard| of(heard) as f64 / messages as f64)
        };
        let latency = |of: fn(&crate::record::Quantiles) -> u64| point.latency_ns.as_ref().map(of);
        let uncorrected = |of: fn(&crate::record::Quantiles) -> u64| point.uncorrected_ns.as_ref().map(of);
        let again = point.reconnect.as_ref();
        // Who was never without the server was blind for no time.
        let blind = |of: fn(&crate::record::Quantiles) -> u64| {
            again.map(|again| again.blind_ns.as_ref().map_or(0, of))
        };
        let ns = match self {
            Quantity::Throughput => return point.messages_per_s,
            Quantity::PayloadPerS => return Some(point.messages_per_s? * point.setting.payload_bytes as f64),
            Quantity::Cpu => return point.server_cpu_ns_per_message,
            Quantity::Fairness => return point.fairness,
            Quantity::Requests => return per_delivery(|heard| heard.requests),
            Quantity::EmptyAnswers => return per_delivery(|heard| heard.empty_answers),
            Quantity::BytesSent => return per_delivery(|heard| heard.bytes_sent),
            Quantity::BytesReceived => return per_delivery(|heard| heard.bytes_received),
            Quantity::Duplicated => return share(point.duplicated, messages),
            Quantity::Lost => return share(point.lost, messages + point.lost.unwrap_or(0)),
            Quantity::Reordered => return share(point.reordered, messages),
            Quantity::Missed => return again.and(share(point.lost, point.connected as u64)),
            Quantity::Replayed => return share(again.map(|again| again.replayed), point.connected as u64),
            Quantity::Blind => blind(|times| times.p50),
            Quantity::BlindMax => blind(|times| times.max),
            Quantity::Memory => return point.memory_bytes_per_connection,
            Quantity::ClientMemory => {
                let bytes = point.client_memory_bytes.filter(|_| point.connected > 0)?;
                return Some(bytes as f64 / point.connected as f64);
            }
            Quantity::Opening => {
                let seconds = point.opening_s.filter(|seconds| *seconds > 0.0)?;
                return Some(point.connected as f64 / seconds);
            }
            Quantity::P50 => latency(|times| times.p50),
            Quantity::P90 => latency(|times| times.p90),
            Quantity::P99 => latency(|times| times.p99),
            Quantity::P999 => latency(|times| times.p99_9),
            Quantity::Max => latency(|times| times.max),
            Quantity::UncorrectedP50 => uncorrected(|times| times.p50),
            Quantity::UncorrectedP99 => uncorrected(|times| times.p99),
            Quantity::UncorrectedP999 => uncorrected(|times| times.p99_9),
            Quantity::FirstReceiver => point.first_receiver_ns.as_ref().map(|times| times.p50),
            Quantity::LastReceiver => point.last_receiver_ns.as_ref().map(|times| times.p50),
        };
        ns.map(|ns| ns as f64)
    }

    /// What it is counted in.
    pub fn unit(self) -> Unit {
        match self {
            Quantity::Throughput | Quantity::Opening => Unit::PerS,
            Quantity::PayloadPerS => Unit::BytesPerS,
            Quantity::Fairness | Quantity::Requests | Quantity::EmptyAnswers => Unit::Number,
            Quantity::Missed | Quantity::Replayed => Unit::Number,
            Quantity::Lost | Quantity::Duplicated | Quantity::Reordered => Unit::Share,
            Quantity::Memory | Quantity::ClientMemory => Unit::Bytes,
            Quantity::BytesSent | Quantity::BytesReceived => Unit::Bytes,
            _ => Unit::Ns,
        }
    }

    /// Whether more of it is better.
    pub fn is_better_high(self) -> bool {
        matches!(self, Quantity::Throughput | Quantity::PayloadPerS | Quantity::Fairness | Quantity::Opening)
    }

    /// Whether it says more about the client where that is at its ceiling.
    pub(crate) fn is_throughput(self) -> bool {
        matches!(self, Quantity::Throughput | Quantity::PayloadPerS)
    }

    /// What it is, in words that can stand in a sentence.
    pub(crate) fn name(self, words: Words) -> String {
        let Words { one, many } = words;
        match self {
            Quantity::Throughput => format!("{many} per second"),
            Quantity::PayloadPerS => "payload per second".to_owned(),
            Quantity::Cpu => format!("server CPU per {one}"),
            Quantity::P50 => "median latency".to_owned(),
            Quantity::P90 => "90th percentile of the latency".to_owned(),
            Quantity::P99 => "99th percentile of the latency".to_owned(),
            Quantity::P999 => "99.9th percentile of the latency".to_owned(),
            Quantity::Max => "longest latency".to_owned(),
            Quantity::Requests => format!("requests per {one}"),
            Quantity::EmptyAnswers => format!("answers that bring nothing per {one}"),
            Quantity::BytesSent => format!("bytes sent by the receiver per {one}"),
            Quantity::BytesReceived => format!("bytes received per {one}"),
            Quantity::UncorrectedP50 => "uncorrected median latency".to_owned(),
            Quantity::UncorrectedP99 => "uncorrected 99th percentile of the latency".to_owned(),
            Quantity::UncorrectedP999 => "uncorrected 99.9th percentile of the latency".to_owned(),
            Quantity::FirstReceiver => "time until the first receiver has it".to_owned(),
            Quantity::LastReceiver => "time until the last receiver has it".to_owned(),
            Quantity::Fairness => "fairness among receivers".to_owned(),
            Quantity::Lost => "share of datagrams lost".to_owned(),
            Quantity::Blind => "median time blind".to_owned(),
            Quantity::BlindMax => "longest time blind".to_owned(),
            Quantity::Missed => format!("{many} lost per subscriber"),
            Quantity::Replayed => format!("{many} replayed per subscriber"),
            Quantity::Duplicated => "share of datagrams that came twice".to_owned(),
            Quantity::Reordered => "share of datagrams out of order".to_owned(),
            Quantity::Memory => "server memory per connection".to_owned(),
            Quantity::ClientMemory => "load generator's memory per connection".to_owned(),
            Quantity::Opening => "connections opened per second".to_owned(),
        }
    }
}
