//! What the lab sees of a server while the load generator loads it, and what of it goes into the point.
//!
//! Nothing is read within the window. Its two edges are short: clocks, the counters of a few processes, two
//! small files for the whole machine. What takes longer, looking for the processes and reading their memory,
//! is done before and behind them. How many processes are read at the edges depends on the length of the
//! window, so that with any number of processes the lab takes less than a hundredth of a core; what it took
//! is recorded with the point.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::activity::{self, Sample};
use crate::counters::{KernelMemory, Processors, loopback_bytes, socket_buffers_bytes};
use crate::quota::{Quotas, Throttled};
use crate::record::{Costs, Memory, Network, Point};
use crate::tree::{Clock, CpuTimes, Processes, Tree, nanoseconds};
use crate::usage::Usage;
use crate::verdict::LoadResult;

/// Part of the window after which its first edge has to be read. What the server does before that is not in
/// its figures, while its messages are: figures that are further off are no figures. Where the lab shares a
/// busy core it may take that long.
const LATE: f64 = 0.02;
/// Parts of the window's time that reading at its edges may take of one core, and what reading one thing at
/// both of them takes where thousands of processes share the caches: the exact clock of a process, ...
const EXACT: (f64, Duration) = (0.005, Duration::from_nanos(2_000));
/// ... its two clocks for user and system time, ...
const TICKS: (f64, Duration) = (0.001, Duration::from_nanos(4_000));
/// ... and the two files of a process or the one of a thread.
const FILES: (f64, Duration) = (0.001, Duration::from_nanos(40_000));
/// More of those would not make the figures any better.
const MOST_FILES: usize = 64;

/// The load generator opens its connections.
pub(crate) const CONNECTING: &str = "connecting";
/// The window is over, and the connections are still open.
pub(crate) const HOLDING: &str = "holding its connections";

/// What the lab saw of the server, and the load generator reported.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) idle: Usage,
    pub(crate) loaded: Option<Usage>,
    /// CPU time of the whole tree in the window; `None` too if it was read too late.
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) result: LoadResult,
    /// Without the bytes that the load generator counted.
    costs: Option<Costs>,
    quiet: Option<(f64, f64)>,
    throttled: Option<Throttled>,
    memory: Option<Memory>,
    network: Option<Network>,
}

/// Follows the load generator's phases and reads the server's state at the right moments.
#[derive(Debug)]
pub(crate) struct Watch {
    /// What the load generator does now.
    pub(crate) doing: &'static str,
    server: Pid,
    /// The one that the server has to itself, if nobody disturbs it.
    core: Option<usize>,
    over_loopback: bool,
    /// As long as planned.
    duration: Duration,
    random: Rng,
    idle: Usage,
    before: Kernel,
    slab_connected: Option<u64>,
    watched: Option<Watched>,
    opened: Option<Edge>,
    /// The first edge was read when a good part of the window was over.
    is_late: bool,
    window: Option<Window>,
    loaded: Option<Usage>,
    memory: Option<Memory>,
    network: Option<Network>,
    /// In the window, of servers that were stopped on purpose and have a successor: until they were told to stop.
    stopped_ns: Option<u64>,
    /// What a container's quota has done until the window opened, and in the window.
    quotas: Quotas,
    throttled_before: Option<Throttled>,
    throttled: Option<Throttled>,
}

/// What the kernel had counted before the load generator started.
#[derive(Debug)]
struct Kernel {
    memory: Option<KernelMemory>,
    socket_buffers_bytes: Option<u64>,
    network: Option<Network>,
}

/// Whom the lab looks at when the window opens and when it closes.
#[derive(Debug)]
struct Watched {
    who: Who,
    /// The server, or as much of it as there is time to read the clocks of.
    clocks: Tree,
    sample: Sample,
    core: Option<usize>,
}

#[derive(Debug)]
struct Who {
    server: Tree,
    /// The load generator, and the kernel's threads for softirqs.
    helpers: Vec<Pid>,
    /// Everybody else on this machine, but the lab.
    others: Tree,
}

