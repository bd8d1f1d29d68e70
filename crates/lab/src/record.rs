//! What a results folder holds: one JSON object a line, appended and flushed point by point, so that an
//! interrupted run keeps everything it measured, and read back with every damaged line named.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use switchboard_load::Traffic;

use crate::error::LabError;
use crate::files::{self, Line, append_line, open_lines};
use crate::quota::Throttled;
use crate::setting::Setting;
use crate::text;

/// The version of the line format, written into every line.
pub const SCHEMA: u32 = 3;
/// The oldest version that can still be read; what it does not have is `null`.
pub const OLDEST_SCHEMA: u32 = 1;
/// The file of points in a results folder.
pub const POINTS: &str = "points.jsonl";
/// The file of latency histograms in a results folder.
pub const HISTOGRAMS: &str = "histograms.jsonl";
/// The record of machine, versions and command line in a results folder.
pub const ENVIRONMENT: &str = "environment.json";
/// The settings and the plan of the run in a results folder: what `--resume` reads.
pub const RUN: &str = "run.json";

/// One point: a model at a number of connections in one round. A field without a value is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The experiment's name, such as `connections`.
    pub experiment: String,
    /// The model's name, such as `epoll`.
    pub model: String,
    /// What the model was asked to do: `echo`, `broadcast`, `udp-echo`, `udp-broadcast`, `tcp-echo`, `tcp-broadcast`.
    pub mechanism: String,
    /// What was done to the server.
    #[serde(flatten)]
    pub setting: Setting,
    /// Connections that were open during the window.
    pub connected: usize,
    /// The round, counted from 0.
    pub round: u32,
    /// The point's place in the shuffled order of the whole run, counted from 0.
    pub order: usize,
    /// Which try this is: 1, or 2 where the first was disturbed. The last try of a round counts.
    #[serde(default = "first_try")]
    pub attempt: u32,
    /// Whether the figures can be used.
    pub status: Status,
    /// Why the status is not `ok`: a short name such as `FD_SETSIZE`, or words such as `3 messages lost`.
    pub reason: Option<String>,
    /// What was examined to reach the status, each with its evidence.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Why the figure is not twice as high, the strongest limit first. Empty where nothing is known.
    #[serde(default)]
    pub limiters: Vec<Limiter>,
    /// Throughput as a share of the load generator's own ceiling at this number of connections; from 0.95 on the
    /// throughput says more about the client than about the server.
    #[serde(default)]
    pub share_of_ceiling: Option<f64>,
    /// Load before the window, in seconds: longer than planned where it took longer to become steady.
    #[serde(default)]
    pub warmup_s: Option<f64>,
    /// Length of the measured window in seconds.
    pub window_s: Option<f64>,
    /// Messages in each of the equal slices of the window.
    #[serde(default)]
    pub slices: Vec<u64>,
    /// Mean number of messages under way in the window: the time that each of them was under way in it, added up, divided
    /// by its length. By Little's law that is throughput × mean latency, and in a closed loop connections × depth.
    #[serde(default)]
    pub in_flight: Option<f64>,
    /// Messages that were due in the window of an open loop.
    #[serde(default)]
    pub due: Option<u64>,
    /// Messages of them that were sent before the window closed.
    #[serde(default)]
    pub sent: Option<u64>,
    /// How long after they were due they were sent.
    #[serde(default)]
    pub lateness_ns: Option<Quantiles>,
    /// Polls that were due in the window where each connection asks by the clock.
    #[serde(default)]
    pub polls_due: Option<u64>,
    /// Those of them that were left out because the answer to the one before was still on its way.
    #[serde(default)]
    pub polls_skipped: Option<u64>,
    /// What went over the connections of those who hear a broadcast, in the window.
    #[serde(default)]
    pub subscribers: Option<Traffic>,
    /// The same of the one who publishes. Where one connection does both, what it sends is the publisher's and what it gets is not.
    #[serde(default)]
    pub publisher: Option<Traffic>,
    /// Messages echoed, or deliveries of a broadcast, in the window.
    pub messages: Option<u64>,
    /// `messages` per second of the window.
    pub messages_per_s: Option<f64>,
    /// From sending a message to its echo or delivery.
    pub latency_ns: Option<Quantiles>,
    /// In an open loop, the latency as a client sees it that waits when the server does: from the time at which a message was due, or, if
    /// that is later, the return of the one before it on the same connection.
    #[serde(default)]
    pub uncorrected_ns: Option<Quantiles>,
    /// From publishing a broadcast until its first receiver has it.
    #[serde(default)]
    pub first_receiver_ns: Option<Quantiles>,
    /// Jain's index of the receivers' mean delivery times: 1 if all wait equally long.
    #[serde(default)]
    pub fairness: Option<f64>,
    /// Receivers of `slow` that the server has closed.
    #[serde(default)]
    pub slow_closed: Option<u64>,
    /// From publishing a broadcast until its last receiver has it.
    pub last_receiver_ns: Option<Quantiles>,
    /// From connect(2) to an open TCP connection.
    pub connect_ns: Option<Quantiles>,
    /// From the upgrade request to its answer.
    pub upgrade_ns: Option<Quantiles>,
    /// From the first connect(2) until all connections were open, in seconds.
    #[serde(default)]
    pub opening_s: Option<f64>,
    /// What the load generator allocated for its connections, in all.
    #[serde(default)]
    pub client_memory_bytes: Option<u64>,
    /// What a restart of the server did to those who were connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect: Option<Reconnect>,
    /// Messages that never came back.
    pub lost: Option<u64>,
    /// Messages that came back more than once.
    pub duplicated: Option<u64>,
    /// Messages that came back behind a later one.
    pub reordered: Option<u64>,
    /// Messages that came back changed.
    pub corrupted: Option<u64>,
    /// Connections that the server refused, by its reason.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// Connections that failed otherwise, by kind.
    #[serde(default)]
    pub errors: BTreeMap<String, u64>,
    /// CPU time of the whole server process tree in the window.
    #[serde(default)]
    pub server_cpu_ns: Option<u64>,
    /// CPU time of the load generator in the window.
    #[serde(default)]
    pub client_cpu_ns: Option<u64>,
    /// What the server did in the window, beside CPU time in all.
    #[serde(default)]
    pub costs: Option<Costs>,
    /// What the connections hold, by place.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// What the network stack of this machine counted during the point.
    #[serde(default)]
    pub network: Option<Network>,
    /// How quiet the machine was.
    #[serde(default)]
    pub quiet: Option<Quiet>,
    /// CPU time of the server process tree in the window, divided by `messages`.
    pub server_cpu_ns_per_message: Option<f64>,
    /// Cores that the server kept busy in the window; 1.0 is one whole core.
    pub server_cpu: Option<f64>,
    /// CPU time of the load generator in the window, divided by `messages`.
    pub client_cpu_ns_per_message: Option<f64>,
    /// Cores that the load generator kept busy in the window; near 1.0 the client may be the limit.
    pub client_cpu: Option<f64>,
    /// Memory of the server process tree with the connections open: proportional set size, shared pages
    /// divided among those that share them.
    pub server_memory_bytes: Option<u64>,
    /// The same before the first connection.
    pub server_memory_idle_bytes: Option<u64>,
    /// Sum over the processes of each one's largest resident size: shared pages count in every one of them.
    pub server_memory_peak_bytes: Option<u64>,
    /// What the server's processes allocated beyond what they had before the first connection, divided by
    /// `connected`. Neither the program's own pages nor the kernel's buffers are in it.
    pub memory_bytes_per_connection: Option<f64>,
    /// Threads of the server process tree with the connections open.
    pub server_threads: Option<u64>,
    /// Processes of the server process tree with the connections open.
    pub server_processes: Option<u64>,
    /// When the point began, in UTC, as in `2026-11-20T22:31:43Z`.
    pub started_at: String,
}

