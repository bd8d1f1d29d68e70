//! The phases of a run: connect, warm up, measure, wait for the rest, judge.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::json;

use crate::plan::{LoadError, LoadPlan};
use crate::publish::Board;
use crate::recorder::Recorder;
use crate::report::LoadReport;
use crate::worker::{Shared, Times, Worker};

/// Published messages that may be under way in an open loop.
const OPEN_LOOP_IN_FLIGHT: usize = 1 << 16;

/// How often the progress bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Drives a server as planned.
///
/// A server that refuses, resets or stays silent is a result, not an error.
///
/// # Errors
/// The plan cannot be carried out, the host has no address, or the system refuses a thread or a poll.
pub fn run(plan: &LoadPlan) -> Result<LoadReport, LoadError> {
    let target = plan.target()?;
    let plan = LoadPlan { threads: plan.threads.min(plan.connections), ..plan.clone() };
    raise_descriptor_limit();
    let in_flight = if plan.rate_per_s.is_some() { OPEN_LOOP_IN_FLIGHT } else { plan.depth };
    let shared = Arc::new(Shared {
        plan,
        target,
        epoch: Instant::now(),
        times: OnceLock::new(),
        ready: AtomicUsize::new(0),
        open: AtomicUsize::new(0),
        board: Board::new(in_flight),
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
            let spawned = thread.spawn_scoped(scope, move || {
                pin(cpu)?;
                worker.run()
            });
            threads.push(spawned.map_err(LoadError::system("start a thread"))?);
        }
        let cpu_ns = conduct(&shared, || threads.iter().any(|thread| thread.is_finished()));
        let mut total = Recorder::new();
        for thread in threads {
            let recorder = thread.join().expect("a worker does not panic");
            total.merge(recorder.map_err(LoadError::system("wait for connections"))?);
        }
        Ok(LoadReport::new(&shared.plan, shared.target.mechanism, total, cpu_ns))
    })
}

/// Announces the phases and measures this process's CPU time over the window. `has_failed`: a worker is gone
/// before the phases are known.
fn conduct(shared: &Shared, has_failed: impl Fn() -> bool) -> u64 {
    let plan = &shared.plan;
    let bar = progress_bar(plan);
    while shared.ready.load(Ordering::SeqCst) < plan.threads {
        if has_failed() {
            return 0;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let open = shared.open.load(Ordering::SeqCst);
    shared.board.set_receivers(open as u32);
    phase(shared, &json!({"phase": "connected", "connections": open}));
    // Nobody to measure: the window would be empty.
    let (warmup, duration) = if open == 0 { Default::default() } else { (plan.warmup, plan.duration) };
    let start = shared.epoch.elapsed();
    let ns = |time: Duration| time.as_nanos() as u64;
    let (window_opens, window_closes) = (start + warmup, start + warmup + duration);
    let end = if open == 0 { window_closes } else { window_closes + plan.hold };
    let _ = shared.times.set(Times {
        start_ns: ns(start),
        open_ns: ns(window_opens),
        close_ns: ns(window_closes),
        end_ns: ns(end),
    });
    sleep_until(shared, window_opens, &bar);
    let before = cpu_time();
    phase(shared, &json!({"phase": "measuring"}));
    sleep_until(shared, window_closes, &bar);
    let cpu_ns = ns(cpu_time().saturating_sub(before));
    phase(shared, &json!({"phase": "measured"}));
    bar.finish_and_clear();
    cpu_ns
}

fn sleep_until(shared: &Shared, due: Duration, bar: &ProgressBar) {
    loop {
        let now = shared.epoch.elapsed();
        let left = due.saturating_sub(now);
        if left.is_zero() {
            return;
        }
        if bar.is_hidden() {
            thread::sleep(left);
        } else {
            thread::sleep(left.min(DRAW_EVERY));
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
