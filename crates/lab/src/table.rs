//! The tables at the end of a run: connections down, models across, the best of each row marked.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use crate::format::{count, grouped, seconds};
use crate::plan::TOO_SLOW_REASON;
use crate::record::Status;
use crate::summary::{ExperimentSummary, Row, RunSummary, Spread};

/// A range over the rounds is shown if it is wider than this share of the median.
const WIDE: f64 = 0.1;

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, experiment) in self.experiments.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{experiment}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExperimentSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broadcast =
            self.subjects.iter().any(|subject| subject.compared && subject.mechanism == "broadcast");
        let (messages, message) =
            if broadcast { ("deliveries", "delivery") } else { ("messages", "message") };
        let mut notes = Notes::default();

        writeln!(f, "{}: {}", self.experiment, self.question)?;
        let throughput = Figure { of: |row| row.messages_per_s, unit: 1.0, show: grouped, better: f64::gt };
        writeln!(f, "\n{messages} per second\n{}", self.table(&throughput, &mut notes))?;
        let cpu =
            Figure { of: |row| row.server_cpu_ns_per_message, unit: 1e3, show: decimals, better: f64::lt };
        writeln!(f, "\nserver CPU per {message}, µs\n{}", self.table(&cpu, &mut notes))?;
        if broadcast {
            let last =
                Figure { of: |row| row.last_receiver_p50_ns, unit: 1e3, show: decimals, better: f64::lt };
            writeln!(f, "\nuntil the last receiver has it, median, µs\n{}", self.table(&last, &mut notes))?;
        }

        writeln!(f, "\n{}", self.legend())?;
        for (number, note) in notes.0.iter().enumerate() {
            writeln!(f, "{} {note}", superscript(number + 1))?;
        }
        for damaged in &self.damaged {
            writeln!(f, "{damaged}")?;
        }
        self.closing(f)
    }
}

/// What a table shows of a row.
struct Figure {
    of: fn(&Row) -> Option<Spread>,
    /// What the figure is divided by.
    unit: f64,
    show: fn(f64) -> String,
    better: fn(&f64, &f64) -> bool,
}

/// The reasons of invalid points, under the table and by number.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, note: String) -> String {
        let place = self.0.iter().position(|known| *known == note).unwrap_or_else(|| {
            self.0.push(note);
            self.0.len() - 1
        });
        superscript(place + 1)
    }
}

impl ExperimentSummary {
    fn table(&self, figure: &Figure, notes: &mut Notes) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut header = vec!["connections".to_owned()];
        header.extend(self.subjects.iter().map(|subject| subject.model.clone()));
        table.set_header(header);
        for &connections in &self.connections {
            let best = self.best(connections, figure);
            let mut cells = vec![count(connections)];
            for subject in &self.subjects {
                let row = self.row(&subject.model, connections);
                let compared = if subject.compared { best } else { None };
                cells.push(row.map_or_else(String::new, |row| cell(row, figure, compared, notes)));
            }
            table.add_row(cells);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The best figure of a row, among the models that do the same work.
    fn best(&self, connections: usize, figure: &Figure) -> Option<Spread> {
        let compared = self.subjects.iter().filter(|subject| subject.compared);
        let spreads = compared.filter_map(|subject| (figure.of)(self.row(&subject.model, connections)?));
        spreads.reduce(|best, next| if (figure.better)(&next.median, &best.median) { next } else { best })
    }

    fn legend(&self) -> String {
        let beside: Vec<&str> = self
            .subjects
            .iter()
            .filter(|subject| !subject.compared)
            .map(|subject| subject.model.as_str())
            .collect();
        let mut legend = "* best of the row".to_owned();
        if !beside.is_empty() {
            legend += &format!(" ({} not compared: another protocol, or none)", beside.join(", "));
        }
        if self.rounds > 1 {
            legend += &format!(
                "; ≈ not told apart from it in {} rounds\nmedians over the rounds, with the range where it is wider than {} %",
                self.rounds,
                WIDE * 100.0
            );
        }
        if self.rows.iter().any(|row| row.reason.as_deref() == Some(TOO_SLOW_REASON)) {
            legend += "\ntoo slow: opening that many would take an eighth of the run; --full, or --connections, does it";
        }
        legend
    }

    fn closing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = self.ok + self.limit + self.invalid;
        write!(f, "\n{recorded} of {} points in {}", self.planned, seconds(self.elapsed_s))?;
        writeln!(
            f,
            ": {} good, {} beyond a limit, {} invalid; seed {}",
            self.ok, self.limit, self.invalid, self.seed
        )?;
        if self.interrupted {
            writeln!(f, "stopped; to go on: switchboard run --resume {}", self.dir.display())?;
        }
        match (self.report.first(), &self.report_error) {
            (Some(report), _) => writeln!(f, "report: {}", report.display()),
            (None, Some(error)) => writeln!(f, "no report: {error}; raw data in {}", self.dir.display()),
            (None, None) => writeln!(f, "raw data: {}", self.dir.display()),
        }
    }
}

