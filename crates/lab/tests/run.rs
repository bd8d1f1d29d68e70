//! Whole runs against `fake.sh`, a stand-in for the command in which every model misbehaves in its own way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use switchboard_lab::record::{Point, Status, read_histograms, read_points};
use switchboard_lab::{Interrupt, LabError, Progress, RunOptions, run, verify};
use tempfile::TempDir;

/// A folder with the program in it and the options to run it.
struct Bench {
    folder: TempDir,
    options: RunOptions,
}

impl Bench {
    fn new(models: &[&str]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("switchboard");
        // A link, because a file that has just been written may still be open in a child of another test.
        symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake.sh"), &program).unwrap();
        let options = RunOptions {
            models: Some(models.iter().map(|&model| model.to_owned()).collect()),
            connections: Some(vec![4]),
            rounds: Some(1),
            out: Some(folder.path().join("results")),
            seed: Some(1),
            host: Some("fake".into()),
            progress: Progress::Silent,
            program: Some(program),
            patience: Some(Duration::from_secs(60)),
            ..RunOptions::default()
        };
        Bench { folder, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self) -> switchboard_lab::RunSummary {
        run(&self.options, &Interrupt::new()).unwrap()
    }

    fn point(&self) -> Point {
        let (points, damaged) = read_points(&self.path("results")).unwrap();
        // Where the machine is not quiet there is a second try.
        assert!((1..=2).contains(&points.len()) && damaged.is_empty(), "{points:?} {damaged:?}");
        points.into_iter().next_back().unwrap()
    }

    fn server_is_gone(&self, model: &str) -> bool {
        let pid = fs::read_to_string(self.path(&format!("server-{model}.pid"))).unwrap();
        // What was killed is nobody's any more, and init may take its time to bury it.
        let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }
}

/// Whether every message is accounted for. Whether the machine was quiet is not this suite's to decide.
fn has_figures(point: &Point) -> bool {
    matches!(point.status, Status::Ok | Status::Doubtful) && point.messages_per_s.is_some()
}

/// Runs one model and returns its point, with everything gone that was started.
fn point_of(model: &str) -> Point {
    let bench = Bench::new(&[model]);
    bench.run();
    assert!(bench.server_is_gone(model), "{model}");
    bench.point()
}

#[test]
fn a_good_point_has_every_figure() {
    let point = point_of("epoll");
    assert!(has_figures(&point), "{point:?}");
    assert_eq!(point.connected, 4);
    assert_eq!(point.messages_per_s, Some(1000.0));
    assert_eq!(point.latency_ns.unwrap().p99, 4);
    assert_eq!((point.client_cpu, point.client_cpu_ns_per_message), (Some(0.5), Some(500.0)));
    assert!(point.server_memory_idle_bytes > Some(0));
    // A lab that a busy machine lets come to the window too late says nothing about the server's CPU time.
    assert_eq!(point.server_cpu_ns_per_message.is_some(), point.costs.is_some());
}

#[test]
fn a_server_that_dies_in_the_window_makes_its_point_invalid() {
    let point = point_of("fork");
    assert_eq!(point.status, Status::Invalid);
    assert_eq!(point.reason.as_deref(), Some("server ended with SIGKILL"));
}

#[test]
fn a_server_that_cannot_start_is_quoted() {
    let point = point_of("threads-direct");
    assert_eq!(point.status, Status::Invalid);
    let reason = "server ended with exit status 1: cannot bind 127.0.0.1:0: no luck";
    assert_eq!(point.reason.as_deref(), Some(reason));
}

#[test]
fn a_load_generator_that_dies_is_quoted() {
    let point = point_of("raw");
    assert_eq!(point.status, Status::Invalid);
    assert_eq!(point.reason.as_deref(), Some("load generator ended with exit status 101: a bug"));
}

/// An experiment in which the server is restarted in the middle of its window.
const RESTARTED: &str = r#"
question = "What does a restart look like?"
analysis = "What to expect. What would surprise."
mechanisms = ["sse"]
models = ["epoll"]
pictures = ["blind", "missed", "replayed"]
[setting]
connections = 4
rate_per_s = 100
[x]
vary = "restart_ms"
values = [60]
[effort.quick]
budget = "10s"
rounds = 1
warmup = "10ms"
window = "200ms"
shortest_window = "200ms"
[effort.default]
budget = "10s"
rounds = 1
warmup = "10ms"
window = "200ms"
shortest_window = "200ms"
[effort.full]
budget = "10s"
rounds = 1
warmup = "10ms"
window = "200ms"
shortest_window = "200ms"
"#;

impl Bench {
    fn restarted() -> Bench {
        let mut bench = Bench::new(&["epoll"]);
        let file = bench.path("restarted.toml");
        fs::write(&file, RESTARTED).unwrap();
        bench.options.experiments = vec![file.to_str().unwrap().to_owned()];
        bench.options.connections = None;
        bench
    }
}

#[test]
fn a_server_that_is_restarted_on_purpose_is_no_server_that_died() {
    let bench = Bench::restarted();
    bench.run();
    assert!(bench.server_is_gone("epoll"));
    let point = bench.point();
    assert!(has_figures(&point), "{point:?}");
    let again = point.reconnect.as_ref().unwrap();
    assert!(again.away_s.unwrap() >= 0.06, "{again:?}");
    assert_eq!((again.replayed, again.unpublished, point.lost), (8, 5, Some(7)));
    // Nobody can say what a message costs two servers of which one ends and the other begins.
    assert_eq!((point.server_cpu_ns, &point.costs, &point.memory), (None, &None, &None));
    assert_eq!((point.server_memory_bytes, point.server_threads), (None, None));
    let figures = fs::read_to_string(bench.path("results/summary.json")).unwrap();
    for figure in ["blind_p50_ns", "blind_max_ns", "missed_per_subscriber", "replayed_per_subscriber"] {
        assert!(figures.contains(figure), "{figure}");
    }
    assert!(bench.path("results/missed.svg").exists());
    let found: Vec<_> = problems(&bench.path("results"))
        .into_iter()
        .filter(|(what, _)| ["checksums", "plan", "report", "verdicts"].contains(what))
        .collect();
    assert_eq!(found, []);
}

#[test]
fn a_server_that_fails_to_stop_or_to_come_back_breaks_its_point() {
    for (fault, reason) in [
        ("fails-to-stop", "server, restarted on purpose, ended with exit status 3"),
        ("fails-to-return", "server ended with exit status 1: somebody else has the port"),
    ] {
        let bench = Bench::restarted();
        fs::write(bench.path(fault), "").unwrap();
        bench.run();
        let point = bench.point();
        assert_eq!((point.status, point.reason.as_deref()), (Status::Invalid, Some(reason)), "{fault}");
    }
}

#[test]
fn a_window_that_is_over_before_the_server_is_back_is_refused() {
    let bench = Bench::restarted();
    let file = bench.path("restarted.toml");
    fs::write(&file, RESTARTED.replace("values = [60]", "values = [101]")).unwrap();
    let error = run(&bench.options, &Interrupt::new()).unwrap_err();
    assert_eq!(error.exit_status(), 2);
    assert!(error.to_string().contains("restart_ms = 101: more than half of a window of 200 ms"), "{error}");
}

#[test]
fn a_silent_load_generator_is_given_up() {
    let mut bench = Bench::new(&["poll"]);
    bench.options.patience = Some(Duration::from_secs(3));
    bench.run();
    let point = bench.point();
    assert_eq!(point.status, Status::Invalid);
    let reason = "load generator said nothing for too long while connecting: still trying";
    assert_eq!(point.reason.as_deref(), Some(reason));
    assert!(bench.server_is_gone("poll"));
}

#[test]
fn a_refusing_server_has_reached_its_limit_and_is_not_asked_again() {
    let mut bench = Bench::new(&["select"]);
    bench.options.rounds = Some(3);
    let summary = bench.run();
    assert_eq!(summary.exit_status(), 0, "a limit is a result");
    let (points, _) = read_points(&bench.path("results")).unwrap();
    assert_eq!(points.len(), 3);
    for point in &points {
        let found = (point.status, point.reason.as_deref(), point.connected);
        assert_eq!(found, (Status::Limit, Some("FD_SETSIZE"), 3));
    }
    assert_eq!(points.iter().filter(|point| point.messages.is_some()).count(), 1);
}

#[test]
fn lost_messages_are_counted_against_all_but_udp() {
    let point = point_of("threads");
    let found = (point.status, point.reason.as_deref(), point.lost);
    assert_eq!(found, (Status::Invalid, Some("3 messages lost"), Some(3)));
    let point = point_of("udp");
    assert!(has_figures(&point), "{point:?}");
    assert_eq!((point.lost, point.mechanism.as_str()), (Some(12), "udp-echo"));
}

#[test]
fn one_broken_model_stops_no_other_and_the_summary_counts_them() {
    let bench = Bench::new(&["fork", "threads", "select", "epoll", "raw"]);
    let summary = bench.run();
    let one = &summary.experiments[0];
    assert_eq!((one.planned, one.ok + one.doubtful, one.limit, one.invalid), (5, 1, 1, 3));
    assert_eq!(summary.exit_status(), 1);
    let text = summary.to_string();
    assert!(text.contains("FD_SETSIZE") && text.contains("fork at 4: server ended with SIGKILL"), "{text}");
    let (histograms, _) = read_histograms(&bench.path("results")).unwrap();
    assert!(histograms.iter().any(|line| line.model == "epoll" && line.latency_histogram == "QUJD"));
}

#[test]
fn a_folder_with_results_is_never_overwritten() {
    let bench = Bench::new(&["epoll"]);
    bench.run();
    let before = fs::read(bench.path("results/points.jsonl")).unwrap();
    let error = run(&bench.options, &Interrupt::new()).unwrap_err();
    assert!(matches!(error, LabError::FolderExists(_)), "{error}");
    assert!(error.to_string().contains("--resume"), "{error}");
    assert_eq!(fs::read(bench.path("results/points.jsonl")).unwrap(), before);
}

#[test]
fn an_interrupted_run_leaves_nothing_behind_and_is_finished_by_resuming_it() {
    let bench = Bench::new(&["epoll", "udp"]);
    fs::write(bench.path("hang"), "").unwrap();
    let interrupt = Interrupt::new();
    let summary = std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&bench.options, &interrupt).unwrap());
        while !bench.path("hanging").exists() && !running.is_finished() {
            std::thread::yield_now();
        }
        interrupt.trigger();
        running.join().unwrap()
    });
    assert_eq!((summary.interrupted, summary.exit_status()), (true, 130));
    assert!(summary.to_string().contains("switchboard run --resume"));
    let begun =
        ["raw", "epoll", "udp"].into_iter().find(|model| bench.path(&format!("server-{model}.pid")).exists());
    assert!(bench.server_is_gone(begun.unwrap()));

    fs::remove_file(bench.path("hang")).unwrap();
    let resume = RunOptions { resume: Some(bench.path("results")), ..bench.options.clone() };
    let summary = run(&resume, &Interrupt::new()).unwrap();
    let one = &summary.experiments[0];
    assert_eq!((one.planned, one.ok + one.doubtful, one.interrupted), (2, 2, false));
    let points = || read_points(&bench.path("results")).unwrap().0;
    let all = points();
    assert_eq!(all.iter().filter(|point| point.attempt == 1).count(), 2);
    run(&resume, &Interrupt::new()).unwrap();
    assert_eq!(points(), all, "nothing is left to do");
}

