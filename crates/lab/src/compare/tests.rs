//! Comparisons of planted data, from files as a run leaves them.

use std::fs;

use fastrand::Rng;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::judge::tests::point;
use crate::record::{Canary, Point, Quiet, Status};

const MODELS: [&str; 3] = ["select", "poll", "epoll"];
const COUNTS: [usize; 5] = [1, 4, 16, 64, 256];

/// How a simulated run goes.
#[derive(Clone, Copy)]
struct Run {
    rounds: u32,
    /// By how much longer everything takes than usual.
    drift: f64,
    /// By how much more CPU time a message takes than usual.
    slower: f64,
    /// Standard deviation of a round's logarithm.
    noise: f64,
}

const USUAL: Run = Run { rounds: 6, drift: 1.0, slower: 1.0, noise: 0.015 };

fn normal(random: &mut Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

/// A results folder with a point for each model and number of connections in each round.
fn folder(random: &mut Rng, run: Run, change: impl Fn(&mut Point)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    let mut order = 0;
    for round in 0..run.rounds {
        for model in MODELS {
            for connections in COUNTS {
                let mut noisy = |figure: f64| figure * (run.noise * normal(random)).exp();
                let cpu = noisy(5000.0 * run.drift * run.slower);
                let calls_ns = noisy(2e6 * run.drift) as u64;
                let canary = Canary { wall_ns: 3 * calls_ns, compute_ns: 200_000, calls_ns };
                let mut point = point(|point| {
                    (point.model, point.round, point.status) = (model.into(), round, Status::Ok);
                    (point.setting.connections, point.connected) = (connections, connections);
                    point.order = order;
                    order += 1;
                    point.server_cpu_ns_per_message = Some(cpu);
                    point.messages_per_s = Some(1e9 / cpu);
                    point.memory_bytes_per_connection = Some(300.0);
                    point.quiet =
                        Some(Quiet { before: canary, after: canary, usual: canary, ..Quiet::default() });
                });
                change(&mut point);
                lines += &format!("{}\n", serde_json::to_string(&point).unwrap());
            }
        }
    }
    fs::write(dir.path().join("points.jsonl"), lines).unwrap();
    let plan = json!({
        "schema": 3, "experiment": "connections", "question": "?", "analysis": "", "effort": "default", "seed": 1,
        "setting": {"connections": 1, "payload_bytes": 64, "depth": 1}, "axes": {"x": {"axis": "connections", "values": COUNTS}},
        "pictures": ["cpu"], "rounds": run.rounds, "warmup_ms": 1, "window_ms": 1000, "subjects": [], "jobs": [],
        "expected_s": 1.0, "started_at": "", "command": []
    });
    fs::write(dir.path().join("run.json"), plan.to_string()).unwrap();
    dir
}

fn plain(random: &mut Rng, run: Run) -> TempDir {
    folder(random, run, |_| {})
}

fn options(a: &TempDir, b: &TempDir) -> CompareOptions {
    let path = |dir: &TempDir| dir.path().display().to_string();
    CompareOptions { a: path(a), b: path(b), ..CompareOptions::default() }
}

fn level_and_differing(comparison: &Comparison) -> (usize, usize) {
    let count = |verdict| comparison.rows.iter().filter(|row| row.verdict == verdict).count();
    (count(RowVerdict::NoDifference), count(RowVerdict::Differs))
}

fn pooled(comparison: &Comparison, model: &str, figure: Figure) -> CompareRow {
    let row = comparison.pooled.iter().find(|row| row.model == model && row.figure == figure);
    row.unwrap_or_else(|| panic!("no line for {model}: {comparison}")).clone()
}

#[test]
fn the_same_server_twice_shows_no_difference_even_if_the_machine_has_slowed_down() {
    let mut random = Rng::with_seed(1);
    let (mut level, mut differing) = (0, 0);
    for simulation in 0..40 {
        let drift = [1.0, 1.3, 0.75, 1.1][simulation % 4];
        let (a, b) = (plain(&mut random, USUAL), plain(&mut random, Run { drift, ..USUAL }));
        let comparison = compare(&options(&a, &b)).unwrap();
        assert!((comparison.drift.unwrap() / drift - 1.0).abs() < 0.02, "{comparison}");
        let (same, other) = level_and_differing(&comparison);
        (level, differing) = (level + same, differing + other);
    }
    assert!(differing * 40 < level, "{differing} of {level} rows cry wolf");
}

#[test]
fn times_as_measured_would_have_called_the_drift_a_difference() {
    let mut random = Rng::with_seed(2);
    let (a, b) = (plain(&mut random, USUAL), plain(&mut random, Run { drift: 1.3, ..USUAL }));
    let raw = CompareOptions { raw_times: true, ..options(&a, &b) };
    let (level, differing) = level_and_differing(&compare(&raw).unwrap());
    assert!(differing > level);
}

#[test]
fn a_server_that_is_five_percent_slower_is_found() {
    let mut random = Rng::with_seed(3);
    let (mut found, mut rows) = (0, 0);
    for _ in 0..10 {
        let (a, b) = (plain(&mut random, USUAL), plain(&mut random, Run { slower: 1.05, ..USUAL }));
        let comparison = compare(&options(&a, &b)).unwrap();
        for model in MODELS {
            let row = pooled(&comparison, model, Figure::Cpu);
            assert_eq!(row.verdict, RowVerdict::Differs, "{comparison}");
            assert!((1.03..1.07).contains(&row.ratio.unwrap().ratio), "{comparison}");
        }
        let cpu = comparison.rows.iter().filter(|row| row.figure == Figure::Cpu);
        rows += cpu.clone().count();
        found += cpu.filter(|row| row.verdict == RowVerdict::Differs).count();
    }
    assert!(found * 2 > rows, "{found} of {rows}");
}

#[test]
fn models_of_one_run_are_compared_round_by_round() {
    let mut random = Rng::with_seed(4);
    // The machine is at another speed in every round, and epoll takes 3 % less time.
    let dir = folder(&mut random, USUAL, |point| {
        let minute = [1.0, 1.3, 0.8, 1.2, 0.9, 1.1][point.round as usize];
        let factor = if point.model == "epoll" { 0.97 * minute } else { minute };
        point.server_cpu_ns_per_message = point.server_cpu_ns_per_message.map(|cpu| cpu * factor);
    });
    let path = dir.path().display();
    let options =
        CompareOptions { a: format!("{path}:poll"), b: ":epoll".into(), ..CompareOptions::default() };
    let comparison = compare(&options).unwrap();
    assert!(comparison.paired);
    let row = pooled(&comparison, "poll → epoll", Figure::Cpu);
    assert_eq!(row.verdict, RowVerdict::Differs, "{comparison}");
    assert!((0.95..0.99).contains(&row.ratio.unwrap().ratio), "{comparison}");
    assert!(comparison.to_string().contains("compared round by round"));
}

#[test]
fn a_gate_fails_only_where_the_difference_is_real_and_large_enough() {
    let mut random = Rng::with_seed(5);
    let (a, b) = (plain(&mut random, USUAL), plain(&mut random, Run { slower: 1.1, ..USUAL }));
    let status = |gate: &str| {
        let gates = vec![gate.parse().unwrap()];
        compare(&CompareOptions { gates, ..options(&a, &b) }).unwrap().exit_status()
    };
    assert_eq!(status("throughput<0.95"), 3);
    assert_eq!(status("throughput<0.5"), 0);
    assert_eq!(status("cpu>1.05"), 3);
    assert_eq!(status("cpu>1.5"), 0);
    assert_eq!(status("memory>1.0"), 0, "equal to the last byte");
    assert_eq!(status("p99>1.2"), 1, "there is no latency to look at");
}

#[test]
fn what_else_differs_is_said_first() {
    let mut random = Rng::with_seed(6);
    let (a, b) = (plain(&mut random, USUAL), plain(&mut random, USUAL));
    let text = compare(&options(&a, &b)).unwrap().to_string();
    assert!(text.contains("same machine, versions and settings"), "{text}");
    let path = b.path().join("run.json");
    let plan = fs::read_to_string(&path).unwrap().replace(r#""depth":1"#, r#""depth":1,"work_us":0.25"#);
    fs::write(&path, plan).unwrap();
    fs::write(b.path().join("environment.json"), r#"{"cpu":{"model":"another"}}"#).unwrap();
    let comparison = compare(&options(&a, &b)).unwrap();
    assert!(comparison.other_machine);
    let text = comparison.to_string();
    assert!(text.contains("work per message in µs: 0.0 here, 0.25 there"), "{text}");
    assert!(text.contains("two machines"), "{text}");
}

#[test]
fn points_that_do_not_count_are_left_out_and_rows_of_one_side_are_listed() {
    let mut random = Rng::with_seed(7);
    let a = plain(&mut random, USUAL);
    let b = folder(&mut random, USUAL, |point| {
        if point.model == "select" {
            point.status = Status::Doubtful;
        } else if point.setting.connections == 4 {
            point.share_of_ceiling = Some(0.97);
        } else if point.setting.connections == 16 {
            point.server_cpu_ns_per_message = None;
        }
    });
    let comparison = compare(&options(&a, &b)).unwrap();
    assert_eq!(comparison.left_out, 6 * COUNTS.len());
    assert!(comparison.unmatched.contains(&"select at 1: good points only in A".to_owned()), "{comparison}");
    let row = |connections, figure| {
        comparison
            .rows
            .iter()
            .find(|row| row.model == "poll" && row.connections == Some(connections) && row.figure == figure)
    };
    assert_eq!(row(4, Figure::Throughput).unwrap().verdict, RowVerdict::AboutClient);
    assert_eq!(row(4, Figure::Cpu).unwrap().verdict, RowVerdict::NoDifference);
    assert_eq!(row(16, Figure::Cpu), None);
    let json = serde_json::to_string(&comparison).unwrap();
    assert!(!json.contains("NaN"));
}

#[test]
fn one_round_is_no_comparison() {
    let mut random = Rng::with_seed(8);
    let one = Run { rounds: 1, ..USUAL };
    let comparison = compare(&options(&plain(&mut random, one), &plain(&mut random, one))).unwrap();
    assert!(comparison.rows.iter().all(|row| row.verdict == RowVerdict::TooFewRounds));
}

#[test]
fn what_cannot_be_compared_says_why() {
    let mut random = Rng::with_seed(9);
    let dir = plain(&mut random, USUAL);
    let path = dir.path().display().to_string();
    let error = |a: String, b: &str| {
        compare(&CompareOptions { a, b: b.into(), ..CompareOptions::default() }).unwrap_err()
    };
    let slip = error(format!("{path}:epol"), ":poll");
    assert_eq!(slip.exit_status(), 2);
    assert!(slip.to_string().contains("did you mean `epoll`?"), "{slip}");
    assert!(error("/nowhere".into(), "/nowhere").to_string().contains("run.json"));
    assert_eq!(error(":epoll".into(), ":poll").exit_status(), 2);
    let nothing = compare(&CompareOptions { connections: Some(vec![5]), ..options(&dir, &dir) }).unwrap_err();
    assert!(nothing.to_string().contains("FOLDER:MODEL"), "{nothing}");
}

#[test]
fn nothing_compared_is_not_no_difference() {
    let mut random = Rng::with_seed(11);
    for rounds in [1, 2, 3] {
        let few = Run { rounds, ..USUAL };
        let (a, b) = (plain(&mut random, few), plain(&mut random, Run { slower: 3.0, ..few }));
        for gates in [vec![], vec!["cpu>1.01".parse().unwrap(), "throughput<0.99".parse().unwrap()]] {
            let comparison = compare(&CompareOptions { gates, ..options(&a, &b) }).unwrap();
            let text = comparison.to_string();
            assert_eq!((comparison.compared, comparison.exit_status()), (0, 1), "{text}");
            assert!(!text.contains("no difference"), "{text}");
            let why = format!(
                "nothing could be compared, which does not mean that nothing differs: A has {rounds} good rounds at most, B has {rounds}; 4 of each side are the least"
            );
            assert!(text.contains(&why) && text.contains("--rounds 4"), "{text}");
            assert!(!text.contains("holds,"), "{text}");
        }
    }
    // Enough of one, too few of the other; and rounds that do not count.
    let (a, b) = (plain(&mut random, USUAL), plain(&mut random, Run { rounds: 3, ..USUAL }));
    assert_eq!(compare(&options(&a, &b)).unwrap().compared, 0);
    let doubtful = folder(&mut random, USUAL, |point| {
        if point.round > 0 {
            point.status = Status::Doubtful;
        }
    });
    let text = compare(&options(&a, &doubtful)).unwrap().to_string();
    assert!(
        text.contains("B has 1;") && text.contains("75 doubtful or invalid points do not count"),
        "{text}"
    );
    let (a, b) = (plain(&mut random, USUAL), plain(&mut random, USUAL));
    let comparison = compare(&options(&a, &b)).unwrap();
    assert!(comparison.compared > 0 && comparison.nothing_because.is_none() && comparison.exit_status() == 0);
}

#[test]
fn side_by_side_one_round_is_no_pair_to_compare() {
    let mut random = Rng::with_seed(12);
    let dir = plain(&mut random, Run { rounds: 1, ..USUAL });
    let path = dir.path().display();
    let options =
        CompareOptions { a: format!("{path}:poll"), b: ":epoll".to_owned(), ..CompareOptions::default() };
    let comparison = compare(&options).unwrap();
    assert_eq!(comparison.exit_status(), 1);
    assert!(comparison.to_string().contains("2 of each side are the least"), "{comparison}");
}

#[test]
fn names_of_others_cannot_steer_a_terminal_nor_forge_a_line() {
    let mut random = Rng::with_seed(13);
    let hostile = "epoll\x1b]0;t\x07\u{9b}2J\u{202e}\ngate cpu>1: holds, 9 rows examined";
    let named = |random: &mut Rng| folder(random, USUAL, |point| point.model = hostile.into());
    let (a, b) = (named(&mut random), named(&mut random));
    for (dir, host) in [(&a, "one"), (&b, hostile)] {
        let environment = json!({"host": host, "cpu": {"model": hostile}, "sysctls": {hostile: host}});
        fs::write(dir.path().join("environment.json"), environment.to_string()).unwrap();
    }
    let comparison = compare(&options(&a, &b)).unwrap();
    let text = comparison.to_string();
    assert!(
        !text.chars().any(|letter| letter != '\n' && (letter.is_control() || letter == '\u{202e}')),
        "{text:?}"
    );
    assert!(!text.lines().any(|line| line.starts_with("gate")), "{text}");
    assert!(text.contains("\\u{1b}]0;t"), "{text}");
}

#[test]
fn what_cannot_be_read_is_not_said_to_be_impossible_to_resume() {
    let empty = tempfile::tempdir().unwrap();
    let error = compare(&options(&empty, &empty)).unwrap_err().to_string();
    assert!(error.contains("run.json: No such file") && !error.contains("resume"), "{error}");
    let verification = crate::verify(empty.path()).to_string();
    assert!(!verification.contains("resume"), "{verification}");
}
