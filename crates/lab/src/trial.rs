//! One point: a server and a load generator, started, watched and stopped, and a verdict on what they did.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use switchboard_models::Workers;

use crate::error::LabError;
use crate::external::{self, ExternalServer};
use crate::machine::Cores;
use crate::mechanism::{self, server_of};
use crate::observe::{CONNECTING, HOLDING, Observed, Watch};
use crate::plan::{Job, Plan, hold, open_and_close, warmup, warmup_limit};
use crate::process::{GLANCE, Line, Next, Process};
use crate::record::{Histograms, Point, Status};
use crate::restart::Restart;
use crate::setting::Setting;
use crate::verdict::{LoadResult, blank, fill};

/// Options of every Switchboard server that is measured: its heartbeat pings would come between the measured messages.
pub(crate) const SERVED_WITH: [&str; 2] = ["--heartbeat", "off"];

/// What every point of a run has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// The program that is both server and load generator.
    pub(crate) program: &'a Path,
    pub(crate) plan: &'a Plan,
    pub(crate) cores: Option<Cores>,
    /// All cores, for servers that may use them.
    pub(crate) all_cpus: &'a [usize],
    /// How long a process may say nothing beyond the time that it was given for its work.
    pub(crate) patience: Duration,
    /// Set when the user wants no more.
    pub(crate) stop: &'a AtomicBool,
}

/// A point and the histograms that belong to it.
pub(crate) type Measured = (Point, Histograms);

/// Somebody who is told what happens in a point.
pub(crate) trait Spectator {
    /// The server listens; nobody has connected to it.
    fn server_started(&mut self, server: Pid);
    /// Both have ended in order.
    fn ended(&mut self, load: &LoadResult);
}

struct Nobody;

impl Spectator for Nobody {
    fn server_started(&mut self, _: Pid) {}
    fn ended(&mut self, _: &LoadResult) {}
}

/// Why there is no result.
pub(crate) enum Failure {
    /// One of the processes broke; the point is invalid for this reason.
    Broken(String),
    /// The user wants no more; there is no point.
    Stopped,
    /// A process cannot be started at all; there is no sense in going on.
    Fatal(LabError),
}