/// One edge of the window.
#[derive(Debug)]
struct Edge {
    at: Instant,
    /// When half of the server's clocks had been read.
    clocks_at: Instant,
    /// CPU time of the thread that watches, before and after it read this.
    observer_ns: [u64; 2],
    processors: Option<Processors>,
    loopback_bytes: Option<u64>,
    server: CpuTimes,
    /// CPU time of the load generator, the softirqs and the lab.
    helpers_ns: u64,
    others: CpuTimes,
    sample: activity::Reading,
}

/// What happened between the two edges.
#[derive(Debug, Clone, Copy)]
struct Window {
    server_cpu_ns: u64,
    /// Without the bytes that the load generator counted.
    costs: Costs,
    /// [`crate::record::Quiet::steal`] and `others_cpu`.
    quiet: Option<(f64, f64)>,
}

impl Watch {
    /// Begins before the load generator is started. `seed` decides which of many processes are read.
    pub(crate) fn start(
        server: Pid,
        core: Option<usize>,
        address: SocketAddr,
        duration: Duration,
        seed: u64,
    ) -> Watch {
        let mut random = Rng::with_seed(seed);
        // Looking into a process makes the kernel allocate for its files: so it comes before the kernel's
        // memory.
        let idle = Usage::of(&Processes::find().tree(server), &mut random);
        let before = Kernel {
            memory: KernelMemory::read(),
            socket_buffers_bytes: socket_buffers_bytes(),
            network: Network::read(),
        };
        Watch {
            doing: CONNECTING,
            server,
            core,
            over_loopback: address.ip().is_loopback(),
            duration,
            random,
            idle,
            before,
            slab_connected: None,
            watched: None,
            opened: None,
            is_late: false,
            window: None,
            loaded: None,
            memory: None,
            network: None,
            stopped_ns: None,
            quotas: Quotas::here(),
            throttled_before: None,
            throttled: None,
        }
    }

    /// The server is about to be stopped on purpose, within the window. What it did is not to be taken for somebody else's later.
    ///
    /// From now on there are no figures of the server: those of two processes, of which one begins and one ends, are none that a message costs.
    pub(crate) fn is_stopping(&mut self) {
        let watched = self.watched.as_ref().zip(self.opened.as_ref());
        let did_ns = watched.map_or(0, |(watched, opened)| watched.clocks.cpu_times().since(&opened.server));
        self.stopped_ns = Some(self.stopped_ns.unwrap_or(0) + did_ns);
    }

    /// This one has taken its place.
    pub(crate) fn is_succeeded_by(&mut self, server: Pid) {
        self.server = server;
    }

    /// The load generator said `at` which phase it has begun. Behind the window it keeps its connections open
    /// for `hold`.
    pub(crate) fn enter(&mut self, phase: &str, load: Pid, at: Instant, hold: Duration) {
        match phase {
            "connected" => {
                self.doing = "warming up";
                // All connections and processes are there, and no file of theirs in /proc has been looked at.
                self.slab_connected = KernelMemory::read().map(|memory| memory.slab_bytes);
                let who = Who::find(self.server, load);
                self.watched = Some(Watched::choose(who, self.core, self.duration, &mut self.random));
            }
            "measuring" => {
                self.doing = "measuring";
                self.opened = self.watched.as_mut().map(Watched::read);
                self.throttled_before = self.quotas.throttled();
                let late =
                    self.opened.as_ref().map_or(Duration::ZERO, |edge| edge.clocks_at.duration_since(at));
                self.is_late = late.as_secs_f64() > LATE * self.duration.as_secs_f64();
            }
            "measured" => {
                self.doing = HOLDING;
                self.window_closed(load, at + hold);
            }
            _ => {}
        }
    }

