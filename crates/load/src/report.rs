use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use indicatif::HumanCount;
use serde::Serialize;

use crate::again::Reconnect;
use crate::plan::LoadPlan;
use crate::recorder::{Recorder, SLICES, Times, Traffic};
use crate::run::Course;
use crate::schedule::Arrivals;
use crate::target::Mechanism;

/// The error for a datagram to a closed port; ICMP reports it.
pub(crate) const DATAGRAM_REFUSED: &str = "datagram refused: nobody listens on that port";

/// What came of a load. Times in nanoseconds; `client_cpu` in cores, so that 1.0 is one core all the time.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)] // The names are the documentation: they are the JSON's keys.
pub struct LoadReport {
    pub schema: u32,
    pub url: String,
    pub mechanism: Mechanism,
    pub threads: usize,
    pub payload_bytes: usize,
    pub depth: usize,
    pub rate_per_s: Option<f64>,
    /// The seed of random arrivals; `None`: they were even.
    pub seed: Option<u64>,
    pub every_ns: Option<u64>,
    pub active: usize,
    pub churn: bool,
    pub slow: usize,
    pub slow_closed: u64,
    pub connections_wanted: usize,
    pub connections_open: u64,
    pub opening_ns: u64,
    pub memory_bytes: Option<u64>,
    pub refused: BTreeMap<String, u64>,
    pub errors: BTreeMap<String, u64>,
    pub warmup_ns: u64,
    pub steady_warmup: Option<bool>,
    pub window_ns: u64,
    pub ended_early: bool,
    pub messages: u64,
    /// All messages received, including those of the warm-up and those after the window.
    pub messages_in_all: u64,
    pub messages_per_s: f64,
    /// Of all connections, the publisher's included.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Those of the publisher not included.
    pub requests: Option<u64>,
    pub empty_answers: Option<u64>,
    /// In a broadcast: what went to and fro within the window on the connections of those who hear, and of the one who publishes. Where one connection
    /// does both, what it sends is the publisher's and what it gets is not.
    pub subscribers: Option<Traffic>,
    pub publisher: Option<Traffic>,
    /// `subscribers` for each delivery: one event at one subscriber.
    pub per_delivery: Option<PerDelivery>,
    pub polls_due: Option<u64>,
    pub polls_skipped: Option<u64>,
    pub slices: [u64; SLICES],
    pub in_flight_ns: u64,
    pub published: Option<u64>,
    pub due: Option<u64>,
    pub sent: Option<u64>,
    /// What came of those who lost the server, if they were to come again.
    pub reconnect: Option<Reconnect>,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub corrupted: u64,
    /// Received messages without the stamp of this run.
    pub unasked: u64,
    /// Messages of a closed loop that arrived after their replacement was sent.
    pub late: u64,
    /// Connections opened again after the server had closed them in order between two responses.
    pub reopened: u64,
    pub latency_ns: Option<Percentiles>,
    pub uncorrected_latency_ns: Option<Percentiles>,
    pub lateness_ns: Option<Percentiles>,
    pub first_receiver_ns: Option<Percentiles>,
    pub last_receiver_ns: Option<Percentiles>,
    pub fairness: Option<f64>,
    pub connect_ns: Option<Percentiles>,
    pub upgrade_ns: Option<Percentiles>,
    pub client_cpu_ns: u64,
    pub client_cpu: f64,
    pub latency_histogram: String,
    pub uncorrected_histogram: Option<String>,
}

/// What a delivery took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct PerDelivery {
    pub requests: f64,
    pub empty_answers: f64,
    pub bytes_sent: f64,
    pub bytes_received: f64,
}

impl PerDelivery {
    /// `None` if nothing was delivered.
    fn of(traffic: Traffic, deliveries: u64) -> Option<PerDelivery> {
        let per = |figure: u64| figure as f64 / deliveries as f64;
        (deliveries > 0).then(|| PerDelivery {
            requests: per(traffic.requests),
            empty_answers: per(traffic.empty_answers),
            bytes_sent: per(traffic.bytes_sent),
            bytes_received: per(traffic.bytes_received),
        })
    }
}

/// Where times lie, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
    pub mean: f64,
}

