//! Whole runs against `fake.sh`, a stand-in for the command in which every model misbehaves in its own way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use switchboard_lab::record::{Point, Status, read_histograms, read_points};
use switchboard_lab::{
    CompareOptions, Interrupt, LabError, Progress, RunOptions, compare, report, run, verify, verify_all,
};
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
    let torn: Vec<_> = problems(&bench.path("results"))
        .into_iter()
        .filter(|(what, problem)| *what == "raw data" && problem.starts_with("points.jsonl:2: torn"))
        .collect();
    assert!(torn.len() == 1 && torn[0].1.contains("--resume cuts it off"), "{torn:?}");
    let resume = RunOptions { resume: Some(bench.path("results")), ..bench.options.clone() };
    let summary = run(&resume, &Interrupt::new()).unwrap();
    assert_eq!(summary.experiments[0].ok + summary.experiments[0].doubtful, 2);
    let damaged = &summary.experiments[0].damaged;
    assert!(!damaged.iter().any(|line| line.starts_with("points.jsonl")), "{damaged:?}");
    let (points, damaged) = read_points(&bench.path("results")).unwrap();
    assert!(points.len() >= 2 && damaged.is_empty(), "{damaged:?}");
    assert_eq!(but_for_the_stand_in(&bench.path("results")), []);
    // A line in the middle that was changed later is not the run's to remove.
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replacen("{\"schema\"", "{\"schemo\"", 1)).unwrap();
    let summary = run(&resume, &Interrupt::new()).unwrap();
    assert!(summary.experiments[0].damaged[0].starts_with("points.jsonl:1:"), "{summary}");
}

#[test]
fn a_folder_that_is_being_written_is_left_alone_by_everybody_else() {
    for several in [false, true] {
        let mut bench = Bench::new(&["epoll"]);
        if several {
            bench.options.experiments = vec!["connections".into(), "latency".into()];
            bench.options.connections = None;
            bench.options.effort = switchboard_lab::Effort::Quick;
        }
        let (dir, last) = (bench.path("results"), if several { "results/latency" } else { "results" });
        fs::write(bench.path("hang"), "").unwrap();
        let interrupt = Interrupt::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&bench.options, &interrupt).unwrap());
            while !bench.path("hanging").exists() && !running.is_finished() {
                std::thread::yield_now();
            }
            let holder = format!("is being written by process {}, since 20", std::process::id());
            for folder in [&dir, &bench.path(last)] {
                let resume = RunOptions { resume: Some(folder.clone()), ..bench.options.clone() };
                let error = run(&resume, &Interrupt::new()).unwrap_err();
                assert!(
                    matches!(error, LabError::InUse { .. }) && error.to_string().contains(&holder),
                    "{error}"
                );
                let error = report::write(folder, &report::Format::USUAL).unwrap_err().to_string();
                assert!(error.contains(&holder), "{error}");
                for one in verify_all(folder) {
                    assert!(one.to_string().contains(&holder), "{one}");
                }
            }
            let error = run(&bench.options, &Interrupt::new()).unwrap_err();
            assert!(error.to_string().contains(&holder), "{error}");
            interrupt.trigger();
            running.join().unwrap();
        });
        fs::remove_file(bench.path("hang")).unwrap();
        assert!(!dir.join("run.lock").exists());
        if !several {
            let resume = RunOptions { resume: Some(dir.clone()), ..bench.options.clone() };
            run(&resume, &Interrupt::new()).unwrap();
            assert_eq!(but_for_the_stand_in(&dir), []);
        }
    }
}

#[test]
fn a_folder_that_was_renamed_is_the_same_folder() {
    let (bench, dir) = verified();
    let renamed = bench.path("another name & <more>");
    fs::rename(&dir, &renamed).unwrap();
    assert_eq!(but_for_the_stand_in(&renamed), []);
    report::write(&renamed, &report::Format::USUAL).unwrap();
    fs::rename(&renamed, bench.path("third")).unwrap();
    assert_eq!(but_for_the_stand_in(&bench.path("third")), []);
}

