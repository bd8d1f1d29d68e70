//! The phases of a run: connect, warm up, measure, wait for the rest, judge.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::json;

use crate::again::Account;
use crate::plan::{LoadError, LoadPlan};
use crate::publish::Board;
use crate::recorder::Recorder;
use crate::report::LoadReport;
use crate::schedule::Arrivals;
use crate::target::Target;
use crate::trend::trend;
use crate::worker::{Shared, Window, Worker};

/// Published messages that may be under way in an open loop.
const OPEN_LOOP_IN_FLIGHT: usize = 1 << 16;

/// How often a wait is interrupted to see whether anybody is left, and to draw the progress bar.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);

/// From the decision to open the window until it opens: every worker looks up in this time.
const NOTICE: Duration = Duration::from_millis(8);

/// The same where the window opens at a time that was known before: also one who wakes late decides before it.
const RANDOM_NOTICE: Duration = Duration::from_millis(50);

/// The last slices of the warm-up, in which the rate must show no trend, and how long one is at the least.
const WARMUP_SLICES: usize = 12;
const SHORTEST_SLICE: Duration = Duration::from_millis(8);

/// Drives a server as planned.
///
/// A server that refuses, resets or stays silent is a result, not an error.
///
/// # Errors
/// The plan cannot be carried out, the host has no address, or the system refuses a thread or a poll.
pub fn run(plan: &LoadPlan) -> Result<LoadReport, LoadError> {
    let target = plan.target()?;
    check_cpus(plan)?;
    drive(plan, target)
}

fn drive(plan: &LoadPlan, target: Target) -> Result<LoadReport, LoadError> {
    let plan = LoadPlan { threads: plan.threads.min(plan.connections), ..plan.clone() };
    raise_descriptor_limit();
    let in_flight = if plan.rate_per_s.is_some() { OPEN_LOOP_IN_FLIGHT } else { plan.depth };
    let shared = Arc::new(Shared {
        plan,
        target,
        run: fastrand::u64(..),
        epoch: Instant::now(),
        connect_ns: OnceLock::new(),
        talkers: Mutex::default(),
        start_ns: OnceLock::new(),
        window: OnceLock::new(),
        ready: AtomicUsize::new(0),
        open: AtomicUsize::new(0),
        is_abandoned: AtomicBool::new(false),
        board: Board::new(in_flight),
        account: Account::default(),
        publisher: OnceLock::new(),
        progress: AtomicU64::new(0),
    });
    phase(&shared, &json!({"phase": "connecting"}));
    let workers = (0..shared.plan.threads)
        .map(|index| Worker::new(&shared, index))
        .collect::<Result<Vec<_>, _>>()
        .map_err(LoadError::system("make an event loop"))?;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, worker) in workers.into_iter().enumerate() {
            let cpus = shared.plan.cpus.as_deref();
            let cpu = cpus.and_then(|cpus| cpus.get(index % cpus.len().max(1)).copied());
            let thread = thread::Builder::new().name(format!("load-{index}"));
            let has_own_table = shared.plan.threads > 1;
            let shared = &shared;
            let spawned = thread.spawn_scoped(scope, move || {
                // If this worker fails, the others end too.
                let abandoning = Abandoning(shared);
                pin(cpu).map_err(LoadError::system("pin a thread to its CPU (--cpus)"))?;
                if has_own_table {
                    // A table of descriptors of its own (unshare(2)): `ulimit -n` is then what each thread may hold. Where that is not permitted,
                    // as in some containers, what is too much is counted when it is met.
                    let _ = unshare(CloneFlags::CLONE_FILES);
                }
                let recorder = worker.run().map_err(LoadError::system("wait for connections"))?;
                std::mem::forget(abandoning);
                Ok(recorder)
            });
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    drop(Abandoning(shared));
                    return Err(LoadError::system("start a thread: use fewer --threads")(error));
                }
            }
        }
        let course = conduct(&shared);
        let mut total = Recorder::new();
        for thread in threads {
            match thread.join() {
                Ok(recorder) => total.merge(recorder?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let unknown = shared.account.unknown().len() as u64;
        Ok(LoadReport::new(&shared.plan, shared.target.mechanism, total, course, unknown))
    })
}