impl Percentiles {
    /// `None` where there was nothing to measure.
    pub(crate) fn of(times: &Times) -> Option<Percentiles> {
        let histogram = &times.0;
        (!histogram.is_empty()).then(|| Percentiles {
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            mean: histogram.mean(),
        })
    }
}

impl Times {
    /// V2 with deflate, in base64.
    fn encoded(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .expect("a histogram of this size can be written to memory");
        STANDARD.encode(bytes)
    }
}

impl LoadReport {
    /// `unknown`: messages of which nobody knows whether the server has taken them.
    pub(crate) fn new(
        plan: &LoadPlan,
        mechanism: Mechanism,
        total: Recorder,
        course: Course,
        unknown: u64,
    ) -> LoadReport {
        let delay_ns = plan.reconnect.map(|delay| delay.as_nanos() as u64).unwrap_or_default();
        let window_ns = course.window.as_nanos() as u64;
        let per_ns = |figure: u64| if window_ns > 0 { figure as f64 / window_ns as f64 } else { 0.0 };
        let is_open_loop = plan.rate_per_s.is_some();
        LoadReport {
            schema: 1,
            url: plan.url.clone(),
            mechanism,
            threads: plan.threads,
            payload_bytes: plan.payload_bytes,
            depth: plan.depth,
            rate_per_s: plan.rate_per_s,
            seed: match plan.arrivals {
                Arrivals::Even => None,
                Arrivals::Random { seed } => Some(seed),
            },
            every_ns: plan.every.map(|every| every.as_nanos() as u64),
            active: plan.active.unwrap_or(plan.connections),
            churn: plan.churn,
            slow: plan.slow,
            slow_closed: total.slow_closed,
            connections_wanted: plan.connections,
            connections_open: total.connected,
            opening_ns: course.opening.as_nanos() as u64,
            memory_bytes: course.memory_bytes,
            warmup_ns: course.warmup.as_nanos() as u64,
            steady_warmup: course.is_steady,
            window_ns,
            ended_early: course.ended_early,
            messages: total.messages,
            messages_in_all: total.seen,
            messages_per_s: per_ns(total.messages) * 1e9,
            slices: total.slices,
            in_flight_ns: total.in_flight_ns,
            due: is_open_loop.then_some(total.due),
            sent: is_open_loop.then_some(total.sent),
            bytes_sent: total.traffic.bytes_sent + total.publisher.bytes_sent,
            bytes_received: total.traffic.bytes_received + total.publisher.bytes_received,
            requests: mechanism.is_http().then_some(total.traffic.requests),
            empty_answers: matches!(mechanism, Mechanism::Longpoll | Mechanism::PollEvery)
                .then_some(total.traffic.empty_answers),
            subscribers: mechanism.is_broadcast().then_some(total.traffic),
            publisher: mechanism.is_broadcast().then_some(total.publisher),
            per_delivery: mechanism
                .is_broadcast()
                .then(|| PerDelivery::of(total.traffic, total.messages))
                .flatten(),
            polls_due: plan.every.map(|_| total.polls_due),
            polls_skipped: plan.every.map(|_| total.polls_skipped),
            published: mechanism.is_broadcast().then_some(total.published),
            reconnect: total.again.map(|counts| counts.report(delay_ns, unknown)),
            lost: total.lost,
            duplicated: total.duplicated,
            reordered: total.reordered,
            corrupted: total.corrupted,
            unasked: total.unasked,
            late: total.late,
            reopened: total.reopened,
            latency_ns: Percentiles::of(&total.latency),
            uncorrected_latency_ns: Percentiles::of(&total.uncorrected),
            lateness_ns: Percentiles::of(&total.lateness),
            first_receiver_ns: Percentiles::of(&total.first_receiver),
            last_receiver_ns: Percentiles::of(&total.last_receiver),
            fairness: total.fairness.index(),
            connect_ns: Percentiles::of(&total.connect),
            upgrade_ns: Percentiles::of(&total.upgrade),
            client_cpu_ns: course.cpu_ns,
            client_cpu: per_ns(course.cpu_ns),
            latency_histogram: total.latency.encoded(),
            uncorrected_histogram: (is_open_loop && !mechanism.is_broadcast())
                .then(|| total.uncorrected.encoded()),
            refused: total.refused,
            errors: total.errors,
        }
    }

