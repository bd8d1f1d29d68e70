//! What a process and all its descendants use, read from outside.
//!
//! A model may be one process or sixteen thousand, so the costs are kept apart: at the two edges of the window
//! only the CPU clocks are read (one clock_gettime(2) a process, nanoseconds, all threads of the process and
//! those that have ended), and everything that needs a file of /proc a process is read between the windows.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use nix::time::ClockId;
use nix::unistd::Pid;

/// The processes of a tree at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pids: Vec<Pid>,
    /// Those among them that have children: what a child used is added to its parent when it ends.
    parents: Vec<Pid>,
}

/// CPU time of a tree at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuTimes {
    /// Nanoseconds by process, of those that were there.
    processes: BTreeMap<i32, u64>,
    /// Nanoseconds of ended and reaped children, by parent; in steps of a clock tick (10 ms).
    ended: BTreeMap<i32, u64>,
}

/// What a tree holds and did, as the kernel accounts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Proportional set size; resident set size where the kernel does not offer it.
    pub(crate) memory_bytes: u64,
    /// The part of it that belongs to no file: what the program has allocated. Without the pages of the program
    /// itself, whose share changes with the number of others that run it.
    pub(crate) memory_allocated_bytes: u64,
    /// Sum of each process's largest resident set.
    pub(crate) memory_peak_bytes: u64,
    pub(crate) switches_voluntary: u64,
    pub(crate) switches_involuntary: u64,
    pub(crate) threads: u64,
    pub(crate) processes: u64,
}

impl Tree {
    /// Finds `root` and its descendants. The parents stand in each process's `stat`; the kernel's list of
    /// children is an option that many builds leave out.
    pub(crate) fn of(root: Pid) -> Tree {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if let Some(stat) = Stat::read(pid) {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        let mut tree = Tree { pids: vec![root], parents: vec![root] };
        let mut next = 0;
        while let Some(&pid) = tree.pids.get(next) {
            if let Some(found) = children.get(&pid.as_raw()) {
                tree.pids.extend(found.iter().map(|&pid| Pid::from_raw(pid)));
                if pid != root {
                    tree.parents.push(pid);
                }
            }
            next += 1;
        }
        tree
    }

    /// Those of this tree that were not in `earlier`.
    pub(crate) fn newcomers(&self, earlier: &Tree) -> Tree {
        let known: HashSet<_> = earlier.pids.iter().collect();
        let pids = self.pids.iter().copied().filter(|pid| !known.contains(pid)).collect();
        Tree { pids, parents: Vec::new() }
    }

    /// Reads the CPU clock of every process: about a microsecond each.
    pub(crate) fn cpu_times(&self) -> CpuTimes {
        let clock = |pid: Pid| ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now).ok();
        let nanoseconds = |pid| {
            clock(pid)
                .map(|time| (time.tv_sec().unsigned_abs() * 1_000_000_000) + time.tv_nsec().unsigned_abs())
        };
        let processes = self.pids.iter().filter_map(|&pid| Some((pid.as_raw(), nanoseconds(pid)?))).collect();
        let ended = |pid: &Pid| Some((pid.as_raw(), Stat::read(pid.as_raw())?.ended_children_ns));
        CpuTimes { processes, ended: self.parents.iter().filter_map(ended).collect() }
    }

    /// Reads memory, context switches and threads of every process: about a tenth of a millisecond each.
    pub(crate) fn usage(&self) -> Usage {
        self.pids.iter().filter_map(|&pid| usage_of(pid.as_raw())).fold(Usage::default(), Usage::plus)
    }
}

impl CpuTimes {
    /// CPU time in nanoseconds between `earlier` and this moment. A process that ended in between is found in
    /// its parent's account, one that began counts whole.
    pub(crate) fn since(&self, earlier: &CpuTimes) -> u64 {
        let ended: HashSet<_> =
            earlier.processes.keys().filter(|pid| !self.processes.contains_key(pid)).collect();
        let lived: i128 = self
            .processes
            .iter()
            .map(|(pid, &now)| i128::from(now) - i128::from(earlier.processes.get(pid).copied().unwrap_or(0)))
            .sum();
        let before_the_window: i128 = ended.iter().map(|pid| i128::from(earlier.processes[pid])).sum();
        let reaped: i128 = self
            .ended
            .iter()
            .map(|(pid, &now)| i128::from(now) - i128::from(earlier.ended.get(pid).copied().unwrap_or(0)))
            .sum();
        // The account of ended children holds their whole life, of which the time before the window was not in it.
        u64::try_from(lived + (reaped - before_the_window).max(0)).unwrap_or(0)
    }
}

impl Usage {
    fn plus(self, other: Usage) -> Usage {
        Usage {
            memory_bytes: self.memory_bytes + other.memory_bytes,
            memory_allocated_bytes: self.memory_allocated_bytes + other.memory_allocated_bytes,
            memory_peak_bytes: self.memory_peak_bytes + other.memory_peak_bytes,
            switches_voluntary: self.switches_voluntary + other.switches_voluntary,
            switches_involuntary: self.switches_involuntary + other.switches_involuntary,
            threads: self.threads + other.threads,
            processes: self.processes + other.processes,
        }
    }
}

