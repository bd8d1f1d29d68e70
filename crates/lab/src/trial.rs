//! One point: a server and a load generator, started, watched and stopped, and a verdict on what they did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::LabError;
use crate::machine::{Cores, needs};
use crate::plan::{Job, Plan, hold};
use crate::process::{Line, Next, Process};
use crate::record::{Point, Quantiles, SCHEMA, Status};
use crate::tree::{CpuTimes, Tree, Usage};

/// What every point of a run has in common.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    /// The program that is both server and load generator.
    pub(crate) program: &'a Path,
    pub(crate) plan: &'a Plan,
    pub(crate) cores: Option<Cores>,
    /// How long a process may say nothing beyond the time that it was given for its work.
    pub(crate) patience: Duration,
    /// Set when the user wants no more.
    pub(crate) stop: &'a AtomicBool,
}

/// A point and the histogram that belongs to it.
pub(crate) type Measured = (Point, Option<String>);

/// Why there is no result.
enum Failure {
    /// One of the processes broke; the point is invalid for this reason.
    Broken(String),
    /// The user wants no more; there is no point.
    Stopped,
    /// A process cannot be started at all; there is no sense in going on.
    Fatal(LabError),
}

/// What the lab saw of the server, and the load generator reported.
struct Observed {
    idle: Usage,
    loaded: Option<Usage>,
    server_cpu_ns: Option<u64>,
    result: LoadResult,
}

/// The load generator's report; the fields are those of `switchboard load --json`.
#[derive(Debug, Clone, Deserialize)]
struct LoadResult {
    connections_open: usize,
    #[serde(default)]
    refused: BTreeMap<String, u64>,
    #[serde(default)]
    errors: BTreeMap<String, u64>,
    window_ns: u64,
    messages: u64,
    messages_per_s: f64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    latency_ns: Option<Quantiles>,
    last_receiver_ns: Option<Quantiles>,
    connect_ns: Option<Quantiles>,
    upgrade_ns: Option<Quantiles>,
    client_cpu_ns: Option<u64>,
    client_cpu: Option<f64>,
    latency_histogram: Option<String>,
}

