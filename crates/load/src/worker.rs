//! One loop over many connections, on a thread of its own.

mod again;
mod open;
mod patience;
mod receipt;
mod receive;
mod send;
mod stream;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use crate::again::Account;
use crate::line::{Line, Stage};
use crate::plan::LoadPlan;
use crate::publish::Board;
use crate::recorder::{Recorder, SLICES};
use crate::schedule::Schedule;
use crate::target::Target;
use crate::text;

/// The loop's one read buffer.
const SCRATCH_BYTES: usize = 256 << 10;

/// How long a wait lasts at the most: the phases begin by the clock, not by an event.
const LOOK_UP: Duration = Duration::from_millis(5);

/// How often timeouts are looked for.
const TIMEOUTS_EVERY_NS: u64 = 20_000_000;

/// How long those that did not read are watched at the end for being closed.
const DRAIN: Duration = Duration::from_millis(300);

const WAKER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);

/// The measured part of a run, in ns since the load began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Measuring begins.
    pub(crate) open_ns: u64,
    /// Measuring ends; no more messages are sent.
    pub(crate) close_ns: u64,
    /// Connections may be closed.
    pub(crate) end_ns: u64,
}

impl Window {
    fn contains(&self, ns: u64) -> bool {
        (self.open_ns..self.close_ns).contains(&ns)
    }

    /// How much of the time between two moments lies in the window.
    fn overlap(&self, from_ns: u64, to_ns: u64) -> u64 {
        to_ns.min(self.close_ns).saturating_sub(from_ns.max(self.open_ns))
    }

    /// The slice that a time within the window falls into.
    fn slice(&self, ns: u64) -> usize {
        let length = (self.close_ns - self.open_ns).max(1);
        ((ns - self.open_ns) as u128 * SLICES as u128 / u128::from(length)) as usize
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) plan: LoadPlan,
    pub(crate) target: Target,
    /// The run's mark in every message.
    pub(crate) run: u64,
    /// When the load began: all times in ns count from here.
    pub(crate) epoch: Instant,
    /// When the first connection was due, where they are opened at a rate.
    pub(crate) connect_ns: OnceLock<u64>,
    /// The connections of all workers that send, or ask by the clock, in order: each has its turn. Complete when messages begin to flow.
    pub(crate) talkers: Mutex<Vec<u32>>,
    /// When messages begin to flow. Set when every worker is ready.
    pub(crate) start_ns: OnceLock<u64>,
    /// Set when the warm-up has done its work, shortly before the window opens.
    pub(crate) window: OnceLock<Window>,
    /// Workers whose connections are all open or gone.
    pub(crate) ready: AtomicUsize,
    /// Connections that are open.
    pub(crate) open: AtomicUsize,
    /// Set when nobody is left to measure.
    pub(crate) is_abandoned: AtomicBool,
    pub(crate) board: Board,
    /// Which messages the server has taken, where it may go away.
    pub(crate) account: Account,
    /// Wakes the worker that publishes.
    pub(crate) publisher: OnceLock<Waker>,
    /// Messages that came back so far, for the progress bar.
    pub(crate) progress: AtomicU64,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    pub(crate) fn talkers(&self) -> MutexGuard<'_, Vec<u32>> {
        self.talkers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One loop over every `threads`-th connection.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    poll: Poll,
    lines: Vec<Line>,
    scratch: Vec<u8>,
    /// Where a datagram is put together, or a text taken apart.
    workspace: Vec<u8>,
    recorder: Recorder,
    schedule: Option<Schedule>,
    /// When the next of those is due who ask by the clock what is new.
    polls: Option<Schedule>,
    /// They, and whose turn it is.
    pollers: Vec<usize>,
    poll_turn: usize,
    /// Rings when the next message of an open loop, or the next poll, is due: epoll alone counts in milliseconds.
    alarm: TimerFd,
    /// The open connections are in `shared.open`.
    is_counted_open: bool,
    /// Messages flow.
    has_begun: bool,
    window: Option<Window>,
    /// Connections that are not open yet.
    opening: usize,
    /// Tokens of connections with input that an edge-triggered wait will not report again.
    unread: Vec<usize>,
    /// The connections that talk.
    talkers: Vec<usize>,
    /// Whose turn it is of them in an open loop.
    turn: usize,
    /// Connections whose place is free for the next one.
    vacant: VecDeque<usize>,
    /// When the next connection may be opened, where there is a rate for that.
    pace: Option<Schedule>,
    /// How many messages had been sent when: what has not come for too long since is given up.
    marks: patience::Marks,
    /// Connections opened so far.
    attempts: u32,
    next_timeouts_ns: u64,
    next_announce_ns: u64,
    /// The time at which bytes were read last: what is sent in their place is sent then.
    now: u64,
    /// When each published message was sent, in a ring as long as the board's.
    published_at: Vec<u64>,
    /// The oldest published message that may be incomplete.
    oldest: u64,
    /// What is lost has been counted: what comes now comes too late.
    is_judged: bool,
    /// Messages that the progress bar knows of.
    shown: u64,
    /// Those who come again when they have lost the server, if anybody does.
    again: Option<Box<again::Again>>,
}

