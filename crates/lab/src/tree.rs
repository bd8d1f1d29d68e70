//! What a process and all its descendants use, read from outside.
//!
//! A model may be one process or sixteen thousand, and watching must not be the load. At the two edges of the window
//! the CPU clocks of all processes are read (one clock_gettime(2) each, nanoseconds, all threads of the process and
//! those that have ended). What needs a file of /proc is read of a [`Sample`] of the processes and scaled up.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use nix::time::ClockId;
use nix::unistd::Pid;

use crate::counters::USER_HZ;
use crate::sample::Sample;

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
    /// Page tables.
    pub(crate) page_tables_bytes: u64,
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
        let ended = |pid: &Pid| Some((pid.as_raw(), Stat::read(pid.as_raw())?.ended_children_ns()));
        CpuTimes { processes, ended: self.parents.iter().filter_map(ended).collect() }
    }

    /// Some of the processes, to stand for all.
    pub(crate) fn sample(&self) -> Sample {
        Sample::of(&self.pids, &self.parents)
    }

    /// Reads memory and threads of a sample, about a tenth of a millisecond for each process, and scales them up.
    pub(crate) fn usage(&self) -> Usage {
        let usage = self.sample().usage();
        Usage { processes: self.pids.len() as u64, ..usage }
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

/// What is needed of /proc/PID/stat, see proc_pid_stat(5). Times in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) faults_minor: u64,
    pub(crate) faults_major: u64,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) ended_children_ticks: u64,
}

impl Stat {
    pub(crate) fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    fn parse(stat: &str) -> Option<Stat> {
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().take(16).collect();
        // By the numbers of the manual page, in which the program's name is 2.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            faults_minor: field(10)?,
            faults_major: field(12)?,
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            ended_children_ticks: field(16)? + field(17)?,
        })
    }

    /// CPU time of children that have ended and were reaped.
    fn ended_children_ns(&self) -> u64 {
        self.ended_children_ticks * (1_000_000_000 / USER_HZ)
    }
}

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
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let line = "77 (a) (b 1) S 42 77 77 0 -1 4194304 1 2 3 4 50 60 7 8 20 0 1 0 5 6 7";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.faults_minor, stat.faults_major), (42, 1, 3));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.ended_children_ns()), (50, 60, 150_000_000));
        assert_eq!(Stat::parse("no stat"), None);
    }
}
