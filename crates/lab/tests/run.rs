//! Whole runs against `fake.sh`, a stand-in for the command in which every model misbehaves in its own way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use switchboard_lab::record::{Point, Status, read_histograms, read_points};
use switchboard_lab::{Interrupt, LabError, Progress, RunOptions, run};
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