/// What came of those who were connected to a server that was restarted; the fields but the first are those of `switchboard load --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reconnect {
    /// From the signal that stopped the server until the next one listened, in seconds.
    #[serde(default)]
    pub away_s: Option<f64>,
    /// How subscribers lost their connections, by kind.
    pub disconnected: BTreeMap<String, u64>,
    /// Times that a subscriber tried to come again.
    pub attempts: u64,
    /// Those that failed, by kind.
    pub failed: BTreeMap<String, u64>,
    /// For how long each subscriber was blind.
    pub blind_ns: Option<Quantiles>,
    /// Subscribers that were blind when the load ended.
    pub still_blind: u64,
    /// Deliveries that were handed over later, from the server's history.
    pub replayed: u64,
    /// How old those were.
    pub replayed_age_ns: Option<Quantiles>,
    /// Messages that were due while nobody was there to take them.
    pub unpublished: u64,
    /// Messages that were sent and never answered, and that nobody has heard.
    pub unknown: u64,
}

/// What the server's process tree did in the window. Where the tree is large, everything but the CPU time in all is
/// measured on a random sample of the processes and scaled up; see `processes_read`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// CPU time in user mode. The kernel knows the sum to the nanosecond and the parts by what it saw at its ticks: in all of
    /// the server's processes, or, where they are too many, on the server's core if it was alone there, else in some of them.
    pub user_cpu_ns: u64,
    /// CPU time in the kernel.
    pub system_cpu_ns: u64,
    /// Times that a thread gave up the CPU to wait.
    pub switches_voluntary: u64,
    /// Times that the kernel took the CPU from a thread.
    pub switches_involuntary: u64,
    /// Page faults that needed no disk.
    pub faults_minor: u64,
    /// Page faults that read from a disk.
    pub faults_major: u64,
    /// Bytes that the client wrote into its sockets: payload and framing.
    pub bytes_to_server: u64,
    /// Bytes that the client read from its sockets.
    pub bytes_from_server: u64,
    /// Bytes that crossed the loopback interface, with all headers and acknowledgements.
    pub bytes_on_wire: Option<u64>,
    /// Processes that were read one by one, of those that there are.
    pub processes_read: u64,
    /// CPU time that the lab itself used to watch the server during the window.
    pub observer_cpu_ns: u64,
}