#[test]
fn a_count_that_nobody_can_mean_is_refused_before_there_is_a_folder() {
    type Change = fn(&mut RunOptions);
    let cases: [(Change, &str); 6] = [
        (|options| options.rounds = Some(0), "--rounds 0: must be from 1 to 10000"),
        (|options| options.rounds = Some(u32::MAX), "--rounds 4294967295: must be from 1 to 10000"),
        (
            |options| {
                options.rounds = Some(10_000);
                options.connections = Some((1..=10).collect());
            },
            "100000 points in 10000 rounds; at most 50000 in one experiment: fewer --rounds (up to 5000)",
        ),
        (
            |options| options.connections = Some(vec![usize::MAX]),
            "--connections 18446744073709552000: must be at most",
        ),
        (
            |options| options.connections = Some((1..=1001).collect()),
            "--connections: 1001 values; at most 1000",
        ),
        (|options| options.payload = Some(1 << 40), "--payload 1099511627776: must be at most 16777216"),
    ];
    for (change, words) in cases {
        let mut bench = Bench::new(&["epoll"]);
        change(&mut bench.options);
        let error = run(&bench.options, &Interrupt::new()).unwrap_err();
        assert_eq!(error.exit_status(), 2, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!bench.path("results").exists(), "{error}");
    }
}

#[test]
fn planning_can_be_interrupted() {
    let mut bench = Bench::new(&["epoll"]);
    bench.options.rounds = Some(10_000);
    let interrupt = Interrupt::new();
    interrupt.trigger();
    let error = run(&bench.options, &interrupt).unwrap_err();
    assert_eq!(error.exit_status(), 130);
    assert!(!bench.path("results").exists());
}

#[test]
fn zero_points_are_a_mistake() {
    let mut bench = Bench::restarted();
    let file = bench.path("restarted.toml");
    let none = RESTARTED.replace("connections = 4", "connections = 4\nactive = 5");
    fs::write(&file, none).unwrap();
    bench.options.experiments = vec![file.to_str().unwrap().to_owned()];
    let error = run(&bench.options, &Interrupt::new()).unwrap_err();
    assert_eq!(error.exit_status(), 2);
    assert!(
        error.to_string().contains("restarted: 0 points: everywhere more connections would have to talk"),
        "{error}"
    );
}

#[test]
fn a_definition_has_bounds_too_and_the_line_is_named() {
    let bench = Bench::restarted();
    let file = bench.path("restarted.toml");
    let values = format!("values = [{}]", "1,".repeat(1001));
    let servers = "[[server]]\nname = \"x\"\ncommand = \"x {port}\"\n".repeat(101);
    for (from, to, words) in [
        ("rounds = 1\n", "rounds = 10001\n", "rounds: must be from 1 to 10000"),
        ("rounds = 1\n", "rounds = 99999999999\n", "rounds"),
        ("budget = \"10s\"", "budget = \"1000000h\"", "must be at most a day"),
        ("window = \"200ms\"", "window = \"25h\"", "must be at most a day"),
        (
            "connections = 4",
            "connections = 99999999",
            "setting.connections: 99999999: must be at most 16777216",
        ),
        (
            "connections = 4",
            "connections = 4\ndepth = 1000000",
            "setting.depth: 1000000: must be at most 65536",
        ),
        ("rate_per_s = 100", "rate_per_s = 1e300", "setting.rate_per_s"),
        ("values = [60]", "values = [3600001]", "x.values: 3600001: must be at most 3600000"),
        ("values = [60]", "factor = 2\nto = inf", "must be numbers above 0"),
        ("values = [60]", &values, "x.values: 1001 values: must be at most 1000"),
        ("[effort.quick]", &format!("{servers}\n[effort.quick]"), "101 servers: must be at most 100"),
    ] {
        assert!(RESTARTED.contains(from), "{from}");
        fs::write(&file, RESTARTED.replace(from, to)).unwrap();
        let error = run(&bench.options, &Interrupt::new()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("restarted.toml"), "{to}: {error}");
    }
    fs::write(&file, format!("{RESTARTED}#{}", "x".repeat(2 << 20))).unwrap();
    let error = run(&bench.options, &Interrupt::new()).unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
}

