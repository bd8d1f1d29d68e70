//! What a results folder holds: one JSON object a line, appended and flushed point by point, so that an
//! interrupted run keeps everything it measured, and read back with every damaged line named.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the line format, written into every line; a line of another version is damaged to us.
pub const SCHEMA: u32 = 1;
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
    /// What the model was asked to do: `echo`, `broadcast`, `udp-echo`, `udp-broadcast`, `tcp-echo`.
    pub mechanism: String,
    /// Connections that were wanted.
    pub connections: usize,
    /// Connections that were open during the window.
    pub connected: usize,
    /// The round, counted from 0.
    pub round: u32,
    /// The point's place in the shuffled order of the whole run, counted from 0.
    pub order: usize,
    /// Bytes of payload a message.
    pub payload_bytes: usize,
    /// Messages in flight per connection.
    pub depth: usize,
    /// Whether the figures can be used.
    pub status: Status,
    /// Why the status is not `ok`: a short name such as `FD_SETSIZE`, or words such as `3 messages lost`.
    pub reason: Option<String>,
    /// Length of the measured window in seconds.
    pub window_s: Option<f64>,
    /// Messages echoed, or deliveries of a broadcast, in the window.
    pub messages: Option<u64>,
    /// `messages` per second of the window.
    pub messages_per_s: Option<f64>,
    /// From sending a message to its echo or delivery.
    pub latency_ns: Option<Quantiles>,
    /// From publishing a broadcast until its last receiver has it.
    pub last_receiver_ns: Option<Quantiles>,
    /// From connect(2) to an open TCP connection.
    pub connect_ns: Option<Quantiles>,
    /// From the upgrade request to its answer.
    pub upgrade_ns: Option<Quantiles>,
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
    /// CPU time of the whole server process tree in the window, divided by `messages`.
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
    /// Times the server's threads gave up the CPU to wait, from its start to the end of the window.
    pub server_context_switches_voluntary: Option<u64>,
    /// Times the kernel took the CPU from the server's threads, from its start to the end of the window.
    pub server_context_switches_involuntary: Option<u64>,
    /// Threads of the server process tree with the connections open.
    pub server_threads: Option<u64>,
    /// Processes of the server process tree with the connections open.
    pub server_processes: Option<u64>,
    /// When the point began, in UTC, as in `2026-11-20T22:31:43Z`.
    pub started_at: String,
}

/// Whether a point's figures can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every connection was open and every message verified.
    Ok,
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
    /// An hdrhistogram of nanoseconds, V2 with deflate, in base64.
    pub latency_histogram: String,
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

fn read_lines<T: DeserializeOwned>(file: &Path) -> io::Result<(Vec<T>, Vec<Damaged>)> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let mut lines = Vec::new();
    let mut damaged = Vec::new();
    for (number, line) in std::fs::read(file)?.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed = match serde_json::from_slice::<Version>(line) {
            Ok(Version { schema: SCHEMA }) => {
                serde_json::from_slice(line).map_err(|error| in_one_line(&error))
            }
            Ok(Version { schema }) => Err(format!("schema {schema}, this switchboard reads schema {SCHEMA}")),
            Err(error) => Err(in_one_line(&error)),
        };
        match parsed {
            Ok(value) => lines.push(value),
            Err(reason) => damaged.push(Damaged { file: file.to_owned(), line: number + 1, reason }),
        }
    }
    Ok((lines, damaged))
}

/// serde_json counts lines within what it was given, which here is always line 1.
fn in_one_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

/// The two files of a results folder that grow during a run.
#[derive(Debug)]
pub struct Recorder {
    points: File,
    histograms: File,
}

impl Recorder {
    /// Opens `points.jsonl` and `histograms.jsonl` of `dir` for appending, and makes them where they are missing.
    pub fn open(dir: &Path) -> io::Result<Recorder> {
        Ok(Recorder {
            points: open_lines(&dir.join(POINTS))?,
            histograms: open_lines(&dir.join(HISTOGRAMS))?,
        })
    }

    /// Appends one point, and its histogram where there is one, and hands both to the kernel.
    pub fn append(&mut self, point: &Point, latency_histogram: Option<&str>) -> io::Result<()> {
        if let Some(histogram) = latency_histogram {
            let line = HistogramLine {
                schema: SCHEMA,
                model: point.model.clone(),
                connections: point.connections,
                round: point.round,
                latency_histogram: histogram.to_owned(),
            };
            append_line(&mut self.histograms, &line)?;
        }
        append_line(&mut self.points, point)
    }
}

/// A run that was killed may have left half a line; the next one must not be glued to it.
fn open_lines(file: &Path) -> io::Result<File> {
    let mut lines = OpenOptions::new().read(true).append(true).create(true).open(file)?;
    if lines.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        lines.seek(SeekFrom::End(-1))?;
        lines.read_exact(&mut last)?;
        if last != *b"\n" {
            lines.write_all(b"\n")?;
        }
    }
    Ok(lines)
}

/// One write(2) a line, so that a kill between two lines damages none.
fn append_line<T: Serialize>(file: &mut File, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)
}