    /// 0: all connections were open, and every message came back once, in order and whole. 1: a message was lost or damaged, no message that was due was
    /// sent, or a connection was refused or lost.
    ///
    /// Datagrams may be lost or reordered, but at least one must come back and none may be refused by a closed port. A client that reconnects may lose events published
    /// meanwhile: that is a result. A client that does not reconnect is a failure. Late and unasked messages are no damage.
    pub fn exit_status(&self) -> u8 {
        let is_datagram = self.mechanism.is_datagram();
        let lost = match &self.reconnect {
            Some(reconnect) => reconnect.still_blind,
            None if is_datagram && self.messages > 0 => 0,
            None => self.lost,
        };
        let disorder = if is_datagram { 0 } else { self.duplicated + self.reordered };
        // A datagram that comes after its timeout is one that was lost.
        let has_failed = match is_datagram {
            true => self.errors.contains_key(DATAGRAM_REFUSED),
            false => !self.errors.is_empty(),
        };
        let is_missing = self.connections_open < self.connections_wanted as u64;
        let is_unsent = self.due.is_some_and(|due| due > 0) && self.sent == Some(0);
        let is_broken = self.corrupted + lost + disorder > 0;
        u8::from(is_missing || is_unsent || is_broken || has_failed || self.ended_early)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = grouped(self.connections_wanted as u64);
        write!(f, "{} of {wanted} connected", grouped(self.connections_open))?;
        let refused: u64 = self.refused.values().sum();
        if refused > 0 {
            write!(f, ", {} refused: {}", grouped(refused), kinds(&self.refused))?;
        }
        if !self.churn && self.connections_open > 0 && self.opening_ns > 0 {
            let per_s = self.connections_open as f64 / (self.opening_ns as f64 / 1e9);
            write!(
                f,
                ", opened in {}: {} per second",
                readable(self.opening_ns),
                grouped(per_s.round() as u64)
            )?;
        }
        writeln!(f)?;
        if !self.errors.is_empty() {
            writeln!(f, "errors       {}", kinds(&self.errors))?;
        }
        if self.connections_open == 0 {
            return Ok(());
        }
        let what = match (self.mechanism.is_broadcast(), self.churn) {
            (true, _) => "deliveries",
            (_, true) => "connections",
            _ if matches!(self.mechanism, Mechanism::Get | Mechanism::Poll) => "requests",
            _ => "messages",
        };
        let seconds = self.window_ns as f64 / 1e9;
        writeln!(
            f,
            "{what:<12} {} in {seconds} s: {} per second",
            grouped(self.messages),
            grouped(self.messages_per_s.round() as u64)
        )?;
        if let Some(published) = self.published {
            writeln!(f, "published    {}", grouped(published))?;
        }
        if let Some(requests) = self.requests.filter(|requests| *requests != self.messages) {
            write!(f, "requests     {}", grouped(requests))?;
            let empty = self.empty_answers.filter(|empty| *empty > 0);
            empty.map_or(Ok(()), |empty| write!(f, ", {} of them for nothing", grouped(empty)))?;
            writeln!(f)?;
        }
        self.write_traffic(f)?;
        if self.ended_early {
            writeln!(f, "ended early: every connection was gone before the window had ended")?;
        }
        if let (Some(due), Some(sent)) = (self.due, self.sent) {
            // What was due while nobody was there has its own line.
            let due = due - self.reconnect.as_ref().map_or(0, |reconnect| reconnect.unpublished.min(due));
            let share = if due > 0 { 100.0 * sent as f64 / due as f64 } else { 100.0 };
            writeln!(f, "offered      {} of {} messages due: {share:.1} %", grouped(sent), grouped(due))?;
            if share < 99.0 {
                writeln!(
                    f,
                    "             the schedule could not be kept: lower --rate, or add --threads or --connections"
                )?;
            }
        }
        for (name, times) in [
            ("latency", self.latency_ns),
            ("uncorrected", self.uncorrected_latency_ns),
            ("sent late by", self.lateness_ns),
            ("to the first", self.first_receiver_ns),
            ("to the last", self.last_receiver_ns),
            ("connect", self.connect_ns),
            ("upgrade", self.upgrade_ns),
        ] {
            if let Some(times) = times {
                let Percentiles { p50, p90, p99, p99_9, max, .. } = times;
                let [p50, p90, p99, p99_9, max] = [p50, p90, p99, p99_9, max].map(readable);
                writeln!(f, "{name:<12} p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p99_9}   max {max}")?;
            }
        }
        if let Some(reconnect) = &self.reconnect {
            write!(f, "{reconnect}")?;
        }
        if let Some(fairness) = self.fairness {
            writeln!(f, "fairness     {fairness:.4} (Jain's index of the receivers' mean waiting times)")?;
        }
        if self.active < self.connections_wanted {
            writeln!(f, "silent       {}", grouped((self.connections_wanted - self.active) as u64))?;
        }
        if self.slow > 0 {
            let (slow, closed) = (grouped(self.slow as u64), grouped(self.slow_closed));
            writeln!(f, "slow         {slow} did not read, the server closed {closed} of them")?;
        }
        let [lost, duplicated, reordered, corrupted] =
            [self.lost, self.duplicated, self.reordered, self.corrupted].map(grouped);
        writeln!(
            f,
            "verified     {lost} lost, {duplicated} duplicated, {reordered} reordered, {corrupted} corrupted"
        )?;
        for (name, count, what) in [
            (
                "unasked",
                self.unasked,
                "messages without the stamp of this run: a welcome, a tick, another client's",
            ),
            ("late", self.late, "messages that arrived after their replacements were sent"),
            ("reopened", self.reopened, "connections opened again after the server had closed them in order"),
        ] {
            if count > 0 {
                writeln!(f, "{name:<12} {} {what}", grouped(count))?;
            }
        }
        write!(f, "client CPU   {:.0} % of a core", self.client_cpu * 100.0)?;
        if self.client_cpu > 0.9 * self.threads as f64 {
            write!(
                f,
                ": the client was busy all the time, so this is about the client as much as the server"
            )?;
        }
        writeln!(f)
    }
}