#[test]
fn a_folder_of_a_stranger_neither_hangs_nor_fills_the_memory_nor_leads_elsewhere() {
    let (bench, dir) = verified();
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let files = [
        "points.jsonl",
        "histograms.jsonl",
        "run.json",
        "environment.json",
        "calibration.json",
        "models.json",
        "SHA256SUMS",
        "report.html",
    ];
    for name in files {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        let replace: [(&str, &dyn Fn()); 6] = [
            ("a pipe", &|| nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
            ("a link", &|| symlink("/dev/zero", &path).unwrap()),
            ("a link", &|| symlink("/etc/hostname", &path).unwrap()),
            ("a folder", &|| fs::create_dir(&path).unwrap()),
            ("larger than", &|| fs::File::create(&path).unwrap().set_len(1 << 40).unwrap()),
            ("", &|| fs::write(&path, &deep).unwrap()),
        ];
        for (word, replace) in replace {
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
            replace();
            let found = problems(&dir);
            assert!(
                found.iter().any(|(_, problem)| problem.contains(name) && problem.contains(word)),
                "{name}, {word}: {found:?}"
            );
            // Drawing, comparing and resuming come to an end too.
            let _ = report::write(&dir, &[report::Format::Csv]);
            let side = dir.display().to_string();
            let _ = compare(&CompareOptions { a: side.clone(), b: side, ..CompareOptions::default() });
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, whole).unwrap();
    }
    // Nor is anything written through a link.
    for name in ["points.jsonl", "histograms.jsonl"] {
        let (path, target) = (dir.join(name), bench.path("precious"));
        fs::write(&target, "mine\n").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        let resume = RunOptions { resume: Some(dir.clone()), ..bench.options.clone() };
        let error = run(&resume, &Interrupt::new()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("a link"), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine\n");
        fs::remove_file(&path).unwrap();
    }
    for names in [r#"[".."]"#, r#"["/etc"]"#, r#"["a/b"]"#, r#"["."]"#, r#"[""]"#] {
        fs::write(dir.join("experiments.json"), format!(r#"{{"schema":3,"experiments":{names}}}"#)).unwrap();
        let said = verify_all(&dir)[0].to_string();
        assert!(said.contains("is no name of an experiment"), "{said}");
    }
}

#[test]
fn a_folder_s_commands_are_run_only_if_somebody_vouches_for_them() {
    let (bench, dir) = verified();
    let touched = bench.path("touched");
    let command = format!("mkdir -p {}/{{port}}", touched.display());
    let path = dir.join("run.json");
    let mut plan: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    plan["servers"] =
        serde_json::json!([{"name": "mine", "command": command, "found": null, "missing": null}]);
    let mut job = plan["jobs"][0].clone();
    (job["model"], job["mechanism"], job["order"]) = ("mine".into(), "echo".into(), 999.into());
    plan["jobs"].as_array_mut().unwrap().push(job);
    fs::write(&path, plan.to_string()).unwrap();
    let resume = RunOptions { resume: Some(dir.clone()), ..bench.options.clone() };
    let error = run(&resume, &Interrupt::new()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_status(), 2);
    assert!(text.contains(&format!("mine: {command}")) && text.contains("--trust-commands"), "{text}");
    assert!(!touched.exists());
    let other = bench.path("other.toml");
    fs::write(&other, "[[server]]\nname = \"mine\"\ncommand = \"another {port}\"\n").unwrap();
    let with = |servers: &Path| RunOptions { servers: Some(servers.display().to_string()), ..resume.clone() };
    assert!(matches!(run(&with(&other), &Interrupt::new()).unwrap_err(), LabError::Untrusted { .. }));
    let definition = bench.path("mine.toml");
    fs::write(&definition, format!("[[server]]\nname = \"mine\"\ncommand = \"{command}\"\n")).unwrap();
    for options in [with(&definition), RunOptions { trust_commands: true, ..resume.clone() }] {
        let points = fs::read_to_string(dir.join("points.jsonl")).unwrap();
        run(&options, &Interrupt::new()).unwrap();
        assert!(touched.exists(), "{:?}", options.servers);
        fs::remove_dir_all(&touched).unwrap();
        fs::write(dir.join("points.jsonl"), points).unwrap();
    }
    // What cannot be run at all is said before anything is.
    for (key, value, words) in [
        ("model", "--help", "unknown model `--help`"),
        ("mechanism", "nonsense", "unknown mechanism `nonsense`"),
    ] {
        let mut broken = plan.clone();
        broken["jobs"][0][key] = value.into();
        fs::write(&path, broken.to_string()).unwrap();
        let error =
            run(&RunOptions { trust_commands: true, ..resume.clone() }, &Interrupt::new()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    plan["servers"][0]["command"] = "no 'other half {port}".into();
    fs::write(&path, plan.to_string()).unwrap();
    let error = run(&RunOptions { trust_commands: true, ..resume }, &Interrupt::new()).unwrap_err();
    assert!(error.to_string().contains("a quote without its other half"), "{error}");
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

/// Those that are not about the stand-in's figures and histograms, which are none.
fn but_for_the_stand_in(dir: &Path) -> Vec<(&'static str, String)> {
    let whole = ["lock", "checksums", "plan", "report", "verdicts"];
    problems(dir).into_iter().filter(|(what, _)| whole.contains(what)).collect()
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
