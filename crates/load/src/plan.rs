use std::time::Duration;

use thiserror::Error;

use crate::schedule::Arrivals;
use crate::stamp::LEAST_PAYLOAD_BYTES;
use crate::target::{Mechanism, Publishing, Target};
use crate::text::LEAST_TEXT_BYTES;

/// Messages or connections per second above which their due times would be the same nanosecond.
const HIGHEST_RATE: f64 = 1e9;

/// Nobody polls more often than this on one connection; who wants to leaves `every` out.
const SHORTEST_EVERY: Duration = Duration::from_millis(1);

/// Longer than anybody waits, and short enough that nanoseconds can be added up.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Highest rate with random due times: they are computed one after the other, at some tens of millions per second.
const HIGHEST_RANDOM_RATE: f64 = 1e7;

/// Most connections of one load generator: more than a machine has ports for, even from many addresses. Several load generators can open more.
const MOST_CONNECTIONS: usize = 4_000_000;

/// Most threads: more than any machine has cores.
const MOST_THREADS: usize = 1024;

/// Most messages in flight on a connection.
const MOST_DEPTH: usize = 1 << 16;

/// Longest message, and most bytes in flight on one connection: both are held in memory.
const LONGEST_PAYLOAD: usize = 1 << 30;

/// What to do to a server.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Where and how, as [`Mechanism`] lists it: `ws://H:P/echo`.
    pub url: String,
    /// Where the one publisher publishes for those who only listen, by `sse+http`, `longpoll+http`, `poll+http` with `every`, or in a room of `socketio+http`: `http://H:P/publish?topic=T` (POST) or
    /// `ws://H:P/broadcast?topic=T`. `None`: the former, on the same server.
    pub publish: Option<String>,
    /// Requests say which version of the answer is known (`If-None-Match`), so that the server may answer 304.
    pub revalidate: bool,
    /// `poll+http`: each connection asks once in this time what is new, while one more publishes. `None`: requests follow each other as fast as they
    /// are answered, and are what is counted.
    pub every: Option<Duration>,
    /// In a broadcast with a rate: those who lose the server come again, and wait so long before each attempt where their mechanism does not say how long
    /// itself. One more connection publishes, whatever the mechanism: by POST, or by datagrams where that is spoken. What is lost on the way is a
    /// result then. `None`: a connection that is lost is an error.
    pub reconnect: Option<Duration>,
    /// Connections to open.
    pub connections: usize,
    /// Connections that talk, evenly spread over all; the others are open and silent. `None`: all of them talk.
    pub active: Option<usize>,
    /// Each connection carries one message and is closed, and the next one is opened in its place.
    pub churn: bool,
    /// Receivers of a broadcast that read nothing: the last ones.
    pub slow: usize,
    /// Length of the window in which is measured.
    pub duration: Duration,
    /// Messages are sent and verified for so long before the window opens.
    pub warmup: Duration,
    /// The warm-up goes on until the rate shows no trend, for at most so long. `None`: exactly `warmup`.
    pub warmup_limit: Option<Duration>,
    /// Bytes in a message; [`LEAST_PAYLOAD_BYTES`] at the least.
    pub payload_bytes: usize,
    /// Messages in flight: on each connection, or of the one publisher.
    pub depth: usize,
    /// Messages sent per second, over all connections, whatever comes back. `None`: a closed loop.
    pub rate_per_s: Option<f64>,
    /// How the due times of an open loop lie.
    pub arrivals: Arrivals,
    /// Loops, each on a thread of its own.
    pub threads: usize,
    /// CPUs to pin the threads to, in turn.
    pub cpus: Option<Vec<usize>>,
    /// Connections opened per second at the most.
    pub connect_rate_per_s: Option<f64>,
    /// Print a line of JSON on stdout when a phase begins.
    pub phases: bool,
    /// Keep the connections open for so long after the window.
    pub hold: Duration,
    /// Show a progress bar on a terminal.
    pub progress: bool,
    /// How long a connection may take to open, and a message to come back at the end.
    pub patience: Duration,
    /// How long a datagram may take; after that it is lost and its place in flight is free.
    pub datagram_timeout: Duration,
}