fn cell(row: &Row, figure: &Figure, best: Option<Spread>, notes: &mut Notes) -> String {
    let note = match (row.status, &row.reason) {
        (Status::Invalid, reason) => {
            let reason = reason.as_deref().unwrap_or("invalid");
            notes.number(format!("{} at {}: {reason}", row.model, count(row.connections)))
        }
        _ => String::new(),
    };
    let Some(spread) = (figure.of)(row) else {
        return match (row.status, &row.reason) {
            (Status::Limit, Some(reason)) => reason.clone(),
            (Status::Invalid, _) => format!("invalid{note}"),
            _ => "–".to_owned(),
        };
    };
    // A mark in every cell, or the digits of a column do not stand under each other.
    let mark = match best {
        Some(best) if best == spread => "*",
        Some(best) if row.rounds > 1 && best.overlaps(&spread) => "≈",
        _ => " ",
    };
    let mut cell = format!("{}{note}{mark}", (figure.show)(spread.median / figure.unit));
    if spread.max - spread.min > WIDE * spread.median {
        cell += &format!("\n{} ", range(spread.min / figure.unit, spread.max / figure.unit, figure.show));
    }
    cell
}

/// Shorter than the two figures in full, or the widest column of the table would be made of ranges.
fn range(min: f64, max: f64, show: fn(f64) -> String) -> String {
    match max {
        max if max >= 1e6 => format!("{:.1}–{:.1} M", min / 1e6, max / 1e6),
        max if max >= 1e4 => format!("{:.0}–{:.0} k", min / 1e3, max / 1e3),
        max => format!("{}–{}", show(min), show(max)),
    }
}

/// Two decimals for what a message costs, none for what is larger than a hundred.
fn decimals(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.2}") } else { grouped(figure) }
}

fn superscript(number: usize) -> String {
    let digit = |digit: char| match digit {
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        other => char::from_u32(0x2070 + other.to_digit(10).unwrap_or(0)).unwrap_or(other),
    };
    number.to_string().chars().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Subject;

    fn row(model: &str, connections: usize, rates: &[f64]) -> Row {
        Row {
            model: model.into(),
            mechanism: "echo".into(),
            connections,
            status: Status::Ok,
            reason: None,
            rounds: rates.len(),
            messages_per_s: Spread::of(rates.iter().copied()),
            server_cpu_ns_per_message: Spread::of(rates.iter().map(|rate| 1e9 / rate)),
            client_cpu: None,
            latency_p99_ns: None,
            last_receiver_p50_ns: None,
            memory_bytes_per_connection: None,
        }
    }

    fn failed(model: &str, connections: usize, status: Status, reason: &str) -> Row {
        Row { status, reason: Some(reason.into()), ..row(model, connections, &[]) }
    }

    fn summary(rows: Vec<Row>) -> ExperimentSummary {
        let subject = |model: &str, compared| Subject {
            model: model.into(),
            mechanism: "echo".into(),
            compared,
            ceiling: !compared,
        };
        ExperimentSummary {
            experiment: "connections".into(),
            question: "How?".into(),
            dir: "results/x".into(),
            report: vec!["results/x/report.html".into()],
            report_error: None,
            interrupted: false,
            seed: 42,
            rounds: 3,
            elapsed_s: 61.0,
            planned: 9,
            ok: 7,
            limit: 1,
            invalid: 1,
            damaged: Vec::new(),
            connections: vec![1, 4096],
            subjects: vec![
                subject("select", true),
                subject("poll", true),
                subject("epoll", true),
                subject("raw", false),
            ],
            rows,
        }
    }

    #[test]
    fn the_best_is_marked_and_what_cannot_be_told_apart_from_it() {
        let rows = vec![
            row("select", 1, &[90_000.0, 91_000.0, 92_000.0]),
            row("poll", 1, &[99_000.0, 100_500.0, 101_000.0]),
            row("epoll", 1, &[100_000.0, 101_000.0, 102_000.0]),
            row("raw", 1, &[200_000.0, 201_000.0, 202_000.0]),
        ];
        let text = summary(rows).to_string();
        let line = text.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["1", "91,000", "100,500≈", "101,000*", "201,000"]
        );
    }

    #[test]
    fn limits_stand_in_the_cell_and_reasons_of_invalid_points_below() {
        let rows = vec![
            failed("select", 4096, Status::Limit, "FD_SETSIZE"),
            failed("poll", 4096, Status::Invalid, "3 messages lost"),
            row("epoll", 4096, &[100_000.0, 150_000.0]),
        ];
        let text = summary(rows).to_string();
        let line = text.lines().find(|line| line.trim_start().starts_with("4,096")).unwrap();
        let cells = ["4,096", "FD_SETSIZE", "invalid¹", "125,000*"];
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), cells, "{text}");
        assert!(text.contains("100–150 k"), "a wide range is shown: {text}");
        assert!(text.contains("\n¹ poll at 4,096: 3 messages lost\n"), "{text}");
        assert!(text.contains("report: results/x/report.html"), "{text}");
    }

    #[test]
    fn an_interrupted_run_says_how_to_go_on() {
        let text = ExperimentSummary { interrupted: true, ..summary(vec![]) }.to_string();
        assert!(text.contains("switchboard run --resume results/x"), "{text}");
    }
}
