//! The tables at the end of a run: connections down, models across, the best of each row marked.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use crate::experiment::Subject;
use crate::format::{count, grouped, seconds};
use crate::plan::TOO_SLOW_REASON;
use crate::record::{LimiterName, Status};
use crate::stats::Estimate;
use crate::summary::{Each, ExperimentSummary, Row, RunSummary};

/// Half of an interval is shown if it is wider than this share of the median.
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
        let (messages, message) =
            if self.is_broadcast() { ("deliveries", "delivery") } else { ("messages", "message") };
        let mut notes = Notes::default();

        writeln!(f, "{}: {}", self.experiment, self.question)?;
        writeln!(f, "\n{messages} per second\n{}", self.table(&THROUGHPUT, &mut notes))?;
        writeln!(f, "\nserver CPU per {message}, µs\n{}", self.table(&CPU, &mut notes))?;
        if self.is_broadcast() {
            writeln!(f, "\nuntil the last receiver has it, median, µs\n{}", self.table(&LAST, &mut notes))?;
        }
        writeln!(f, "\nwhy not double?\n{}", self.limiters())?;

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
    of: fn(&Row) -> Option<Estimate>,
    /// The same of one round, by which rows are told apart; `None` if they are not.
    each: Option<fn(&Each) -> Option<f64>>,
    /// Whether it is about the client where that is at its ceiling.
    is_throughput: bool,
    /// What the figure is divided by.
    unit: f64,
    show: fn(f64) -> String,
    better: fn(&f64, &f64) -> bool,
}

const THROUGHPUT: Figure = Figure {
    of: |row| row.messages_per_s,
    each: Some(|each| each.messages_per_s),
    is_throughput: true,
    unit: 1.0,
    show: grouped,
    better: f64::gt,
};

const CPU: Figure = Figure {
    of: |row| row.server_cpu_ns_per_message,
    each: Some(|each| each.server_cpu_ns_per_message),
    is_throughput: false,
    unit: 1e3,
    show: decimals,
    better: f64::lt,
};

const LAST: Figure = Figure {
    of: |row| row.last_receiver_p50_ns,
    each: None,
    is_throughput: false,
    unit: 1e3,
    show: decimals,
    better: f64::lt,
};

