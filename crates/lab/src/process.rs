//! A child process that cannot be left behind: its own process group, killed whole when this is dropped.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::CpuSet;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How often a wait looks up to see whether somebody else has died or the user has had enough.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);

/// A running child with its output.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<Line>,
    stderr: Arc<Mutex<Tail>>,
    stderr_reader: Option<JoinHandle<()>>,
    exited: Option<ExitStatus>,
}

/// A line of the child's standard output, and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// What a wait for a line found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Line(Line),
    /// Nothing yet; look around and ask again.
    Nothing,
    /// The child has closed its standard output: it has ended or is about to.
    End,
}

impl Process {
    /// Starts `command`, on these cores if any are given.
    pub(crate) fn start(command: &mut Command, cpus: &[usize]) -> io::Result<Process> {
        let is_pinned = !cpus.is_empty();
        let mut set = CpuSet::new();
        cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
        let prepare = move || {
            // A lab that is killed outright takes its children with it: the server ends in order, with its own.
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            if is_pinned {
                nix::sched::sched_setaffinity(Pid::from_raw(0), &set)?;
            }
            Ok(())
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; `prepare` makes two system
        // calls on memory that was set up before the fork, and neither allocates nor locks.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn()?;

        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(Line { text, at: Instant::now() }).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(Tail::default()));
        let pipe = child.stderr.take().expect("stderr is piped");
        let stderr_reader = std::thread::spawn({
            let tail = Arc::clone(&stderr);
            move || Tail::collect(pipe, &tail)
        });
        Ok(Process { child, lines, stderr, stderr_reader: Some(stderr_reader), exited: None })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The next line of standard output, or [`Next::Nothing`] after [`GLANCE`].
    pub(crate) fn next_line(&self) -> Next {
        match self.lines.recv_timeout(GLANCE) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// Waits until the child has ended, at most until `deadline`.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        let mut pause = Duration::from_micros(100);
        loop {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(GLANCE);
        }
    }

    /// The child's exit status, if it has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().ok().flatten();
        }
        self.exited
    }

    /// Asks the child to end with SIGTERM and waits for it; kills the whole group if it does not in time.
    pub(crate) fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        if self.exited().is_none() {
            let _ = nix::sys::signal::kill(self.pid(), Signal::SIGTERM);
        }
        let status = self.wait_until(Instant::now() + patience);
        self.kill();
        status
    }

    /// "exit status 1: the last words on stderr", for a child that has ended.
    pub(crate) fn obituary(&mut self, status: ExitStatus) -> String {
        self.kill();
        if let Some(reader) = self.stderr_reader.take() {
            // Everybody who could hold the other end of the pipe is dead.
            let _ = reader.join();
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned()),
            (None, None) => "no exit status".to_owned(),
        };
        match self.last_words() {
            words if words.is_empty() => how,
            words => format!("{how}: {words}"),
        }
    }

    /// The last lines on stderr so far, in one line.
    pub(crate) fn last_words(&self) -> String {
        self.stderr.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).to_string()
    }

    /// Kills the whole group, its leader included, and reaps the leader.
    fn kill(&mut self) {
        // The group may outlive its leader: children that the leader did not wait for.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        if self.exited.is_none() {
            self.exited = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines that somebody wrote.
#[derive(Debug, Default)]
struct Tail(VecDeque<String>);

impl Tail {
    const LINES: usize = 3;

    fn collect(pipe: ChildStderr, tail: &Mutex<Tail>) {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        // A child that writes without end and without newlines must not fill our memory.
        while matches!(reader.by_ref().take(4096).read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            line.clear();
            if text.is_empty() {
                continue;
            }
            let mut tail = tail.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if tail.0.len() == Tail::LINES {
                tail.0.pop_front();
            }
            tail.0.push_back(text);
        }
    }
}

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.0.iter().map(String::as_str).collect::<Vec<_>>().join(" / ");
        match words.char_indices().nth(300) {
            Some((end, _)) => write!(f, "{}…", &words[..end]),
            None => f.write_str(&words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script]), &[]).unwrap()
    }

    fn first_line(process: &Process) -> String {
        loop {
            match process.next_line() {
                Next::Line(line) => return line.text,
                Next::Nothing => {}
                Next::End => panic!("no line"),
            }
        }
    }

    fn gone(pid: Pid) -> bool {
        // A killed orphan is a zombie until init reaps it; it holds nothing any more.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
    }

    #[test]
    fn dropping_a_process_ends_its_children_too() {
        let process = shell("sleep 600 & echo $!; wait");
        let child = Pid::from_raw(first_line(&process).parse().unwrap());
        assert!(!gone(child));
        drop(process);
        while !gone(child) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed() {
        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 600; done");
        first_line(&process);
        assert_eq!(process.terminate(Duration::from_millis(50)), None);
        assert!(gone(process.pid()));
    }

    #[test]
    fn the_obituary_names_status_and_last_words() {
        let mut process = shell("for i in 1 2 3 4; do echo word $i >&2; done; exit 7");
        let status = process.wait_until(Instant::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(process.obituary(status), "exit status 7: word 2 / word 3 / word 4");
        let mut process = shell("kill -SEGV $$");
        let status = process.wait_until(Instant::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(process.obituary(status), "SIGSEGV");
    }

    #[test]
    fn a_process_runs_on_the_core_it_is_given() {
        let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpu = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).unwrap()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "grep Cpus_allowed_list: /proc/$$/status"]);
        let process = Process::start(&mut command, &[cpu]).unwrap();
        assert_eq!(first_line(&process), format!("Cpus_allowed_list:\t{cpu}"));
    }
}
