//! A served port, and the process behind it as the system sees it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};
use switchboard_models::{Model, Tally};

use crate::child::{self, Settings};
use crate::client::{Client, PATIENCE, eventually};

/// A server in a process, and a process group, of its own.
pub(crate) struct Server {
    pub(crate) model: &'static Model,
    pub(crate) address: SocketAddr,
    process: Child,
    stdout: BufReader<ChildStdout>,
    /// What it wrote to stderr so far.
    log: Arc<Mutex<String>>,
    /// Ends when no process is left that could write to stderr.
    logger: JoinHandle<()>,
    ended: Option<ExitStatus>,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(model: &'static Model, settings: &Settings) -> Server {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .env(child::VARIABLE, settings.encode(model))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a process for the server");
        let stderr = BufReader::new(process.stderr.take().expect("stderr is a pipe"));
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        let log = Arc::new(Mutex::new(String::new()));
        let logger = thread::spawn({
            let log = log.clone();
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    *log.lock().unwrap() += &format!("{line}\n");
                }
            }
        });
        let line = first_line(&mut stdout);
        let Some(address) = line.strip_prefix("listening on ").and_then(|rest| rest.trim_end().parse().ok())
        else {
            let _ = process.kill();
            let _ = process.wait();
            let _ = logger.join();
            panic!("the server's first line was {line:?}, and it said: {}", log.lock().unwrap());
        };
        Server { model, address, process, stdout, log, logger, ended: None }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the server is there to be told");
    }

    /// As a terminal does on Ctrl-C: every process of the group gets it.
    pub(crate) fn signal_group(&self, signal: Signal) {
        killpg(self.pid(), signal).expect("the server is there to be told");
    }

    /// Stops all its processes (SIGSTOP), and waits until they stand still.
    pub(crate) fn suspend(&self) {
        self.signal_group(Signal::SIGSTOP);
        eventually("all processes of the server have stopped", || {
            self.processes().iter().all(|process| process.state == 'T')
        });
    }

    /// Lets them go on (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal_group(Signal::SIGCONT);
    }

    /// Tells it to stop, and returns as soon as its first process is gone.
    pub(crate) fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        self.process.wait().expect("it is our child");
    }

    /// Waits for the end of a server that was told to stop: status 0, and no process of it left.
    pub(crate) fn finish(&mut self) -> Tally {
        let patience = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < patience, "the server did not end");
            thread::sleep(Duration::from_millis(2));
        };
        self.ended = Some(status);
        assert_eq!(status.code(), Some(0), "a server that is told to stop ends well");
        self.expect_nothing_left();
        let log = self.log();
        let tallies: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("tally ")).collect();
        let [tally] = tallies[..] else { panic!("there is one tally, by one process, in: {log}") };
        let mut numbers = tally.split(' ').map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("seven numbers");
        Tally {
            connections: next(),
            messages: next(),
            bytes: next(),
            refused: next(),
            dropped: next(),
            truncated: next(),
            lost: next(),
        }
    }

    /// Waits for the end of a server that a signal ends at once: it is the signal that ends it, and no process of it is left.
    pub(crate) fn finish_by(&mut self, signal: Signal) {
        let mut status = None;
        eventually("the server has ended", || {
            status = self.process.try_wait().expect("it is our child");
            status.is_some()
        });
        self.ended = status;
        assert_eq!(status.and_then(|status| status.signal()), Some(signal as i32));
        self.expect_nothing_left();
    }

    fn expect_nothing_left(&mut self) {
        eventually("every process of the server has ended", || self.processes().is_empty());
        eventually("nobody holds the server's stderr", || self.logger.is_finished());
        let mut more = String::new();
        self.stdout.read_to_string(&mut more).expect("stdout can be read");
        assert_eq!(more, "", "nothing but the address is written to stdout");
    }

    /// Tells it to stop and returns what it counted.
    pub(crate) fn stop(&mut self) -> Tally {
        self.signal(Signal::SIGTERM);
        self.finish()
    }

    /// What its connections cost it: descriptors of its first process in all the tables that its threads have, threads of all its processes, and
    /// processes that it made and has not reaped, zombies included.
    pub(crate) fn belongings(&self) -> (usize, u64, usize) {
        let pid = self.pid().as_raw();
        let table = |task: String| {
            // A thread may end while it is looked at.
            let entries = std::fs::read_dir(format!("/proc/{pid}/task/{task}/fd")).ok()?.flatten();
            Some(entries.map(|entry| (entry.file_name(), std::fs::read_link(entry.path()).ok())).collect())
        };
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the server lives").flatten();
        // Threads that share a table show the same one.
        let tables: BTreeSet<BTreeSet<_>> =
            tasks.filter_map(|task| table(task.file_name().to_string_lossy().into_owned())).collect();
        let descriptors = tables.iter().map(BTreeSet::len).sum();
        let threads = self.processes().iter().map(|process| process.threads).sum();
        let children = all_processes().filter(|process| process.parent == pid).count();
        (descriptors, threads, children)
    }

    /// The same when everything of it is there, and everything is gone that is still about to go: no thread or descriptor came or
    /// went for a while.
    pub(crate) fn belongings_at_rest(&self) -> (usize, u64, usize) {
        const LOOKS: u32 = 30;
        let mut seen = (self.belongings(), 0);
        eventually("the server has all that it needs", || {
            let now = self.belongings();
            seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 0) };
            seen.1 == LOOKS
        });
        seen.0
    }

    /// The processes that it made and has not reaped.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let pid = self.pid().as_raw();
        all_processes()
            .filter(|process| process.parent == pid)
            .map(|process| Pid::from_raw(process.pid))
            .collect()
    }

    /// The process that has this client's connection.
    pub(crate) fn holder_of(&self, client: &Client) -> Pid {
        let port = client.stream.local_addr().expect("a connection has two ends").port();
        let pid = self.pid().as_raw();
        let mut holder = None;
        eventually("somebody has the connection", || {
            let inode = connections()
                .find(|connection| (connection.local, connection.remote) == (self.address.port(), port));
            let Some(inode) = inode.map(|connection| connection.inode) else { return false };
            let link = format!("socket:[{inode}]");
            let has_it = |pid: i32| {
                let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
                entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|to| *to == *link)
            };
            let mut pids = all_processes().filter(|process| process.group == pid).map(|process| process.pid);
            // A parent has it for the moment in which it hands it on.
            holder = pids.find(|one| *one != pid && has_it(*one));
            holder.is_some()
        });
        Pid::from_raw(holder.expect("there is one"))
    }

    /// Whether a process is stopped by a signal.
    pub(crate) fn is_stopped(&self, pid: Pid) -> bool {
        all_processes().any(|process| process.pid == pid.as_raw() && process.state == 'T')
    }

    /// The system's timer of the server's end of this client's connection, as /proc/net/tcp has it: 2 is keepalive.
    pub(crate) fn system_timer(&self, client: &Client) -> Option<u64> {
        let port = client.stream.local_addr().expect("a connection has two ends").port();
        let mine =
            |connection: &Connection| (connection.local, connection.remote) == (self.address.port(), port);
        connections().find(mine).map(|connection| connection.timer)
    }

    /// CPU time of all its living processes.
    pub(crate) fn cpu_time(&self) -> Duration {
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("the system has a clock");
        let ticks: u64 = self.processes().iter().map(|process| process.ticks).sum();
        Duration::from_secs(ticks) / u32::try_from(per_second).expect("some hundreds")
    }

    /// Whether all its processes have ended.
    pub(crate) fn belongs_to_nobody(&self) -> bool {
        self.processes().is_empty()
    }

    /// Resident memory of all its processes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let resident = |process: &Process| -> Option<u64> {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        self.processes().iter().filter_map(resident).sum()
    }

    /// The living processes of the server's group.
    fn processes(&self) -> Vec<Process> {
        let pid = self.pid().as_raw();
        all_processes().filter(|process| process.group == pid && process.state != 'Z').collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What has been waited for has no id any more, or somebody else's.
        if self.ended.is_none() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.process.wait();
        }
    }
}

