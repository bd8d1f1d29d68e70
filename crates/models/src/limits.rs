//! The limits that a server can run into, and what it says when it does.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use switchboard_proto::TooManyGuests;

/// Descriptors below the process's limit that are kept for refusing: without one, a surplus connection
/// could not be accepted, so it could not be answered either.
const RESERVED: RawFd = 32;

/// A limit that keeps one more connection out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// select(2) has no bit for this descriptor.
    FdSetsize,
    /// RLIMIT_NOFILE is that many.
    Descriptors(RawFd),
    /// fork(2) failed: RLIMIT_NPROC, pid_max, a cgroup, or memory.
    Processes,
    /// A thread could not be made, for the same reasons.
    Threads,
    /// Each connection takes a worker, and there are so many.
    Workers(usize),
    /// `--max-connections`.
    MaxConnections(usize),
    /// `--max-per-address`.
    PerAddress(TooManyGuests),
}

impl Limit {
    /// One word, for programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Limit::FdSetsize => "FD_SETSIZE",
            Limit::Descriptors(_) => "descriptors",
            Limit::Processes => "processes",
            Limit::Threads => "threads",
            Limit::Workers(_) => "workers",
            Limit::MaxConnections(_) => "max-connections",
            Limit::PerAddress(_) => "per-address",
        }
    }

    /// The limit and the way out, for people.
    pub(crate) fn sentence(self, descriptor: RawFd) -> String {
        match self {
            Limit::FdSetsize => format!(
                "select cannot watch descriptor {descriptor}: FD_SETSIZE is {FD_SETSIZE}; \
                 use poll or epoll, or --max-connections 1000"
            ),
            Limit::Descriptors(limit) => format!(
                "no descriptor left: RLIMIT_NOFILE is {limit}; raise it with ulimit -n, or use --max-connections"
            ),
            Limit::Processes => {
                "no process left: see ulimit -u and kernel.pid_max; use threads or epoll, or --max-connections"
                    .into()
            }
            Limit::Threads => {
                "no thread left: see ulimit -u, kernel.threads-max and vm.max_map_count (a thread takes up to 6 mappings); \
                 use epoll, or --max-connections"
                    .into()
            }
            Limit::Workers(limit) => {
                format!("each of {limit} workers has a connection; try again later, or use --workers or a model that needs none")
            }
            Limit::PerAddress(error) => error.to_string(),
            Limit::MaxConnections(limit) => {
                format!("{limit} connections are open, and --max-connections allows no more; try again later")
            }
        }
    }
}

/// Descriptors that select(2) can watch: the bits of its sets (select(2), "BUGS").
pub(crate) const FD_SETSIZE: RawFd = nix::libc::FD_SETSIZE as RawFd;

/// The first descriptor number that a server may not use for a connection, and why.
///
/// The kernel always gives the lowest free number, so the number of a new connection says how many are in use.
pub(crate) fn descriptor_ceiling(watchable: Option<RawFd>) -> (RawFd, Limit) {
    let soft = soft_limit();
    let usable = soft - RESERVED.min(soft / 4);
    match watchable {
        Some(watchable) if watchable <= usable => (watchable, Limit::FdSetsize),
        _ => (usable, Limit::Descriptors(soft)),
    }
}

/// The first descriptor that a refused connection may not keep. Half of the reserve, below it, holds refused connections whose response is on its way; the
/// other half is for refusing the next connections.
pub(crate) fn refusing_ceiling() -> RawFd {
    let soft = soft_limit();
    soft - RESERVED.min(soft / 4) / 2
}

/// The limit that was met when the system has no descriptor left.
pub(crate) fn no_descriptor_left() -> Limit {
    Limit::Descriptors(soft_limit())
}

pub(crate) fn soft_limit() -> RawFd {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    RawFd::try_from(soft).unwrap_or(RawFd::MAX)
}

/// Connections that a thread each can be given to before the process runs out of memory mappings, where the
/// allocator would abort it: each takes a stack, a signal stack, their guard pages, and perhaps a large buffer.
pub(crate) fn thread_ceiling() -> usize {
    const MAPPINGS_PER_THREAD: usize = 6;
    let max_map_count = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let max_map_count = max_map_count.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_530_usize);
    max_map_count / MAPPINGS_PER_THREAD
}

/// Raises this process's soft limit on descriptors to the hard one. Returns what it was and what it is.
///
/// # Errors
/// The system's, when it does not allow even that.
pub fn raise_descriptor_limit() -> io::Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok((soft, hard))
}

/// Number of the allocator's arenas. The default is up to eight for each core. Memory freed in one arena is of no use to a thread with another, so a server
/// with many threads would grow from round to round.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// The memory that this process may use, in bytes: the machine's, or its control group's if that is less. `None` if unknown.
pub fn available_memory() -> Option<usize> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // Version 2 has one line, `0::/path`; in version 1 the memory controller has a line of its own. A limit may be set at each level above.
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (root, file) = match parts.next() {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some("memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        let path = std::path::Path::new(parts.next().unwrap_or_default());
        path.ancestors().filter_map(|level| number(&format!("{root}{}/{file}", level.display()))).collect()
    });
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
    });
    limits.chain(machine).min()
}

/// Lets the allocator keep what is freed for the next message, instead of giving it back to the system and taking it again. Where replies wait
/// for a while, as they do for a ring, it would do that for each of them, and every page of it be a page fault (mallopt(3)). Threads share the memory kept.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        const TRIM_BYTES: i32 = 16 << 20;
        const MMAP_BYTES: i32 = 4 << 20;
        // SAFETY: each changes a number and nothing else.
        unsafe {
            nix::libc::mallopt(nix::libc::M_ARENA_MAX, ARENAS);
            nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, TRIM_BYTES);
            nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MMAP_BYTES);
        }
    }
}

/// A line in the log for something that may repeat thousands of times a second: once a second at the most,
/// with the number of times that were not logged.
#[derive(Debug, Default)]
pub(crate) struct RepeatedLog {
    last: Option<Instant>,
    suppressed: u64,
}

impl RepeatedLog {
    pub(crate) fn log(&mut self, now: Instant, what: &str) {
        if self.last.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
            self.suppressed += 1;
            return;
        }
        match std::mem::take(&mut self.suppressed) {
            0 => switchboard_console::log!("{what}"),
            more => switchboard_console::log!("{what} (and {more} times since the last such line)"),
        }
        self.last = Some(now);
    }
}
