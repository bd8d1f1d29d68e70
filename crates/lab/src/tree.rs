//! A process with all its descendants, and the CPU time of all of them together.
//!
//! A model may be one process or sixteen thousand. What decides the comparison, CPU time, is read of every
//! process at both edges of the window: one clock_gettime(2) a process, in nanoseconds, with all threads of
//! the process and those that have ended. That takes a third of a microsecond, and twice as long where
//! thousands of processes share the caches, so that in a short window a sample has to do ([`Tree::thinned`]).
//! Everything that costs a file a process is always read of a small sample ([`crate::activity`],
//! [`crate::usage`]).

use std::collections::{HashMap, HashSet};
use std::fs;

use fastrand::Rng;
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::proc::{Page, Stat};
use crate::sample::{choose, scaled};

/// Processes that are looked at together, such as a server and all its descendants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    /// Those that have children, and the root: what a child used is added to its parent when it ends.
    pub(crate) parents: Vec<Pid>,
    /// Those that have none, or some of them.
    pub(crate) children: Vec<Pid>,
    /// How many of those there are.
    pub(crate) population: usize,
}

/// CPU time of the processes of a tree at one moment, in nanoseconds; `None` for those that have ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuTimes {
    parents: Vec<Option<u64>>,
    children: Vec<Option<u64>>,
    /// How many children there are.
    population: usize,
    /// Of the ended children of each parent; in steps of a clock tick (10 ms).
    ended: Vec<Option<u64>>,
}

/// All processes of the machine at one moment, as far as this process may see them.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Children by parent.
    children: HashMap<i32, Vec<i32>>,
    /// The kernel's own that go on with the work of the network stack when it gets too much: whom they work
    /// for is not told.
    pub(crate) softirq: Vec<Pid>,
}

impl Processes {
    /// The parents stand in each process's `stat`; the kernel's list of children is an option that many
    /// builds leave out.
    pub(crate) fn find() -> Processes {
        let mut processes = Processes { children: HashMap::new(), softirq: Vec::new() };
        let mut page = Page::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Some(text) = page.open(pid, "stat") else { continue };
            if let Some(stat) = Stat::parse(&text) {
                processes.children.entry(stat.parent).or_default().push(pid);
            }
            if text.contains("(ksoftirqd/") {
                processes.softirq.push(Pid::from_raw(pid));
            }
        }
        processes
    }

    /// `root` and its descendants.
    pub(crate) fn tree(&self, root: Pid) -> Tree {
        let mut tree = Tree { parents: vec![root], ..Tree::default() };
        let mut next = 0;
        while let Some(parent) = tree.parents.get(next) {
            let children = self.children.get(&parent.as_raw()).map(Vec::as_slice).unwrap_or_default();
            children.iter().for_each(|&pid| self.add(pid, &mut tree));
            next += 1;
        }
        tree
    }

    /// All that are neither in `tree` nor among `known`.
    pub(crate) fn others(&self, tree: &Tree, known: &[Pid]) -> Tree {
        let known: HashSet<Pid> = tree.pids().chain(known.iter().copied()).collect();
        let mut others = Tree::default();
        let all = self.children.values().flatten();
        all.filter(|&&pid| !known.contains(&Pid::from_raw(pid))).for_each(|&pid| self.add(pid, &mut others));
        others
    }

    fn add(&self, pid: i32, tree: &mut Tree) {
        if self.children.contains_key(&pid) {
            tree.parents.push(Pid::from_raw(pid));
        } else {
            tree.children.push(Pid::from_raw(pid));
            tree.population += 1;
        }
    }
}

impl Tree {
    /// This tree with at most `most` of its children, which count for all of them.
    pub(crate) fn thinned(&self, most: usize, random: &mut Rng) -> Tree {
        Tree { children: choose(&self.children, most, random), ..self.clone() }
    }

    /// Those of this tree that were not in `earlier`.
    pub(crate) fn newcomers(&self, earlier: &Tree) -> Tree {
        let known: HashSet<Pid> = earlier.pids().collect();
        let children: Vec<Pid> = self.pids().filter(|pid| !known.contains(pid)).collect();
        Tree { parents: Vec::new(), population: children.len(), children }
    }