/// What the connections hold beyond the idle server, in bytes in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Allocated by the server's processes (proportional set size of what belongs to no file), stacks in user
    /// space included.
    pub user_bytes: i64,
    /// Page tables of the server's processes.
    pub page_tables_bytes: i64,
    /// Kernel stacks: one for every thread and process.
    pub kernel_stacks_bytes: i64,
    /// Buffers of TCP and UDP sockets, of both ends (proc_net_sockstat, `mem`).
    pub socket_buffers_bytes: i64,
    /// Objects of the kernel, such as sockets and file structures: of both ends, and of everything else on this machine.
    pub slab_bytes: i64,
}

/// What the network stack counted from the first connect(2) to the end of the window, in the whole network namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Connections that found the accept queue full (`ListenOverflows`).
    pub listen_overflows: u64,
    /// Connections that a listener dropped for any reason (`ListenDrops`).
    pub listen_drops: u64,
    /// TCP segments sent again (`RetransSegs`).
    pub retransmitted: u64,
    /// Datagrams that found the receive buffer full (`RcvbufErrors`).
    pub receive_buffer_errors: u64,
    /// Datagrams that found the send buffer full (`SndbufErrors`).
    pub send_buffer_errors: u64,
}

/// How quiet the machine was at a point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quiet {
    /// Cores' worth of time that the hypervisor gave to others during the window.
    pub steal: f64,
    /// What the CPU quota of a container did during the window; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<Throttled>,
    /// Cores that processes other than server, load generator and lab kept busy during the window.
    pub others_cpu: f64,
    /// The fixed workload just before the point.
    pub before: Canary,
    /// The same just after it.
    pub after: Canary,
    /// What the fixed workload had usually taken lately: the median of the last nine before this.
    pub usual: Canary,
}

/// What a fixed workload took on the server's core, the same every time: computation, and messages exchanged with the
/// load generator's core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// By the clock on the wall.
    pub wall_ns: u64,
    /// CPU time of the computation.
    pub compute_ns: u64,
    /// CPU time of the system calls.
    pub calls_ns: u64,
}

