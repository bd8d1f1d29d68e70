//! A fixed workload, run between points on the cores of server and load generator: when it takes longer, so does
//! everything else.
//!
//! It has the parts that a server's time is made of, computation and system calls on connections to the other core, and it
//! is the same each time, so that its time tells how fast the machine is at the moment. A virtual machine's speed
//! drifts by tens of per cent between minutes, and nothing inside tells why. What drifts most is the exchange between
//! cores: where the hypervisor places the two decides what a message from one to the other costs. A workload that stays on one core
//! does not notice that.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use nix::time::ClockId;

use crate::machine::{Cores, Pinned};
use crate::record::{Canary, Point, Quiet};

/// Passes of the computation over its words: about a millisecond on a machine of today.
const PASSES: usize = 160;
/// Words that the computation works on: 32 KiB, a first-level cache.
const WORDS: usize = 4096;
/// Connections between the two threads: enough that neither waits for the other after each message.
const CONNECTIONS: usize = 16;
/// Messages on each of them in one turn.
const MESSAGES: usize = 24;
/// As long as the messages of most experiments.
const MESSAGE_BYTES: usize = 64;
/// How often both parts are run in turn. A part that met an interruption is outvoted by the others.
const TURNS: usize = 3;

/// Two threads, on the cores of server and load generator, that run the workload when they are asked to.
#[derive(Debug)]
pub(crate) struct CanaryRunner {
    ask: [Sender<()>; 2],
    /// What the workload took on the server's core.
    answer: Receiver<Canary>,
}

impl CanaryRunner {
    /// Starts the threads, wherever the kernel likes if no cores are given.
    pub(crate) fn start(cores: Option<Cores>) -> io::Result<CanaryRunner> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            near.push(TcpStream::connect(listener.local_addr()?)?);
            far.push(listener.accept()?.0);
        }
        near.iter().chain(&far).try_for_each(|stream| stream.set_nodelay(true))?;
        let (tell, answer) = mpsc::channel();
        let server = Workload::new(far);
        let ask_server = spawn(cores.map(|cores| cores.server), server, move |workload| {
            tell.send(workload.run(Workload::echo)?).map_err(io::Error::other)
        })?;
        let client = Workload::new(near);
        let ask_client =
            spawn(cores.map(|cores| cores.load), client, |workload| workload.run(Workload::send).map(drop))?;
        Ok(CanaryRunner { ask: [ask_server, ask_client], answer })
    }

    /// Runs the workload once, in about ten milliseconds. `None` if the kernel refused it a system call.
    pub(crate) fn run(&self) -> Option<Canary> {
        for ask in &self.ask {
            ask.send(()).ok()?;
        }
        self.answer.recv().ok()
    }
}

/// Follows the machine's speed from point to point.
#[derive(Debug)]
pub(crate) struct Drift {
    runner: CanaryRunner,
    /// Everything that was seen in this run.
    seen: Vec<Canary>,
    last: Canary,
}

/// What is usual is the median of so many: a machine that changes its speed for good is at its usual speed again after half
/// of them, and a stall of one or two does not become usual.
const LATELY: usize = 9;

/// How often the workload is run at the start, to know what is usual.
const AT_START: usize = 5;

impl Drift {
    /// Starts on the given cores, with what the points of an interrupted run have seen.
    pub(crate) fn start(cores: Option<Cores>, points: &[Point]) -> io::Result<Drift> {
        let runner = CanaryRunner::start(cores)?;
        let mut seen: Vec<Canary> =
            points.iter().filter_map(|point| Some(point.quiet.as_ref()?.after)).collect();
        seen.extend((0..AT_START).filter_map(|_| runner.run()));
        let last = seen.last().copied().unwrap_or_default();
        Ok(Drift { runner, seen, last })
    }

    /// Runs the workload: what it took before the point that has just ended, after it, and usually.
    pub(crate) fn after_point(&mut self) -> Quiet {
        let before = self.last;
        self.last = self.runner.run().unwrap_or_default();
        let usual = usual(&self.seen[self.seen.len().saturating_sub(LATELY)..]);
        self.seen.push(self.last);
        Quiet { before, after: self.last, usual, ..Quiet::default() }
    }
}