impl Trial<'_> {
    /// Runs one point; `None` if the user stopped it. A point that breaks is a result too.
    pub(crate) fn run(&self, job: &Job) -> Result<Option<Measured>, LabError> {
        let mut point = blank(self.plan, job);
        if let Some(limit) = &job.limit {
            point.status = Status::Limit;
            point.reason = Some(limit.clone());
            return Ok(Some((point, None)));
        }
        match self.observe(job) {
            Ok(observed) => {
                fill(&mut point, &observed);
                (point.status, point.reason) = judge(job, &observed.result);
                Ok(Some((point, observed.result.latency_histogram)))
            }
            Err(Failure::Broken(reason)) => {
                point.reason = Some(reason);
                Ok(Some((point, None)))
            }
            Err(Failure::Stopped) => Ok(None),
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    fn observe(&self, job: &Job) -> Result<Observed, Failure> {
        let (mut server, address) = self.start_server(job)?;
        let idle = Tree::of(server.pid()).usage();

        let mut load = self.start(&mut self.load_command(job, address), self.cores.map(|cores| cores.load))?;
        let mut watch = Watch::default();
        let result = loop {
            let line = self.next_line(&mut load, &mut server, watch.doing, self.patience_for(job, watch.doing))?;
            match Said::parse(&line.text) {
                Ok(Said::Phase(phase)) => watch.enter(&phase, &server),
                Ok(Said::Result(result)) => {
                    watch.result_came(line.at);
                    break *result;
                }
                Err(reason) => return Err(broken("load generator", &reason)),
            }
        };
        self.stop_load(&mut load, &result)?;
        let clean = result.errors.is_empty() && result.connections_open == job.connections;
        if !clean {
            // The load generator may see the server's death before the kernel has it ready to be reaped.
            server.wait_until(Instant::now() + Duration::from_millis(100));
        }
        if let Some(status) = server.exited() {
            return Err(died("server", &mut server, status));
        }
        let several = needs(&job.model).open_and_close * u32::try_from(job.connections).unwrap_or(u32::MAX);
        match server.terminate(self.patience + several) {
            Some(status) if status.success() => {}
            Some(status) => return Err(died("server, told to stop,", &mut server, status)),
            None => return Err(broken("server", "did not stop on SIGTERM and was killed")),
        }
        Ok(Observed { idle, loaded: watch.loaded, server_cpu_ns: watch.cpu_ns, result })
    }

    fn start_server(&self, job: &Job) -> Result<(Process, SocketAddr), Failure> {
        let mut command = Command::new(self.program);
        command.args(["serve", &job.model, "--listen", "127.0.0.1:0"]);
        if job.mechanism == "udp-broadcast" {
            command.args(["--app", "broadcast"]);
        }
        let mut server = self.start(&mut command, self.cores.map(|cores| cores.server))?;
        let deadline = Instant::now() + self.patience;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failure::Stopped);
            }
            match server.next_line() {
                Next::Line(line) => {
                    let address = line.text.strip_prefix("listening on ").and_then(|rest| rest.parse().ok());
                    let address =
                        address.ok_or_else(|| broken("server", &format!("said `{}`, not where it listens", line.text)))?;
                    return Ok((server, address));
                }
                Next::Nothing if Instant::now() < deadline => {}
                Next::Nothing => return Err(broken("server", &self.silent("starting", &server))),
                Next::End => return Err(self.ended("server", &mut server)),
            }
        }
    }

    fn load_command(&self, job: &Job, address: SocketAddr) -> Command {
        let url = match job.mechanism.as_str() {
            "udp-echo" => format!("udp://{address}"),
            "udp-broadcast" => format!("udp://{address}/broadcast"),
            "tcp-echo" => format!("tcp://{address}"),
            mechanism => format!("ws://{address}/{mechanism}"),
        };
        let ms = |milliseconds: u128| format!("{milliseconds}ms");
        let mut command = Command::new(self.program);
        command.args(["load", &url, "--json", "--phases"]);
        command.args(["--connections", &job.connections.to_string()]);
        command.args(["--duration", &ms(self.plan.window_ms.into())]);
        command.args(["--warmup", &ms(self.plan.warmup_ms.into())]);
        command.args(["--hold", &ms(hold(job).as_millis())]);
        command.args(["--payload", &self.plan.payload_bytes.to_string()]);
        command.args(["--depth", &self.plan.depth.to_string()]);
        command
    }

    fn start(&self, command: &mut Command, cpu: Option<usize>) -> Result<Process, Failure> {
        Process::start(command, cpu)
            .map_err(|source| Failure::Fatal(LabError::Start { program: self.program.to_owned(), source }))
    }

    /// The load generator's next line, unless somebody dies, gives up or falls silent first.
    fn next_line(
        &self,
        load: &mut Process,
        server: &mut Process,
        doing: &str,
        patience: Duration,
    ) -> Result<Line, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failure::Stopped);
            }
            match load.next_line() {
                Next::Line(line) => return Ok(line),
                Next::Nothing => {}
                Next::End => return Err(self.ended("load generator", load)),
            }
            if let Some(status) = server.exited() {
                return Err(died("server", server, status));
            }
            if Instant::now() >= deadline {
                return Err(broken("load generator", &self.silent(doing, load)));
            }
        }
    }

    fn patience_for(&self, job: &Job, doing: &str) -> Duration {
        let work = match doing {
            CONNECTING => {
                needs(&job.model).open_and_close * u32::try_from(job.connections).unwrap_or(u32::MAX) * 10
            }
            HOLDING => hold(job),
            _ => Duration::from_millis(self.plan.warmup_ms + self.plan.window_ms),
        };
        self.patience + work
    }

    /// The result is on the table, so the load generator has nothing left to do. Status 1 is its verdict on
    /// what it saw, which the lab reaches by itself from the figures.
    fn stop_load(&self, load: &mut Process, result: &LoadResult) -> Result<(), Failure> {
        match load.wait_until(Instant::now() + self.patience) {
            Some(status) if status.success() || status.code() == Some(1) => Ok(()),
            Some(status) => Err(died("load generator", load, status)),
            None => Err(broken("load generator", &format!("did not end after {} messages", result.messages))),
        }
    }

    fn ended(&self, who: &str, process: &mut Process) -> Failure {
        match process.wait_until(Instant::now() + self.patience) {
            Some(status) => died(who, process, status),
            None => broken(who, "closed its output and went on"),
        }
    }

    fn silent(&self, doing: &str, process: &Process) -> String {
        let words = process.last_words();
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        format!("said nothing for too long while {doing}{words}")
    }
}