/// Something that was examined to reach a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was examined.
    pub name: CheckName,
    /// What came of it; `null` if it could not be examined.
    pub holds: Option<bool>,
    /// The figures behind it, in words.
    pub evidence: String,
}

/// What is examined of every point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckName {
    /// Every message is accounted for.
    Verified,
    /// Connections that talk × depth = throughput × mean latency.
    LittlesLaw,
    /// The rate of an open loop was offered.
    Offered,
    /// The slices of the window show no trend.
    Steady,
    /// Neither the hypervisor nor other processes took CPU time, and the fixed workload took as long as ever.
    Quiet,
}

/// Why a figure is not twice as high.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limiter {
    /// What ran out.
    pub name: LimiterName,
    /// The figures behind it, in words, such as `server CPU 98 % of 1 core`.
    pub evidence: String,
}

/// What can keep a figure from being twice as high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimiterName {
    /// The server's cores.
    ServerCpu,
    /// The load generator's cores.
    ClientCpu,
    /// The rate of an open loop: no more was asked for, or no more could be offered.
    Schedule,
    /// The listener's queue of connections that wait to be accepted.
    AcceptQueue,
    /// File descriptors.
    Descriptors,
    /// Processes or threads.
    Processes,
    /// Ports of the client's addresses.
    Ports,
    /// Segments that had to be sent again.
    Retransmissions,
    /// The receive buffer of a datagram socket.
    ReceiveBuffers,
    /// Another limit that the server, the model or the machine has, such as FD_SETSIZE or memory.
    Other,
    /// Messages in flight: neither side is busy, everybody waits for the next message to arrive.
    InFlight,
    /// Neither side is busy although there is always a message to handle: the server sleeps on purpose, or the machine
    /// wakes its threads late.
    WakeUps,
}

fn first_try() -> u32 {
    1
}

/// Whether a point's figures can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every connection was open, every message verified, the window steady and the machine quiet.
    Ok,
    /// Every message was verified, but the window was not steady or the machine not quiet, in the second try too: the
    /// figures are shown, drawn hollow and never ranked.
    Doubtful,
    /// The model, or the machine, does not reach this number of connections.
    Limit,
    /// The run broke; its figures are kept for the curious and used for nothing.
    Invalid,
}

/// A distribution of durations in nanoseconds, as the load generator counted it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The smallest.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    pub p99_9: u64,
    /// The largest.
    pub max: u64,
    /// The arithmetic mean.
    pub mean: f64,
}

/// The latency histogram behind one [`Point`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramLine {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The model's name.
    pub model: String,
    /// Connections that were wanted.
    pub connections: usize,
    /// The round, counted from 0.
    pub round: u32,
    /// The point's place in the order of the run; `null` in older files, which vary nothing but the connections.
    #[serde(default)]
    pub order: Option<usize>,
    /// The try of the point that it belongs to.
    #[serde(default = "first_try")]
    pub attempt: u32,
    /// An hdrhistogram of nanoseconds, V2 with deflate, in base64.
    pub latency_histogram: String,
    /// The same of [`Point::uncorrected_ns`].
    #[serde(default)]
    pub uncorrected_histogram: Option<String>,
}

/// The histograms that belong to a point, as the load generator wrote them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histograms {
    /// See [`HistogramLine::latency_histogram`].
    pub latency: Option<String>,
    /// See [`HistogramLine::uncorrected_histogram`].
    pub uncorrected: Option<String>,
}

/// A line that could not be used, named so that a reader can look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The file that holds the line.
    pub file: PathBuf,
    /// The line's number, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Damaged {
    pub(crate) fn new(file: &Path, line: usize, reason: &str) -> Damaged {
        // It may quote what stands in the line.
        Damaged { file: file.to_owned(), line, reason: text::line(reason).into_owned() }
    }

    /// Without the folder: the same data say the same wherever they lie.
    pub(crate) fn without_folder(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}:{}: {}; line ignored", self.line, self.reason)
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; line ignored", self.file.display(), self.line, self.reason)
    }
}

