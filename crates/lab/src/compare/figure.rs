//! What is compared, and the speed of the machine taken out of it.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::rounds::Round;

/// A figure of a point that two runs are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Figure {
    /// Messages per second.
    #[serde(rename = "throughput")]
    Throughput,
    /// Server CPU time per message.
    #[serde(rename = "cpu")]
    Cpu,
    /// Median latency.
    #[serde(rename = "p50")]
    P50,
    /// 90th percentile of latency.
    #[serde(rename = "p90")]
    P90,
    /// 99th percentile of latency.
    #[serde(rename = "p99")]
    P99,
    /// 99.9th percentile of latency.
    #[serde(rename = "p99.9")]
    P999,
    /// Server memory per connection.
    #[serde(rename = "memory")]
    Memory,
}

/// Memory of fewer connections is mostly that of the server itself.
const FEW_CONNECTIONS: usize = 16;

impl Figure {
    /// In the order of the tables.
    pub const ALL: [Figure; 7] = [
        Figure::Throughput,
        Figure::Cpu,
        Figure::P50,
        Figure::P90,
        Figure::P99,
        Figure::P999,
        Figure::Memory,
    ];

    /// As it is written on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Throughput => "throughput",
            Figure::Cpu => "cpu",
            Figure::P50 => "p50",
            Figure::P90 => "p90",
            Figure::P99 => "p99",
            Figure::P999 => "p99.9",
            Figure::Memory => "memory",
        }
    }

    /// The quantile, if it is a percentile of the latency.
    pub(super) fn quantile(self) -> Option<f64> {
        match self {
            Figure::P50 => Some(0.5),
            Figure::P90 => Some(0.9),
            Figure::P99 => Some(0.99),
            Figure::P999 => Some(0.999),
            _ => None,
        }
    }

    /// The figure of one round.
    pub(super) fn of(self, round: &Round) -> Option<f64> {
        let point = &round.point;
        let figure = match self {
            Figure::Throughput => point.messages_per_s,
            Figure::Cpu => point.server_cpu_ns_per_message,
            Figure::Memory => {
                point.memory_bytes_per_connection.filter(|_| point.setting.connections >= FEW_CONNECTIONS)
            }
            _ => {
                let histogram = round.latency.histogram().filter(|histogram| !histogram.is_empty());
                histogram.zip(self.quantile()).map(at)
            }
        };
        figure.filter(|figure| figure.is_finite() && *figure > 0.0)
    }

    /// How the figure grows with the time that everything takes: times do, rates shrink, memory does not care.
    pub(super) fn grows_with_time(self) -> f64 {
        match self {
            Figure::Throughput => -1.0,
            Figure::Memory => 0.0,
            _ => 1.0,
        }
    }
}

fn at((histogram, quantile): (Histogram<u64>, f64)) -> f64 {
    histogram.value_at_quantile(quantile) as f64
}

/// The logarithm of the time that the fixed workload took around a point; `None` if it was not run.
pub(super) fn pace(round: &Round) -> Option<f64> {
    let quiet = round.point.quiet.as_ref()?;
    let both = (quiet.before.calls_ns + quiet.after.calls_ns) as f64;
    (quiet.before.calls_ns > 0 && quiet.after.calls_ns > 0).then(|| (both / 2.0).ln())
}