/// One process; `None` if it has ended.
fn usage_of(pid: i32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let threads = field(&status, "Threads:").unwrap_or(1);
    let mut switches = switches(&status);
    if threads > 1 {
        // The process's own status counts its first thread only.
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let each = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        switches = each.map(|status| self::switches(&status)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    }
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let resident = field(&status, "VmRSS:").unwrap_or(0);
    let allocated = field(&rollup, "Pss_Anon:").map(|anon| anon + field(&rollup, "Pss_Shmem:").unwrap_or(0));
    Some(Usage {
        memory_bytes: field(&rollup, "Pss:").unwrap_or(resident) * 1024,
        memory_allocated_bytes: allocated.or(field(&status, "RssAnon:")).unwrap_or(resident) * 1024,
        memory_peak_bytes: field(&status, "VmHWM:").unwrap_or(0) * 1024,
        switches_voluntary: switches.0,
        switches_involuntary: switches.1,
        threads,
        processes: 1,
    })
}

fn switches(status: &str) -> (u64, u64) {
    let count = |name| field(status, name).unwrap_or(0);
    (count("voluntary_ctxt_switches:"), count("nonvoluntary_ctxt_switches:"))
}

/// The number behind `name` at the start of a line, in whatever unit the file has (kB in /proc).
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// What is needed of /proc/PID/stat, see proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    ended_children_ns: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    fn parse(stat: &str) -> Option<Stat> {
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        // Fields 16 and 17 of the manual page: user and system time of reaped children, in ticks.
        let (user, system): (u64, u64) = (fields.nth(11)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Stat { parent, ended_children_ns: (user + system) * (1_000_000_000 / USER_HZ) })
    }
}

/// Ticks a second in /proc; fixed at 100 for user space on every architecture that Rust's std supports.
const USER_HZ: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    /// A shell with two sleeping children; all three are killed by id.
    struct Family(Child, Vec<Pid>);

    impl Family {
        fn start() -> Family {
            let script = "sleep 600 & echo $!; sleep 600 & echo $!; wait";
            let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(shell.stdout.take().unwrap()).lines().take(2);
            let children = lines.map(|line| Pid::from_raw(line.unwrap().parse().unwrap())).collect();
            Family(shell, children)
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(self.0.id().cast_signed())
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            for &child in &self.1 {
                let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_tree_holds_the_root_and_its_children_and_nobody_else() {
        let family = Family::start();
        let mut pids = Tree::of(family.pid()).pids;
        pids.sort();
        let mut expected = vec![family.pid(), family.1[0], family.1[1]];
        expected.sort();
        assert_eq!(pids, expected);
    }

    #[test]
    fn usage_counts_every_process_of_the_tree() {
        let family = Family::start();
        let usage = Tree::of(family.pid()).usage();
        assert_eq!((usage.processes, usage.threads), (3, 3));
        assert!(
            usage.memory_bytes > usage.memory_allocated_bytes && usage.memory_allocated_bytes > 0,
            "{usage:?}"
        );
        assert!(usage.memory_peak_bytes > 0, "{usage:?}");
    }

    #[test]
    fn a_child_that_has_ended_leaves_the_usage_and_keeps_the_rest() {
        let family = Family::start();
        let tree = Tree::of(family.pid());
        nix::sys::signal::kill(family.1[0], nix::sys::signal::Signal::SIGKILL).unwrap();
        while fs::read_to_string(format!("/proc/{}/status", family.1[0])).is_ok_and(|s| s.contains("VmRSS")) {
            std::thread::yield_now();
        }
        let usage = tree.usage();
        assert!(usage.processes >= 2 && usage.memory_bytes > 0, "{usage:?}");
    }

    #[test]
    fn cpu_time_of_this_process_grows_with_its_work() {
        let tree = Tree::of(Pid::this());
        let before = tree.cpu_times();
        let own = ClockId::CLOCK_PROCESS_CPUTIME_ID;
        let start = own.now().unwrap();
        while (own.now().unwrap() - start).tv_nsec() < 5_000_000 {}
        assert!(tree.cpu_times().since(&before) >= 5_000_000);
    }

    #[test]
    fn the_time_of_a_process_that_ends_in_the_window_is_taken_from_its_parent() {
        let times = |processes: &[(i32, u64)], ended: u64| CpuTimes {
            processes: processes.iter().copied().collect(),
            ended: [(1, ended)].into(),
        };
        let before = times(&[(1, 100), (2, 500), (3, 40)], 1000);
        // 2 lived for 200 more in the window and was reaped with 700; 4 began in it.
        let after = times(&[(1, 150), (3, 60), (4, 5)], 1700);
        assert_eq!(after.since(&before), 50 + 20 + 5 + 200);
        // Ticks are coarse: what rounds to less than nothing counts as nothing.
        assert_eq!(times(&[(1, 150), (3, 60)], 1000).since(&before), 70);
    }

    #[test]
    fn both_kinds_of_context_switches_are_told_apart() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t31\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(switches(status), (31, 7));
        assert_eq!(field("Pss:                 123 kB\nPss_Dirty: 4 kB\n", "Pss:"), Some(123));
    }

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let line = "77 (a) (b 1) S 42 77 77 0 -1 4194304 1 2 3 4 50 60 7 8 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 42, ended_children_ns: 150_000_000 }));
        assert_eq!(Stat::parse("no stat"), None);
    }
}
