//! What the command answers to what cannot be meant, and with which exit status.

use std::process::{Command, Output};

fn switchboard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchboard")).args(arguments).output().unwrap()
}

/// The exit status and what was said on stderr.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = switchboard(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_slip_is_answered_with_status_2_and_the_way_out() {
    for (arguments, word) in [
        (&["compare", "a", "b", "--fail-if", "troughput<0.95"][..], "did you mean `throughput`?"),
        (&["compare", "a", "b", "--fail-if", "cpu"], "FIGURE<RATIO"),
        (&["load", "ws://127.0.0.1:1/echo", "--rate", "NaN"], "--rate"),
        (&["load", "ws://127.0.0.1:1/echo", "--rate", "0.01"], "no message into --duration"),
        (&["load", "ws://127.0.0.1:1/echo", "--duration", "0s"], "longer than nothing"),
        (&["load", "ws://127.0.0.1:1/echo", "--warmup-limit", "1ms"], "--warmup-limit"),
        (&["run", "--rate", "1e12"], "--rate"),
        (&["run", "--work-us=-1"], "--work-us"),
        (&["serve", "epoll", "--work-us", "NaN"], "0 to 1000000"),
        (&["serve", "prefork", "--workers", "0"], "1 or more"),
        (&["serve", "poll", "--workers", "3"], "these have: prefork"),
        (&["serve", "spin", "--busy-poll", "5"], "these have: prefork"),
        (&["serve", "epoll", "--cpus", "8000"], "core 8000 does not exist"),
        (&["serve", "epoll", "--cpus", "3-1"], "0-3"),
        (&["diff", "selct", "poll"], "did you mean `select`?"),
        (&["diff", "iterative"], "name a second one"),
        (&["run", "conections"], "did you mean `connections`?"),
        (&["verify"], "Usage"),
    ] {
        let (status, said) = refusal(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

#[test]
fn more_workers_than_there_can_be_are_refused_before_anybody_is_told_where_to_connect() {
    for model in ["reactors", "prefork", "tokio-multi", "epoll-workers", "pool"] {
        let (status, said) = refusal(&["serve", model, "--workers", "1000000", "--listen", "127.0.0.1:0"]);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("or fewer"), "{said}");
    }
}

#[test]
fn the_models_stand_in_their_families_and_two_files_beside_each_other() {
    let said = |arguments: &[&str]| String::from_utf8(switchboard(arguments).stdout).unwrap();
    let tree = said(&["models", "--all"]);
    let places: Vec<usize> = switchboard_models::MODELS
        .iter()
        .map(|model| {
            tree.find(&format!("{} ", model.name)).unwrap_or_else(|| panic!("{} is missing", model.name))
        })
        .collect();
    assert_eq!(places.len(), switchboard_models::MODELS.len());
    for family in
        ["one at a time", "processes", "threads", "asking", "told", "tasks", "completion", "datagrams"]
    {
        assert!(tree.lines().any(|line| line == family), "{family}");
    }
    let diff = said(&["diff", "select", "poll"]);
    assert!(
        diff.lines().any(
            |line| line.contains("waits_with: \"select(2)\"") && line.contains("waits_with: \"poll(2)\"")
        ),
        "{diff}"
    );
    assert_eq!(diff, said(&["diff", "poll"]), "alone a model is held against the one that it adds to");
    assert!(said(&["diff", "poll", "poll", "--whole"]).contains("impl Poller"));
}

#[test]
fn what_is_no_results_folder_ends_with_status_1() {
    let empty = tempfile::tempdir().unwrap();
    let dir = empty.path().to_str().unwrap();
    let (status, said) = refusal(&["compare", dir, dir]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("is it a folder that `switchboard run` made?"), "{said}");
    let output = switchboard(&["verify", dir]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("✗ raw data"));
}

#[test]
fn blanks_in_a_list_mean_nothing_and_an_empty_element_is_named() {
    for arguments in [
        &["run", "idle, conections"][..],
        &["run", "--models", "poll , epoll,epol"],
        &["compare", "a", "b", "--connections", "1, 64", "--models", " poll", "--fail-if", "cpu"],
        &["load", "ws://127.0.0.1:1/echo", "--cpus", "0, 1-0"],
        &["report", "--format", "html, svgg", "a"],
    ] {
        let (status, said) = refusal(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        // What is wrong in each is another thing, and it is named without the blank before it.
        let words = ["`conections`", "`epol`", "FIGURE<RATIO", "0-3", "'svgg'"];
        assert!(words.iter().any(|word| said.contains(word)), "{arguments:?}: {said}");
    }
    for arguments in [
        &["run", "--models", "epoll,"][..],
        &["run", "--connections", "1,,2"],
        &["compare", "a", "b", "--models", ","],
        &["report", "a", "--format", " "],
    ] {
        let (status, said) = refusal(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        assert!(
            said.contains("an empty element") && said.contains("\"epoll, poll\""),
            "{arguments:?}: {said}"
        );
    }
}