    fn window_closed(&mut self, load: Pid, held_until: Instant) {
        let (Some(watched), Some(opened)) = (&mut self.watched, &self.opened) else { return };
        let closed = watched.read();
        let throttled = self.quotas.throttled().zip(self.throttled_before);
        self.throttled = throttled.map(|(now, before)| now.since(before));
        let socket_buffers_bytes = socket_buffers_bytes();
        let kernel = KernelMemory::read();
        self.network = Network::read().zip(self.before.network).map(|(now, before)| now.since(&before));
        let now = Who::find(self.server, load);
        let mut window = watched.between(opened, &closed, &now, self.stopped_ns.unwrap_or(0));
        window.costs.bytes_on_wire = window.costs.bytes_on_wire.filter(|_| self.over_loopback);
        self.window = Some(window);
        // Memory and threads count only if all connections were open while they were read.
        let loaded = Usage::of(&now.server, &mut self.random);
        self.loaded = Some(loaded).filter(|_| Instant::now() <= held_until);
        self.memory = self.loaded.and_then(|loaded| {
            let (kernel, before) = (kernel?, self.before.memory?);
            Some(Memory {
                user_bytes: grown(self.idle.memory_allocated_bytes, loaded.memory_allocated_bytes),
                page_tables_bytes: grown(self.idle.page_tables_bytes, loaded.page_tables_bytes),
                kernel_stacks_bytes: grown(before.stacks_bytes, kernel.stacks_bytes),
                socket_buffers_bytes: grown(self.before.socket_buffers_bytes?, socket_buffers_bytes?),
                slab_bytes: grown(before.slab_bytes, self.slab_connected?),
            })
        });
    }

    /// Everything that was seen, with what the load generator reports.
    pub(crate) fn observed(self, result: LoadResult) -> Observed {
        let is_one = self.stopped_ns.is_none();
        let in_time = self.window.filter(|_| !self.is_late && is_one);
        Observed {
            idle: self.idle,
            loaded: self.loaded.filter(|_| is_one),
            server_cpu_ns: in_time.map(|window| window.server_cpu_ns),
            result,
            costs: in_time.map(|window| window.costs),
            quiet: self.window.and_then(|window| window.quiet),
            throttled: self.throttled,
            memory: self.memory.filter(|_| is_one),
            network: self.network,
        }
    }
}

impl Who {
    /// Looks for them in all of /proc, which takes long where there are thousands of processes.
    fn find(server: Pid, load: Pid) -> Who {
        let processes = Processes::find();
        let server = processes.tree(server);
        let helpers: Vec<Pid> = processes.softirq.iter().copied().chain([load]).collect();
        let aside: Vec<Pid> = helpers.iter().copied().chain([Pid::this()]).collect();
        let others = processes.others(&server, &aside);
        Who { server, helpers, others }
    }
}

impl Watched {
    fn choose(who: Who, core: Option<usize>, window: Duration, random: &mut Rng) -> Watched {
        let affordable = |(share, each): (f64, Duration)| {
            (share * window.as_secs_f64() / each.as_secs_f64()).max(1.0) as usize
        };
        let files = affordable(FILES).min(MOST_FILES);
        Watched {
            clocks: who.server.thinned(affordable(EXACT), random),
            sample: Sample::of(&who.server, files, affordable(TICKS), random),
            core,
            who,
        }
    }

    fn read(&mut self) -> Edge {
        let observer_ns = observer_ns();
        let lab_ns = nanoseconds(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0);
        let helpers_ns: u64 = self.who.helpers.iter().filter_map(|&pid| Clock::Exact.read(pid)).sum();
        let (processors, loopback_bytes) = (Processors::read(self.core), loopback_bytes());
        let at = Instant::now();
        let server = self.clocks.cpu_times();
        let clocks_at = at + at.elapsed() / 2;
        let edge = Edge {
            at,
            clocks_at,
            observer_ns: [observer_ns; 2],
            processors,
            loopback_bytes,
            server,
            helpers_ns: lab_ns + helpers_ns,
            others: self.who.others.cpu_times(),
            sample: self.sample.read(),
        };
        Edge { observer_ns: [observer_ns, self::observer_ns()], ..edge }
    }