/// Stops all workers when it is dropped, because one worker cannot do its part.
struct Abandoning<'a>(&'a Shared);

impl Drop for Abandoning<'_> {
    fn drop(&mut self) {
        self.0.is_abandoned.store(true, Ordering::SeqCst);
    }
}

/// How the phases went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Course {
    /// From the first connect(2) until all are open.
    pub(crate) opening: Duration,
    /// What this process allocated for the connections.
    pub(crate) memory_bytes: Option<u64>,
    /// This process's CPU time in the window.
    pub(crate) cpu_ns: u64,
    pub(crate) warmup: Duration,
    /// Whether the warm-up ended because the rate was steady, if it was looked at.
    pub(crate) is_steady: Option<bool>,
    pub(crate) window: Duration,
    /// Every connection was gone before the window had ended.
    pub(crate) ended_early: bool,
}

/// Announces the phases and measures this process's CPU time over the window.
fn conduct(shared: &Shared) -> Course {
    let plan = &shared.plan;
    let bar = progress_bar(plan);
    let (begun, memory_before) = (Instant::now(), allocated_bytes());
    while shared.ready.load(Ordering::SeqCst) < plan.threads {
        if shared.is_abandoned.load(Ordering::SeqCst) {
            return Course { opening: begun.elapsed(), ended_early: true, ..Course::default() };
        }
        thread::sleep(Duration::from_millis(1));
    }
    let opening = begun.elapsed();
    let memory_bytes = allocated_bytes().zip(memory_before).map(|(now, before)| now.saturating_sub(before));
    shared.talkers().sort_unstable();
    let open = shared.open.load(Ordering::SeqCst);
    shared.board.set_receivers(open as u32);
    phase(shared, &json!({"phase": "connected", "connections": open}));
    let start = shared.epoch.elapsed();
    let ns = |time: Duration| time.as_nanos() as u64;
    let _ = shared.start_ns.set(ns(start));
    let is_steady = warm_up(shared, start, &bar);

    let earliest = shared.epoch.elapsed() + NOTICE;
    let opens = match plan.arrivals {
        Arrivals::Even => earliest,
        // To the nanosecond, so that the same seed puts the same messages into the window; unless this thread was kept from running.
        Arrivals::Random { .. } => earliest.max(start + plan.warmup + RANDOM_NOTICE),
    };
    let closes = opens + plan.duration;
    let _ = shared.window.set(Window {
        open_ns: ns(opens),
        close_ns: ns(closes),
        end_ns: ns(closes + plan.hold),
    });
    sleep_until(shared, opens, &bar);
    let before = cpu_time();
    phase(shared, &json!({"phase": "measuring"}));
    sleep_until(shared, closes, &bar);
    let cpu_ns = ns(cpu_time().saturating_sub(before));
    let closed = shared.epoch.elapsed().min(closes);
    phase(shared, &json!({"phase": "measured"}));
    bar.finish_and_clear();
    // A server may also have taken its leave at the very end.
    let ended_early = shared.is_abandoned.load(Ordering::Relaxed) && closed < closes;
    Course {
        opening,
        memory_bytes,
        cpu_ns,
        warmup: opens - start,
        is_steady,
        window: closed.saturating_sub(opens),
        ended_early,
    }
}

/// What this process has allocated and touched: `RssAnon`, see proc_pid_status(5).
fn allocated_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Waits for as long as the plan says, and then for the rate to become steady. Whether it has, if that was wanted.
fn warm_up(shared: &Shared, start: Duration, bar: &ProgressBar) -> Option<bool> {
    let plan = &shared.plan;
    // Random arrivals are never steady from one slice to the next, and which of them are measured must not depend on what came back.
    let is_even = plan.arrivals == Arrivals::Even;
    let Some(limit) = plan.warmup_limit.filter(|_| is_even && !plan.warmup.is_zero()) else {
        sleep_until(shared, start + plan.warmup, bar);
        return None;
    };
    let slice = (plan.warmup / WARMUP_SLICES as u32).max(SHORTEST_SLICE);
    let mut slices = VecDeque::with_capacity(WARMUP_SLICES);
    let mut before = shared.progress.load(Ordering::Relaxed);
    loop {
        sleep_until(shared, shared.epoch.elapsed() + slice, bar);
        let now = shared.progress.load(Ordering::Relaxed);
        if slices.len() == WARMUP_SLICES {
            slices.pop_front();
        }
        slices.push_back(now - before);
        before = now;
        let elapsed = shared.epoch.elapsed() - start;
        let is_steady = slices.len() == WARMUP_SLICES
            && trend(slices.make_contiguous()).is_none_or(|trend| !trend.is_trend());
        if elapsed >= plan.warmup && is_steady {
            return Some(true);
        }
        if elapsed >= limit || shared.is_abandoned.load(Ordering::Relaxed) {
            return Some(false);
        }
    }
}

