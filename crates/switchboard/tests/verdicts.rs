//! Verdicts that are provoked: the real command, under conditions that must not go unnoticed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use switchboard_lab::{Interrupt, Progress, RunOptions, run};

const SWITCHBOARD: &str = env!("CARGO_BIN_EXE_switchboard");

/// Runs one point of `epoll` with `program`, and returns the points that were recorded.
fn points(program: &Path, connections: usize, dir: &Path) -> Vec<Value> {
    points_of(program, connections, None, dir)
}

/// The same with a rate that is offered whatever comes back.
fn points_of(program: &Path, connections: usize, rate_per_s: Option<f64>, dir: &Path) -> Vec<Value> {
    let options = RunOptions {
        rate_per_s,
        models: Some(vec!["epoll".into()]),
        connections: Some(vec![connections]),
        rounds: Some(1),
        out: Some(dir.to_owned()),
        seed: Some(1),
        host: Some("test".into()),
        progress: Progress::Silent,
        program: Some(program.to_owned()),
        ..RunOptions::default()
    };
    run(&options, &Interrupt::new()).unwrap();
    let text = fs::read_to_string(dir.join("points.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Held by each test: what one provokes must not be there in another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn evidence(point: &Value, name: &str) -> (Option<bool>, String) {
    let checks = point["checks"].as_array().unwrap();
    let check =
        checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {point}"));
    (check["holds"].as_bool(), check["evidence"].as_str().unwrap().to_owned())
}

/// A program that stands for `switchboard` and does something else before it.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("switchboard");
    fs::write(&path, format!("#!/bin/sh\n{text}\nexec '{SWITCHBOARD}' \"$@\"\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Processes that keep a core busy each, until this is dropped.
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn everywhere() -> Neighbours {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Neighbours((0..cores).map(busy).collect())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_noisy_neighbour_is_named_in_both_tries() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let _neighbours = Neighbours::everywhere();
    let points = points(Path::new(SWITCHBOARD), 4, &folder.path().join("results"));
    assert_eq!(points.len(), 2, "what is disturbed is tried again: {points:?}");
    for point in points {
        let (holds, evidence) = evidence(&point, "quiet");
        assert_eq!(holds, Some(false), "{evidence}");
        assert!(evidence.contains("other processes kept"), "{evidence}");
        assert_ne!(point["status"], "ok");
    }
}

#[test]
fn a_server_that_stalls_in_the_window_does_not_pass_for_steady() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // Two seconds of window after a tenth of warm-up: the server stands still for half a second in the middle.
    let stall = r#"
if [ "$1" = serve ] && [ "$2" = epoll ]; then echo $$ >"$0.pid"; fi
if [ "$1" = load ] && [ "${2#ws:}" != "$2" ]; then
    pid=$(cat "$0.pid")
    (sleep 1.2; kill -STOP "$pid"; sleep 0.5; kill -CONT "$pid") >/dev/null 2>&1 &
fi"#;
    let points = points(&script(folder.path(), stall), 4, &folder.path().join("results"));
    for point in points {
        let (holds, evidence) = evidence(&point, "steady");
        assert_eq!(holds, Some(false), "{evidence}");
        assert_ne!(point["status"], "ok");
        assert!(point["latency_ns"]["max"].as_u64().unwrap() > 300_000_000, "{point}");
    }
}

#[test]
fn a_client_that_is_too_weak_for_its_schedule_is_told() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("results");
    let points = points_of(Path::new(SWITCHBOARD), 4, Some(2e7), &dir);
    for point in points {
        let (holds, evidence) = evidence(&point, "offered");
        assert_eq!(holds, Some(false), "{evidence}");
        assert!(evidence.contains("messages due were sent in time"), "{evidence}");
        assert_ne!(point["status"], "ok");
        assert_eq!(point["limiters"][0]["name"], "schedule", "{point}");
    }
}

#[test]
fn why_not_double_is_answered_for_a_busy_server_and_for_an_idle_one() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let names = |connections: usize| -> Vec<String> {
        let dir = folder.path().join(connections.to_string());
        let points = points(Path::new(SWITCHBOARD), connections, &dir);
        // Whatever the client can do was measured first.
        assert!(points[0]["share_of_ceiling"].as_f64().is_some_and(|share| share > 0.0), "{}", points[0]);
        let limiters = points.last().unwrap()["limiters"].as_array().unwrap().clone();
        limiters.iter().map(|limiter| limiter["name"].as_str().unwrap().to_owned()).collect()
    };
    // Which of them comes first is the machine's to say; that there is one is not.
    for connections in [1, 64] {
        assert!(!names(connections).is_empty(), "{connections}");
    }
}