/// The median of each part.
fn usual(seen: &[Canary]) -> Canary {
    let median = |part: fn(&Canary) -> u64| {
        let mut figures: Vec<u64> = seen.iter().map(part).filter(|&ns| ns > 0).collect();
        let middle = figures.len() / 2;
        if figures.is_empty() { 0 } else { *figures.select_nth_unstable(middle).1 }
    };
    Canary {
        wall_ns: median(|canary| canary.wall_ns),
        compute_ns: median(|canary| canary.compute_ns),
        calls_ns: median(|canary| canary.calls_ns),
    }
}

/// Starts a thread that does its part whenever it is asked to, until one of the two parts fails.
fn spawn(
    cpu: Option<usize>,
    mut workload: Workload,
    mut part: impl FnMut(&mut Workload) -> io::Result<()> + Send + 'static,
) -> io::Result<Sender<()>> {
    let (ask, asked) = mpsc::channel();
    thread::Builder::new().name("canary".into()).spawn(move || {
        let _pinned = cpu.map(Pinned::to);
        while asked.recv().is_ok() && part(&mut workload).is_ok() {}
    })?;
    Ok(ask)
}

/// One side's part.
struct Workload {
    words: Vec<u64>,
    streams: Vec<TcpStream>,
}

impl Workload {
    fn new(streams: Vec<TcpStream>) -> Workload {
        Workload { words: (0..WORDS as u64).collect(), streams }
    }

    /// Computes and exchanges messages with the other side in turn.
    fn run(&mut self, exchange: fn(&mut Workload) -> io::Result<()>) -> io::Result<Canary> {
        // The first turn brings both sides together and their caches up to date.
        exchange(self)?;
        let begun = Instant::now();
        let mut compute = [0; TURNS];
        let mut calls = [0; TURNS];
        for turn in 0..TURNS {
            let start = cpu_ns();
            self.compute();
            let middle = cpu_ns();
            exchange(self)?;
            compute[turn] = middle - start;
            calls[turn] = cpu_ns() - middle;
        }
        let wall_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(Canary { wall_ns, compute_ns: middle(compute), calls_ns: middle(calls) })
    }

    /// Four chains at once: a computation that waits for its own last step would not feel a neighbour on the same core.
    fn compute(&mut self) {
        let mut states = [1u64, 2, 3, 4];
        for _ in 0..PASSES {
            for words in self.words.chunks_exact_mut(4) {
                for (word, state) in words.iter_mut().zip(&mut states) {
                    *state = (*state ^ *word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
                    *word = word.wrapping_add(*state);
                }
            }
        }
        black_box(states);
    }

    /// The server's side: reads what has come on each connection in turn and returns it.
    fn echo(&mut self) -> io::Result<()> {
        let mut message = [0; MESSAGE_BYTES];
        for _ in 0..MESSAGES {
            for stream in &mut self.streams {
                stream.read_exact(&mut message)?;
                stream.write_all(&message)?;
            }
        }
        Ok(())
    }

    /// The client's side: one message under way on each connection.
    fn send(&mut self) -> io::Result<()> {
        let mut message = [7; MESSAGE_BYTES];
        for stream in &mut self.streams {
            stream.write_all(&message)?;
        }
        for left in (0..MESSAGES).rev() {
            for stream in &mut self.streams {
                stream.read_exact(&mut message)?;
                if left > 0 {
                    stream.write_all(&message)?;
                }
            }
        }
        Ok(())
    }
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("every Linux has this clock");
    time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs()
}

fn middle(mut figures: [u64; TURNS]) -> u64 {
    figures.sort_unstable();
    figures[TURNS / 2]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn canary(calls_ns: u64) -> Canary {
        Canary { wall_ns: 3 * calls_ns, compute_ns: calls_ns / 2, calls_ns }
    }

    #[test]
    fn what_is_usual_is_the_median_and_failures_do_not_count() {
        assert_eq!(usual(&[canary(9), canary(4), Canary::default(), canary(5)]), canary(5));
        assert_eq!(usual(&[]), Canary::default());
    }

    #[test]
    fn the_workload_takes_time_and_can_be_repeated() {
        let runner = CanaryRunner::start(None).unwrap();
        for _ in 0..3 {
            let canary = runner.run().unwrap();
            assert!(canary.compute_ns > 0 && canary.calls_ns > 0, "{canary:?}");
        }
    }

    #[test]
    fn one_interrupted_turn_is_outvoted() {
        assert_eq!(middle([5, 900, 4]), 5);
    }
}