    /// What happened from `opened` to `closed`; `now` is who was there a little later, `stopped_ns` what servers did that had been stopped by then.
    fn between(&self, opened: &Edge, closed: &Edge, now: &Who, stopped_ns: u64) -> Window {
        let newcomers = |now: &Tree, then: &Tree| now.newcomers(then).cpu_times().total();
        let server_cpu_ns =
            closed.server.since(&opened.server) + newcomers(&now.server, &self.who.server) + stopped_ns;
        let activity = self.sample.between(&opened.sample, &closed.sample);
        let processors = closed.processors.zip(opened.processors);
        let on_core =
            processors.and_then(|(now, then)| now.user_share_since(&then, server_cpu_ns as f64 / 1e9));
        let share = match activity.user_share {
            Some(share) if self.sample.has_all_clocks() => Some(share),
            // A window sees some hundreds of ticks: few of them meet one of the few processes that were
            // asked.
            share => on_core.or(share),
        };
        // Where no tick met the server the kernel too takes all of its time for user time.
        let user_cpu_ns = (server_cpu_ns as f64 * share.unwrap_or(1.0)).round() as u64;
        let loopback_bytes = closed.loopback_bytes.zip(opened.loopback_bytes);
        let costs = Costs {
            user_cpu_ns,
            system_cpu_ns: server_cpu_ns.saturating_sub(user_cpu_ns),
            switches_voluntary: activity.switches_voluntary,
            switches_involuntary: activity.switches_involuntary,
            faults_minor: activity.faults_minor,
            faults_major: activity.faults_major,
            bytes_to_server: 0,
            bytes_from_server: 0,
            bytes_on_wire: loopback_bytes.map(|(now, then)| now.saturating_sub(then)),
            processes_read: activity.processes_read,
            observer_cpu_ns: closed.observer_ns[1].saturating_sub(opened.observer_ns[0]),
        };
        let elapsed_s = closed.at.duration_since(opened.at).as_secs_f64();
        let known_ns = server_cpu_ns + closed.helpers_ns.saturating_sub(opened.helpers_ns);
        let others_ns = closed.others.since(&opened.others) + newcomers(&now.others, &self.who.others);
        let quiet = processors.filter(|_| elapsed_s > 0.0).map(|(now, then)| {
            let (known_s, seen_s) = (known_ns as f64 / 1e9, others_ns as f64 / 1e9);
            let others_cpu = now.others_since(&then, elapsed_s, known_s, seen_s);
            (now.steal_since(&then, elapsed_s), others_cpu)
        });
        Window { server_cpu_ns, costs, quiet }
    }
}

impl Observed {
    /// Writes into the point what the server did and held beside its CPU time, and how quiet the machine was.
    pub(crate) fn fill(&self, point: &mut Point) {
        point.costs = self.costs.map(|costs| Costs {
            bytes_to_server: self.result.bytes_sent.unwrap_or(0),
            bytes_from_server: self.result.bytes_received.unwrap_or(0),
            ..costs
        });
        point.memory = self.memory;
        point.network = self.network;
        if let Some((steal, others_cpu)) = self.quiet {
            let quiet = point.quiet.get_or_insert_default();
            (quiet.steal, quiet.others_cpu) = (steal, others_cpu);
        }
        if self.throttled.is_some() {
            point.quiet.get_or_insert_default().throttled = self.throttled;
        }
    }
}

/// CPU time of the thread that watches.
fn observer_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

