//! What this machine allows: cores to pin to, descriptors, processes, memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, geteuid};
use serde::{Deserialize, Serialize};
use switchboard_models::{Family, Mechanism, Workers};

use crate::mechanism::{self, server_of};
use crate::record::Point;
use crate::setting::Setting;

/// Descriptors that a server or load generator needs beside its connections.
const DESCRIPTORS_ASIDE: usize = 64;
/// Processes and threads that stay free, so that the user's shell keeps working.
const PROCESSES_ASIDE: u64 = 500;
/// A thread's stack and its guard page, and as much again for what it allocates.
const MAPS_PER_THREAD: u64 = 4;

/// The limits that decide in advance which points can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Connections that the hard descriptor limit allows one process, or one thread with a table of its own.
    pub(crate) descriptors: usize,
    /// Whether threads may have tables of descriptors of their own.
    pub(crate) has_tables_for_threads: bool,
    /// Processes or threads that can still be made.
    pub(crate) tasks: u64,
    /// Memory that is available, in bytes.
    pub(crate) memory_bytes: u64,
    /// Pieces of address space that one process may have, see proc_sys_vm(5), max_map_count.
    pub(crate) maps: u64,
}

/// The cores of server and load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cores {
    /// The core of the server, all its processes and threads.
    pub(crate) server: usize,
    /// The core of the load generator.
    pub(crate) load: usize,
    /// The core of the lab, which watches both: one of its own, or that of the load generator. Beside a server with
    /// thousands of runnable threads the lab would wait for its turn longer than a window lasts.
    pub(crate) lab: usize,
}

impl Machine {
    /// Asks the kernel, and raises this process's own soft descriptor limit to the hard one: children inherit it.
    pub(crate) fn here() -> Machine {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let allowed = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
        let descriptors = usize::try_from(allowed).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_ASIDE);
        let maps = number("/proc/sys/vm/max_map_count").unwrap_or(u64::MAX);
        Machine {
            descriptors,
            has_tables_for_threads: switchboard_models::threads_may_have_descriptors_each(),
            tasks: free_tasks(),
            memory_bytes: available_memory(),
            maps,
        }
    }

    /// The setting with as many workers and threads of the load generator as its connections need, where one of each may not have so many
    /// descriptors.
    pub(crate) fn spread(&self, model: &str, mechanism: &str, setting: Setting) -> Setting {
        let sockets = setting.connections.saturating_mul(mechanism::sockets(mechanism));
        if sockets <= self.descriptors || !self.has_tables_for_threads {
            return setting;
        }
        let found = switchboard_models::find(server_of(model));
        let workers = found.filter(|model| model.has_descriptors_each()).map(|model| {
            // Ports are hashed to listeners, and some get a few more connections than others; of one listener whoever is woken first takes.
            let margin = if model.reuses_port { sockets / 10 } else { sockets / 2 };
            let least = (sockets + margin).div_ceil(self.descriptors);
            setting.workers.map_or(least, |workers| workers.max(least))
        });
        Setting {
            workers: workers.or(setting.workers),
            load_threads: sockets.div_ceil(self.descriptors),
            ..setting
        }
    }

    /// The short name of the limit that makes it pointless to try `model` with these connections, of which some mechanisms need several for each client.
    pub(crate) fn limit(&self, model: &str, mechanism: &str, setting: &Setting) -> Option<&'static str> {
        let connections = setting.connections.saturating_mul(mechanism::sockets(mechanism));
        let found = switchboard_models::find(server_of(model));
        if connections > 1 && found.is_some_and(|model| !model.serves.contains(&Mechanism::Together)) {
            return Some("one at a time");
        }
        if found.and_then(|model| model.served_at_once(None)).is_some_and(|most| connections > most) {
            return Some("workers");
        }
        let needs = needs(model);
        let count = u64::try_from(connections).unwrap_or(u64::MAX);
        let tables = match found {
            Some(model) if model.has_descriptors_each() => {
                setting.workers.unwrap_or(1).min(setting.load_threads)
            }
            _ => 1,
        };
        if connections > self.descriptors.saturating_mul(tables) {
            Some("descriptors")
        } else if let Some(task) = needs.task
            && count > self.tasks
        {
            Some(task)
        } else if needs.task == Some("threads") && count.saturating_mul(MAPS_PER_THREAD) > self.maps {
            Some("max_map_count")
        } else if count.saturating_mul(needs.memory_bytes) > self.memory_bytes / 5 * 4 {
            Some("memory")
        } else {
            None
        }
    }
}

/// What connections cost a model, roughly: to plan with, not to report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// What there has to be one of for each connection.
    pub(crate) task: Option<&'static str>,
    /// Memory of both ends of a connection together, kernel included.
    memory_bytes: u64,
    /// Opening and closing the first connection, in nanoseconds.
    open_ns: u64,
    /// What each connection that is already open adds to that, in nanoseconds.
    open_more_ns: u64,
    /// Finding what one more connection adds to the process tree, with a margin: what is read too late is lost.
    observe_ns: u64,
}

