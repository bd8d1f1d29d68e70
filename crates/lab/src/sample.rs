//! Some processes of a tree, to stand for all: reading /proc costs some ten microseconds a file, and `fork` has a
//! process for each connection.
//!
//! Processes that have children are read one by one, since there are few and each is different. Of the others, which do
//! all the same, a random part is read and counted as many times as there are more of them.

use std::collections::HashMap;
use std::fs;

use fastrand::Rng;
use nix::unistd::Pid;

use crate::tree::{Stat, Usage};

/// Processes without children that are read, and threads of one process.
const MOST: usize = 64;

/// Processes, each with the number of processes that it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    pid: i32,
    weight: f64,
    /// Threads that are read, and the number of threads that each stands for.
    threads: Vec<i32>,
    thread_weight: f64,
}

/// What a process did until some moment.
#[derive(Debug, Clone, Copy, Default)]
struct Deeds {
    stat: Stat,
    voluntary: u64,
    involuntary: u64,
}

/// What all processes did until some moment; only what lies between two is of use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(HashMap<i32, Deeds>);

/// What all processes did between two moments, scaled up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Done {
    pub(crate) user_ticks: f64,
    pub(crate) system_ticks: f64,
    pub(crate) voluntary: f64,
    pub(crate) involuntary: f64,
    pub(crate) faults_minor: f64,
    pub(crate) faults_major: f64,
}

impl Sample {
    pub(crate) fn of(pids: &[Pid], parents: &[Pid]) -> Sample {
        let mut random = Rng::new();
        let (few, many): (Vec<Pid>, Vec<Pid>) = pids.iter().partition(|pid| parents.contains(pid));
        let read = random.choose_multiple(many.iter(), MOST);
        let weight = many.len() as f64 / read.len().max(1) as f64;
        let members = few.iter().map(|pid| (pid, 1.0)).chain(read.into_iter().map(|pid| (pid, weight)));
        Sample {
            members: members.map(|(pid, weight)| Member::of(pid.as_raw(), weight, &mut random)).collect(),
        }
    }

    /// Processes that are read.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Reads what the processes did so far: about 20 microseconds for each.
    pub(crate) fn progress(&self) -> Progress {
        Progress(self.members.iter().filter_map(|member| Some((member.pid, member.deeds()?))).collect())
    }

    /// What was done between two readings. Processes that were not there at both ends count nothing.
    pub(crate) fn done(&self, before: &Progress, after: &Progress) -> Done {
        let mut done = Done::default();
        for member in &self.members {
            let (Some(then), Some(now)) = (before.0.get(&member.pid), after.0.get(&member.pid)) else {
                continue;
            };
            let weigh = |now: u64, then: u64| now.saturating_sub(then) as f64 * member.weight;
            done.user_ticks += weigh(now.stat.user_ticks, then.stat.user_ticks);
            done.system_ticks += weigh(now.stat.system_ticks, then.stat.system_ticks);
            done.faults_minor += weigh(now.stat.faults_minor, then.stat.faults_minor);
            done.faults_major += weigh(now.stat.faults_major, then.stat.faults_major);
            done.voluntary += weigh(now.voluntary, then.voluntary) * member.thread_weight;
            done.involuntary += weigh(now.involuntary, then.involuntary) * member.thread_weight;
        }
        done
    }

    /// Memory and threads, about a tenth of a millisecond for each process.
    pub(crate) fn usage(&self) -> Usage {
        let mut sum = [0.0; 5];
        for member in &self.members {
            let Some(usage) = usage_of(member.pid) else { continue };
            let figures = [
                usage.memory_bytes,
                usage.memory_allocated_bytes,
                usage.memory_peak_bytes,
                usage.page_tables_bytes,
                usage.threads,
            ];
            sum.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure as f64 * member.weight);
        }
        let [memory, allocated, peak, page_tables, threads] = sum.map(|figure| figure.round() as u64);
        Usage {
            memory_bytes: memory,
            memory_allocated_bytes: allocated,
            memory_peak_bytes: peak,
            page_tables_bytes: page_tables,
            threads,
            processes: 0,
        }
    }
}

