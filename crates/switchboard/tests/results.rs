//! Results folders of the real command after what can happen to a run: a full disk, a kill, a second run in the same folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const SWITCHBOARD: &str = env!("CARGO_BIN_EXE_switchboard");

/// Many points in little time.
const SHORT: &str = r#"
question = "Is a results folder whole?"
analysis = "What to expect. What would surprise."
mechanisms = ["echo"]
models = ["epoll"]
pictures = ["throughput"]
[setting]
connections = 2
[x]
vary = "depth"
values = [1, 2]
[effort.quick]
budget = "5s"
rounds = 1
warmup = "10ms"
window = "30ms"
shortest_window = "30ms"
[effort.default]
budget = "5s"
rounds = 1
warmup = "10ms"
window = "30ms"
shortest_window = "30ms"
[effort.full]
budget = "5s"
rounds = 1
warmup = "10ms"
window = "30ms"
shortest_window = "30ms"
"#;

struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("short.toml"), SHORT).unwrap();
        Folder { folder }
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    fn new_run(&self) -> [String; 7] {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let file = path(self.folder.path().join("short.toml"));
        [
            "run".into(),
            file,
            "--rounds".into(),
            "12".into(),
            "--out".into(),
            path(self.results()),
            "--seed=1".into(),
        ]
    }

    fn resume(&self) -> Output {
        Command::new(SWITCHBOARD).arg("run").arg("--resume").arg(self.results()).output().unwrap()
    }

    fn verify(&self) -> Output {
        Command::new(SWITCHBOARD).arg("verify").arg(self.results()).output().unwrap()
    }

    /// Goes on, on a machine that may be busy, and checks that the folder is whole afterwards.
    fn is_mended_by_resuming(&self) {
        let resumed = self.resume();
        // Whether a busy machine lets all points be good is not this suite's to decide.
        let has_ended =
            matches!(resumed.status.code(), Some(0 | 1)) && !said(&resumed).contains("switchboard: ");
        assert!(has_ended, "{}", said(&resumed));
        let verified = self.verify();
        assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn after_a_full_disk_a_run_goes_on_and_verifies() {
    let folder = Folder::new();
    // No file may become larger than this, in units of 512 or 1024 bytes: writing fails as on a full disk, in the middle of a line.
    let limited = "trap '' XFSZ; ulimit -f 60; exec \"$0\" \"$@\"";
    let output =
        Command::new("sh").args(["-c", limited, SWITCHBOARD]).args(folder.new_run()).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(".jsonl: File too large") && text.contains("make room, then go on"), "{text}");
    let verified = folder.verify();
    assert_eq!(verified.status.code(), Some(1));
    let text = said(&verified);
    assert!(text.contains("is missing; go on with --resume") && !text.contains("line ignored"), "{text}");
    folder.is_mended_by_resuming();
}

#[test]
fn a_run_that_was_killed_leaves_no_lock_and_half_a_line_is_cut_off() {
    let folder = Folder::new();
    let points = folder.results().join("points.jsonl");
    let mut running = Command::new(SWITCHBOARD).args(folder.new_run()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while lines(&points) < 3 {
        assert!(Instant::now() < deadline && running.try_wait().unwrap().is_none(), "no points");
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = folder.resume();
    let holder = format!("is being written by process {}, since 20", running.id());
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains(&holder), "{}", said(&second));
    let verified = folder.verify();
    assert!(verified.status.code() == Some(1) && said(&verified).contains(&holder), "{}", said(&verified));
    running.kill().unwrap();
    running.wait().unwrap();
    for name in ["points.jsonl", "histograms.jsonl"] {
        let path = folder.results().join(name);
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"schema\":3,\"experi");
        fs::write(&path, text).unwrap();
    }
    let text = said(&folder.verify());
    assert!(text.contains("torn: the run was killed or the disk was full"), "{text}");
    folder.is_mended_by_resuming();
}

#[test]
fn a_folder_s_text_does_not_reach_the_terminal_raw() {
    let folder = Folder::new();
    let output = Command::new(SWITCHBOARD).args(folder.new_run()).output().unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", said(&output));
    let results = folder.results();
    for name in ["points.jsonl", "run.json", "histograms.jsonl", "environment.json", "syscalls.jsonl"] {
        let path = results.join(name);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let text = text.replace("\"epoll\"", "\"ep\\u001b]0;t\\u0007\\u009b2J\\u202eoll\"");
        fs::write(&path, text.replace("\"host\": \"", "\"host\": \"\\u001b[31m\\u009b")).unwrap();
    }
    let dir = results.to_str().unwrap();
    for arguments in [
        &["compare", dir, dir][..],
        &["compare", dir, dir, "--json"],
        &["compare", dir, &format!("{dir}:nobody")],
        &["verify", dir],
        &["verify", dir, "--json"],
        &["report", dir],
        &["run", "--resume", dir],
    ] {
        let output = Command::new(SWITCHBOARD).args(arguments).output().unwrap();
        let text = said(&output);
        assert!(!text.is_empty(), "{arguments:?}");
        let raw =
            text.chars().find(|letter| *letter != '\n' && (letter.is_control() || *letter == '\u{202e}'));
        assert_eq!(raw, None, "{arguments:?}: {text:?}");
    }
}
