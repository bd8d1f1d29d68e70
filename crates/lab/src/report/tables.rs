//! The tables of the page: a column for each model, a row for each number of connections.

use std::collections::BTreeSet;

use serde::Serialize;

use super::pictures::bytes;
use crate::format;
use crate::record::Status;
use crate::stats::Estimate;
use crate::summary::{ExperimentSummary, PerConnection, PerMessage, Row};

/// A figure of every model at every number of connections.
#[derive(Serialize)]
pub(super) struct Table<'a> {
    title: String,
    models: Vec<&'a str>,
    rows: Vec<(String, Vec<Cell>)>,
}

#[derive(Serialize, Default)]
struct Cell {
    text: String,
    /// The interval, or whatever stands below.
    small: String,
    is_best: bool,
    is_marked: bool,
}

impl Table<'_> {
    fn is_empty(&self) -> bool {
        self.rows.iter().all(|(_, cells)| cells.iter().all(|cell| cell.text.is_empty() || cell.is_marked))
    }
}

/// The figures that models are compared by, with their intervals; the best is marked.
pub(super) fn figures(summary: &ExperimentSummary) -> Vec<Table<'_>> {
    let micro: fn(f64) -> String = |ns| format!("{:.2}", ns / 1e3);
    let whole_micro: fn(f64) -> String = |ns| format!("{:.0}", ns / 1e3);
    let mut tables = vec![
        ranked(summary, "Messages per second", |row| row.messages_per_s, format::grouped, f64::gt),
        ranked(summary, "Server CPU per message, µs", |row| row.server_cpu_ns_per_message, micro, f64::lt),
        ranked(summary, "Latency, median, µs", |row| row.latency_p50_ns, whole_micro, f64::lt),
        ranked(summary, "Latency, 99th percentile, µs", |row| row.latency_p99_ns, whole_micro, f64::lt),
        ranked(summary, "Latency, 99.9th percentile, µs", |row| row.latency_p99_9_ns, whole_micro, f64::lt),
        ranked(
            summary,
            "Until the last receiver has it, median, µs",
            |row| row.last_receiver_p50_ns,
            whole_micro,
            f64::lt,
        ),
        ranked(
            summary,
            "Server memory per connection",
            |row| row.memory_bytes_per_connection,
            bytes,
            f64::lt,
        ),
    ];
    tables.retain(|table| !table.is_empty());
    tables
}

/// Why no figure is twice as high, with the evidence.
pub(super) fn limiters(summary: &ExperimentSummary) -> Table<'_> {
    table(summary, "Why not double?", |row| {
        let mut evidence = row.limiters.iter().map(|limiter| limiter.evidence.clone());
        let text = evidence.next().unwrap_or_default();
        let small = evidence.collect::<Vec<_>>().join("; ");
        Cell { text, small, is_marked: row.status == Status::Limit, ..Cell::default() }
    })
}

/// What a message costs, and what a connection holds, apart.
pub(super) fn costs(summary: &ExperimentSummary) -> Vec<Table<'_>> {
    let micro: fn(f64) -> String = |ns| format!("{:.2}", ns / 1e3);
    let few: fn(f64) -> String = |count| match count {
        count if count == 0.0 || count >= 0.001 => format!("{count:.3}"),
        count => format!("{count:.0e}"),
    };
    let message = |title: &str, of: fn(&PerMessage) -> Option<f64>, show: fn(f64) -> String| {
        table(summary, title, |row| plain(of(&row.per_message), show))
    };
    let connection = |title: &str, of: fn(&PerConnection) -> Option<f64>| {
        table(summary, title, |row| plain(of(&row.per_connection), signed_bytes))
    };
    let mut tables = vec![
        message("User CPU per message, µs", |costs| costs.user_cpu_ns, micro),
        message("System CPU per message, µs", |costs| costs.system_cpu_ns, micro),
        message("Context switches per message: waited", |costs| costs.switches_voluntary, few),
        message("Context switches per message: taken off the CPU", |costs| costs.switches_involuntary, few),
        message("Page faults per message", |costs| costs.faults, few),
        message(
            "Bytes on the wire per message, headers and acknowledgements included",
            |costs| costs.bytes_on_wire,
            |bytes| format!("{bytes:.0}"),
        ),
        system_calls(summary),
        connection("Memory per connection: allocated by the server", |memory| memory.user_bytes),
        connection("Memory per connection: page tables of the server", |memory| memory.page_tables_bytes),
        connection("Memory per connection: kernel stacks", |memory| memory.kernel_stacks_bytes),
        connection("Memory per connection: buffers of the sockets, both ends", |memory| {
            memory.socket_buffers_bytes
        }),
        connection("Memory per connection: objects of the kernel, both ends", |memory| memory.slab_bytes),
    ];
    tables.retain(|table| !table.is_empty());
    tables
}

