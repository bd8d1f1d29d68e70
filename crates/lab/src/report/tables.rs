//! The tables of the page: a column for each model, a row for each place.

use std::collections::BTreeSet;

use serde::Serialize;

use super::pictures::capital;
use crate::format::{self, bytes};
use crate::quantity::{Quantity, Unit};
use crate::record::Status;
use crate::setting::Place;
use crate::stats::{LawKind, Parameter};
use crate::summary::{ExperimentSummary, FittedLaw, PerConnection, PerMessage, Row};

/// A figure of every model at every place.
#[derive(Serialize)]
pub(super) struct Table<'a> {
    pub(super) title: String,
    /// What the rows are.
    pub(super) label: String,
    pub(super) models: Vec<&'a str>,
    pub(super) rows: Vec<(String, Vec<Cell>)>,
}

#[derive(Serialize, Default)]
pub(super) struct Cell {
    pub(super) text: String,
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

/// The figures that models are compared by, with their intervals, those that are drawn first; the best is marked.
pub(super) fn figures(summary: &ExperimentSummary) -> Vec<Table<'_>> {
    let others =
        [Quantity::Throughput, Quantity::Cpu, Quantity::P50, Quantity::P99, Quantity::P999, Quantity::Memory];
    let mut all = summary.figures.clone();
    all.extend(others.into_iter().filter(|figure| !summary.figures.contains(figure)));
    let mut tables: Vec<Table<'_>> = all.into_iter().map(|figure| ranked(summary, figure)).collect();
    tables.retain(|table| !table.is_empty());
    tables
}

/// What a broadcast cost each of its receivers, a table for each place with a row for each line: all of an event's price at a glance. None where the receivers'
/// requests and bytes were not counted.
pub(super) fn prices(summary: &ExperimentSummary) -> Vec<Table<'_>> {
    let is_counted = |row: &&Row| row.requests_per_delivery.is_some();
    let table = |place: Place| {
        let rows: Vec<&Row> =
            summary.subjects.iter().filter_map(|subject| summary.row(&subject.model, place)).collect();
        rows.iter().any(is_counted).then(|| Table {
            title: format!("What an event costs, {}: {}", summary.axes.label(), summary.axes.show(place)),
            label: "line".to_owned(),
            models: PRICES.iter().map(|(name, _)| *name).collect(),
            rows: rows.into_iter().map(|row| (row.model.clone(), price(row))).collect(),
        })
    };
    // Of a fan-out that is as fast as it can be the other tables say more.
    let is_offered = summary.rows.iter().any(|row| row.rate_per_s.is_some());
    summary.places().into_iter().filter(|_| is_offered).filter_map(table).collect()
}

/// The columns of that table.
const PRICES: [(&str, Quantity); 10] = [
    ("age p50", Quantity::P50),
    ("p99", Quantity::P99),
    ("max", Quantity::Max),
    ("requests", Quantity::Requests),
    ("empty", Quantity::EmptyAnswers),
    ("sent", Quantity::BytesSent),
    ("received", Quantity::BytesReceived),
    ("CPU", Quantity::Cpu),
    ("lost", Quantity::Lost),
    ("twice", Quantity::Duplicated),
];

fn price(row: &Row) -> Vec<Cell> {
    if matches!(row.status, Status::Limit | Status::Invalid) {
        let text = row.reason.clone().unwrap_or_else(|| "invalid".into());
        let marked = Cell { text, is_marked: true, ..Cell::default() };
        let rest = std::iter::repeat_with(Cell::default).take(PRICES.len() - 1);
        return std::iter::once(marked).chain(rest).collect();
    }
    let mark = if row.status == Status::Ok { "" } else { " ○" };
    let cell = |(place, (_, figure)): (usize, &(&str, Quantity))| {
        let show = |value: f64| match figure {
            Quantity::Requests | Quantity::EmptyAnswers if value >= 10.0 => format!("{value:.1}"),
            Quantity::Requests | Quantity::EmptyAnswers => format!("{value:.2}"),
            Quantity::BytesSent | Quantity::BytesReceived if value < 1000.0 => format!("{value:.0}"),
            Quantity::BytesSent | Quantity::BytesReceived => format::grouped(value.round()),
            _ => figure.unit().show(value),
        };
        // What may not be lost or doubled was not, or the row would not count.
        let text = match figure.of(row) {
            // Of all rounds' events together, as the percentiles are.
            Some(estimate) if *figure == Quantity::Max => show(estimate.max),
            Some(estimate) => show(estimate.median),
            None if matches!(figure, Quantity::Lost | Quantity::Duplicated) => "none".to_owned(),
            None => String::new(),
        };
        Cell { text: if place == 0 { text + mark } else { text }, ..Cell::default() }
    };
    PRICES.iter().enumerate().map(cell).collect()
}