    /// Every process of it.
    pub(crate) fn all(&self) -> Vec<Pid> {
        self.pids().collect()
    }

    /// Reads the CPU clock of every process.
    pub(crate) fn cpu_times(&self) -> CpuTimes {
        let mut page = Page::new();
        let mut ended = |pid: &Pid| Some(Stat::parse(&page.open(pid.as_raw(), "stat")?)?.ended_children_ns);
        let clocks = |pids: &[Pid]| pids.iter().map(|&pid| Clock::Exact.read(pid)).collect();
        CpuTimes {
            parents: clocks(&self.parents),
            children: clocks(&self.children),
            population: self.population,
            ended: self.parents.iter().map(&mut ended).collect(),
        }
    }

    fn pids(&self) -> impl Iterator<Item = Pid> {
        self.parents.iter().chain(&self.children).copied()
    }
}

impl CpuTimes {
    /// CPU time in nanoseconds between `earlier`, of the same tree, and this moment. A process that ended in
    /// between is found in its parent's account.
    pub(crate) fn since(&self, earlier: &CpuTimes) -> u64 {
        let (mut lived, mut lost) = lived_and_lost(&earlier.children, &self.children);
        lived = scaled(lived, self.children.len(), self.population);
        lost = scaled(lost, self.children.len(), self.population);
        let (lived_parents, lost_parents) = lived_and_lost(&earlier.parents, &self.parents);
        // A parent that ends leaves its account to its own parent.
        let (reaped, lost_accounts) = lived_and_lost(&earlier.ended, &self.ended);
        lost += lost_parents + lost_accounts;
        // The account of ended children holds their whole life, of which the time before the window was not
        // in it.
        lived + lived_parents + reaped.saturating_sub(lost)
    }

    /// CPU time in nanoseconds of all that are there, since each of them began.
    pub(crate) fn total(&self) -> u64 {
        self.parents.iter().chain(&self.children).flatten().sum()
    }
}

/// What those have grown by that are still there, and what the others had.
fn lived_and_lost(then: &[Option<u64>], now: &[Option<u64>]) -> (u64, u64) {
    then.iter().zip(now).fold((0, 0), |(lived, lost), (then, now)| match (then.unwrap_or(0), now) {
        (then, Some(now)) => (lived + now.saturating_sub(then), lost),
        (then, None) => (lived, lost + then),
    })
}

/// A clock that counts the CPU time of a process and all its threads.
///
/// clock_getcpuclockid(3) gives the exact one only, and asks the kernel whether the process exists, which
/// reading the clock does again. The numbers are the kernel's interface all the same: that function computes
/// them in the same way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// User and system time by ticks: each adds its whole length to whoever it finds running.
    Ticks = 0,
    /// User time by ticks.
    UserTicks = 1,
    /// What the scheduler measures, in nanoseconds.
    Exact = 2,
}

impl Clock {
    /// Nanoseconds; `None` if the process has ended.
    pub(crate) fn read(self, pid: Pid) -> Option<u64> {
        nanoseconds(ClockId::from_raw((!pid.as_raw() << 3) | self as i32))
    }
}