/// See [`Needs`]. What is not in the registry is taken for an event loop.
pub(crate) fn needs(model: &str) -> Needs {
    let found =
        switchboard_models::find(server_of(model)).filter(|model| model.workers != Workers::OnePerCore);
    let (task, kib, open_ns, open_more_ns, observe_ns) = match found.map(|model| model.family) {
        // fork(2) copies the table of descriptors, in which the parent has one for every child.
        Some(Family::Process) => (Some("processes"), 300, 350_000, 200, 40_000),
        Some(Family::Thread) => (Some("threads"), 180, 200_000, 0, 20_000),
        _ => (None, 30, 100_000, 0, 0),
    };
    Needs { task, memory_bytes: kib * 1024, open_ns, open_more_ns, observe_ns }
}

impl Needs {
    /// From the first connect(2) to the last upgrade, and back to nothing.
    pub(crate) fn open_and_close(&self, connections: usize) -> Duration {
        let count = connections as u64;
        let pairs = count.saturating_mul(count) / 2;
        let one_by_one = count.saturating_mul(self.open_ns);
        Duration::from_nanos(one_by_one.saturating_add(pairs.saturating_mul(2 * self.open_more_ns)))
    }

    /// Finding all processes and threads of the server, and reading some of them.
    pub(crate) fn observe(&self, connections: usize) -> Duration {
        Duration::from_nanos(self.observe_ns.saturating_mul(connections as u64))
    }
}

impl Cores {
    /// Two cores that this process may use and that are not two threads of one core; `None` if there is only one.
    pub(crate) fn choose() -> Option<Cores> {
        let cpus = usable_cpus();
        let siblings = |cpu: usize| {
            read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
                .map(|list| parse_cpu_list(&list))
                .unwrap_or_default()
        };
        choose(&cpus, siblings)
    }
}

/// This thread, and those that it starts, on one core for as long as this lives.
#[derive(Debug)]
pub(crate) struct Pinned(CpuSet);

impl Pinned {
    pub(crate) fn to(cpu: usize) -> Option<Pinned> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).ok()?;
        let mut one = CpuSet::new();
        one.set(cpu).ok()?;
        sched_setaffinity(this_thread, &one).ok()?;
        Some(Pinned(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "server pinned to core {}, load generator to core {}, lab to core {}",
            self.server, self.load, self.lab
        )
    }
}

/// The cores that this process may use, to be asked before it is pinned.
pub(crate) fn usable_cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).collect()
}

/// Cores that a server keeps busy at the most: if it is pinned one, unless the setting gives it all `cores`, of which then the load
/// generator takes its part.
pub(crate) fn server_cores(point: &Point, is_pinned: bool, cores: f64) -> f64 {
    let setting = &point.setting;
    if !setting.all_cores {
        return if is_pinned { 1.0 } else { cores };
    }
    let left = (cores - point.client_cpu.unwrap_or(0.0)).max(1.0);
    setting.workers.map_or(left, |workers| left.min(workers as f64))
}