#[test]
fn a_damaged_line_is_named_and_its_point_measured_again() {
    let bench = Bench::new(&["epoll", "udp"]);
    bench.run();
    let file = bench.path("results/points.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    // As if the machine had lost power in the middle of the second line.
    let second = whole.find('\n').unwrap() + 1;
    fs::write(&file, &whole[..second + 40]).unwrap();
    let resume = RunOptions { resume: Some(bench.path("results")), ..bench.options.clone() };
    let summary = run(&resume, &Interrupt::new()).unwrap();
    assert_eq!(summary.experiments[0].ok + summary.experiments[0].doubtful, 2);
    assert!(
        summary.experiments[0].damaged[0].contains("points.jsonl:2:"),
        "{:?}",
        summary.experiments[0].damaged
    );
    let (points, damaged) = read_points(&bench.path("results")).unwrap();
    assert_eq!((damaged.len(), damaged[0].line), (1, 2));
    assert!(points.len() >= 2);
}

#[test]
fn a_program_that_is_not_there_stops_the_run() {
    let mut bench = Bench::new(&["epoll"]);
    bench.options.program = Some(bench.path("nothing"));
    let error = run(&bench.options, &Interrupt::new()).unwrap_err();
    assert_eq!(error.exit_status(), 1);
    assert!(error.to_string().contains("nothing: No such file"), "{error}");
}

/// A folder that a run has left, to be damaged.
fn verified() -> (Bench, PathBuf) {
    let bench = Bench::new(&["epoll", "udp"]);
    bench.run();
    let dir = bench.path("results");
    (bench, dir)
}

/// The problems that verifying finds, by what was examined.
fn problems(dir: &Path) -> Vec<(&'static str, String)> {
    let examined = verify(dir).examined;
    examined.iter().flat_map(|one| one.problems.iter().map(|problem| (one.what, problem.clone()))).collect()
}

/// Writes the checksums again, as somebody would who covers his tracks.
fn cover_tracks(dir: &Path) {
    let sums = std::process::Command::new("sh")
        .args(["-c", "sha256sum $(ls | grep -v SHA256SUMS) > SHA256SUMS"])
        .current_dir(dir)
        .status()
        .unwrap();
    assert!(sums.success());
}

#[test]
fn a_folder_that_a_run_left_verifies_and_its_checksums_are_those_of_sha256sum() {
    let (_bench, dir) = verified();
    // The stand-in's histogram is no histogram, and its other figures are no measurements.
    let found: Vec<_> = problems(&dir)
        .into_iter()
        .filter(|(what, _)| ["checksums", "plan", "report", "verdicts"].contains(what))
        .collect();
    assert_eq!(found, []);
    let check = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(&dir)
        .status();
    assert!(check.unwrap().success());
}

#[test]
fn every_file_that_was_changed_or_removed_is_named() {
    let (_bench, dir) = verified();
    let names: Vec<String> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names.iter().filter(|name| *name != "SHA256SUMS") {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for damaged in [Some(changed), None] {
            match damaged {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let found = problems(&dir);
            let named = found
                .iter()
                .any(|(what, problem)| *what == "checksums" && problem.starts_with(name.as_str()));
            assert!(named, "{name}: {found:?}");
            fs::write(&path, &whole).unwrap();
        }
    }
}

#[test]
fn an_edited_figure_is_found_though_the_checksums_were_written_again() {
    let (_bench, dir) = verified();
    let file = dir.join("points.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    for (from, to, what) in [
        (r#""messages_per_s":1000.0"#, r#""messages_per_s":2000.0"#, "figures"),
        (r#""share_of_ceiling":null"#, r#""share_of_ceiling":0.5"#, "verdicts"),
        (r#""lost":12"#, r#""lost":0"#, "verdicts"),
    ] {
        assert!(whole.contains(from), "{from}");
        fs::write(&file, whole.replacen(from, to, 1)).unwrap();
        cover_tracks(&dir);
        let found = problems(&dir);
        assert!(found.iter().any(|(which, _)| *which == what), "{from}: {found:?}");
        assert!(!found.iter().any(|(which, _)| *which == "checksums"), "{found:?}");
    }
    fs::write(&file, &whole).unwrap();
    fs::write(dir.join("throughput.svg"), "<svg/>").unwrap();
    cover_tracks(&dir);
    let found = problems(&dir);
    assert!(
        found.iter().any(|(what, problem)| *what == "report" && problem.starts_with("throughput.svg")),
        "{found:?}"
    );
    // A point may be there twice, if the machine was not quiet.
    let others = whole.lines().filter(|line| !line.contains(r#""model":"udp""#));
    let lines = others.map(|line| format!("{line}\n")).collect::<String>();
    fs::write(&file, lines).unwrap();
    cover_tracks(&dir);
    let found = problems(&dir);
    assert!(found.iter().any(|(what, problem)| *what == "plan" && problem.contains("missing")), "{found:?}");
}

#[test]
fn what_is_no_results_folder_is_told_and_newer_results_are_refused_by_version() {
    let empty = tempfile::tempdir().unwrap();
    let found = problems(empty.path());
    assert!(
        found.iter().any(|(_, problem)| problem.contains("is this a folder that `switchboard run` made?")),
        "{found:?}"
    );
    let (_bench, dir) = verified();
    let file = dir.join("points.jsonl");
    let newer = fs::read_to_string(&file).unwrap().replacen(r#""schema":3"#, r#""schema":4"#, 1);
    fs::write(&file, newer.replacen(r#""messages":1000"#, r#""messages":"many""#, 2)).unwrap();
    let found = problems(&dir);
    assert!(
        found.iter().any(|(what, problem)| *what == "raw data" && problem.contains("schema 4")),
        "{found:?}"
    );
}

#[test]
fn a_full_disk_is_said_and_nothing_half_written_is_taken_for_whole() {
    let bench = Bench::new(&["epoll"]);
    let dir = bench.path("results");
    fs::create_dir(&dir).unwrap();
    bench.run();
    // Everything that is appended from now on meets a device that is always full.
    let resumed = bench.path("resumed");
    fs::create_dir(&resumed).unwrap();
    for name in ["run.json", "environment.json", "calibration.json"] {
        fs::copy(dir.join(name), resumed.join(name)).unwrap();
    }
    symlink("/dev/full", resumed.join("histograms.jsonl")).unwrap();
    let options = RunOptions { resume: Some(resumed.clone()), out: None, ..bench.options.clone() };
    let error = run(&options, &Interrupt::new()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("No space left on device") && text.contains("--resume"), "{text}");
    fs::remove_file(resumed.join("histograms.jsonl")).unwrap();
    assert_eq!(run(&options, &Interrupt::new()).unwrap().experiments[0].invalid, 0);
}
