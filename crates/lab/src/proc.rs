//! The files of /proc/PID, read with as little as possible: some are read beside a running measurement, and
//! one of them for every process of the machine.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Ticks a second in /proc; fixed at 100 for user space on every architecture that Rust's std supports.
pub(crate) const USER_HZ: u64 = 100;
/// Longer than any of these files is, as a rule.
const USUAL_BYTES: usize = 8192;

/// Room for the text of one file, used again for the next.
#[derive(Debug)]
pub(crate) struct Page(Vec<u8>);

impl Page {
    pub(crate) fn new() -> Page {
        Page(vec![0; USUAL_BYTES])
    }

    /// The file `name` of /proc/`pid`; `None` if there is no such process any more.
    pub(crate) fn open(&mut self, pid: i32, name: &str) -> Option<Cow<'_, str>> {
        self.read(&File::open(format!("/proc/{pid}/{name}")).ok()?)
    }

    /// What `file` says now. An open file always belongs to the process that it was opened for, and reading
    /// it again takes a third of the time. A file of one record comes whole if there is room, so one call is
    /// enough.
    pub(crate) fn read(&mut self, file: &File) -> Option<Cow<'_, str>> {
        loop {
            let length = file.read_at(&mut self.0, 0).ok()?;
            if length < self.0.len() {
                // A program may have a name that is not UTF-8.
                return (length > 0).then(|| String::from_utf8_lossy(&self.0[..length]));
            }
            self.0.resize(self.0.len() * 2, 0);
        }
    }
}

/// What is needed of /proc/PID/stat, see proc_pid_stat(5). Threads that have ended are in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) faults_minor: u64,
    pub(crate) faults_major: u64,
    /// CPU time of children that have ended and were waited for, in steps of a tick.
    pub(crate) ended_children_ns: u64,
}

impl Stat {
    /// The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    pub(crate) fn parse(stat: &str) -> Option<Stat> {
        // Behind the name stands field 3 of the manual page.
        let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let mut number = |skip| fields.nth(skip)?.parse::<u64>().ok();
        let (faults_minor, faults_major) = (number(5)?, number(1)?);
        let (user, system) = (number(3)?, number(0)?);
        let ended_children_ns = (user + system) * (1_000_000_000 / USER_HZ);
        Some(Stat { parent, faults_minor, faults_major, ended_children_ns })
    }
}

/// How often one thread left the CPU, from its own status file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Switches {
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
}

impl Switches {
    pub(crate) fn parse(status: &str) -> Option<Switches> {
        Some(Switches {
            voluntary: field(status, "voluntary_ctxt_switches:")?,
            involuntary: field(status, "nonvoluntary_ctxt_switches:")?,
        })
    }
}

/// The number behind `name` at the start of a line, in whatever unit the file has (kB in /proc).
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let line = "77 (a) (b 1) S 42 77 77 0 -1 4194304 1234 2 3 4 50 60 7 8 20 0 1 0 5 6 7";
        let stat = Stat { parent: 42, faults_minor: 1234, faults_major: 3, ended_children_ns: 150_000_000 };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("no stat"), None);
        assert_eq!(Stat::parse("77 (cut) S 42 77"), None);
    }

    #[test]
    fn both_kinds_of_context_switches_are_told_apart() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t31\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(Switches::parse(status), Some(Switches { voluntary: 31, involuntary: 7 }));
        assert_eq!(Switches::parse("Threads:\t1\n"), None);
        assert_eq!(field("Pss:                 123 kB\nPss_Dirty: 4 kB\n", "Pss:"), Some(123));
    }

    #[test]
    fn an_open_file_is_read_again_and_a_long_one_comes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x".repeat(3 * USUAL_BYTES)).unwrap();
        let (file, mut page) = (File::open(&path).unwrap(), Page::new());
        assert_eq!(page.read(&file).unwrap().len(), 3 * USUAL_BYTES);
        std::fs::write(&path, b"short \xff").unwrap();
        assert_eq!(page.read(&file).unwrap(), "short \u{fffd}");
    }
}
