//! What a tree of processes did in the window beside using CPU time: switches, faults, and user against
//! system time.
//!
//! Counters are read at both edges of a sample of the processes, from files that were opened before the
//! window.

use std::fs::{self, File};

use fastrand::Rng;
use nix::unistd::Pid;

use crate::proc::{Page, Stat, Switches};
use crate::sample::{choose, scaled};
use crate::tree::{Clock, Tree};

/// What is read at the edges: all parents, and some of the children.
#[derive(Debug)]
pub(crate) struct Sample {
    members: Vec<Member>,
    clocks_of_parents: Vec<Pid>,
    clocks_of_children: Vec<Pid>,
    /// How many children there are.
    children: usize,
    page: Page,
}

/// The open files of one process.
#[derive(Debug)]
struct Member {
    is_parent: bool,
    stat: File,
    /// The status of the first thread, which often does something else than the others, and of some of the
    /// others.
    threads: Vec<File>,
    /// How many others there are.
    other_threads: usize,
}

/// The counters of a sample at one moment, in the sample's order; `None` for those that have ended.
#[derive(Debug)]
pub(crate) struct Reading {
    members: Vec<Option<Counters>>,
    parents: Vec<Option<Ticks>>,
    children: Vec<Option<Ticks>>,
}

#[derive(Debug)]
struct Counters {
    stat: Stat,
    threads: Vec<Option<Switches>>,
}

/// CPU time by ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    all_ns: u64,
    user_ns: u64,
}

/// What the whole tree did between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Activity {
    pub(crate) switches_voluntary: u64,
    pub(crate) switches_involuntary: u64,
    pub(crate) faults_minor: u64,
    pub(crate) faults_major: u64,
    /// User time as a share of all CPU time, if a tick met one of those that were asked.
    pub(crate) user_share: Option<f64>,
    /// Processes that were read one by one.
    pub(crate) processes_read: u64,
}

impl Sample {
    /// Chooses at most `most` of the children, and as many threads, to be read one by one; user and system
    /// time are told apart by the clocks of at most `most_clocks` of the children.
    pub(crate) fn of(tree: &Tree, most: usize, most_clocks: usize, random: &mut Rng) -> Sample {
        let chosen = choose(&tree.children, most, random);
        let threads_each = most / (tree.parents.len() + chosen.len());
        let all = tree.parents.iter().map(|pid| (pid, true)).chain(chosen.iter().map(|pid| (pid, false)));
        Sample {
            members: all
                .filter_map(|(&pid, is_parent)| Member::open(pid, is_parent, threads_each.max(1), random))
                .collect(),
            clocks_of_parents: tree.parents.clone(),
            clocks_of_children: choose(&tree.children, most_clocks, random),
            children: tree.children.len(),
            page: Page::new(),
        }
    }

    pub(crate) fn read(&mut self) -> Reading {
        let page = &mut self.page;
        let ticks = |pids: &[Pid]| pids.iter().map(|&pid| Ticks::read(pid)).collect();
        Reading {
            members: self.members.iter().map(|member| member.read(page)).collect(),
            parents: ticks(&self.clocks_of_parents),
            children: ticks(&self.clocks_of_children),
        }
    }

    /// What the whole tree did between two readings. A child that ended in between counts like the mean of
    /// the others.
    pub(crate) fn between(&self, before: &Reading, after: &Reading) -> Activity {
        let (mut parents, mut children) = (Activity::default(), Activity::default());
        let edges = before.members.iter().zip(&after.members);
        for (member, (before, after)) in self.members.iter().zip(edges) {
            if let (Some(before), Some(after)) = (before, after) {
                let sum = if member.is_parent { &mut parents } else { &mut children };
                sum.add(&after.since(before, member.other_threads));
            }
        }
        let read = usize::try_from(children.processes_read).unwrap_or(usize::MAX);
        let all = |sum| scaled(sum, read, self.children);
        Activity {
            switches_voluntary: parents.switches_voluntary + all(children.switches_voluntary),
            switches_involuntary: parents.switches_involuntary + all(children.switches_involuntary),
            faults_minor: parents.faults_minor + all(children.faults_minor),
            faults_major: parents.faults_major + all(children.faults_major),
            user_share: self.user_share(before, after),
            processes_read: parents.processes_read + children.processes_read,
        }
    }

    /// Whether user and system time are those of all processes.
    pub(crate) fn has_all_clocks(&self) -> bool {
        self.clocks_of_children.len() == self.children
    }

    fn user_share(&self, before: &Reading, after: &Reading) -> Option<f64> {
        let (parents, _) = Ticks::between(&before.parents, &after.parents);
        let (children, read) = Ticks::between(&before.children, &after.children);
        let all = |own, sum| (own + scaled(sum, read, self.children)) as f64;
        let total = all(parents.all_ns, children.all_ns);
        (total > 0.0).then(|| all(parents.user_ns, children.user_ns) / total)
    }
}

impl Member {
    fn open(pid: Pid, is_parent: bool, most_threads: usize, random: &mut Rng) -> Option<Member> {
        let status = |thread: i32| File::open(format!("/proc/{pid}/task/{thread}/status")).ok();
        let names = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().map(|entry| entry.file_name());
        let others: Vec<i32> = names
            .filter_map(|name| name.to_str()?.parse().ok())
            .filter(|&thread| thread != pid.as_raw())
            .collect();
        let mut threads = vec![status(pid.as_raw())?];
        threads.extend(choose(&others, most_threads, random).into_iter().filter_map(status));
        let stat = File::open(format!("/proc/{pid}/stat")).ok()?;
        Some(Member { is_parent, stat, threads, other_threads: others.len() })
    }