fn choose(cpus: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Option<Cores> {
    let &server = cpus.first()?;
    let beside = siblings(server);
    let others = &cpus[1..];
    let &load = others.iter().find(|cpu| !beside.contains(cpu)).or(others.first())?;
    let lab = others.iter().copied().find(|cpu| *cpu != load && !beside.contains(cpu)).unwrap_or(load);
    Some(Cores { server, load, lab })
}

/// `0-3,8,10-11`, as the kernel writes sets of CPUs; see cpuset(7).
fn parse_cpu_list(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

fn free_tasks() -> u64 {
    let mut limits =
        vec![number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max"), pids_max()];
    if !geteuid().is_root() {
        // The kernel does not hold root to it; see getrlimit(2), RLIMIT_NPROC.
        limits.push(getrlimit(Resource::RLIMIT_NPROC).ok().map(|(soft, _)| soft));
    }
    let running = read("/proc/loadavg").and_then(|load| running_tasks(&load)).unwrap_or(0);
    limits.into_iter().flatten().min().unwrap_or(u64::MAX).saturating_sub(running + PROCESSES_ASIDE)
}

/// `0.00 0.01 0.05 1/123 4567`: 123 processes and threads exist; see proc_loadavg(5).
fn running_tasks(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// The smallest `pids.max` of this process's control groups; containers and systemd slices set it.
fn pids_max() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        for ancestor in Path::new(group).ancestors() {
            let file = format!("{root}{}/pids.max", ancestor.display());
            limits.extend(read(&file).and_then(|limit| limit.parse::<u64>().ok()));
        }
    }
    limits.into_iter().min()
}

fn available_memory() -> u64 {
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

fn number(path: &str) -> Option<u64> {
    read(path)?.parse().ok()
}

/// Cores that are switched on, whatever this thread is pinned to.
pub(crate) fn core_count() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN)
        .ok()
        .flatten()
        .and_then(|cores| usize::try_from(cores).ok())
        .unwrap_or(1)
}

/// A small file of /proc or /sys without the white space around it.
pub(crate) fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAPTOP: Machine = Machine {
        descriptors: 1024 - 64,
        has_tables_for_threads: true,
        tasks: 3_000,
        memory_bytes: 8 << 30,
        maps: 65_530,
    };
    const SERVER: Machine = Machine {
        descriptors: 1 << 20,
        has_tables_for_threads: true,
        tasks: 30_000,
        memory_bytes: 16 << 30,
        maps: 65_530,
    };

    /// The limit for a model with so many connections.
    fn limit(machine: Machine, model: &str, connections: usize) -> Option<&'static str> {
        let setting = machine.spread(model, "echo", Setting { connections, ..Setting::default() });
        machine.limit(model, "echo", &setting)
    }

    #[test]
    fn a_limit_is_named_only_where_trying_would_be_pointless() {
        assert_eq!(limit(LAPTOP, "epoll", 256), None);
        assert_eq!(limit(LAPTOP, "epoll", 1024), Some("descriptors"));
        assert_eq!(limit(SERVER, "epoll", 65_536), None);
        assert_eq!(limit(LAPTOP, "reactors", 10_000), None, "a table for each worker");
        let shared = Machine { has_tables_for_threads: false, ..LAPTOP };
        assert_eq!(limit(shared, "reactors", 10_000), Some("descriptors"));
        assert_eq!(limit(SERVER, "fork", 16_384), None);
        assert_eq!(limit(SERVER, "fork", 65_536), Some("processes"));
        assert_eq!(limit(SERVER, "threads", 65_536), Some("threads"));
        assert_eq!(limit(SERVER, "threads", 16_384), Some("max_map_count"));
        assert_eq!(limit(SERVER, "prefork", 65_536), None, "a process has many connections");
        assert_eq!(limit(SERVER, "iterative", 1), None);
        assert_eq!(limit(SERVER, "iterative", 4), Some("one at a time"));
        assert_eq!((limit(SERVER, "pool", 512), limit(SERVER, "pool", 513)), (None, Some("workers")));
        assert_eq!(limit(SERVER, "select", 65_536), None, "select says FD_SETSIZE itself");
        assert_eq!(limit(Machine { memory_bytes: 4 << 30, ..SERVER }, "fork", 16_384), Some("memory"));
    }

    #[test]
    fn beyond_one_table_there_are_more_workers_and_threads_that_load() {
        let machine = Machine { descriptors: 19_936, ..SERVER };
        let spread = |model, connections| {
            let setting = machine.spread(model, "echo", Setting { connections, ..Setting::default() });
            (setting.workers, setting.load_threads)
        };
        assert_eq!(spread("reactors", 19_936), (None, 1));
        assert_eq!(spread("reactors", 100_000), (Some(6), 6));
        assert_eq!(
            spread("prefork", 100_000),
            (Some(8), 6),
            "whoever is woken first takes: more room is left"
        );
        assert_eq!(spread("epoll", 100_000), (None, 6));
        assert_eq!(limit(machine, "epoll", 100_000), Some("descriptors"));
        let many = Setting { connections: 100_000, workers: Some(12), ..Setting::default() };
        assert_eq!(machine.spread("reactors", "echo", many).workers, Some(12));
    }

    #[test]
    fn who_needs_two_connections_for_each_client_reaches_half_as_many() {
        let machine = Machine { descriptors: 19_936, ..SERVER };
        let polling = |model, connections| {
            let setting = Setting { connections, ..Setting::default() };
            let setting = machine.spread(model, "socketio-polling-broadcast", setting);
            (setting.load_threads, machine.limit(model, "socketio-polling-broadcast", &setting))
        };
        assert_eq!(polling("epoll", 9_968), (1, None));
        assert_eq!(polling("epoll", 9_969), (2, Some("descriptors")));
        assert_eq!(polling("reactors", 16_384), (2, None));
        assert_eq!(polling("threads", 8_192), (1, Some("max_map_count")));
        assert_eq!((polling("pool", 256).1, polling("pool", 257).1), (None, Some("workers")));
        let setting = Setting { connections: 16_384, ..Setting::default() };
        assert_eq!(machine.limit("epoll", "socketio-broadcast", &setting), None);
    }

    #[test]
    fn server_and_load_get_different_physical_cores_where_there_are_two() {
        let pairs = |cpu: usize| vec![cpu / 2 * 2, cpu / 2 * 2 + 1];
        assert_eq!(choose(&[0, 1, 2, 3], pairs), Some(Cores { server: 0, load: 2, lab: 3 }));
        assert_eq!(choose(&[0, 1], pairs), Some(Cores { server: 0, load: 1, lab: 1 }), "better than one");
        assert_eq!(choose(&[5], pairs), None);
        assert_eq!(choose(&[], pairs), None);
    }

    #[test]
    fn the_kernels_lists_are_understood() {
        assert_eq!(parse_cpu_list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(parse_cpu_list(""), [0usize; 0]);
        assert_eq!(running_tasks("0.20 0.18 0.12 1/80 11206"), Some(80));
    }
}
