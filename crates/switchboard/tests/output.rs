//! What becomes of a command whose output cannot be written: results that are lost are a failure, log lines that are lost are not.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use switchboard_models::{MODELS, Mechanism};

fn switchboard(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.args(arguments);
    command
}

/// A file on a disk that is full.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe whose reader has gone.
fn broken_pipe() -> OwnedFd {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A server that is told to stop when this is dropped.
struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(model: &str, more: &[&str], stderr: impl Into<Stdio>) -> Server {
        let arguments = [&["serve", model, "--listen", ":0"], more].concat();
        let mut process = switchboard(&arguments).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{model}: {line:?}"));
        Server { process, stdout, address: address.to_owned() }
    }

    /// Its exit status after SIGTERM.
    fn stop(mut self) -> String {
        terminate(&self.process);
        // Children that were left behind would hold the other end.
        let _ = self.stdout.read_to_string(&mut String::new());
        let status = self.process.wait().unwrap();
        match (status.code(), status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, signal) => format!("signal {signal:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn terminate(process: &Child) {
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
}

fn load(url: &str, connections: &str) -> Command {
    switchboard(&[
        "load",
        url,
        "--connections",
        connections,
        "--duration",
        "100ms",
        "--warmup",
        "10ms",
        "--json",
    ])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Commands that list or explain something: quick, and with nothing but their output.
const LISTINGS: [&[&str]; 10] = [
    &["--help"],
    &["--version"],
    &["load", "--help"],
    &["models"],
    &["models", "--json"],
    &["diff", "poll"],
    &["diff", "poll", "--json"],
    &["experiments"],
    &["experiments", "--show", "idle"],
    &["help", "serve"],
];

#[test]
fn a_listing_that_cannot_be_written_is_a_failure_in_words() {
    for arguments in LISTINGS {
        let output = switchboard(arguments).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        assert!(
            said(&output).contains("cannot write the result to stdout: No space left"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    for arguments in LISTINGS {
        let output = switchboard(arguments).stdout(broken_pipe()).output().unwrap();
        assert_eq!((output.status.code(), said(&output)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn a_mistake_has_its_status_whoever_hears_of_it() {
    for arguments in [&["serve", "epol"][..], &["serve"], &["run", "--models", ","], &["run", "idel"], &[]] {
        let silent = switchboard(arguments).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(silent.code(), Some(2), "{arguments:?}");
        let unheard = switchboard(arguments).stdout(broken_pipe()).stderr(broken_pipe()).status().unwrap();
        assert_eq!(unheard.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_server_outlives_the_reader_of_its_log() {
    for model in MODELS.iter().filter(|model| (model.obstacle)().is_none()) {
        let url = |server: &Server| match model.serves.contains(&Mechanism::UdpEcho) {
            true => format!("udp://{}", server.address),
            false if !model.serves.contains(&Mechanism::Echo) => format!("tcp://{}", server.address),
            false => format!("ws://{}/echo", server.address),
        };
        let is_for_several = model.serves.contains(&Mechanism::Together);
        for stderr in [Stdio::from(full()), Stdio::from(broken_pipe())] {
            let server = Server::start(model.name, &[], stderr);
            let connections = if is_for_several { "2" } else { "1" };
            let loaded = load(&url(&server), connections).output().unwrap();
            assert_eq!(loaded.status.code(), Some(0), "{}: {}", model.name, said(&loaded));
            assert_eq!(server.stop(), "status 0", "{}", model.name);
        }
    }
}

#[test]
fn a_server_serves_though_it_cannot_say_where() {
    for stdout in [Stdio::from(full()), Stdio::from(broken_pipe())] {
        let mut server = switchboard(&["serve", "poll", "--listen", ":0"])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
        // Its first words come when it listens.
        let waits = log.find(|line| line.as_ref().unwrap().starts_with("poll: waits with")).unwrap();
        drop(waits);
        terminate(&server);
        drop(log);
        assert_eq!(server.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_lost_result_of_a_load_is_a_failure_and_a_lost_log_is_none() {
    let server = Server::start("epoll", &[], Stdio::null());
    let url = format!("ws://{}/echo", server.address);
    let lost = load(&url, "2").stdout(full()).output().unwrap();
    assert_eq!(lost.status.code(), Some(1), "{}", said(&lost));
    assert!(said(&lost).contains("cannot write the result to stdout: No space left"), "{}", said(&lost));
    let silent = load(&url, "2").stderr(full()).output().unwrap();
    assert_eq!(silent.status.code(), Some(0));
    let result: serde_json::Value = serde_json::from_slice(&silent.stdout).unwrap();
    assert!(result["messages"].as_u64() > Some(0), "{result}");
}

/// A run as short as there is.
fn run(out: &Path) -> Command {
    let out = out.to_str().unwrap();
    let short = ["--quick", "--rounds", "1", "--models", "poll", "--connections", "1", "--out", out];
    switchboard(&[&["run", "connections"][..], &short].concat())
}

#[test]
fn a_run_is_measured_and_kept_whoever_reads_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let [unread, unsaid, unwritten] = ["unread", "unsaid", "unwritten"].map(|name| folder.path().join(name));
    // `run 2>&1 | head -2`
    let status = run(&unread).stdout(broken_pipe()).stderr(broken_pipe()).status().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    let output = run(&unsaid).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("poll"), "{output:?}");
    let output = run(&unwritten).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("No space left") && said(&output).contains(unwritten.to_str().unwrap()));
    for dir in [&unread, &unsaid, &unwritten] {
        assert!(dir.join("report.html").exists(), "{}", dir.display());
    }
    let dir = unread.to_str().unwrap();
    // A machine may be too busy for a run of two good rounds: this one has them.
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results/2026-11-21-vm2-connections");
    for arguments in [&["verify", dir][..], &["compare", good, good], &["report", dir, "--format", "csv"]] {
        let lost = switchboard(arguments).stdout(full()).output().unwrap();
        assert_eq!(lost.status.code(), Some(1), "{arguments:?}: {}", said(&lost));
        assert!(said(&lost).contains("No space left"), "{arguments:?}: {}", said(&lost));
        let unread = switchboard(arguments).stdout(broken_pipe()).stderr(full()).status().unwrap();
        assert_eq!(unread.code(), switchboard(arguments).output().unwrap().status.code(), "{arguments:?}");
    }
}

#[test]
fn what_is_no_terminal_gets_no_escape_codes() {
    for arguments in
        [&["models", "--measure"][..], &["models"], &["diff", "poll"], &["load", "--help"], &["verify"]]
    {
        let output = switchboard(arguments).output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        assert!(!all.contains(&0x1b), "{arguments:?}: {}", String::from_utf8_lossy(&all));
    }
}