const CONNECTING: &str = "connecting";
const HOLDING: &str = "holding its connections";

/// Follows the load generator's phases and reads the server's state at the right moments.
#[derive(Debug)]
struct Watch {
    doing: &'static str,
    tree: Option<Tree>,
    before: Option<CpuTimes>,
    cpu_ns: Option<u64>,
    loaded: Option<Usage>,
    looked: Option<Instant>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { doing: CONNECTING, tree: None, before: None, cpu_ns: None, loaded: None, looked: None }
    }
}

impl Watch {
    fn enter(&mut self, phase: &str, server: &Process) {
        match phase {
            "connected" => {
                self.doing = "warming up";
                // Looked up here, because it takes long where there are thousands of processes.
                self.tree = Some(Tree::of(server.pid()));
            }
            "measuring" => {
                self.before = self.tree.as_ref().map(Tree::cpu_times);
                self.doing = "measuring";
            }
            "measured" => {
                if let (Some(tree), Some(before)) = (&self.tree, &self.before) {
                    let edge = tree.cpu_times();
                    let now = Tree::of(server.pid());
                    let newcomers = now.newcomers(tree).cpu_times().since(&CpuTimes::default());
                    self.cpu_ns = Some(edge.since(before) + newcomers);
                    self.loaded = Some(now.usage());
                    self.looked = Some(Instant::now());
                }
                self.doing = HOLDING;
            }
            _ => {}
        }
    }

    /// Memory and threads count only if the connections were open all the time while they were read.
    fn result_came(&mut self, at: Instant) {
        if self.looked.is_some_and(|looked| looked > at) {
            self.loaded = None;
        }
    }
}

/// A line of the load generator.
enum Said {
    Phase(String),
    Result(Box<LoadResult>),
}

impl Said {
    fn parse(line: &str) -> Result<Said, String> {
        let wrong = |error: serde_json::Error| format!("said something else than a result: {error}");
        let value: serde_json::Value = serde_json::from_str(line).map_err(wrong)?;
        match value.get("phase").and_then(|phase| phase.as_str()) {
            Some(phase) => Ok(Said::Phase(phase.to_owned())),
            None => Ok(Said::Result(serde_json::from_value(value).map_err(wrong)?)),
        }
    }
}

fn broken(who: &str, what: &str) -> Failure {
    Failure::Broken(format!("{who} {what}"))
}

fn died(who: &str, process: &mut Process, status: ExitStatus) -> Failure {
    Failure::Broken(format!("{who} ended with {}", process.obituary(status)))
}