/// The calls of a message by name, in the order of the alphabet.
fn system_calls(summary: &ExperimentSummary) -> Table<'_> {
    let names: BTreeSet<&String> = summary
        .rows
        .iter()
        .filter_map(|row| row.system_calls.as_ref())
        .flat_map(|line| line.calls.iter().filter(|(_, count)| **count >= 0.005).map(|(name, _)| name))
        .collect();
    table(summary, "System calls per message", |row| {
        let Some(line) = &row.system_calls else { return Cell::default() };
        let all: f64 = line.calls.values().sum();
        let calls = names.iter().filter_map(|name| {
            let count = line.calls.get(*name).filter(|count| **count >= 0.005)?;
            Some(format!("{name} {count:.2}"))
        });
        Cell { text: format!("{all:.2}"), small: calls.collect::<Vec<_>>().join(", "), ..Cell::default() }
    })
}

fn plain(figure: Option<f64>, show: fn(f64) -> String) -> Cell {
    Cell { text: figure.map(show).unwrap_or_default(), ..Cell::default() }
}

fn signed_bytes(figure: f64) -> String {
    if figure < 0.0 { format!("−{}", bytes(-figure)) } else { bytes(figure) }
}

fn ranked<'a>(
    summary: &'a ExperimentSummary,
    title: &str,
    figure: fn(&Row) -> Option<Estimate>,
    show: fn(f64) -> String,
    is_better: fn(&f64, &f64) -> bool,
) -> Table<'a> {
    let compared =
        |model: &str| summary.subjects.iter().any(|subject| subject.compared && subject.model == model);
    let best = |connections: usize| {
        let rows =
            summary.rows.iter().filter(|row| row.connections == connections && row.status == Status::Ok);
        let medians = rows.filter(|row| compared(&row.model)).filter_map(|row| Some(figure(row)?.median));
        medians.reduce(|best, next| if is_better(&next, &best) { next } else { best })
    };
    table(summary, title, |row| {
        if matches!(row.status, Status::Limit | Status::Invalid) {
            let text = row.reason.clone().unwrap_or_else(|| "invalid".into());
            return Cell { text, is_marked: true, ..Cell::default() };
        }
        let Some(estimate) = figure(row) else { return Cell::default() };
        let is_ok = row.status == Status::Ok;
        let is_best = is_ok && compared(&row.model) && best(row.connections) == Some(estimate.median);
        let small = match (estimate.low, estimate.high) {
            (Some(low), Some(high)) => format!("{} – {}", show(low), show(high)),
            _ => String::new(),
        };
        let mark = if is_ok { "" } else { " ○" };
        Cell { text: format!("{}{mark}", show(estimate.median)), small, is_best, is_marked: false }
    })
}

fn table<'a>(summary: &'a ExperimentSummary, title: &str, cell: impl Fn(&Row) -> Cell) -> Table<'a> {
    let models: Vec<&str> = summary.subjects.iter().map(|subject| subject.model.as_str()).collect();
    let cells = |connections: usize| {
        models.iter().map(|model| summary.row(model, connections).map(&cell).unwrap_or_default()).collect()
    };
    let rows = summary.connections.iter().map(|count| (format::count(*count), cells(*count))).collect();
    Table { title: title.to_owned(), models, rows }
}
