//! The memory, threads and processes of a tree: read before the first connection and, with all of them open,
//! after the window.

use fastrand::Rng;

use crate::proc::{Page, field};
use crate::sample::{choose, scaled};
use crate::tree::Tree;

/// Children that are read: one takes a twentieth of a millisecond, and far more with many thousand pages.
const READ: usize = 64;

/// What a tree holds, as the kernel accounts it. Of many children some are read and count for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Proportional set size; resident set size where the kernel does not offer it.
    pub(crate) memory_bytes: u64,
    /// The part of it that belongs to no file: what the program has allocated. Without the pages of the
    /// program itself, whose share changes with the number of others that run it.
    pub(crate) memory_allocated_bytes: u64,
    /// Sum of each process's largest resident set.
    pub(crate) memory_peak_bytes: u64,
    pub(crate) page_tables_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) processes: u64,
}

impl Usage {
    /// Who has ended since the tree was found holds nothing.
    pub(crate) fn of(tree: &Tree, random: &mut Rng) -> Usage {
        let mut page = Page::new();
        let mut sum = |pids: &[nix::unistd::Pid]| {
            pids.iter()
                .filter_map(|&pid| Usage::of_process(pid.as_raw(), &mut page))
                .fold(Usage::default(), Usage::plus)
        };
        let chosen = choose(&tree.children, READ, random);
        sum(&tree.parents).plus(sum(&chosen).scaled(chosen.len(), tree.children.len()))
    }

    /// One process; `None` if it has ended.
    fn of_process(pid: i32, page: &mut Page) -> Option<Usage> {
        let status = page.open(pid, "status")?.into_owned();
        let rollup = page.open(pid, "smaps_rollup").unwrap_or_default();
        let resident = field(&status, "VmRSS:").unwrap_or(0);
        let allocated =
            field(&rollup, "Pss_Anon:").map(|anon| anon + field(&rollup, "Pss_Shmem:").unwrap_or(0));
        Some(Usage {
            memory_bytes: field(&rollup, "Pss:").unwrap_or(resident) * 1024,
            memory_allocated_bytes: allocated.or(field(&status, "RssAnon:")).unwrap_or(resident) * 1024,
            memory_peak_bytes: field(&status, "VmHWM:").unwrap_or(0) * 1024,
            page_tables_bytes: field(&status, "VmPTE:").unwrap_or(0) * 1024,
            threads: field(&status, "Threads:").unwrap_or(1),
            processes: 1,
        })
    }

    fn plus(self, other: Usage) -> Usage {
        Usage {
            memory_bytes: self.memory_bytes + other.memory_bytes,
            memory_allocated_bytes: self.memory_allocated_bytes + other.memory_allocated_bytes,
            memory_peak_bytes: self.memory_peak_bytes + other.memory_peak_bytes,
            page_tables_bytes: self.page_tables_bytes + other.page_tables_bytes,
            threads: self.threads + other.threads,
            processes: self.processes + other.processes,
        }
    }

    fn scaled(self, read: usize, all: usize) -> Usage {
        let all = |sum| scaled(sum, read, all);
        Usage {
            memory_bytes: all(self.memory_bytes),
            memory_allocated_bytes: all(self.memory_allocated_bytes),
            memory_peak_bytes: all(self.memory_peak_bytes),
            page_tables_bytes: all(self.page_tables_bytes),
            threads: all(self.threads),
            processes: all(self.processes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Processes, tests::Family};
    use nix::sys::signal::{Signal, kill};

    #[test]
    fn usage_counts_every_process_of_the_tree() {
        let family = Family::start();
        let usage = Usage::of(&Processes::find().tree(family.pid()), &mut Rng::with_seed(1));
        assert_eq!((usage.processes, usage.threads), (3, 3));
        assert!(
            usage.memory_bytes > usage.memory_allocated_bytes && usage.memory_allocated_bytes > 0,
            "{usage:?}"
        );
        assert!(usage.memory_peak_bytes > 0 && usage.page_tables_bytes > 0, "{usage:?}");
    }

    #[test]
    fn a_child_that_has_ended_leaves_the_usage_and_keeps_the_rest() {
        let family = Family::start();
        let tree = Processes::find().tree(family.pid());
        kill(family.1[0], Signal::SIGKILL).unwrap();
        let status = format!("/proc/{}/status", family.1[0]);
        while std::fs::read_to_string(&status).is_ok_and(|status| status.contains("VmRSS")) {
            std::thread::yield_now();
        }
        let usage = Usage::of(&tree, &mut Rng::with_seed(1));
        assert!(usage.processes >= 2 && usage.memory_bytes > 0, "{usage:?}");
    }

    #[test]
    fn a_sample_counts_for_all() {
        let one = Usage { memory_bytes: 1000, threads: 2, processes: 1, ..Usage::default() };
        let all = one.plus(one).scaled(2, 300);
        assert_eq!((all.memory_bytes, all.threads, all.processes), (300_000, 600, 300));
    }
}
