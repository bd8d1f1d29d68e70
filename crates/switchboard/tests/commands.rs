//! What the command answers to what cannot be meant, and with which exit status.

use std::process::{Command, Output, Stdio};

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
        (&["run", "conections"], "did you mean `connections`?"),
        (&["verify"], "Usage"),
    ] {
        let (status, said) = refusal(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
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
fn a_reader_that_has_gone_is_no_failure() {
    for arguments in [&["models"][..], &["experiments"], &["experiments", "--show", "idle"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
}