/// Whether the point counts, and if not, why.
fn judge(job: &Job, result: &LoadResult) -> (Status, Option<String>) {
    let open = result.connections_open;
    let damage = damage(result, job.mechanism.starts_with("udp"));
    let most = |kinds: &BTreeMap<String, u64>| kinds.iter().max_by_key(|&(_, &count)| count).map(|(kind, _)| kind.clone());
    if let Some(damage) = damage {
        (Status::Invalid, Some(damage))
    } else if open < job.connections {
        match (most(&result.refused), most(&result.errors)) {
            // "503 FD_SETSIZE": the server says which limit it has met.
            (Some(refusal), _) => {
                let name = refusal.strip_prefix("503 ").unwrap_or(&refusal);
                (Status::Limit, Some(name.to_owned()))
            }
            (None, Some(error)) => {
                (Status::Invalid, Some(format!("{open} of {} connected: {error}", job.connections)))
            }
            (None, None) => (Status::Invalid, Some(format!("{open} of {} connected", job.connections))),
        }
    } else if let Some(error) = most(&result.errors) {
        (Status::Invalid, Some(format!("{} × {error}", result.errors[&error])))
    } else if result.messages == 0 {
        (Status::Invalid, Some("not one message came back in the window".to_owned()))
    } else {
        (Status::Ok, None)
    }
}