/// Empty if there is none in time.
fn first_line(stdout: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    let timeout = PollTimeout::try_from(PATIENCE).expect("some seconds");
    let mut fds = [PollFd::new(stdout.get_ref().as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, timeout) == Ok(1) {
        let _ = stdout.read_line(&mut line);
    }
    line
}

/// A connection over IPv4 as proc_net_tcp(5) shows it.
struct Connection {
    local: u16,
    remote: u16,
    timer: u64,
    inode: u64,
}

fn connections() -> impl Iterator<Item = Connection> {
    let text = std::fs::read_to_string("/proc/net/tcp").expect("Linux has /proc");
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |index: usize| u16::from_str_radix(fields.get(index)?.rsplit_once(':')?.1, 16).ok();
        Some(Connection {
            local: port(1)?,
            remote: port(2)?,
            timer: fields.get(5)?.split_once(':')?.0.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect::<Vec<_>>().into_iter()
}

/// A process as proc_pid_stat(5) shows it.
struct Process {
    pid: i32,
    state: char,
    parent: i32,
    group: i32,
    ticks: u64,
    threads: u64,
}

fn all_processes() -> impl Iterator<Item = Process> {
    std::fs::read_dir("/proc").expect("Linux has /proc").filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it stands in parentheses and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Process {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            ticks: number(11)? + number(12)?,
            threads: number(17)?,
        })
    })
}