impl Figure {
    /// Whether a row's figure may be the best.
    fn is_ranked(&self, row: &Row) -> bool {
        row.status == Status::Ok && !(self.is_throughput && row.about_client)
    }
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
        let mut best = None;
        self.table_of(|row, subject| {
            if best.is_none_or(|(connections, _)| connections != row.connections) {
                best = Some((row.connections, self.best(row.connections, figure)));
            }
            let best = best.and_then(|(_, best)| best).filter(|_| subject.compared);
            cell(row, figure, best, notes)
        })
    }

    /// A table with a column for each model and a row for each number of connections.
    fn table_of(&self, mut cell: impl FnMut(&Row, &Subject) -> String) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut header = vec!["connections".to_owned()];
        header.extend(self.subjects.iter().map(|subject| subject.model.clone()));
        table.set_header(header);
        for &connections in &self.connections {
            let mut cells = vec![count(connections)];
            for subject in &self.subjects {
                let row = self.row(&subject.model, connections);
                cells.push(row.map_or_else(String::new, |row| cell(row, subject)));
            }
            table.add_row(cells);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The row with the best figure, among the models that do the same work.
    fn best(&self, connections: usize, figure: &Figure) -> Option<&Row> {
        let compared = self.subjects.iter().filter(|subject| subject.compared);
        let rows = compared.filter_map(|subject| self.row(&subject.model, connections));
        let ranked = rows.filter(|row| figure.is_ranked(row));
        let medians = ranked.filter_map(|row| Some((row, (figure.of)(row)?.median)));
        medians
            .reduce(|best, next| if (figure.better)(&next.1, &best.1) { next } else { best })
            .map(|(row, _)| row)
    }

    /// What keeps each figure from being twice as high, in a word or two.
    fn limiters(&self) -> Table {
        self.table_of(|row, _| {
            let reason = row.limiters.first().map_or("", |limiter| short(limiter.name));
            let second = row.limiters.get(1).filter(|second| second.rounds * 2 > row.rounds);
            match second {
                Some(second) => format!("{reason}\n{}", short(second.name)),
                None => reason.to_owned(),
            }
        })
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
            legend += "; ≈ not told apart from it, round by round";
            legend += "\nmedians over the rounds; ± half of the 95 % interval where that is more than 10 %";
        }
        let any = |which: fn(&Row) -> bool| self.rows.iter().any(which);
        if any(|row| row.status == Status::Doubtful) {
            legend += "\n○ doubtful: the load was not steady or the machine not quiet, twice; shown, not ranked (switchboard report: why)";
        }
        if any(|row| row.about_client && row.status == Status::Ok) {
            legend +=
                "\n° about the client: 95 % or more of what the load generator can do; compare CPU instead";
        }
        if any(|row| row.reason.as_deref() == Some(TOO_SLOW_REASON)) {
            legend += "\ntoo slow: opening that many would take an eighth of the run; --full, or --connections, does it";
        }
        legend
    }

    fn closing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = self.ok + self.doubtful + self.limit + self.invalid;
        write!(f, "\n{recorded} of {} points in {}", self.planned, seconds(self.elapsed_s))?;
        writeln!(
            f,
            ": {} good, {} doubtful, {} beyond a limit, {} invalid; {} measured twice; seed {}",
            self.ok, self.doubtful, self.limit, self.invalid, self.repeated, self.seed
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

fn cell(row: &Row, figure: &Figure, best: Option<&Row>, notes: &mut Notes) -> String {
    let note = match (row.status, &row.reason) {
        (Status::Invalid, reason) => {
            let reason = reason.as_deref().unwrap_or("invalid");
            notes.number(format!("{} at {}: {reason}", row.model, count(row.connections)))
        }
        _ => String::new(),
    };
    let Some(estimate) = (figure.of)(row) else {
        return match (row.status, &row.reason) {
            (Status::Limit, Some(reason)) => reason.clone(),
            (Status::Invalid, _) => format!("invalid{note}"),
            _ => "–".to_owned(),
        };
    };
    let is_level = |best: &Row| figure.each.and_then(|each| row.is_level_with(best, each)).unwrap_or(false);
    // A mark in every cell, or the digits of a column do not stand under each other.
    let mark = match best {
        _ if row.status == Status::Doubtful => "○",
        _ if figure.is_throughput && row.about_client => "°",
        Some(best) if best.model == row.model => "*",
        Some(best) if figure.is_ranked(row) && is_level(best) => "≈",
        _ => " ",
    };
    let mut cell = format!("{}{note}{mark}", (figure.show)(estimate.median / figure.unit));
    if let Some(half) = estimate.half_width().filter(|half| *half > WIDE) {
        cell += &match 100.0 * half {
            percent if percent < 100.0 => format!("\n±{percent:.0} % "),
            _ => "\n±>100 % ".to_owned(),
        };
    }
    cell
}

/// A limiter in a word or two.
fn short(name: LimiterName) -> &'static str {
    match name {
        LimiterName::ServerCpu => "server CPU",
        LimiterName::ClientCpu => "client CPU",
        LimiterName::Schedule => "schedule",
        LimiterName::AcceptQueue => "accept queue",
        LimiterName::Descriptors => "descriptors",
        LimiterName::Processes => "processes",
        LimiterName::Ports => "ports",
        LimiterName::Retransmissions => "resent",
        LimiterName::ReceiveBuffers => "rcv buffer",
        LimiterName::Other => "limit",
        LimiterName::InFlight => "in flight",
        LimiterName::WakeUps => "wake-ups",
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
    use crate::judge::tests::point;
    use crate::record::Limiter;
    use crate::rounds::Round;

    fn row(model: &str, connections: usize, rates: &[f64]) -> Row {
        let round = |(round, rate): (usize, &f64)| Round {
            point: point(|point| {
                (point.model, point.connections) = (model.into(), connections);
                (point.round, point.connected) = (round as u32, connections);
                point.messages_per_s = Some(*rate);
                point.server_cpu_ns_per_message = Some(1e9 / rate);
                point.status = Status::Ok;
                point.limiters = vec![Limiter { name: LimiterName::ServerCpu, evidence: String::new() }];
            }),
            latency: None,
        };
        let rounds: Vec<Round> = rates.iter().enumerate().map(round).collect();
        let subject =
            Subject { model: model.into(), mechanism: "echo".into(), compared: true, ceiling: false };
        Row::of(&subject, connections, &rounds.iter().collect::<Vec<_>>(), None).unwrap()
    }

    fn failed(model: &str, connections: usize, status: Status, reason: &str) -> Row {
        let row = row(model, connections, &[1.0]);
        let (messages_per_s, server_cpu_ns_per_message) = (None, None);
        Row { status, reason: Some(reason.into()), messages_per_s, server_cpu_ns_per_message, ..row }
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
            doubtful: 0,
            repeated: 0,
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
            row("poll", 1, &[99_000.0, 103_000.0, 100_500.0]),
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
        assert!(text.contains("±>100 %"), "two rounds so far apart say little: {text}");
        assert!(text.contains("\n¹ poll at 4,096: 3 messages lost\n"), "{text}");
        assert!(text.contains("report: results/x/report.html"), "{text}");
    }

    #[test]
    fn an_interrupted_run_says_how_to_go_on() {
        let text = ExperimentSummary { interrupted: true, ..summary(vec![]) }.to_string();
        assert!(text.contains("switchboard run --resume results/x"), "{text}");
    }
}
