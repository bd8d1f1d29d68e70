//! One's own experiments, several in one run, as a user runs them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn switchboard(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchboard")).args(arguments).current_dir(dir).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const EFFORT: &str = r#"
[effort.quick]
budget = "2s"
rounds = 1
warmup = "20ms"
window = "100ms"
shortest_window = "60ms"
[effort.default]
budget = "2s"
rounds = 1
warmup = "20ms"
window = "100ms"
shortest_window = "60ms"
[effort.full]
budget = "2s"
rounds = 1
warmup = "20ms"
window = "100ms"
shortest_window = "60ms"
"#;

const SILENT: &str = r#"
question = "What do they hold?"
analysis = "What to expect. Little."
mechanisms = ["echo"]
models = ["poll", "epoll"]
pictures = ["memory-by-place", "memory"]
[setting]
active = 0
[x]
vary = "connections"
values = [16, 64]
"#;

const PAUSED: &str = r#"
question = "What does a stop look like?"
analysis = "What to expect. A wait."
mechanisms = ["echo"]
models = ["epoll"]
pictures = ["tail"]
[setting]
connections = 4
rate_per_s = 2000
[x]
vary = "pause_ms"
values = [0, 40]
"#;

#[test]
fn several_experiments_make_one_report_that_can_be_verified_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("silent.toml"), format!("{SILENT}{EFFORT}")).unwrap();
    fs::write(dir.join("paused.toml"), format!("{PAUSED}{EFFORT}")).unwrap();
    let run = switchboard(&["run", "./silent.toml", "./paused.toml", "--out", "out", "--seed", "1"], dir);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
    let page = fs::read_to_string(dir.join("out/report.html")).unwrap();
    for question in ["What do they hold?", "What does a stop look like?"] {
        assert!(page.contains(question));
    }
    let verified = switchboard(&["verify", "out"], dir);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));

    // Who was stopped for 40 of 100 ms answered late, and a client that waits would hardly have noticed.
    let points = fs::read_to_string(dir.join("out/paused/points.jsonl")).unwrap();
    let points: Vec<serde_json::Value> =
        points.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let paused = points.iter().rfind(|point| point["pause_ms"] == 40).unwrap();
    assert!(paused["latency_ns"]["max"].as_u64().unwrap() >= 30_000_000, "{paused}");
    let silent = fs::read_to_string(dir.join("out/silent/points.jsonl")).unwrap();
    assert!(silent.lines().all(|line| !line.contains(r#""status":"invalid""#)), "{silent}");

    // Of an interrupted run, the second experiment has no points yet.
    fs::remove_file(dir.join("out/paused/points.jsonl")).unwrap();
    fs::remove_file(dir.join("out/paused/histograms.jsonl")).unwrap();
    let resumed = switchboard(&["run", "--resume", "out"], dir);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed));
    assert!(dir.join("out/paused/points.jsonl").exists());

    let written = switchboard(&["report", "out/silent", "--format", "csv,md"], dir);
    assert_eq!(written.status.code(), Some(0), "{}", text(&written));
    let csv = fs::read_to_string(dir.join("out/silent/figures.csv")).unwrap();
    assert!(csv.starts_with("experiment,model,") && csv.contains(",memory,"), "{csv}");
    assert!(fs::read_to_string(dir.join("out/silent/figures.md")).unwrap().contains("| poll | epoll |"));

    let compared = switchboard(
        &["compare", "out/silent", "out/silent", "--picture", "both.svg", "--models", "epoll"],
        dir,
    );
    assert!(compared.status.code() != Some(2), "{}", text(&compared));
}

const RESTARTED: &str = r#"
question = "Who comes back?"
analysis = "What to expect. Everybody."
mechanisms = ["sse", "broadcast-cursor", "broadcast"]
models = ["epoll"]
each_mechanism = true
pictures = ["blind", "missed", "replayed"]
[setting]
connections = 4
rate_per_s = 100
[x]
vary = "restart_ms"
values = [50]
[effort.default]
budget = "1m"
rounds = 1
warmup = "20ms"
window = "3s"
shortest_window = "3s"
[effort.quick]
budget = "1m"
rounds = 1
warmup = "20ms"
window = "3s"
shortest_window = "3s"
[effort.full]
budget = "1m"
rounds = 1
warmup = "20ms"
window = "3s"
shortest_window = "3s"
"#;

#[test]
fn after_a_restart_everybody_is_back_and_who_knew_where_it_was_has_heard_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("restarted.toml"), RESTARTED).unwrap();
    let run = switchboard(&["run", "./restarted.toml", "--out", "out", "--seed", "1"], dir);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
    let points = fs::read_to_string(dir.join("out/points.jsonl")).unwrap();
    let points: Vec<serde_json::Value> =
        points.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (mechanism, is_told) in [("sse", true), ("broadcast-cursor", true), ("broadcast", false)] {
        let point = points.iter().rfind(|point| point["mechanism"] == mechanism).unwrap();
        let number = |pointer: &str| point.pointer(pointer).unwrap().as_u64().unwrap();
        let disconnected = point["reconnect"]["disconnected"].as_object().unwrap().values();
        assert_eq!(disconnected.map(|count| count.as_u64().unwrap()).sum::<u64>(), 4, "{point}");
        assert_eq!([number("/reconnect/still_blind"), number("/duplicated"), number("/reordered")], [0; 3]);
        // For most of a second the new server takes messages and nobody is there to hear them.
        assert_eq!(number("/reconnect/replayed") > 0, is_told, "{mechanism}: {point}");
        assert_eq!(number("/lost") == 0, is_told, "{mechanism}: {point}");
    }
}

#[test]
fn every_definition_can_be_shown_and_a_mistake_in_ones_own_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let list = switchboard(&["experiments"], dir);
    assert!(text(&list).contains("pause") && text(&list).contains("What does a stalled server look like?"));
    let shown = switchboard(&["experiments", "--show", "idle"], dir);
    assert_eq!(shown.status.code(), Some(0));
    fs::write(dir.join("mine.toml"), text(&shown).replace("vary = ", "very = ")).unwrap();
    let wrong = switchboard(&["run", "./mine.toml"], dir);
    assert!(
        text(&wrong).contains("did you mean `vary`?") && text(&wrong).contains("mine.toml"),
        "{}",
        text(&wrong)
    );
    let unknown = switchboard(&["experiments", "--show", "idel"], dir);
    assert_eq!(unknown.status.code(), Some(2));
}