impl Default for LoadPlan {
    fn default() -> LoadPlan {
        LoadPlan {
            url: String::new(),
            publish: None,
            revalidate: false,
            every: None,
            reconnect: None,
            connections: 64,
            active: None,
            churn: false,
            slow: 0,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            warmup_limit: None,
            payload_bytes: 64,
            depth: 1,
            rate_per_s: None,
            arrivals: Arrivals::Even,
            threads: 1,
            cpus: None,
            connect_rate_per_s: None,
            phases: false,
            hold: Duration::ZERO,
            progress: false,
            patience: Duration::from_secs(5),
            datagram_timeout: Duration::from_millis(500),
        }
    }
}

/// Why a load could not even begin.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The plan cannot be carried out as it stands.
    #[error("{0}")]
    Usage(String),
    /// The host has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// Host and port.
        host: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused something that every load needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What was about to be done.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl LoadError {
    /// The exit status for the command: 2 where the command line is wrong, else 1.
    pub fn exit_status(&self) -> u8 {
        if matches!(self, LoadError::Usage(_)) { 2 } else { 1 }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> LoadError {
        move |source| LoadError::System { what, source }
    }
}

impl LoadPlan {
    /// Checks the plan and finds the server's address.
    pub(crate) fn target(&self) -> Result<Target, LoadError> {
        let usage = |text: String| Err(LoadError::Usage(text));
        for (name, value, most) in [
            ("connections", self.connections, MOST_CONNECTIONS),
            ("depth", self.depth, MOST_DEPTH),
            ("threads", self.threads, MOST_THREADS),
        ] {
            if value == 0 {
                return usage(format!("--{name} must be at least 1"));
            }
            if value > most {
                return usage(format!("--{name} {value} is too large: at most {most}"));
            }
        }
        self.check_memory()?;
        for (name, rate) in [("rate", self.rate_per_s), ("connect-rate", self.connect_rate_per_s)] {
            if rate.is_some_and(|rate| !(rate > 0.0 && rate <= HIGHEST_RATE)) {
                return usage(format!(
                    "--{name} must be above 0 and at most {HIGHEST_RATE}: times are counted in nanoseconds"
                ));
            }
        }
        if self.arrivals != Arrivals::Even && self.rate_per_s.is_some_and(|rate| rate > HIGHEST_RANDOM_RATE) {
            return usage(format!("--rate can be at most {HIGHEST_RANDOM_RATE} with --arrivals random"));
        }
        if let Some(rate) = self.connect_rate_per_s
            && self.connections as f64 / rate > LONGEST.as_secs_f64()
        {
            let all = self.connections;
            return usage(format!(
                "--connect-rate {rate} is too low: opening {all} connections would take more than 30 days"
            ));
        }
        if self.duration.is_zero() {
            return usage("--duration must be longer than nothing".into());
        }
        for (name, time) in [
            ("duration", self.duration),
            ("warmup", self.warmup),
            ("warmup-limit", self.warmup_limit.unwrap_or_default()),
            ("hold", self.hold),
        ] {
            if time > LONGEST {
                return usage(format!("--{name} can be at most 30 days"));
            }
        }
        if let Some(limit) = self.warmup_limit
            && limit < self.warmup
        {
            return usage(format!("--warmup-limit must be at least --warmup, which is {:?}", self.warmup));
        }
        if let Some(rate) = self.rate_per_s
            && rate * self.duration.as_secs_f64() < 1.0
        {
            return usage(format!(
                "--rate {rate} puts no message into --duration {:?}; make one of them larger",
                self.duration
            ));
        }
        if self.rate_per_s.is_none() && self.arrivals != Arrivals::Even {
            return usage("--arrivals random says when messages of a --rate are due: add --rate".into());
        }
        if let Some(every) = self.every
            && (every < SHORTEST_EVERY || every > LONGEST)
        {
            return usage("--every must be at least 1ms and at most 30 days".into());
        }
        if let Some(delay) = self.reconnect {
            if delay < SHORTEST_EVERY || delay > LONGEST {
                return usage("--reconnect-delay must be at least 1ms and at most 30 days".into());
            }
            if self.rate_per_s.is_none() {
                let why = "a publisher that waits for those who are not there would publish nothing";
                return usage(format!("--reconnect needs --rate: {why}"));
            }
        }
        let (publish, by_the_clock) = (self.publish.as_deref(), self.every.is_some());
        let target = Target::parse(&self.url, publish, by_the_clock, self.reconnect.is_some())?;
        self.check_kind(&target)?;
        Ok(target)
    }
}

impl LoadPlan {
    /// Checks that what may be in flight fits into this machine.
    fn check_memory(&self) -> Result<(), LoadError> {
        let usage = |text: String| Err(LoadError::Usage(text));
        let (payload, depth) = (self.payload_bytes, self.depth);
        if payload > LONGEST_PAYLOAD {
            return usage(format!(
                "--payload can be at most 1GiB ({LONGEST_PAYLOAD} bytes), because a message is held in memory"
            ));
        }
        if payload.saturating_mul(depth) > LONGEST_PAYLOAD {
            return usage(format!(
                "--payload {payload} with --depth {depth} is too large: at most 1GiB can be in flight on a connection; lower one of the two"
            ));
        }
        let talking = self.active.unwrap_or(self.connections).min(self.connections);
        let in_flight = (payload as u64).saturating_mul(depth as u64).saturating_mul(talking as u64);
        match memory_bytes() {
            Some(memory) if in_flight > memory => usage(format!(
                "--payload {payload} with --depth {depth} on {talking} connections: {in_flight} bytes in flight are more than this machine's memory of {memory} bytes; lower one of them"
            )),
            _ => Ok(()),
        }
    }

    /// Checks what only some mechanisms can do.
    fn check_kind(&self, target: &Target) -> Result<(), LoadError> {
        let mechanism = target.mechanism;
        let usage = |text: &str| Err(LoadError::Usage(text.to_owned()));
        let least = if target.is_text() { LEAST_TEXT_BYTES } else { LEAST_PAYLOAD_BYTES };
        if self.payload_bytes < least {
            return usage(&format!(
                "--payload must be at least {least} bytes: a message carries its connection, sequence number and time"
            ));
        }
        if mechanism.is_datagram() && self.payload_bytes > 65_507 {
            return usage("--payload can be at most 65507 bytes in a datagram");
        }
        if self.reconnect.is_some() {
            if !mechanism.is_broadcast() || mechanism == Mechanism::TcpBroadcast {
                return usage(
                    "--reconnect is for those who listen: ws://…/broadcast, sse+http://, longpoll+http://, poll+http:// with --every, socketio+http:// with topic=, udp://…/broadcast",
                );
            }
            if target.publisher.as_ref().is_some_and(|publisher| publisher.by == Publishing::WebSocket) {
                return usage(
                    "--reconnect has to be told what the server has taken: --publish http://…, by POST",
                );
            }
            if self.slow > 0 {
                return usage(
                    "--reconnect and --slow: who reads nothing does not notice that the server has gone",
                );
            }
        }
        if self.publish.is_some() && (!target.is_text() || mechanism.is_datagram()) {
            return usage(
                "--publish is for those who only listen: sse+http://, longpoll+http://, poll+http:// with --every, and socketio+http:// with topic=",
            );
        }
        if self.revalidate && !matches!(mechanism, Mechanism::Get | Mechanism::Poll) {
            return usage("--etag is for http:// and poll+http://, without --every");
        }
        if self.every.is_some() && mechanism != Mechanism::PollEvery {
            return usage("--every is for poll+http://: how often each connection asks what is new");
        }
        if let Some(active) = self.active {
            if mechanism.is_broadcast() {
                return usage("--active is for echoes: in a broadcast one connection talks and all listen");
            }
            if active > self.connections {
                let all = self.connections;
                return usage(&format!(
                    "--active {active}: there are only {all} connections; raise --connections"
                ));
            }
            if active == 0 && self.rate_per_s.is_some() {
                return usage("--active 0 and --rate: nobody is there to send");
            }
        }
        if self.churn {
            let can = matches!(mechanism, Mechanism::Echo | Mechanism::TcpEcho | Mechanism::Socketio);
            if !can || self.rate_per_s.is_some() || self.active.is_some() || self.depth != 1 {
                return usage(
                    "--churn is for echoes over ws:// and tcp://, one message on each connection: without --rate, --active and --depth",
                );
            }
        }
        if self.slow > 0 {
            if mechanism != Mechanism::Broadcast {
                return usage("--slow is for a broadcast over ws://: receivers that do not read");
            }
            if self.slow >= self.connections {
                return usage("--slow must leave at least one connection that reads: raise --connections");
            }
        }
        Ok(())
    }

    /// How long is waited for what was published or sent: who asks only now and then has no fault in that.
    pub(crate) fn patience(&self) -> Duration {
        self.patience + self.every.unwrap_or_default()
    }

    /// Whether a connection talks.
    pub(crate) fn is_active(&self, connection: u32) -> bool {
        let (all, place) = (self.connections as u64, u64::from(connection));
        self.active.is_none_or(|active| {
            let before = |place: u64| place * active as u64 / all;
            before(place + 1) > before(place)
        })
    }

    /// Whether a connection is one that does not read.
    pub(crate) fn is_slow(&self, connection: u32) -> bool {
        (self.connections - self.slow..self.connections).contains(&(connection as usize))
    }
}

/// The machine's memory: `MemTotal`, see proc_meminfo(5).
fn memory_bytes() -> Option<u64> {
    let all = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = all.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_said_before_it_is_tried() {
        for (plan, word) in [
            (LoadPlan { connections: 0, ..LoadPlan::default() }, "--connections"),
            (LoadPlan { depth: 0, ..LoadPlan::default() }, "--depth"),
            (LoadPlan { connections: 1 << 32 | 1, ..LoadPlan::default() }, "at most 4000000"),
            (LoadPlan { connections: usize::MAX, ..LoadPlan::default() }, "at most 4000000"),
            (LoadPlan { threads: usize::MAX, ..LoadPlan::default() }, "at most 1024"),
            (LoadPlan { depth: usize::MAX, ..LoadPlan::default() }, "at most 65536"),
            (LoadPlan { payload_bytes: usize::MAX, ..LoadPlan::default() }, "at most 1GiB"),
            (
                LoadPlan { payload_bytes: 1 << 20, depth: 1 << 12, ..LoadPlan::default() },
                "in flight on a connection",
            ),
            (
                LoadPlan { payload_bytes: 1 << 30, connections: 4_000_000, ..LoadPlan::default() },
                "this machine's memory",
            ),
            (LoadPlan { hold: Duration::MAX, ..LoadPlan::default() }, "--hold can be at most"),
            (LoadPlan { connect_rate_per_s: Some(1e-300), ..LoadPlan::default() }, "more than 30 days"),
            (
                LoadPlan {
                    rate_per_s: Some(1e8),
                    arrivals: Arrivals::Random { seed: 1 },
                    ..LoadPlan::default()
                },
                "with --arrivals random",
            ),
            (LoadPlan { rate_per_s: Some(f64::NAN), ..LoadPlan::default() }, "--rate"),
            (LoadPlan { rate_per_s: Some(0.0), ..LoadPlan::default() }, "--rate"),
            (LoadPlan { rate_per_s: Some(2e9), ..LoadPlan::default() }, "nanoseconds"),
            (LoadPlan { rate_per_s: Some(f64::INFINITY), ..LoadPlan::default() }, "--rate"),
            (LoadPlan { rate_per_s: Some(0.05), ..LoadPlan::default() }, "no message into --duration 10s"),
            (LoadPlan { connect_rate_per_s: Some(-1.0), ..LoadPlan::default() }, "--connect-rate"),
            (LoadPlan { warmup_limit: Some(Duration::ZERO), ..LoadPlan::default() }, "--warmup-limit"),
            (LoadPlan { warmup: Duration::MAX, ..LoadPlan::default() }, "--warmup can be at most"),
            (LoadPlan { duration: Duration::ZERO, ..LoadPlan::default() }, "--duration"),
            (LoadPlan { arrivals: Arrivals::Random { seed: 1 }, ..LoadPlan::default() }, "--arrivals"),
            (LoadPlan { every: Some(Duration::ZERO), ..LoadPlan::default() }, "--every must be at least 1ms"),
            (LoadPlan { reconnect: Some(Duration::from_secs(1)), ..LoadPlan::default() }, "needs --rate"),
            (
                LoadPlan { reconnect: Some(Duration::ZERO), rate_per_s: Some(9.0), ..LoadPlan::default() },
                "--reconnect-delay",
            ),
        ] {
            let error = plan.target().unwrap_err();
            assert_eq!(error.exit_status(), 2);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn what_a_mechanism_cannot_do_is_said_too() {
        let plan = |url: &str| LoadPlan { url: url.into(), ..LoadPlan::default() };
        let (echo, broadcast, udp) =
            (plan("ws://127.0.0.1:1/echo"), plan("ws://127.0.0.1:1/broadcast"), plan("udp://127.0.0.1:1"));
        let (again, rate) = (Some(Duration::from_secs(1)), Some(9.0));
        let (websocket, post) =
            (Some("ws://127.0.0.1:1/broadcast".into()), Some("http://127.0.0.1:1/publish".into()));
        let since = "ws://127.0.0.1:1/broadcast?format=json&since=7";
        let (sse, poll) = (plan("sse+http://127.0.0.1:1/events"), plan("poll+http://127.0.0.1:1/poll"));
        for (plan, word) in [
            (LoadPlan { active: Some(65), ..echo.clone() }, "only 64 connections"),
            (LoadPlan { payload_bytes: 15, ..echo.clone() }, "16 bytes"),
            (LoadPlan { payload_bytes: 21, ..sse.clone() }, "22 bytes"),
            (LoadPlan { payload_bytes: 65_508, ..udp.clone() }, "65507"),
            (LoadPlan { active: Some(1), ..sse.clone() }, "--active"),
            (LoadPlan { slow: 1, ..sse.clone() }, "--slow"),
            (LoadPlan { revalidate: true, ..sse.clone() }, "--etag"),
            (LoadPlan { churn: true, ..sse.clone() }, "--churn"),
            (LoadPlan { every: Some(Duration::from_secs(1)), ..sse.clone() }, "--every is for poll+http://"),
            (LoadPlan { revalidate: true, every: Some(Duration::from_secs(1)), ..poll.clone() }, "--etag"),
            (LoadPlan { payload_bytes: 21, every: Some(Duration::from_secs(1)), ..poll }, "22 bytes"),
            (LoadPlan { payload_bytes: 21, ..plan("socketio+http://127.0.0.1:1/?topic=t") }, "22 bytes"),
            (LoadPlan { publish: Some("ws://127.0.0.1:1/broadcast".into()), ..echo.clone() }, "--publish"),
            (LoadPlan { active: Some(0), rate_per_s: Some(9.0), ..echo.clone() }, "nobody"),
            (LoadPlan { active: Some(1), ..broadcast.clone() }, "--active"),
            (LoadPlan { reconnect: again, rate_per_s: rate, ..echo.clone() }, "for those who listen"),
            (
                LoadPlan { reconnect: again, rate_per_s: rate, ..plan("tcp://127.0.0.1:1/broadcast") },
                "listen",
            ),
            (LoadPlan { reconnect: again, rate_per_s: rate, slow: 1, ..broadcast.clone() }, "--slow"),
            (LoadPlan { reconnect: again, rate_per_s: rate, publish: websocket, ..sse }, "by POST"),
            (
                LoadPlan {
                    reconnect: again,
                    rate_per_s: rate,
                    publish: post,
                    ..plan("udp://127.0.0.1:1/broadcast")
                },
                "--publish",
            ),
            (LoadPlan { reconnect: again, rate_per_s: rate, ..plan(since) }, "since= is added"),
            (
                LoadPlan { reconnect: again, rate_per_s: rate, payload_bytes: 21, ..broadcast.clone() },
                "22 bytes",
            ),
            (LoadPlan { churn: true, ..udp.clone() }, "--churn"),
            (LoadPlan { churn: true, ..broadcast.clone() }, "--churn"),
            (LoadPlan { churn: true, depth: 2, ..echo.clone() }, "--churn"),
            (LoadPlan { slow: 1, ..echo.clone() }, "--slow"),
            (LoadPlan { slow: 64, ..broadcast.clone() }, "at least one"),
        ] {
            let error = plan.target().unwrap_err();
            assert!(error.exit_status() == 2 && error.to_string().contains(word), "{error}");
        }
        assert!(LoadPlan { active: Some(0), ..echo }.target().is_ok());
        assert!(LoadPlan { slow: 63, ..broadcast }.target().is_ok());
    }

    #[test]
    fn those_that_talk_are_spread_over_all() {
        let plan = LoadPlan { connections: 100, active: Some(5), ..LoadPlan::default() };
        let talking: Vec<u32> = (0..100).filter(|id| plan.is_active(*id)).collect();
        assert_eq!(talking, [19, 39, 59, 79, 99]);
        let count = |active| {
            let plan = LoadPlan { connections: 7, active, ..LoadPlan::default() };
            (0..7).filter(|id| plan.is_active(*id)).count()
        };
        assert_eq!([Some(0), Some(3), Some(7), None].map(count), [0, 3, 7, 7]);
    }
}
