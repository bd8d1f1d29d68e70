//! The page: one file that opens offline, without scripts and without a single request.

use std::fs;
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::ReportError;
use super::finding;
use super::pictures::{self, Picture};
use crate::format;
use crate::plan::Plan;
use crate::record::{ENVIRONMENT, Status};
use crate::summary::{ExperimentSummary, Row, Spread};

#[derive(Serialize)]
struct Page<'a> {
    experiment: &'a str,
    question: &'a str,
    analysis: Vec<&'a str>,
    finding: String,
    pictures: Vec<Drawn<'a>>,
    tables: Vec<Table<'a>>,
    summary: &'a ExperimentSummary,
    damaged: &'a [String],
    facts: Vec<(&'static str, String)>,
    environment: String,
    command: String,
    folder: String,
}

#[derive(Serialize)]
struct Drawn<'a> {
    svg: String,
    title: &'a str,
    how_to_read: &'a str,
}

/// A figure of every model at every number of connections.
#[derive(Serialize)]
struct Table<'a> {
    title: &'static str,
    models: Vec<&'a str>,
    rows: Vec<(String, Vec<Cell>)>,
}

#[derive(Serialize, Default)]
struct Cell {
    text: String,
    range: String,
    is_best: bool,
    is_marked: bool,
}

/// Fills in the page.
pub(super) fn render(
    plan: &Plan,
    summary: &ExperimentSummary,
    pictures: &[Picture],
    damaged: &[String],
    dir: &Path,
) -> Result<String, ReportError> {
    let drawn = pictures.iter().map(|picture| {
        let svg = scalable(&picture.chart.svg()?);
        Ok(Drawn { svg, title: &picture.chart.title, how_to_read: picture.how_to_read })
    });
    let environment = fs::read_to_string(dir.join(ENVIRONMENT)).unwrap_or_default();
    let folder = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let page = Page {
        experiment: &plan.experiment,
        question: &plan.question,
        analysis: plan.analysis.split("\n\n").map(str::trim).filter(|text| !text.is_empty()).collect(),
        finding: finding::sentence(summary),
        pictures: drawn.collect::<Result<_, ReportError>>()?,
        tables: tables(summary),
        summary,
        damaged,
        facts: facts(plan, &environment),
        environment,
        command: plan.command.join(" "),
        folder,
    };
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.add_template("page", include_str!("page.html"))?;
    Ok(templates.get_template("page")?.render(Serde(&page))?)
}

fn tables(summary: &ExperimentSummary) -> Vec<Table<'_>> {
    let micro = |value: f64| format!("{:.2}", value / 1e3);
    let mut tables = vec![
        table(
            summary,
            "Messages per second",
            |row| row.messages_per_s,
            |value| format::count(value.round() as usize),
            f64::gt,
        ),
        table(summary, "Server CPU per message, µs", |row| row.server_cpu_ns_per_message, micro, f64::lt),
        table(
            summary,
            "Latency, 99th percentile, µs",
            |row| row.latency_p99_ns,
            |value| format!("{:.0}", value / 1e3),
            f64::lt,
        ),
        table(
            summary,
            "Until the last receiver has it, median, µs",
            |row| row.last_receiver_p50_ns,
            |value| format!("{:.0}", value / 1e3),
            f64::lt,
        ),
        table(
            summary,
            "Server memory per connection",
            |row| row.memory_bytes_per_connection,
            pictures::bytes,
            f64::lt,
        ),
    ];
    tables
        .retain(|table| table.rows.iter().any(|(_, cells)| cells.iter().any(|cell| !cell.range.is_empty())));
    tables
}

fn table<'a>(
    summary: &'a ExperimentSummary,
    title: &'static str,
    figure: impl Fn(&Row) -> Option<Spread>,
    write: impl Fn(f64) -> String,
    is_better: fn(&f64, &f64) -> bool,
) -> Table<'a> {
    let models: Vec<&str> = summary.subjects.iter().map(|subject| subject.model.as_str()).collect();
    let compared =
        |model: &str| summary.subjects.iter().any(|subject| subject.compared && subject.model == model);
    let cells = |connections: usize| {
        let rows: Vec<Option<&Row>> = models.iter().map(|model| summary.row(model, connections)).collect();
        let mut best: Option<f64> = None;
        for row in rows.iter().flatten().filter(|row| compared(&row.model) && row.status == Status::Ok) {
            let value = figure(row).map(|spread| spread.median);
            if value.is_some_and(|value| best.is_none_or(|best| is_better(&value, &best))) {
                best = value;
            }
        }
        rows.iter()
            .map(|row| {
                let Some(row) = row else { return Cell::default() };
                if row.status != Status::Ok {
                    let text = row.reason.clone().unwrap_or_else(|| "invalid".into());
                    return Cell { text, is_marked: true, ..Cell::default() };
                }
                let Some(spread) = figure(row) else { return Cell::default() };
                let is_best = best == Some(spread.median) && compared(&row.model);
                let range = format!("{} – {}", write(spread.min), write(spread.max));
                Cell { text: write(spread.median), range, is_best, is_marked: false }
            })
            .collect()
    };
    let rows = summary.connections.iter().map(|count| (format::count(*count), cells(*count))).collect();
    Table { title, models, rows }
}

/// What a reader wants to know of the machine and the run at a glance.
fn facts(plan: &Plan, environment: &str) -> Vec<(&'static str, String)> {
    let environment: serde_json::Value = serde_json::from_str(environment).unwrap_or_default();
    let text = |pointer: &str| match environment.pointer(pointer) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Null) | None => "unknown".into(),
        Some(other) => other.to_string(),
    };
    let pinning = match environment.pointer("/pinning/server") {
        Some(server) => format!("server on core {server}, load generator on core {}", text("/pinning/load")),
        None => "none: server and load generator share the cores".into(),
    };
    vec![
        ("machine", format!("{}, {} cores", text("/cpu/model"), text("/cpu/cores"))),
        ("kernel", text("/kernel")),
        ("date", plan.started_at.clone()),
        ("pinning", pinning),
        ("message", format!("{} bytes, {} in flight", plan.payload_bytes, plan.depth)),
        ("window", format!("{} ms after {} ms of warm-up", plan.window_ms, plan.warmup_ms)),
        ("rounds", format!("{}, in random order (seed {})", plan.rounds, plan.seed)),
        ("commit", text("/git/commit")),
    ]
}

/// The picture without its fixed size, so that it fits the page it stands on.
fn scalable(svg: &str) -> String {
    svg.replacen("width=\"1280\" height=\"720\" ", "", 1)
}
