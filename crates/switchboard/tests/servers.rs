//! Servers that are none of the models, as a user measures them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SWITCHBOARD: &str = env!("CARGO_BIN_EXE_switchboard");

fn run(arguments: &[&str], dir: &Path) -> Output {
    Command::new(SWITCHBOARD).arg("run").args(arguments).current_dir(dir).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The last try of a server's point.
fn point(dir: &Path, server: &str) -> Value {
    let points = fs::read_to_string(dir.join("points.jsonl")).unwrap();
    let mut points = points.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    points.rfind(|point| point["model"] == server).unwrap()
}

/// A file of servers, each with its name, its command and what else there is to say of it.
fn servers(dir: &Path, servers: &[(&str, &str, &str)]) {
    let table = |(name, command, more): &(&str, &str, &str)| {
        format!("[[server]]\nname = \"{name}\"\ncommand = \"{command}\"\n{more}\n")
    };
    fs::write(dir.join("servers.toml"), servers.iter().map(table).collect::<String>()).unwrap();
}

const QUICK: [&str; 6] = ["connections", "--quick", "--rounds", "1", "--servers", "servers.toml"];

#[test]
fn a_server_has_a_line_for_each_mechanism_where_that_is_the_question() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mine = format!("'{SWITCHBOARD}' serve poll --listen 127.0.0.1:{{port}}");
    servers(dir, &[("mine", &mine, "speaks = [\"sse\", \"longpoll\"]")]);
    let more = ["--models", "epoll:broadcast,epoll:sse,mine", "--connections", "4", "--out", "fanout"];
    let output = run(&[&["fanout"], &QUICK[1..], &more].concat(), dir);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for line in ["epoll:broadcast", "epoll:sse", "mine:sse", "mine:longpoll"] {
        let point = point(&dir.join("fanout"), line);
        assert!(matches!(point["status"].as_str(), Some("ok" | "doubtful")), "{point}");
        assert_eq!((&point["connected"], &point["lost"]), (&4.into(), &0.into()), "{point}");
        assert!(point["messages_per_s"].as_f64() > Some(0.0), "{point}");
    }
}

#[test]
fn a_server_of_ones_own_stands_beside_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mine = format!("'{SWITCHBOARD}' serve poll --listen 127.0.0.1:{{port}}");
    servers(dir, &[("mine", &mine, "version = \"echo 1.2.3\"\nspeaks = [\"echo\", \"broadcast\"]")]);
    for experiment in ["connections", "broadcast"] {
        let arguments = [
            &[experiment],
            &QUICK[1..],
            &["--models", "epoll,mine", "--connections", "4", "--out", experiment],
        ];
        let output = run(&arguments.concat(), dir);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let point = point(&dir.join(experiment), "mine");
        assert!(matches!(point["status"].as_str(), Some("ok" | "doubtful")), "{point}");
        assert_eq!(point["connected"], 4);
        assert!(point["messages_per_s"].as_f64() > Some(0.0), "{point}");
        let page = fs::read_to_string(dir.join(experiment).join("report.html")).unwrap();
        assert!(
            page.contains("1.2.3") && page.contains("serve poll --listen"),
            "its version and its command"
        );
    }
}

#[test]
fn what_is_missing_or_broken_is_named_and_stops_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let serve = format!("'{SWITCHBOARD}' serve poll --listen 127.0.0.1:{{port}}");
    servers(
        dir,
        &[
            ("absent", "no-such-program {port}", ""),
            ("dies", "sh -c 'echo no luck >&2; exit 3' {port}", ""),
            ("elsewhere", &serve, "path = \"/nowhere\""),
            ("fetched", &serve, "needs = [\"here\"]\ninstall = \"touch here\""),
            ("unobtainable", &serve, "needs = [\"there\"]\ninstall = \"exit 7\""),
        ],
    );
    let names = "epoll,absent,dies,elsewhere,fetched,unobtainable";
    let arguments = [&QUICK[..], &["--models", names, "--connections", "2", "--install", "--out", "out"]];
    let output = run(&arguments.concat(), dir);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "a point is invalid: {said}");
    assert!(said.contains("absent is left out, not installed: no-such-program is not there"), "{said}");
    assert!(said.contains("unobtainable could not be installed: exit status: 7"), "{said}");
    for (server, status, reason) in [
        ("absent", "limit", "not installed: no-such-program is not there"),
        ("unobtainable", "limit", "not installed: exit 7"),
        ("dies", "invalid", "server ended with exit status 3: no luck"),
        ("elsewhere", "invalid", "404"),
    ] {
        let point = point(&dir.join("out"), server);
        assert_eq!(point["status"], status, "{point}");
        assert!(point["reason"].as_str().unwrap().contains(reason), "{point}");
    }
    for server in ["epoll", "fetched"] {
        assert!(point(&dir.join("out"), server)["messages_per_s"].as_f64() > Some(0.0), "{server}");
    }
}

#[test]
fn mistakes_in_the_file_are_found_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    servers(dir, &[("mine", "./mine", "")]);
    let output = run(&QUICK, dir);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("servers.toml: server `mine`: its command has no {port}"),
        "{}",
        said(&output)
    );
    servers(dir, &[("mine", "./mine {port}", "")]);
    let output = run(&[&QUICK[..], &["--models", "mien"]].concat(), dir);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("did you mean `mine`?"), "{}", said(&output));
}