impl Member {
    fn of(pid: i32, weight: f64, random: &mut Rng) -> Member {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let all: Vec<i32> = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
        let threads = random.choose_multiple(all.iter().copied(), MOST);
        let thread_weight = all.len() as f64 / threads.len().max(1) as f64;
        Member { pid, weight, threads, thread_weight }
    }

    fn deeds(&self) -> Option<Deeds> {
        let (mut voluntary, mut involuntary) = (0, 0);
        for thread in &self.threads {
            // One that has ended takes what it did with it.
            let Ok(status) = fs::read_to_string(format!("/proc/{}/task/{thread}/status", self.pid)) else {
                continue;
            };
            voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            involuntary += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Some(Deeds { stat: Stat::read(self.pid)?, voluntary, involuntary })
    }
}

/// One process; `None` if it has ended.
fn usage_of(pid: i32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let resident = field(&status, "VmRSS:").unwrap_or(0);
    let allocated = field(&rollup, "Pss_Anon:").map(|anon| anon + field(&rollup, "Pss_Shmem:").unwrap_or(0));
    Some(Usage {
        memory_bytes: field(&rollup, "Pss:").unwrap_or(resident) * 1024,
        memory_allocated_bytes: allocated.or(field(&status, "RssAnon:")).unwrap_or(resident) * 1024,
        memory_peak_bytes: field(&status, "VmHWM:").unwrap_or(0) * 1024,
        page_tables_bytes: field(&status, "VmPTE:").unwrap_or(0) * 1024,
        threads: field(&status, "Threads:").unwrap_or(1),
        processes: 1,
    })
}

/// The number behind `name` at the start of a line, in whatever unit the file has (kB in /proc).
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: i32, weight: f64, thread_weight: f64) -> Member {
        Member { pid, weight, threads: Vec::new(), thread_weight }
    }

    #[test]
    fn what_is_read_is_scaled_up_to_all() {
        let sample =
            Sample { members: vec![member(1, 1.0, 1.0), member(2, 10.0, 3.0), member(3, 10.0, 1.0)] };
        let deeds = |user_ticks, voluntary| Deeds {
            stat: Stat { user_ticks, faults_minor: user_ticks, ..Stat::default() },
            voluntary,
            involuntary: 0,
        };
        let before = Progress([(1, deeds(100, 5)), (2, deeds(10, 5)), (3, deeds(10, 5))].into());
        // Process 3 has ended.
        let after = Progress([(1, deeds(103, 6)), (2, deeds(12, 7))].into());
        let done = sample.done(&before, &after);
        assert_eq!((done.user_ticks, done.faults_minor), (3.0 + 20.0, 3.0 + 20.0));
        assert_eq!(done.voluntary, 1.0 + 2.0 * 10.0 * 3.0);
    }

    #[test]
    fn a_sample_of_many_stands_for_all_and_every_parent_is_in_it() {
        let pids: Vec<Pid> = (1..=1001).map(|number| Pid::from_raw(-number)).collect();
        let sample = Sample::of(&pids, &pids[..1]);
        assert_eq!(sample.len(), MOST + 1);
        assert_eq!((sample.members[0].pid, sample.members[0].weight), (-1, 1.0));
        let weights: f64 = sample.members.iter().map(|member| member.weight).sum();
        assert!((weights - 1001.0).abs() < 1e-6, "{weights}");
    }

    #[test]
    fn this_process_waits_and_touches_pages() {
        let sample = Sample::of(&[Pid::this()], &[Pid::this()]);
        let before = sample.progress();
        // A thread that is waited for, and memory that nobody has touched.
        std::thread::spawn(|| drop(vec![1u8; 8 << 20])).join().unwrap();
        let done = sample.done(&before, &sample.progress());
        assert!(done.faults_minor > 0.0, "{done:?}");
        assert!(sample.usage().page_tables_bytes > 0);
    }

    #[test]
    fn the_files_of_proc_are_understood() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t31\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(31));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(field("Pss:                 123 kB\nPss_Dirty: 4 kB\n", "Pss:"), Some(123));
    }
}