/// Waits, and looks up now and then: whether anybody is left to measure, and to draw the progress bar.
fn sleep_until(shared: &Shared, due: Duration, bar: &ProgressBar) {
    loop {
        let left = due.saturating_sub(shared.epoch.elapsed());
        if left.is_zero() || shared.is_abandoned.load(Ordering::Relaxed) {
            return;
        }
        if shared.open.load(Ordering::SeqCst) == 0 {
            shared.is_abandoned.store(true, Ordering::Relaxed);
            return;
        }
        thread::sleep(left.min(LOOK_UP_EVERY));
        if !bar.is_hidden() {
            bar.set_position(shared.progress.load(Ordering::Relaxed));
            bar.set_message(format!("{:.1} s left", left.as_secs_f64()));
        }
    }
}

fn progress_bar(plan: &LoadPlan) -> ProgressBar {
    if !plan.progress || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {human_pos} messages, {per_sec}, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

fn phase(shared: &Shared, line: &serde_json::Value) {
    if shared.plan.phases {
        let mut stdout = std::io::stdout().lock();
        // Whoever asked for phases may have gone; the load goes on.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

/// This process's CPU time, all threads together.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// Checks that this process may run on the CPUs of the plan.
fn check_cpus(plan: &LoadPlan) -> Result<(), LoadError> {
    let Some(cpus) = &plan.cpus else { return Ok(()) };
    let allowed = sched_getaffinity(Pid::from_raw(0));
    let allowed = allowed.map_err(|error| LoadError::system("read this process's CPUs")(error.into()))?;
    let is_allowed = |cpu: usize| allowed.is_set(cpu).unwrap_or(false);
    if cpus.is_empty() {
        return Err(LoadError::Usage("--cpus needs at least one CPU: --cpus 0".into()));
    }
    match cpus.iter().find(|cpu| !is_allowed(**cpu)) {
        None => Ok(()),
        Some(absent) => {
            let there: Vec<String> =
                (0..CpuSet::count()).filter(|cpu| is_allowed(*cpu)).map(|cpu| cpu.to_string()).collect();
            let there = there.join(",");
            Err(LoadError::Usage(format!("--cpus {absent}: this process may only run on {there}")))
        }
    }
}

fn pin(cpu: Option<usize>) -> std::io::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Connections are descriptors. What the hard limit does not allow is counted when it is met.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::connect::Route;

    /// An echo server for bytes, until the test ends.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        address
    }

    #[test]
    fn a_name_with_several_addresses_is_served_by_the_first_that_answers() {
        let closed = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for threads in [1, 2] {
            let plan = LoadPlan {
                url: "tcp://127.0.0.1:1".into(),
                connections: 20,
                threads,
                duration: Duration::from_millis(100),
                warmup: Duration::ZERO,
                ..LoadPlan::default()
            };
            let at = |addresses| {
                let target = Target { route: Route::new(addresses), ..plan.target().unwrap() };
                drive(&plan, target).unwrap()
            };
            let report = at(vec![closed(), closed(), echo(), closed()]);
            assert_eq!((report.connections_open, report.exit_status()), (20, 0), "{report}");
            assert!(report.errors.is_empty() && report.messages > 0, "{report}");
            let report = at(vec![closed(), closed()]);
            assert_eq!(report.errors.get("connecting: connection refused"), Some(&20), "{report}");
        }
    }
}
