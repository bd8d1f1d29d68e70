//! Watches a server through the phases of a point: what it uses at rest, what it does in the window, what it holds
//! while all connections are open.

use std::time::Instant;

use nix::time::ClockId;
use nix::unistd::Pid;

use crate::counters::{Counters, KernelMemory, USER_HZ};
use crate::record::{Costs, Memory, Network, Point, Quiet};
use crate::sample::{Progress, Sample};
use crate::tree::{CpuTimes, Tree, Usage};
use crate::verdict::LoadResult;

pub(crate) const CONNECTING: &str = "connecting";
pub(crate) const HOLDING: &str = "holding its connections";

/// What the lab saw of the server, and the load generator reported.
pub(crate) struct Observed {
    pub(crate) idle: Usage,
    pub(crate) loaded: Option<Usage>,
    /// CPU time of the whole tree in the window.
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) result: LoadResult,
    idle_kernel: KernelMemory,
    loaded_kernel: Option<KernelMemory>,
    network: Option<Network>,
    window: Option<InWindow>,
    is_loopback: bool,
}

/// Follows the load generator's phases and reads the server's state at the right moments.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) doing: &'static str,
    server: Pid,
    core: Option<usize>,
    is_loopback: bool,
    idle: Usage,
    idle_kernel: KernelMemory,
    at_start: Counters,
    tree: Option<(Tree, Sample)>,
    open: Option<Edge>,
    window: Option<InWindow>,
    network: Option<Network>,
    loaded: Option<(Usage, KernelMemory)>,
}

/// One edge of the window.
#[derive(Debug)]
struct Edge {
    cpu: CpuTimes,
    progress: Progress,
    counters: Counters,
    at: Instant,
    /// CPU time of this thread before the edge was read.
    own_ns: u64,
}

/// What happened between the edges.
#[derive(Debug, Clone, Copy)]
struct InWindow {
    cpu_ns: u64,
    costs: Costs,
    steal: f64,
    /// Busy time of the whole machine, in cores.
    busy: f64,
    /// CPU time of the lab, in cores.
    own: f64,
    length_s: f64,
}

impl Watch {
    /// Looks at the server before anybody has connected to it.
    pub(crate) fn start(server: Pid, core: Option<usize>, is_loopback: bool) -> Watch {
        Watch {
            doing: CONNECTING,
            server,
            core,
            is_loopback,
            idle: Tree::of(server).usage(),
            idle_kernel: KernelMemory::read(),
            at_start: Counters::read(core),
            tree: None,
            open: None,
            window: None,
            network: None,
            loaded: None,
        }
    }

    /// The connections stay open until `held_until` if this is the end of the window.
    pub(crate) fn enter(&mut self, phase: &str, held_until: Instant) {
        match phase {
            "connected" => {
                self.doing = "warming up";
                // Looked up here, because it takes long where there are thousands of processes.
                let tree = Tree::of(self.server);
                let sample = tree.sample();
                self.tree = Some((tree, sample));
            }
            "measuring" => {
                self.open = self.tree.as_ref().map(|(tree, sample)| Edge::read(tree, sample, self.core));
                self.doing = "measuring";
            }
            "measured" => {
                if let (Some((tree, sample)), Some(open)) = (&self.tree, &self.open) {
                    let close = Edge::read(tree, sample, self.core);
                    let own_ns = own_cpu_ns() - open.own_ns;
                    self.network = Some(close.counters.network_since(&self.at_start));
                    let now = Tree::of(self.server);
                    let newcomers = now.newcomers(tree).cpu_times().since(&CpuTimes::default());
                    self.window = Some(InWindow::between(open, &close, sample, newcomers, own_ns));
                    let loaded = (now.usage(), KernelMemory::read());
                    // Memory and threads count only if all connections were open while they were read.
                    self.loaded = Some(loaded).filter(|_| Instant::now() <= held_until);
                }
                self.doing = HOLDING;
            }
            _ => {}
        }
    }

    /// Everything that was seen, with what the load generator reports.
    pub(crate) fn observed(self, result: LoadResult) -> Observed {
        Observed {
            idle: self.idle,
            loaded: self.loaded.map(|(usage, _)| usage),
            server_cpu_ns: self.window.map(|window| window.cpu_ns),
            result,
            idle_kernel: self.idle_kernel,
            loaded_kernel: self.loaded.map(|(_, kernel)| kernel),
            network: self.network,
            window: self.window,
            is_loopback: self.is_loopback,
        }
    }
}