impl Worker {
    pub(crate) fn new(shared: &Arc<Shared>, index: usize) -> io::Result<Worker> {
        let poll = Poll::new()?;
        if index == 0 {
            let waker = Waker::new(poll.registry(), WAKER)?;
            let _ = shared.publisher.set(waker);
        }
        let payload_bytes = shared.plan.payload_bytes;
        let alarm =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let alarm_fd = alarm.as_fd().as_raw_fd();
        // Edge-triggered: it need not be read to ring again.
        poll.registry().register(&mut SourceFd(&alarm_fd), ALARM, Interest::READABLE)?;
        Ok(Worker {
            shared: shared.clone(),
            index,
            poll,
            lines: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            workspace: match shared.target.mechanism {
                mechanism if mechanism.is_datagram() => vec![0; payload_bytes],
                _ if shared.target.is_text() => text::workspace(payload_bytes),
                _ => Vec::new(),
            },
            recorder: Recorder::new(),
            schedule: None,
            polls: None,
            pollers: Vec::new(),
            poll_turn: 0,
            alarm,
            is_counted_open: false,
            has_begun: false,
            window: None,
            opening: 0,
            unread: Vec::new(),
            talkers: Vec::new(),
            turn: 0,
            vacant: VecDeque::new(),
            pace: None,
            marks: patience::Marks::default(),
            attempts: 0,
            next_timeouts_ns: 0,
            next_announce_ns: 0,
            now: 0,
            published_at: vec![0; shared.board.slots()],
            oldest: 0,
            is_judged: false,
            shown: 0,
            again: again::Again::of(shared),
        })
    }

    /// Opens the connections, sends and verifies until the window is over, and says what came of it.
    pub(crate) fn run(mut self) -> io::Result<Recorder> {
        let mut events = Events::with_capacity(1024);
        self.connect(&mut events)?;
        let is_open = |line: &&Line| line.stage == Stage::Open && !line.is_publisher;
        let open = self.lines.iter().filter(is_open).count();
        let slow = self.lines.iter().filter(is_open).filter(|line| self.shared.plan.is_slow(line.id)).count();
        self.recorder.connected = open as u64;
        let plan = &self.shared.plan;
        let is_talker = |(_, line): &(usize, &Line)| line.stage == Stage::Open && plan.is_active(line.id);
        self.talkers = self.lines.iter().enumerate().filter(is_talker).map(|(index, _)| index).collect();
        // Of connections that come and go none is open yet, and all places count.
        let counted = if plan.churn { self.lines.len() } else { open - slow };
        self.shared.open.fetch_add(counted, Ordering::SeqCst);
        let takes_turns = |line: &&Line| {
            line.stage == Stage::Open && !line.is_publisher && (plan.every.is_some() || plan.is_active(line.id))
        };
        self.shared.talkers().extend(self.lines.iter().filter(takes_turns).map(|line| line.id));
        self.is_counted_open = true;
        self.shared.ready.fetch_add(1, Ordering::SeqCst);
        let start_ns = loop {
            if let Some(start_ns) = self.shared.start_ns.get() {
                break *start_ns;
            }
            // Another worker cannot begin.
            if self.is_abandoned() {
                return Ok(self.recorder);
            }
            self.turn(&mut events, LOOK_UP)?;
        };
        self.begin(start_ns);
        while self.window.is_none_or(|window| self.shared.now_ns() < window.close_ns) && !self.is_abandoned()
        {
            let wait = self.send_due();
            self.turn(&mut events, wait)?;
        }
        if self.shared.plan.churn {
            let has_worked = |line: &&Line| line.answered > 0;
            self.recorder.connected = self.lines.iter().filter(has_worked).count() as u64;
        }
        let Some(window) = self.window else { return Ok(self.recorder) };
        let patience_ns = window.close_ns + self.shared.plan.patience().as_nanos() as u64;
        while self.is_waiting() && self.shared.now_ns() < patience_ns {
            let wait = self.ask_due();
            self.turn(&mut events, wait)?;
        }
        self.judge(window);
        self.drain_slow();
        // What the kernel has kept for them comes before the news that they were closed.
        let drained_ns = self.shared.now_ns() + DRAIN.as_nanos() as u64;
        while self.has_slow() && self.shared.now_ns() < drained_ns {
            self.turn(&mut events, LOOK_UP)?;
        }
        while self.shared.now_ns() < window.end_ns && !self.is_abandoned() {
            self.turn(&mut events, LOOK_UP)?;
        }
        self.say_goodbye();
        Ok(self.recorder)
    }

    /// Nobody can publish, or nobody is left.
    fn abandon(&self) {
        self.shared.is_abandoned.store(true, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.shared.is_abandoned.load(Ordering::Relaxed)
    }

    /// Waits for at most `wait` and handles what is ready.
    fn turn(&mut self, events: &mut Events, wait: Duration) -> io::Result<()> {
        if self.window.is_none() {
            self.window = self.shared.window.get().copied();
        }
        let wait = if self.unread.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for token in std::mem::take(&mut self.unread) {
            let (index, side) = open::side_of(token);
            // Whatever there was to be told of it has been told.
            self.read(index, side, true);
        }
        for event in events.iter() {
            match event.token() {
                ALARM => {}
                WAKER => {
                    self.now = self.shared.now_ns();
                    self.publish_more();
                }
                Token(token) => self.ready(token, event),
            }
        }
        let now = self.shared.now_ns();
        if now >= self.next_timeouts_ns {
            self.next_timeouts_ns = now + TIMEOUTS_EVERY_NS;
            self.time_out(now);
        }
        self.come_again(now);
        self.now = now;
        self.fill_vacant();
        self.shared.progress.fetch_add(self.recorder.seen - self.shown, Ordering::Relaxed);
        self.shown = self.recorder.seen;
        Ok(())
    }
}
