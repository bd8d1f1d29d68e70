//! Counts by the kernel's tracepoints, through perf_event_open(2): over the whole process tree, until its last process has ended.
//!
//! An event is attached to the server before it has any clients and is inherited by all it makes. What its children have called is in it when they
//! have ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

use crate::tree::Processes;

/// Where the kernel lists its tracepoints, if somebody has mounted it.
const FOLDERS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];

/// The calls that servers live on. What else they call is counted as `other`.
const NAMES: &[&str] = &[
    "accept4",
    "bind",
    "brk",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "exit",
    "exit_group",
    "fcntl",
    "futex",
    "getsockopt",
    "io_uring_enter",
    "ioctl",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "openat",
    "poll",
    "ppoll",
    "pselect6",
    "read",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "select",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "timerfd_settime",
    "wait4",
    "write",
    "writev",
];

/// Counters of one server, switched off at first.
pub(super) struct Tracepoints {
    named: Vec<(&'static str, Vec<Counter>)>,
    all: Vec<Counter>,
}

impl Tracepoints {
    /// Attaches to a server and to every process and thread that it has by now. It is stopped meanwhile: what it makes is counted with whoever makes
    /// it, and must not be found a second time, or by half of the counters.
    pub(super) fn attach(server: Pid) -> io::Result<Tracepoints> {
        // Either fails only where there is nobody any more to be counted.
        let _ = killpg(server, Signal::SIGSTOP);
        let attached = Tracepoints::attach_to(&Processes::find().tree(server).all());
        let _ = killpg(server, Signal::SIGCONT);
        attached
    }

    /// Whether this process may count calls, its own at least.
    pub(super) fn are_permitted() -> io::Result<()> {
        counters(&everything()?, &[Pid::this().as_raw()]).map(drop)
    }

    fn attach_to(processes: &[Pid]) -> io::Result<Tracepoints> {
        let all = everything()?;
        let folder = all.ancestors().nth(3).unwrap_or(&all).to_owned();
        let tasks = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
        let threads: Vec<i32> =
            tasks.flatten().flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
        let all = counters(&all, &threads)?;
        // A name that this architecture does not have is none that the server can call.
        let ids = NAMES.iter().map(|name| (*name, folder.join(format!("syscalls/sys_enter_{name}/id"))));
        let named = ids
            .filter(|(_, path)| path.exists())
            .map(|(name, path)| Ok((name, counters(&path, &threads)?)))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Tracepoints { named, all })
    }

    pub(super) fn enable(&mut self) -> io::Result<()> {
        self.each(Counter::enable)
    }

    #[cfg(test)]
    fn disable(&mut self) -> io::Result<()> {
        self.each(Counter::disable)
    }

    /// Calls by name, and those without a name of their own here as `other`.
    pub(super) fn counts(&mut self) -> io::Result<BTreeMap<String, u64>> {
        let sum = |counters: &mut [Counter]| counters.iter_mut().map(Counter::read).sum::<io::Result<u64>>();
        let all = sum(&mut self.all)?;
        let mut counts = BTreeMap::new();
        for (name, counters) in &mut self.named {
            counts.insert((*name).to_owned(), sum(counters)?);
        }
        let named: u64 = counts.values().sum();
        counts.insert("other".to_owned(), all.saturating_sub(named));
        counts.retain(|_, count| *count > 0);
        Ok(counts)
    }

    fn each(&mut self, action: fn(&mut Counter) -> io::Result<()>) -> io::Result<()> {
        let named = self.named.iter_mut().flat_map(|(_, counters)| counters);
        named.chain(&mut self.all).try_for_each(action)
    }
}

/// The number of the event that every call is.
fn everything() -> io::Result<PathBuf> {
    let paths = FOLDERS.iter().map(|folder| Path::new(folder).join("raw_syscalls/sys_enter/id"));
    let found = paths.into_iter().find(|path| path.exists());
    found.ok_or_else(|| io::Error::other("the kernel's tracepoints are not mounted"))
}

fn counters(id: &Path, threads: &[i32]) -> io::Result<Vec<Counter>> {
    let id = fs::read_to_string(id)?.trim().parse().map_err(io::Error::other)?;
    let counter = |&thread: &i32| {
        let mut builder = Builder::new(Tracepoint::with_id(id));
        builder.observe_pid(thread).any_cpu().inherit(true).enabled(false).include_kernel();
        builder.build()
    };
    threads.iter().map(counter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn calls_of_a_child_are_counted_by_name() {
        let mut shell = Command::new("sh")
            .args(["-c", "echo ready; read go; dd if=/dev/zero of=/dev/null bs=1 count=100 2>/dev/null; echo done; read stop"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut orders = shell.stdin.take().unwrap();
        said.next().unwrap().unwrap();
        match Tracepoints::attach(Pid::from_raw(shell.id().cast_signed())) {
            Ok(mut tracepoints) => {
                tracepoints.enable().unwrap();
                writeln!(orders, "go").unwrap();
                said.next().unwrap().unwrap();
                tracepoints.disable().unwrap();
                let counts = tracepoints.counts().unwrap();
                // The shell itself reads its order byte by byte, and says that it is done.
                assert!((100..130).contains(&counts["write"]) && counts["read"] >= 100, "{counts:?}");
            }
            Err(error) => switchboard_console::log!("not examined: {error}"),
        }
        drop(orders);
        shell.wait().unwrap();
    }
}