/// What a clock shows now.
pub(crate) fn nanoseconds(clock: ClockId) -> Option<u64> {
    let time = clock.now().ok()?;
    Some(time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    /// A shell with two sleeping children; all three are killed by id.
    pub(crate) struct Family(Child, pub(crate) Vec<Pid>);

    impl Family {
        pub(crate) fn start() -> Family {
            let script = "sleep 600 & echo $!; sleep 600 & echo $!; wait";
            let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(shell.stdout.take().unwrap()).lines().take(2);
            let children = lines.map(|line| Pid::from_raw(line.unwrap().parse().unwrap())).collect();
            Family(shell, children)
        }

        pub(crate) fn pid(&self) -> Pid {
            Pid::from_raw(self.0.id().cast_signed())
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            for &child in &self.1 {
                let _ = kill(child, Signal::SIGKILL);
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_tree_holds_the_root_and_its_children_and_nobody_else() {
        let family = Family::start();
        let mut tree = Processes::find().tree(family.pid());
        assert_eq!(tree.parents, [family.pid()]);
        let mut expected = family.1.clone();
        tree.children.sort();
        expected.sort();
        assert_eq!(tree.children, expected);
    }

    #[test]
    fn the_others_are_all_but_the_tree_and_those_that_are_named() {
        let family = Family::start();
        let processes = Processes::find();
        let others = processes.others(&processes.tree(family.1[0]), &[family.1[1]]);
        assert!(others.parents.contains(&family.pid()) && others.pids().any(|pid| pid == Pid::this()));
        assert!(others.pids().all(|pid| !family.1.contains(&pid)));
    }

    #[test]
    fn cpu_time_of_this_process_grows_with_its_work() {
        let tree = Processes::find().tree(Pid::this());
        let before = tree.cpu_times();
        let own = ClockId::CLOCK_PROCESS_CPUTIME_ID;
        let start = nanoseconds(own).unwrap();
        while nanoseconds(own).unwrap() - start < 5_000_000 {}
        assert!(tree.cpu_times().since(&before) >= 5_000_000);
    }

    #[test]
    fn the_clocks_of_a_process_are_those_of_the_manual_page() {
        let pid = Pid::this();
        let named = ClockId::pid_cpu_clock_id(pid).unwrap();
        let (before, exact, after) = (nanoseconds(named), Clock::Exact.read(pid), nanoseconds(named));
        assert!(before <= exact && exact <= after);
        assert!(Clock::UserTicks.read(pid) <= Clock::Ticks.read(pid));
    }

    /// The first is the parent, and the account of the children that it has waited for stands behind.
    fn times(processes: &[Option<u64>], population: usize, ended: u64) -> CpuTimes {
        CpuTimes {
            parents: processes[..1].to_vec(),
            children: processes[1..].to_vec(),
            population,
            ended: vec![Some(ended)],
        }
    }

    #[test]
    fn the_time_of_a_process_that_ends_in_the_window_is_taken_from_its_parent() {
        let before = times(&[Some(100), Some(500), Some(40)], 2, 1000);
        // The second lived for 200 more in the window and was reaped with 700.
        assert_eq!(times(&[Some(150), None, Some(60)], 2, 1700).since(&before), 50 + 20 + 200);
        // Ticks are coarse: what rounds to less than nothing counts as nothing.
        assert_eq!(times(&[Some(150), None, Some(60)], 2, 1000).since(&before), 70);
    }

    #[test]
    fn the_account_of_a_parent_that_ends_is_not_counted_again() {
        let times = |parents: [Option<u64>; 2], ended: [Option<u64>; 2]| CpuTimes {
            parents: parents.to_vec(),
            ended: ended.to_vec(),
            ..CpuTimes::default()
        };
        // The second had used 500, and its children 9000, before the window; in it, it used 200 more.
        let before = times([Some(100), Some(500)], [Some(1000), Some(9000)]);
        let after = times([Some(150), None], [Some(1000 + 700 + 9000), None]);
        assert_eq!(after.since(&before), 50 + 200);
    }

    #[test]
    fn some_of_the_children_count_for_all() {
        let before = times(&[Some(100), Some(5), Some(7)], 10, 0);
        assert_eq!(times(&[Some(130), Some(15), Some(27)], 10, 0).since(&before), 30 + 5 * (10 + 20));
        // Half of the sample ended, so half of all did, with 5 × 5 before the window and 5 × 12 in all.
        assert_eq!(times(&[Some(130), None, Some(27)], 10, 60).since(&before), 30 + 5 * 20 + (60 - 25));
        let tree = Tree { parents: vec![Pid::this()], ..Tree::default() };
        let many = Tree { children: vec![Pid::parent(); 100], population: 100, ..tree };
        let thinned = many.thinned(8, &mut Rng::with_seed(1));
        assert_eq!((thinned.parents.len(), thinned.children.len(), thinned.population), (1, 8, 100));
    }

    #[test]
    fn who_began_in_the_window_is_found_behind_it() {
        let family = Family::start();
        let now = Processes::find().tree(family.pid());
        let earlier = Tree { parents: now.parents.clone(), children: vec![family.1[0]], population: 1 };
        let newcomers = now.newcomers(&earlier);
        assert_eq!((newcomers.parents, newcomers.children), (vec![], vec![family.1[1]]));
    }
}