    fn read(&self, page: &mut Page) -> Option<Counters> {
        let stat = Stat::parse(&page.read(&self.stat)?)?;
        let threads = self.threads.iter().map(|file| Switches::parse(&page.read(file)?)).collect();
        Some(Counters { stat, threads })
    }
}

impl Counters {
    fn since(&self, before: &Counters, other_threads: usize) -> Activity {
        let mut threads = self.threads.iter().zip(&before.threads).map(|(now, then)| now.zip(*then));
        let switches = |(now, then): (Switches, Switches)| {
            (now.voluntary.saturating_sub(then.voluntary), now.involuntary.saturating_sub(then.involuntary))
        };
        let first = threads.next().flatten().map_or((0, 0), switches);
        let others: Vec<_> = threads.flatten().map(switches).collect();
        let all = |sum| scaled(sum, others.len(), other_threads);
        Activity {
            switches_voluntary: first.0 + all(others.iter().map(|one| one.0).sum()),
            switches_involuntary: first.1 + all(others.iter().map(|one| one.1).sum()),
            faults_minor: self.stat.faults_minor.saturating_sub(before.stat.faults_minor),
            faults_major: self.stat.faults_major.saturating_sub(before.stat.faults_major),
            user_share: None,
            processes_read: 1,
        }
    }
}

impl Activity {
    fn add(&mut self, other: &Activity) {
        self.switches_voluntary += other.switches_voluntary;
        self.switches_involuntary += other.switches_involuntary;
        self.faults_minor += other.faults_minor;
        self.faults_major += other.faults_major;
        self.processes_read += other.processes_read;
    }
}

impl Ticks {
    fn read(pid: Pid) -> Option<Ticks> {
        // In this order user time is never the longer one.
        let user_ns = Clock::UserTicks.read(pid)?;
        Some(Ticks { all_ns: Clock::Ticks.read(pid)?, user_ns })
    }

    /// The sum over those that are in both, and their number.
    fn between(before: &[Option<Ticks>], after: &[Option<Ticks>]) -> (Ticks, usize) {
        let (mut sum, mut read) = (Ticks::default(), 0);
        for (then, now) in before.iter().zip(after) {
            if let (Some(then), Some(now)) = (then, now) {
                sum.all_ns += now.all_ns.saturating_sub(then.all_ns);
                sum.user_ns += now.user_ns.saturating_sub(then.user_ns);
                read += 1;
            }
        }
        (Ticks { user_ns: sum.user_ns.min(sum.all_ns), ..sum }, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Processes;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_family_that_works_switches_and_faults() {
        // A shell with two children, one of which starts a process for each line and waits for it.
        let script = "cat | while read line; do (:); echo $line; done; :";
        let mut command = Command::new("sh");
        let mut shell =
            command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut line = || {
            input.write_all(b"line\n").unwrap();
            output.next().unwrap().unwrap();
        };
        line();
        let tree = Processes::find().tree(Pid::from_raw(shell.id().cast_signed()));
        let mut sample = Sample::of(&tree, 64, 64, &mut Rng::with_seed(1));
        let before = sample.read();
        (0..50).for_each(|_| line());
        let after = sample.read();
        let activity = sample.between(&before, &after);
        let nothing = sample.between(&before, &before);
        drop(input);
        shell.wait().unwrap();
        assert_eq!(activity.processes_read, 3);
        assert!(activity.switches_voluntary > 0 && activity.faults_minor > 0, "{activity:?}");
        assert!(activity.user_share.is_none_or(|share| (0.0..=1.0).contains(&share)), "{activity:?}");
        assert_eq!((nothing.switches_voluntary, nothing.faults_minor), (0, 0));
    }

    #[test]
    fn of_many_threads_some_are_read_and_the_first_for_itself() {
        let at = |voluntary| Some(Switches { voluntary, involuntary: 1 });
        let counters = |threads| Counters { stat: Stat::default(), threads };
        let before = counters(vec![at(1000), at(5), at(5), at(5)]);
        // The last one has ended, and there are 100 beside the first.
        let after = counters(vec![at(1001), at(7), at(9), None]);
        assert_eq!(after.since(&before, 100).switches_voluntary, 1 + (2 + 4) * 50);
    }

    #[test]
    fn threads_of_this_process_are_found_and_not_more_read_than_asked_for() {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || wait.recv());
        let member = Member::open(Pid::this(), true, 1, &mut Rng::with_seed(1)).unwrap();
        assert!(member.other_threads >= 1 && member.threads.len() <= 2);
        assert!(member.read(&mut Page::new()).is_some());
        drop(end);
        let _ = waiting.join();
    }

    #[test]
    fn user_time_is_a_share_of_what_the_ticks_met() {
        let ticks = |user_ns, all_ns| Some(Ticks { all_ns, user_ns });
        let sample = Sample {
            members: Vec::new(),
            clocks_of_parents: Vec::new(),
            clocks_of_children: vec![Pid::this()],
            children: 20,
            page: Page::new(),
        };
        let reading = |parent, children| Reading { members: Vec::new(), parents: vec![parent], children };
        let before = reading(ticks(0, 40), vec![ticks(0, 0), ticks(8, 8), ticks(4, 8)]);
        let after = reading(ticks(40, 80), vec![ticks(4, 8), ticks(8, 12), None]);
        // The parent: 40 of 40. Two children: 4 of 12, which are ten times as many.
        assert_eq!(sample.user_share(&before, &after), Some((40.0 + 40.0) / (40.0 + 120.0)));
        assert_eq!(sample.user_share(&before, &before), None, "no tick");
        assert!(!sample.has_all_clocks());
    }
}