/// What happened to messages that must not happen. A datagram may be lost, doubled and overtaken, but not changed.
fn damage(result: &LoadResult, udp: bool) -> Option<String> {
    let kinds = [
        (result.lost, "lost", udp),
        (result.duplicated, "duplicated", udp),
        (result.reordered, "reordered", udp),
        (result.corrupted, "corrupted", false),
    ];
    let found: Vec<String> = kinds
        .iter()
        .filter(|&&(count, _, allowed)| count > 0 && !allowed)
        .map(|(count, kind, _)| format!("{count} {} {kind}", if *count == 1 { "message" } else { "messages" }))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// A point about which nothing is known yet; it is invalid until it is judged.
fn blank(plan: &Plan, job: &Job) -> Point {
    Point {
        schema: SCHEMA,
        experiment: plan.experiment.clone(),
        model: job.model.clone(),
        mechanism: job.mechanism.clone(),
        connections: job.connections,
        connected: 0,
        round: job.round,
        order: job.order,
        payload_bytes: plan.payload_bytes,
        depth: plan.depth,
        status: Status::Invalid,
        reason: None,
        window_s: None,
        messages: None,
        messages_per_s: None,
        latency_ns: None,
        last_receiver_ns: None,
        connect_ns: None,
        upgrade_ns: None,
        lost: None,
        duplicated: None,
        reordered: None,
        corrupted: None,
        refused: BTreeMap::new(),
        errors: BTreeMap::new(),
        server_cpu_ns_per_message: None,
        server_cpu: None,
        client_cpu_ns_per_message: None,
        client_cpu: None,
        server_memory_bytes: None,
        server_memory_idle_bytes: None,
        server_memory_peak_bytes: None,
        memory_bytes_per_connection: None,
        server_context_switches_voluntary: None,
        server_context_switches_involuntary: None,
        server_threads: None,
        server_processes: None,
        started_at: crate::now(),
    }
}

fn fill(point: &mut Point, observed: &Observed) {
    let result = &observed.result;
    let window_ns = result.window_ns as f64;
    let per_message = |ns: Option<u64>| ns.filter(|_| result.messages > 0).map(|ns| ns as f64 / result.messages as f64);
    point.connected = result.connections_open;
    point.window_s = Some(window_ns / 1e9);
    point.messages = Some(result.messages);
    point.messages_per_s = Some(result.messages_per_s);
    point.latency_ns = result.latency_ns;
    point.last_receiver_ns = result.last_receiver_ns;
    point.connect_ns = result.connect_ns;
    point.upgrade_ns = result.upgrade_ns;
    point.lost = Some(result.lost);
    point.duplicated = Some(result.duplicated);
    point.reordered = Some(result.reordered);
    point.corrupted = Some(result.corrupted);
    point.refused = result.refused.clone();
    point.errors = result.errors.clone();
    point.server_cpu_ns_per_message = per_message(observed.server_cpu_ns);
    point.server_cpu = observed.server_cpu_ns.filter(|_| window_ns > 0.0).map(|ns| ns as f64 / window_ns);
    point.client_cpu_ns_per_message = per_message(result.client_cpu_ns);
    point.client_cpu = result.client_cpu;
    point.server_memory_idle_bytes = Some(observed.idle.memory_bytes);
    if let Some(loaded) = observed.loaded {
        let grown = loaded.memory_bytes as f64 - observed.idle.memory_bytes as f64;
        point.server_memory_bytes = Some(loaded.memory_bytes);
        point.server_memory_peak_bytes = Some(loaded.memory_peak_bytes);
        point.memory_bytes_per_connection = (point.connected > 0).then(|| grown / point.connected as f64);
        point.server_context_switches_voluntary = Some(loaded.switches_voluntary);
        point.server_context_switches_involuntary = Some(loaded.switches_involuntary);
        point.server_threads = Some(loaded.threads);
        point.server_processes = Some(loaded.processes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(mechanism: &str) -> Job {
        Job { order: 0, round: 0, model: "m".into(), mechanism: mechanism.into(), connections: 4, limit: None }
    }

    fn result(change: impl FnOnce(&mut LoadResult)) -> LoadResult {
        let line = r#"{"connections_open":4,"window_ns":1000,"messages":10,"messages_per_s":1.0,"lost":0,
            "duplicated":0,"reordered":0,"corrupted":0,"latency_ns":null,"last_receiver_ns":null,"connect_ns":null,
            "upgrade_ns":null,"client_cpu_ns":5,"client_cpu":0.5,"latency_histogram":null,"one_more":1}"#;
        let mut result = serde_json::from_str(line).unwrap();
        change(&mut result);
        result
    }

    fn verdict(mechanism: &str, change: impl FnOnce(&mut LoadResult)) -> (Status, Option<String>) {
        judge(&job(mechanism), &result(change))
    }

    #[test]
    fn a_point_counts_only_if_every_message_is_accounted_for() {
        assert_eq!(verdict("echo", |_| {}), (Status::Ok, None));
        let invalid = |reason: &str| (Status::Invalid, Some(reason.to_owned()));
        assert_eq!(verdict("echo", |r| r.lost = 3), invalid("3 messages lost"));
        assert_eq!(verdict("echo", |r| r.duplicated = 1), invalid("1 message duplicated"));
        assert_eq!(verdict("echo", |r| r.messages = 0), invalid("not one message came back in the window"));
        assert_eq!(verdict("echo", |r| r.errors = [("reset".into(), 2)].into()), invalid("2 × reset"));
    }

    #[test]
    fn loss_is_a_result_on_udp_and_corruption_is_not() {
        assert_eq!(verdict("udp-echo", |r| (r.lost, r.reordered, r.duplicated) = (3, 2, 1)), (Status::Ok, None));
        let corrupted = (Status::Invalid, Some("1 message corrupted".to_owned()));
        assert_eq!(verdict("udp-echo", |r| r.corrupted = 1), corrupted);
    }

    #[test]
    fn a_refusal_is_a_limit_with_the_name_that_the_server_gives_it() {
        let refuse = |r: &mut LoadResult| {
            r.connections_open = 1;
            r.refused = [("503 descriptors".into(), 1), ("503 FD_SETSIZE".into(), 2)].into();
        };
        assert_eq!(verdict("echo", refuse), (Status::Limit, Some("FD_SETSIZE".to_owned())));
        let reset = |r: &mut LoadResult| {
            r.connections_open = 3;
            r.errors = [("reset".into(), 1)].into();
        };
        assert_eq!(verdict("echo", reset), (Status::Invalid, Some("3 of 4 connected: reset".to_owned())));
        let both = |r: &mut LoadResult| {
            refuse(r);
            r.lost = 1;
        };
        assert_eq!(verdict("echo", both), (Status::Invalid, Some("1 message lost".to_owned())));
    }
}