impl Edge {
    /// The exact figures first, and as close to the edge as can be.
    fn read(tree: &Tree, sample: &Sample, core: Option<usize>) -> Edge {
        let own_ns = own_cpu_ns();
        let cpu = tree.cpu_times();
        let counters = Counters::read(core);
        Edge { cpu, counters, progress: sample.progress(), at: Instant::now(), own_ns }
    }
}

impl InWindow {
    fn between(open: &Edge, close: &Edge, sample: &Sample, newcomers_ns: u64, own_ns: u64) -> InWindow {
        let length_s = (close.at - open.at).as_secs_f64();
        let cores = |ticks: u64| ticks as f64 / USER_HZ as f64 / length_s;
        let cpu_ns = close.cpu.since(&open.cpu) + newcomers_ns;
        let done = sample.done(&open.progress, &close.progress);
        let (user, system) = match (open.counters.core_ticks, close.counters.core_ticks) {
            (Some(then), Some(now)) => ((now.0 - then.0) as f64, (now.1 - then.1) as f64),
            _ => (done.user_ticks, done.system_ticks),
        };
        let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        let user_cpu_ns = (cpu_ns as f64 * user_share).round() as u64;
        let costs = Costs {
            user_cpu_ns,
            system_cpu_ns: cpu_ns - user_cpu_ns,
            switches_voluntary: done.voluntary.round() as u64,
            switches_involuntary: done.involuntary.round() as u64,
            faults_minor: done.faults_minor.round() as u64,
            faults_major: done.faults_major.round() as u64,
            bytes_to_server: 0,
            bytes_from_server: 0,
            bytes_on_wire: Some(close.counters.loopback_bytes.saturating_sub(open.counters.loopback_bytes)),
            processes_read: sample.len() as u64,
            observer_cpu_ns: own_ns,
        };
        InWindow {
            cpu_ns,
            costs,
            steal: cores(close.counters.steal_ticks.saturating_sub(open.counters.steal_ticks)),
            busy: cores(close.counters.busy_ticks.saturating_sub(open.counters.busy_ticks)),
            own: own_ns as f64 / 1e9 / length_s,
            length_s,
        }
    }
}

impl Observed {
    /// Writes costs, memory and the state of the machine into the point.
    pub(crate) fn fill(&self, point: &mut Point) {
        point.network = self.network;
        if let Some(window) = self.window {
            point.costs = Some(Costs {
                bytes_to_server: self.result.bytes_sent.unwrap_or(0),
                bytes_from_server: self.result.bytes_received.unwrap_or(0),
                bytes_on_wire: window.costs.bytes_on_wire.filter(|_| self.is_loopback),
                ..window.costs
            });
            let server = window.cpu_ns as f64 / 1e9 / window.length_s;
            let client = self.result.client_cpu_ns.unwrap_or(0) as f64 / 1e9 / window.length_s;
            // The kernel counts the whole machine in ticks: less than nothing is nothing.
            let others_cpu = (window.busy - server - client - window.own).max(0.0);
            point.quiet = Some(Quiet { steal: window.steal, others_cpu, ..Quiet::default() });
        }
        if let (Some(loaded), Some(kernel)) = (self.loaded, self.loaded_kernel) {
            let grown = |now: u64, then: u64| now as i64 - then as i64;
            point.memory = Some(Memory {
                user_bytes: grown(loaded.memory_allocated_bytes, self.idle.memory_allocated_bytes),
                page_tables_bytes: grown(loaded.page_tables_bytes, self.idle.page_tables_bytes),
                kernel_stacks_bytes: kernel.stacks - self.idle_kernel.stacks,
                socket_buffers_bytes: kernel.socket_buffers - self.idle_kernel.socket_buffers,
                slab_bytes: kernel.slab - self.idle_kernel.slab,
            });
        }
    }
}

/// CPU time of this thread: the lab's own share of the load.
fn own_cpu_ns() -> u64 {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("every Linux has this clock");
    time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs()
}
