//! The report of planted data, read as a person would.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Format, ReportError, write};

fn point(model: &str, connections: usize, round: u32, cpu_ns: f64) -> Value {
    json!({
        "schema": 1, "experiment": "connections", "model": model, "mechanism": "echo", "connections": connections,
        "connected": connections, "round": round, "order": 0, "payload_bytes": 64, "depth": 1, "status": "ok", "reason": null,
        "window_s": 1.0, "messages": 1000, "messages_per_s": 1e9 / cpu_ns,
        "latency_ns": {"min": 1, "p50": 2, "p90": 3, "p99": 4000, "p99_9": 5000, "max": 6000, "mean": 2.5},
        "last_receiver_ns": null, "connect_ns": null, "upgrade_ns": null, "lost": 0, "duplicated": 0, "reordered": 0,
        "corrupted": 0, "refused": {}, "errors": {}, "server_cpu_ns_per_message": cpu_ns, "server_cpu": 1.0,
        "client_cpu_ns_per_message": 1.0, "client_cpu": 1.0, "server_memory_bytes": 1, "server_memory_idle_bytes": 1,
        "server_memory_peak_bytes": 1, "memory_bytes_per_connection": 300.0, "server_threads": 1, "server_processes": 1,
        "started_at": "2026-01-01T00:00:00Z"
    })
}

fn folder(points: &[Value], question: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = points.iter().map(|point| format!("{point}\n")).collect();
    fs::write(dir.path().join("points.jsonl"), lines).unwrap();
    let subject =
        |model: &str| json!({"model": model, "mechanism": "echo", "compared": true, "ceiling": false});
    let plan = json!({
        "schema": 1, "experiment": "connections", "question": question, "analysis": "One.\n\nTwo.", "effort": "default",
        "seed": 1, "payload_bytes": 64, "depth": 1, "rounds": 3, "warmup_ms": 1, "window_ms": 1000, "connections": [1, 64],
        "subjects": [subject("select"), subject("poll"), subject("epoll")], "jobs": [], "expected_s": 1.0,
        "started_at": "2026-01-01T00:00:00Z", "command": ["switchboard", "run"]
    });
    fs::write(dir.path().join("run.json"), plan.to_string()).unwrap();
    dir
}

fn page(dir: &Path) -> String {
    write(dir, &Format::USUAL).unwrap();
    fs::read_to_string(dir.join("report.html")).unwrap()
}

/// What the page says first, for messages.
fn finding(page: &str) -> &str {
    page.split("class=\"finding\">").nth(1).and_then(|rest| rest.split("</div>").next()).unwrap_or("nothing")
}

/// Three rounds of three models at 64 connections, a few percent apart, each model's in an order of its own.
fn rounds(models: [(&str, f64); 3]) -> Vec<Value> {
    let noise = [[0.98, 1.0, 1.02], [1.0, 1.02, 0.98], [1.02, 0.98, 1.0]];
    let each = |((model, cpu), noise): ((&str, f64), [f64; 3])| {
        (0..3).map(|round| point(model, 64, round, cpu * noise[round as usize])).collect::<Vec<_>>()
    };
    models.into_iter().zip(noise).flat_map(each).collect()
}

#[test]
fn what_the_ranges_tell_apart_is_said_with_its_factor() {
    let dir = folder(&rounds([("select", 9000.0), ("poll", 6000.0), ("epoll", 3000.0)]), "Q?");
    let page = page(dir.path());
    assert!(page.contains("epoll took the least server CPU per message: 3.0 µs"), "{}", finding(&page));
    assert!(page.contains("select took the most: 9.0 µs, 3.00 times that of epoll"), "{}", finding(&page));
}

#[test]
fn what_the_ranges_do_not_tell_apart_is_said_too() {
    let dir = folder(&rounds([("select", 9000.0), ("poll", 3030.0), ("epoll", 3000.0)]), "Q?");
    assert!(
        page(dir.path())
            .contains("epoll and poll took the least server CPU per message and cannot be told apart")
    );
}