impl Trial<'_> {
    /// Whether the user wants no more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Runs one point; `None` if the user stopped it. A point that breaks is a result too. A limit that is
    /// known in advance, or from the same point in an earlier round, is recorded without another try.
    pub(crate) fn run(&self, job: &Job, earlier: Option<&Point>) -> Result<Option<Measured>, LabError> {
        let mut point = blank(self.plan, job);
        let met = earlier.and_then(|point| point.reason.as_ref());
        if let Some(limit) = job.limit.as_ref().or(met) {
            point.status = Status::Limit;
            point.reason = Some(limit.clone());
            point.connected = earlier.map_or(0, |point| point.connected);
            return Ok(Some((point, Histograms::default())));
        }
        self.watched(point, job, &mut Nobody, &[])
    }

    /// Runs one point before a spectator, with `prefix` before the server's command; whatever limit may be known.
    pub(crate) fn run_before(
        &self,
        job: &Job,
        spectator: &mut dyn Spectator,
        prefix: &[String],
    ) -> Result<Option<Measured>, LabError> {
        self.watched(blank(self.plan, job), job, spectator, prefix)
    }

    fn watched(
        &self,
        mut point: Point,
        job: &Job,
        spectator: &mut dyn Spectator,
        prefix: &[String],
    ) -> Result<Option<Measured>, LabError> {
        match self.observe(job, spectator, prefix) {
            Ok((observed, away)) => {
                fill(&mut point, &observed);
                if let Some(reconnect) = &mut point.reconnect {
                    reconnect.away_s = away.map(|away| away.as_secs_f64());
                }
                let LoadResult { latency_histogram, uncorrected_histogram, .. } = observed.result;
                Ok(Some((
                    point,
                    Histograms { latency: latency_histogram, uncorrected: uncorrected_histogram },
                )))
            }
            Err(Failure::Broken(reason)) => {
                point.reason = Some(reason);
                Ok(Some((point, Histograms::default())))
            }
            Err(Failure::Stopped) => Ok(None),
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    fn observe(
        &self,
        job: &Job,
        spectator: &mut dyn Spectator,
        prefix: &[String],
    ) -> Result<(Observed, Option<Duration>), Failure> {
        let port = (job.setting.restart_ms > 0).then(external::lasting_port).transpose().map_err(no_port)?;
        let (mut server, address) = self.start_server(job, prefix, port)?;
        spectator.server_started(server.pid());
        let window = Duration::from_millis(self.plan.window_ms);
        let core = self.cores.filter(|_| !job.setting.all_cores).map(|cores| cores.server);
        let seed = self.plan.seed ^ job.order as u64;
        let mut watch = Watch::start(server.pid(), core, address, window, seed);

        let mut load =
            self.start(&mut self.load_command(job, address), self.cores.map(|cores| cores.load).as_slice())?;
        let (mut pause, mut restart, mut away) = (None, None::<Restart>, None);
        let result = loop {
            let (doing, at) = (watch.doing, restart.map(|restart| restart.at));
            let patience = self.patience_for(job, doing);
            let Some(line) = self.next_line(&mut load, &mut server, doing, patience, at)? else {
                if let Some(restart) = restart.take() {
                    away = Some(self.restart(restart, job, prefix, &mut server, address, &mut watch)?);
                }
                continue;
            };
            match Said::parse(&line.text) {
                Ok(Said::Phase(phase)) => {
                    if phase == "measuring" {
                        pause = self.pause(job, server.pid());
                        restart = Restart::of(&job.setting, window, line.at);
                    }
                    watch.enter(&phase, load.pid(), line.at, hold(job));
                }
                Ok(Said::Result(result)) => break *result,
                Err(reason) => return Err(broken("load generator", &reason)),
            }
        };
        drop(pause);
        self.stop_load(&mut load, &result)?;
        let clean = result.errors.is_empty() && result.connections_open == job.setting.connections;
        if !clean {
            // The load generator may see the server's death before the kernel has it ready to be reaped.
            server.wait_until(Instant::now() + Duration::from_millis(100));
        }
        if let Some(status) = server.exited() {
            return Err(died("server", &mut server, status));
        }
        match server.terminate(self.patience + open_and_close(job)) {
            Some(status) if self.is_fine_at_the_end(job, prefix, status) => {}
            Some(status) => return Err(died("server, told to stop,", &mut server, status)),
            None => return Err(broken("server", "did not stop on SIGTERM and was killed")),
        }
        spectator.ended(&result);
        Ok((watch.observed(result), away))
    }

    /// Whether a server that was told to stop has ended as it should.
    pub(crate) fn is_fine_at_the_end(&self, job: &Job, prefix: &[String], status: ExitStatus) -> bool {
        // What stands before the server passes the signal on and ends by it, and others than ours need not catch it.
        let may_end_by_it = !prefix.is_empty() || self.plan.external(&job.model).is_some();
        status.success() || may_end_by_it && is_by_sigterm(status)
    }

    /// Stops the server for a while in the middle of the window, if the point is about that.
    fn pause(&self, job: &Job, server: Pid) -> Option<Pause> {
        let length = Duration::from_millis(job.setting.pause_ms);
        let window = Duration::from_millis(self.plan.window_ms);
        (!length.is_zero()).then(|| Pause::begin(server, window.saturating_sub(length) / 2, length))
    }

    /// Starts the server, on a port that is free unless it is told which.
    pub(crate) fn start_server(
        &self,
        job: &Job,
        prefix: &[String],
        port: Option<u16>,
    ) -> Result<(Process, SocketAddr), Failure> {
        match self.plan.external(&job.model) {
            Some(external) => self.start_external(job, &external.server, prefix, port),
            None => self.start_model(job, prefix, port.unwrap_or(0)),
        }
    }

    /// Starts a server that does not say where it listens: it is told, and asked until it answers.
    fn start_external(
        &self,
        job: &Job,
        server: &ExternalServer,
        prefix: &[String],
        port: Option<u16>,
    ) -> Result<(Process, SocketAddr), Failure> {
        let port = port.map_or_else(external::free_port, Ok).map_err(no_port)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut process = self.start_on_cores(job, &mut server.command(port, prefix))?;
        let deadline = Instant::now() + self.patience;
        while TcpStream::connect(address).is_err() {
            if self.is_stopped() {
                return Err(Failure::Stopped);
            }
            if let Some(status) = process.wait_until(Instant::now() + GLANCE) {
                return Err(died("server", &mut process, status));
            }
            if Instant::now() >= deadline {
                return Err(broken("server", &format!("did not listen on port {port} in time")));
            }
        }
        Ok((process, address))
    }

    fn start_on_cores(&self, job: &Job, command: &mut Command) -> Result<Process, Failure> {
        match self.cores {
            Some(_) if job.setting.all_cores => self.start(command, self.all_cpus),
            cores => self.start(command, cores.map(|cores| cores.server).as_slice()),
        }
    }

    fn start_model(&self, job: &Job, prefix: &[String], port: u16) -> Result<(Process, SocketAddr), Failure> {
        let mut command = match prefix {
            [] => Command::new(self.program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(self.program);
                command
            }
        };
        command.args(["serve", server_of(&job.model), "--listen", &format!("127.0.0.1:{port}")]);
        command.args(SERVED_WITH);
        if matches!(job.mechanism.as_str(), "udp-broadcast" | "tcp-broadcast") {
            command.args(["--app", "broadcast"]);
        }
        if job.setting.work_us > 0.0 {
            command.args(["--work-us", &job.setting.work_us.to_string()]);
        }
        let model = switchboard_models::find(server_of(&job.model));
        if let Some(workers) = job.setting.workers
            && model.is_some_and(|model| model.workers == Workers::OnePerCore)
        {
            command.args(["--workers", &workers.to_string()]);
        }
        if job.setting.busy_poll_us > 0.0 && model.is_some_and(|model| model.busy_polls) {
            command.args(["--busy-poll", &job.setting.busy_poll_us.to_string()]);
        }
        let mut server = self.start_on_cores(job, &mut command)?;
        let deadline = Instant::now() + self.patience;
        loop {
            if self.is_stopped() {
                return Err(Failure::Stopped);
            }
            match server.next_line() {
                Next::Line(line) => {
                    let address = line.text.strip_prefix("listening on ").and_then(|rest| rest.parse().ok());
                    let address = address.ok_or_else(|| {
                        broken("server", &format!("said `{}`, not where it listens", line.text))
                    })?;
                    return Ok((server, address));
                }
                Next::Nothing if Instant::now() < deadline => {}
                Next::Nothing => return Err(broken("server", &self.silent("starting", &server))),
                Next::End => return Err(self.ended("server", &mut server)),
            }
        }
    }

    fn load_command(&self, job: &Job, address: SocketAddr) -> Command {
        let url = match self.plan.external(&job.model) {
            Some(external) => external.server.url(&job.mechanism, address),
            None => mechanism::url(&job.mechanism, None, address),
        };
        let ms = |milliseconds: u128| format!("{milliseconds}ms");
        let mut command = Command::new(self.program);
        command.args(["load", &url, "--json", "--phases"]);
        let Setting {
            connections,
            payload_bytes,
            depth,
            rate_per_s,
            slow,
            churn,
            restart_ms,
            load_threads,
            ..
        } = job.setting;
        command.args(["--connections", &connections.to_string()]);
        command.args(["--duration", &ms(self.plan.window_ms.into())]);
        command.args(["--warmup", &ms(warmup(self.plan, job).as_millis())]);
        command.args(["--warmup-limit", &ms(warmup_limit(self.plan, job).as_millis())]);
        command.args(["--hold", &ms(hold(job).as_millis())]);
        command.args(["--payload", &payload_bytes.to_string()]);
        if job.setting.talking() < connections && !mechanism::is_broadcast(&job.mechanism) {
            command.args(["--active", &job.setting.talking().to_string()]);
        }
        if load_threads > 1 {
            command.args(["--threads", &load_threads.to_string()]);
        }
        if restart_ms > 0 {
            command.arg("--reconnect");
        }
        if slow > 0 {
            command.args(["--slow", &slow.to_string()]);
        }
        if let Some(every) = mechanism::every(&job.mechanism) {
            command.args(["--every", &ms(every.as_millis())]);
        }
        if let Some(seed) = job.setting.arrivals_seed {
            let seed = seed.wrapping_add(job.round.into());
            command.args(["--arrivals", "random", "--seed", &seed.to_string()]);
        }
        match rate_per_s {
            _ if churn => command.arg("--churn"),
            Some(rate) => command.args(["--rate", &rate.to_string()]),
            None => command.args(["--depth", &depth.to_string()]),
        };
        command
    }

    fn start(&self, command: &mut Command, cpus: &[usize]) -> Result<Process, Failure> {
        Process::start(command, cpus).map_err(|source| {
            let program = command.get_program();
            if program == self.program {
                return Failure::Fatal(LabError::Start { program: program.into(), source });
            }
            broken("server", &format!("cannot be started: {}: {source}", program.display()))
        })
    }

    /// The load generator's next line, unless somebody dies, gives up or falls silent first. `None`: it is `until` and nothing was said.
    fn next_line(
        &self,
        load: &mut Process,
        server: &mut Process,
        doing: &str,
        patience: Duration,
        until: Option<Instant>,
    ) -> Result<Option<Line>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
            if self.is_stopped() {
                return Err(Failure::Stopped);
            }
            match load.next_line() {
                Next::Line(line) => return Ok(Some(line)),
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
            // What a slower machine than the one that the estimate is from may need.
            CONNECTING => open_and_close(job) * 5,
            HOLDING => hold(job),
            _ => warmup_limit(self.plan, job) + Duration::from_millis(self.plan.window_ms),
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

/// Ended by SIGTERM, or as a shell or runtime reports that (128 + 15).
fn is_by_sigterm(status: ExitStatus) -> bool {
    let number = Signal::SIGTERM as i32;
    status.signal() == Some(number) || status.code() == Some(128 + number)
}

/// A server that is stopped for a while. It goes on when this is dropped, at the latest.
struct Pause {
    cancel: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pause {
    fn begin(server: Pid, after: Duration, length: Duration) -> Pause {
        let (cancel, cancelled) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // Either fails only where the server is gone, which is noticed elsewhere.
            if cancelled.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                let _ = killpg(server, Signal::SIGSTOP);
                let _ = cancelled.recv_timeout(length);
                let _ = killpg(server, Signal::SIGCONT);
            }
        });
        Pause { cancel: Some(cancel), thread: Some(thread) }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.cancel.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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

fn no_port(source: std::io::Error) -> Failure {
    Failure::Fatal(LabError::System { what: "find a free port", source })
}

pub(crate) fn broken(who: &str, what: &str) -> Failure {
    Failure::Broken(format!("{who} {what}"))
}

pub(crate) fn died(who: &str, process: &mut Process, status: ExitStatus) -> Failure {
    Failure::Broken(format!("{who} ended with {}", process.obituary(status)))
}