/// Reads `points.jsonl` of a results folder. Damaged lines are returned beside the points that could be read.
pub fn read_points(dir: &Path) -> io::Result<(Vec<Point>, Vec<Damaged>)> {
    read_lines(&dir.join(POINTS))
}

/// Reads `histograms.jsonl` of a results folder, as [`read_points`] reads the points.
pub fn read_histograms(dir: &Path) -> io::Result<(Vec<HistogramLine>, Vec<Damaged>)> {
    read_lines(&dir.join(HISTOGRAMS))
}

/// More points than a plan can have, with a second try of each.
const MOST_LINES: usize = 2 * crate::bounds::MOST_POINTS;
/// From so many damaged lines on the file is none that a run wrote.
const MOST_DAMAGED: usize = 1000;

pub(crate) fn read_lines<T: DeserializeOwned>(file: &Path) -> io::Result<(Vec<T>, Vec<Damaged>)> {
    let mut lines = Vec::new();
    let mut damaged = Vec::new();
    files::each_line(file, |number, line| {
        let (text, is_torn) = match line {
            Line::Whole(text) => (text, false),
            Line::Torn(text) => (text, true),
            Line::TooLong => (&b""[..], false),
        };
        match parse(text) {
            Ok(value) => lines.push(value),
            Err(_) if is_torn => damaged.push(Damaged::new(file, number, TORN)),
            Err(_) if text.is_empty() => {
                damaged.push(Damaged::new(file, number, "longer than any line that a run writes"))
            }
            Err(reason) => damaged.push(Damaged::new(file, number, &reason)),
        }
        let is_enough = lines.len() >= MOST_LINES || damaged.len() >= MOST_DAMAGED;
        if is_enough {
            damaged.push(Damaged::new(
                file,
                number + 1,
                "more lines than any run writes; what follows was not read",
            ));
        }
        !is_enough
    })?;
    Ok((lines, damaged))
}

/// What is said of half a line at the end of a file.
const TORN: &str = "torn: the run was killed or the disk was full; switchboard run --resume cuts it off and measures its point again";

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    match serde_json::from_slice::<Version>(line) {
        Ok(Version { schema: OLDEST_SCHEMA..=SCHEMA }) => {
            serde_json::from_slice(line).map_err(|error| in_one_line(&error))
        }
        Ok(Version { schema }) => {
            Err(format!("schema {schema}, this switchboard reads {OLDEST_SCHEMA} to {SCHEMA}"))
        }
        Err(error) => Err(in_one_line(&error)),
    }
}

/// serde_json counts lines within what it was given, which here is always line 1.
fn in_one_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

/// The two files of a results folder that grow during a run.
#[derive(Debug)]
pub struct Recorder {
    points: (PathBuf, File),
    histograms: (PathBuf, File),
}

impl Recorder {
    /// Opens `points.jsonl` and `histograms.jsonl` of `dir` for appending, and makes them where they are missing.
    ///
    /// # Errors
    /// One of them cannot be opened; the error names it.
    pub fn open(dir: &Path) -> Result<Recorder, LabError> {
        let open = |name: &str| {
            let path = dir.join(name);
            let file = open_lines(&path).map_err(LabError::file(&path))?;
            Ok::<_, LabError>((path, file))
        };
        Ok(Recorder { points: open(POINTS)?, histograms: open(HISTOGRAMS)? })
    }

    /// Appends one point, and its histograms where there are such, and hands both to the kernel.
    ///
    /// # Errors
    /// One of the files cannot be written; the error names it.
    pub fn append(&mut self, point: &Point, histograms: &Histograms) -> Result<(), LabError> {
        if let Some(latency) = &histograms.latency {
            let line = HistogramLine {
                schema: SCHEMA,
                model: point.model.clone(),
                connections: point.setting.connections,
                round: point.round,
                order: Some(point.order),
                attempt: point.attempt,
                latency_histogram: latency.clone(),
                uncorrected_histogram: histograms.uncorrected.clone(),
            };
            let (path, file) = &mut self.histograms;
            append_line(file, &line).map_err(LabError::file(path))?;
        }
        let (path, file) = &mut self.points;
        append_line(file, point).map_err(LabError::file(path))
    }
}