fn grown(before: u64, now: u64) -> i64 {
    now as i64 - before as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::Family;
    use crate::verdict::blank_for_tests;
    use std::process::Command;

    const WINDOW: Duration = Duration::from_secs(100);
    const HOLD: Duration = Duration::from_secs(600);

    const RESULT: &str = r#"{"connections_open":4,"window_ns":1000,"messages":10,"messages_per_s":1.0,"lost":0,
        "duplicated":0,"reordered":0,"corrupted":0,"latency_ns":null,"last_receiver_ns":null,"connect_ns":null,
        "upgrade_ns":null,"client_cpu_ns":5,"client_cpu":0.5,"latency_histogram":null,"bytes_sent":700,
        "bytes_received":660}"#;

    /// Watches a family that does nothing, one of whom is taken for the load generator, while this process
    /// does `work`. The window is told of so long after it has begun.
    fn watched(late: Duration, address: &str, work: impl FnOnce()) -> Point {
        let family = Family::start();
        let load = family.1[0];
        let mut watch = Watch::start(family.pid(), None, address.parse().unwrap(), WINDOW, 1);
        watch.enter("connected", load, Instant::now(), HOLD);
        watch.enter("measuring", load, Instant::now() - late, HOLD);
        work();
        watch.enter("measured", load, Instant::now(), HOLD);
        let observed = watch.observed(serde_json::from_str(RESULT).unwrap());
        let setting = crate::setting::Setting { connections: 4, ..Default::default() };
        let mut point = blank_for_tests(&crate::plan::Job {
            order: 0,
            round: 0,
            model: "m".into(),
            mechanism: "echo".into(),
            setting,
            limit: None,
        });
        point.server_cpu_ns = observed.server_cpu_ns;
        observed.fill(&mut point);
        point
    }

    #[test]
    fn everything_that_was_watched_is_in_the_point() {
        let point = watched(Duration::ZERO, "127.0.0.1:1", || {});
        let costs = point.costs.unwrap();
        assert_eq!((costs.bytes_to_server, costs.bytes_from_server, costs.processes_read), (700, 660, 3));
        assert!(costs.bytes_on_wire.is_some() && costs.observer_cpu_ns > 0, "{costs:?}");
        assert_eq!(Some(costs.user_cpu_ns + costs.system_cpu_ns), point.server_cpu_ns);
        assert!(point.memory.is_some() && point.network.is_some() && point.quiet.is_some());
    }

    #[test]
    fn what_crosses_another_interface_is_not_counted_on_loopback() {
        let point = watched(Duration::ZERO, "192.0.2.1:1", || {});
        assert_eq!(point.costs.unwrap().bytes_on_wire, None);
    }

    #[test]
    fn two_servers_after_each_other_give_no_figures() {
        let family = Family::start();
        let load = family.1[0];
        let mut watch = Watch::start(family.pid(), None, "127.0.0.1:1".parse().unwrap(), WINDOW, 1);
        watch.enter("connected", load, Instant::now(), HOLD);
        watch.enter("measuring", load, Instant::now(), HOLD);
        watch.is_stopping();
        drop(family);
        let successor = Family::start();
        watch.is_succeeded_by(successor.pid());
        watch.enter("measured", load, Instant::now(), HOLD);
        let observed = watch.observed(serde_json::from_str(RESULT).unwrap());
        assert_eq!((observed.server_cpu_ns, observed.costs, observed.memory), (None, None, None));
        assert!(observed.loaded.is_none() && observed.quiet.is_some() && observed.network.is_some());
    }

    #[test]
    fn an_edge_that_was_read_too_late_gives_no_figures() {
        let point = watched(WINDOW / 10, "127.0.0.1:1", || {});
        assert_eq!((point.costs, point.server_cpu_ns), (None, None));
        assert!(point.quiet.is_some(), "what explains it is kept");
    }

    #[test]
    fn a_neighbour_is_seen() {
        let mut neighbour = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let pid = Pid::from_raw(neighbour.id().cast_signed());
        let begun = Instant::now();
        let point = watched(Duration::ZERO, "127.0.0.1:1", || {
            let before = Clock::Exact.read(pid).unwrap();
            while Clock::Exact.read(pid).unwrap() < before + 200_000_000 {
                std::thread::yield_now();
            }
        });
        let others = point.quiet.unwrap().others_cpu;
        let _ = neighbour.kill();
        let _ = neighbour.wait();
        // The processors' own accounts, which are the bounds, are in steps of 10 ms.
        assert!(others * begun.elapsed().as_secs_f64() >= 0.1, "{others}");
    }
}