impl LoadReport {
    /// The bytes of all, and what each delivery took.
    fn write_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |sent, received| format!("{} sent, {} received", grouped(sent), grouped(received));
        let (Some(heard), Some(published)) = (self.subscribers, self.publisher) else {
            return writeln!(
                f,
                "bytes        {} (heads and frames, but not TCP and IP)",
                bytes(self.bytes_sent, self.bytes_received)
            );
        };
        writeln!(
            f,
            "bytes        {} by those who hear; {} by the one who publishes (heads and frames, but not TCP and IP)",
            bytes(heard.bytes_sent, heard.bytes_received),
            bytes(published.bytes_sent, published.bytes_received)
        )?;
        if let Some(per) = self.per_delivery {
            write!(f, "a delivery   {} requests", few(per.requests))?;
            if per.empty_answers > 0.0 {
                write!(f, ", {} of them for nothing", few(per.empty_answers))?;
            }
            writeln!(f, ", {} bytes sent, {} received", few(per.bytes_sent), few(per.bytes_received))?;
        }
        if let (Some(due), Some(skipped @ 1..)) = (self.polls_due, self.polls_skipped) {
            writeln!(
                f,
                "polls        {} of {} were left out: the answer to the one before was still on its way",
                grouped(skipped),
                grouped(due)
            )?;
        }
        Ok(())
    }
}

pub(crate) fn kinds(kinds: &BTreeMap<String, u64>) -> String {
    match kinds.iter().next() {
        Some((kind, _)) if kinds.len() == 1 => kind.clone(),
        _ => kinds
            .iter()
            .map(|(kind, count)| format!("{} × {kind}", grouped(*count)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A mean with as many digits as say something.
fn few(figure: f64) -> String {
    match figure {
        100.0.. => grouped(figure.round() as u64),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// A time in the unit that gives it one to three digits before the point.
pub(crate) fn readable(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(readable(57_300), "57.3 µs");
    }

    #[test]
    fn refusals_read_as_a_sentence() {
        let mut total = Recorder::new();
        total.connected = 1021;
        total.refused.insert("503 FD_SETSIZE".into(), 979);
        let plan = LoadPlan { connections: 2000, ..LoadPlan::default() };
        let report = LoadReport::new(&plan, Mechanism::Echo, total, Course::default(), 0);
        let text = report.to_string();
        assert!(text.starts_with("1,021 of 2,000 connected, 979 refused: 503 FD_SETSIZE\n"), "{text}");
        assert_eq!(report.exit_status(), 1, "not all connected");
    }
}