/// The laws that were fitted, with their coefficients.
pub(super) fn laws(summary: &ExperimentSummary) -> Vec<LawRow> {
    let row = |FittedLaw { model, figure, law, .. }: &FittedLaw| {
        let show = |name: &str, value: f64| match (law.kind, name) {
            (LawKind::Linear, _) if figure.unit() == Unit::Ns && value.abs() < 100.0 => {
                format!("{value:.2} ns")
            }
            (LawKind::Linear, _) if value < 0.0 => format!("−{}", figure.unit().show(-value)),
            (LawKind::Linear, _) | (_, "lambda") => figure.unit().show(value),
            (_, "peak_at") => format::grouped(value.round()),
            _ => format!("{value:.2e}"),
        };
        let parameters = law.parameters.iter().map(|Parameter { name, value, low, high }| {
            let [value, low, high] = [*value, *low, *high].map(|value| show(name, value));
            format!("{} {value} ({low} to {high})", name.replace('_', " "))
        });
        LawRow {
            model: model.clone(),
            figure: figure.name(summary.words()),
            law: match law.kind {
                LawKind::Linear => "a straight line",
                LawKind::Usl => "Universal Scalability Law",
            },
            parameters: parameters.collect::<Vec<_>>().join(", "),
            r_squared: format!("{:.3}", law.r_squared),
            worst: format!("{:.0} %", 100.0 * law.worst),
        }
    };
    summary.laws.iter().map(row).collect()
}

/// A law in the figures of one model, as text.
#[derive(Serialize)]
pub(super) struct LawRow {
    model: String,
    figure: String,
    law: &'static str,
    parameters: String,
    r_squared: String,
    worst: String,
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

fn ranked(summary: &ExperimentSummary, figure: Quantity) -> Table<'_> {
    let unit = figure.unit();
    let (title, show): (String, Box<dyn Fn(f64) -> String>) = match unit {
        Unit::Ns => (format!("{}, µs", figure.name(summary.words())), Box::new(micro)),
        _ => (figure.name(summary.words()), Box::new(move |value| unit.show(value))),
    };
    table(summary, &capital(&title), |row| {
        if matches!(row.status, Status::Limit | Status::Invalid) {
            let text = row.reason.clone().unwrap_or_else(|| "invalid".into());
            return Cell { text, is_marked: true, ..Cell::default() };
        }
        let Some(estimate) = figure.of(row) else { return Cell::default() };
        let is_compared = summary.is_compared(&row.model);
        let best = summary.best(row.place, figure).filter(|_| is_compared);
        let small = match (estimate.low, estimate.high) {
            (Some(low), Some(high)) => format!("{} – {}", show(low), show(high)),
            _ => String::new(),
        };
        let mark = if row.status == Status::Ok { "" } else { " ○" };
        Cell {
            text: format!("{}{mark}", show(estimate.median)),
            small,
            is_best: best.is_some_and(|best| best.model == row.model),
            is_marked: false,
        }
    })
}

/// Nanoseconds in microseconds, with as many digits as say something.
fn micro(ns: f64) -> String {
    match ns / 1e3 {
        us if us < 10.0 => format!("{us:.2}"),
        us if us < 100.0 => format!("{us:.1}"),
        us => format::grouped(us),
    }
}

fn table<'a>(summary: &'a ExperimentSummary, title: &str, cell: impl Fn(&Row) -> Cell) -> Table<'a> {
    let models: Vec<&str> = summary.subjects.iter().map(|subject| subject.model.as_str()).collect();
    let cells = |place: Place| {
        models.iter().map(|model| summary.row(model, place).map(&cell).unwrap_or_default()).collect()
    };
    let rows = summary.places().into_iter().map(|place| (summary.axes.show(place), cells(place))).collect();
    Table { title: title.to_owned(), label: summary.axes.label(), models, rows }
}