#[test]
fn limits_and_broken_points_are_marked_and_never_best() {
    let mut points = rounds([("select", 9000.0), ("poll", 6000.0), ("epoll", 3000.0)]);
    points[0]["status"] = json!("limit");
    points[0]["reason"] = json!("FD_SETSIZE");
    points[8]["status"] = json!("invalid");
    points[8]["reason"] = json!("3 messages lost");
    let dir = folder(&points, "Q?");
    let page = page(dir.path());
    assert!(page.contains(r#"<td class="mark">FD_SETSIZE</td>"#), "{page}");
    assert!(page.contains(r#"<td class="mark">3 messages lost</td>"#), "{page}");
    assert!(page.contains("No two models can be compared"), "{page}");
}

#[test]
fn text_from_the_data_is_never_markup() {
    let mut points = rounds([("select", 9000.0), ("poll", 6000.0), ("epoll", 3000.0)]);
    points[0]["status"] = json!("invalid");
    points[0]["reason"] = json!("<script>alert(1)</script>");
    let dir = folder(&points, "Is <b>this</b> bold?");
    let page = page(dir.path());
    assert!(!page.contains("<script>alert") && !page.contains("<b>this</b>"));
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn a_damaged_line_is_named_and_the_rest_is_used() {
    let mut points = rounds([("select", 9000.0), ("poll", 6000.0), ("epoll", 3000.0)]);
    points.insert(2, json!("not a point"));
    let dir = folder(&points, "Q?");
    let page = page(dir.path());
    assert!(page.contains("points.jsonl") && page.contains("Damaged lines"), "{page}");
    assert!(page.contains("epoll took the least"));
}

#[test]
fn the_same_data_give_the_same_bytes_and_the_page_asks_for_nothing() {
    let dir = folder(&rounds([("select", 9000.0), ("poll", 6000.0), ("epoll", 3000.0)]), "Q?");
    let first: Vec<Vec<u8>> =
        write(dir.path(), &Format::USUAL).unwrap().iter().map(|file| fs::read(file).unwrap()).collect();
    let again: Vec<Vec<u8>> =
        write(dir.path(), &Format::USUAL).unwrap().iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(first == again);
    let page = String::from_utf8(first[0].clone()).unwrap();
    for request in ["src=", "href=", "url(", "@import", "<link"] {
        assert!(!page.contains(request), "{request}");
    }
    let png = fs::read(dir.path().join("throughput.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}

#[test]
fn a_folder_without_points_is_told() {
    let dir = folder(&[], "Q?");
    assert!(matches!(write(dir.path(), &Format::USUAL), Err(ReportError::NoPoints(_))));
}

#[test]
fn every_value_of_a_second_axis_has_a_picture_and_what_does_not_depend_on_it_has_one() {
    let mut points = Vec::new();
    for (share, cpu) in [(0.01, 2000.0), (0.5, 9000.0)] {
        for connections in [1, 64] {
            for round in 0..3 {
                let mut point = point("epoll", connections, round, cpu + f64::from(round));
                point["active_share"] = json!(share);
                points.push(point);
            }
        }
    }
    let dir = folder(&points, "Q?");
    let path = dir.path().join("run.json");
    let mut plan: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    plan["schema"] = json!(3);
    plan["setting"] = json!({"connections": 64, "payload_bytes": 64, "depth": 1});
    plan["axes"] = json!({"x": {"axis": "connections", "values": [1, 64]}, "by": {"axis": "active_share", "values": [0.01, 0.5]}});
    plan["pictures"] = json!(["cpu", "memory"]);
    fs::write(&path, plan.to_string()).unwrap();
    write(dir.path(), &Format::USUAL).unwrap();
    let is_there = |name: &str| dir.path().join(name).exists();
    assert!(is_there("cpu-1.svg") && is_there("cpu-50.svg") && !is_there("cpu.svg"));
    assert!(is_there("memory.svg") && !is_there("memory-1.svg"));
    let title = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(title("cpu-50.svg").contains("50 % of them talking"), "{}", title("cpu-50.svg"));
    assert!(!title("cpu-1.svg").contains("50 %"));
}

#[test]
fn the_price_of_an_event_stands_in_one_table() {
    let counted = |model: &str, subscribers: Value| {
        let mut point = point(model, 64, 0, 5_000.0);
        point["rate_per_s"] = json!(20.0);
        point["subscribers"] = subscribers;
        point
    };
    let heard = |requests: u64, empty: u64, sent: u64, received: u64| json!({"requests": requests, "empty_answers": empty, "bytes_sent": sent, "bytes_received": received});
    let mut points = vec![
        counted("select", heard(5_000, 4_100, 300_000, 1_600_000)),
        counted("poll", heard(50, 0, 3_000, 90_000)),
        counted("epoll", heard(0, 0, 0, 66_000)),
    ];
    points[2]["status"] = json!("invalid");
    points[2]["reason"] = json!("3 messages lost");
    let page = page(folder(&points, "How?").path());
    let table = page.split("What an event costs, connections: 64</caption>").nth(1).unwrap();
    let table = table.split("</table>").next().unwrap();
    let row = |model: &str| -> Vec<&str> {
        let row =
            table.split(&format!("<tr><th>{model}</th>")).nth(1).unwrap().split("</tr>").next().unwrap();
        row.split("<td")
            .skip(1)
            .map(|cell| cell.split('>').nth(1).unwrap().split('<').next().unwrap())
            .collect()
    };
    // There is no histogram: percentiles are not known, the oldest is. Nothing else that can be lost was.
    let figures = ["", "", "6.0 µs", "5.00", "4.10", "300", "1,600", "5.0 µs", "none", "none"];
    assert_eq!(row("select"), figures);
    assert_eq!(row("poll")[3..7], ["0.05", "0.00", "3", "90"]);
    assert_eq!(row("epoll")[0], "3 messages lost");
    // Where nothing was counted there is no such table.
    let usual = self::page(folder(&rounds([("select", 1.0), ("poll", 2.0), ("epoll", 3.0)]), "How?").path());
    assert!(!usual.contains("What an event costs"));
}

/// Text as a stranger may put it wherever a results folder has text.
const HOSTILE: &str = "=cmd|' /C calc'!A0 \x1b]0;t\x07\u{9b}2J\u{202e} <img src=x onerror=alert(1)> [a](http://x) </script>\n# forged | line";

#[test]
fn text_of_others_is_only_text_in_every_kind_of_output() {
    let mut point = point(HOSTILE, 64, 0, 5000.0);
    point["reason"] = HOSTILE.into();
    point["status"] = "doubtful".into();
    point["mechanism"] = HOSTILE.into();
    let dir = folder(&[point], HOSTILE);
    let path = dir.path().join("run.json");
    let mut plan: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    plan["subjects"][0] = json!({"model": HOSTILE, "mechanism": HOSTILE, "compared": true, "ceiling": false});
    plan["analysis"] = HOSTILE.into();
    plan["command"] = json!([HOSTILE]);
    fs::write(&path, plan.to_string()).unwrap();
    let environment = json!({"host": HOSTILE, "cpu": {"model": HOSTILE, "cores": 2}, "kernel": HOSTILE});
    fs::write(dir.path().join("environment.json"), environment.to_string()).unwrap();
    let formats = [Format::Html, Format::Svg, Format::Png, Format::Csv, Format::Md];
    let written = write(dir.path(), &formats).unwrap();
    let is_hidden = |letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}');
    let mut seen = 0;
    for file in written
        .iter()
        .filter(|file| file.extension().is_none_or(|ending| ending != "png" && ending != "json"))
    {
        let text = fs::read_to_string(file).unwrap();
        seen += usize::from(text.contains("onerror"));
        assert!(!text.contains("<img"), "{}", file.display());
        assert!(!text.chars().any(is_hidden), "{}", file.display());
    }
    assert!(seen >= 4, "the page, a picture, the table and the text show it: {seen}");
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let markdown = read("figures.md");
    assert!(
        !markdown.lines().any(|line| line.starts_with("# forged")) && !markdown.contains("[a](http"),
        "{markdown}"
    );
    for line in markdown.lines().filter(|line| line.starts_with('|')) {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
    }
    let mut table = csv::Reader::from_reader(fs::File::open(dir.path().join("figures.csv")).unwrap());
    let mut cells = 0;
    for record in table.records().map(Result::unwrap) {
        for cell in record.iter().filter(|cell| cell.parse::<f64>().is_err()) {
            cells += 1;
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
        }
    }
    assert!(cells > 0);
    assert!(read("throughput.svg").contains("&lt;img"));
    assert!(!read("report.html").contains("http://x) </script>"));
}
