//! The tables at the end of a run: connections down, models across, the best of each row marked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use crate::experiment::Subject;
use crate::format::{grouped, seconds};
use crate::plan::TOO_SLOW_REASON;
use crate::quantity::{Quantity, Unit};
use crate::record::{LimiterName, Status};
use crate::setting::Place;
use crate::summary::{ExperimentSummary, Row, RunSummary};
use crate::terminal;

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
        if let Some(report) = &self.report {
            writeln!(f, "\nall of them: {}", report.display())?;
        }
        if let Some(error) = &self.report_error {
            writeln!(f, "\nno report of all experiments: {error}")?;
        }
        if let Some(dir) = self.dir.as_ref().filter(|_| self.interrupted) {
            writeln!(f, "stopped; to go on: switchboard run --resume {}", dir.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for ExperimentSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut notes = Notes::default();
        writeln!(f, "{}: {}", self.experiment, self.question)?;
        if let Some(picture) = terminal::picture(self) {
            writeln!(f, "\n{picture}")?;
        }
        for figure in self.figures.iter().take(TABLES) {
            let title = figure.name(self.words());
            let unit = if figure.unit() == Unit::Ns { ", µs" } else { "" };
            writeln!(f, "\n{title}{unit}\n{}", self.table(*figure, &mut notes))?;
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

/// Models that stand beside each other in one table.
const MOST_COLUMNS: usize = 11;

/// Figures that are shown on the terminal; the report has all.
const TABLES: usize = 3;

impl Quantity {
    /// As it stands in a column: without the unit that the title has.
    fn cell(self, value: f64) -> String {
        match self.unit() {
            Unit::Ns => decimals(value / 1e3),
            unit => unit.show(value),
        }
    }

    /// Whether a row's figure may be the best.
    pub(crate) fn is_ranked(self, row: &Row) -> bool {
        row.status == Status::Ok && !(self.is_throughput() && row.about_client)
    }

    /// Whether one figure is better than another.
    pub(crate) fn is_better(self, one: f64, other: f64) -> bool {
        if self.is_better_high() { one > other } else { one < other }
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

/// What would lift a limit, by its short name.
fn way_out(limit: &str) -> Option<&'static str> {
    Some(match limit {
        TOO_SLOW_REASON => {
            "opening that many would take an eighth of the run; --full, or --connections, does it"
        }
        "descriptors" => {
            "one process, or one worker with a table of its own, may have no more; ulimit -n raises it, --workers adds tables, and \
             scripts/tune.sh says what the kernel has to allow"
        }
        "processes" | "threads" => {
            "no more can be made: see ulimit -u, kernel.pid_max and kernel.threads-max"
        }
        "max_map_count" => "a thread takes several mappings: sysctl vm.max_map_count, or fewer connections",
        "memory" => "that many would need more than is free",
        "workers" => "each connection takes one: --workers",
        "FD_SETSIZE" => "select(2) can watch no higher descriptor, whatever is raised; poll and epoll can",
        _ => return None,
    })
}

impl ExperimentSummary {
    fn table(&self, figure: Quantity, notes: &mut Notes) -> String {
        let best: BTreeMap<Place, &Row> =
            self.places().into_iter().filter_map(|place| Some((place, self.best(place, figure)?))).collect();
        self.table_of(|row, subject| {
            let best = best.get(&row.place).copied().filter(|_| subject.compared);
            cell(self, row, figure, best, notes)
        })
    }

    /// A table with a column for each model and a row for each place; several under each other where there are many models.
    fn table_of(&self, mut cell: impl FnMut(&Row, &Subject) -> String) -> String {
        let parts = self.subjects.len().div_ceil(MOST_COLUMNS).max(1);
        let parts = self.subjects.chunks(self.subjects.len().div_ceil(parts).max(1));
        let tables: Vec<String> = parts.map(|part| self.part_of(part, &mut cell).to_string()).collect();
        tables.join("\n\n")
    }

    fn part_of(&self, subjects: &[Subject], cell: &mut impl FnMut(&Row, &Subject) -> String) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut header = vec![self.axes.label()];
        header.extend(subjects.iter().map(|subject| subject.model.clone()));
        table.set_header(header);
        for place in self.places() {
            let mut cells = vec![self.axes.show(place)];
            for subject in subjects {
                let row = self.row(&subject.model, place);
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
    pub(crate) fn best(&self, place: Place, figure: Quantity) -> Option<&Row> {
        let compared = self.subjects.iter().filter(|subject| subject.compared);
        let rows = compared.filter_map(|subject| self.row(&subject.model, place));
        let ranked = rows.filter(|row| figure.is_ranked(row));
        let medians = ranked.filter_map(|row| Some((row, figure.of(row)?.median)));
        medians
            .reduce(|best, next| if figure.is_better(next.1, best.1) { next } else { best })
            .map(|(row, _)| row)
    }

    /// What keeps each figure from being twice as high, in a word or two.
    fn limiters(&self) -> String {
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
        let met: BTreeSet<&str> = self
            .rows
            .iter()
            .filter(|row| row.status == Status::Limit)
            .filter_map(|row| row.reason.as_deref())
            .collect();
        for limit in met {
            if let Some(way_out) = way_out(limit) {
                legend += &format!("\n{limit}: {way_out}");
            }
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

fn cell(
    summary: &ExperimentSummary,
    row: &Row,
    figure: Quantity,
    best: Option<&Row>,
    notes: &mut Notes,
) -> String {
    let note = match (row.status, &row.reason) {
        (Status::Invalid, reason) => {
            let reason = reason.as_deref().unwrap_or("invalid");
            notes.number(format!("{} at {}: {reason}", row.model, summary.axes.show(row.place)))
        }
        _ => String::new(),
    };
    let Some(estimate) = figure.of(row) else {
        return match (row.status, &row.reason) {
            // What the kernel says of itself is too long for a cell; it stands with the limiters in the report.
            (Status::Limit, Some(reason)) => reason.split(": ").next().unwrap_or_default().to_owned(),
            (Status::Invalid, _) => format!("invalid{note}"),
            _ => "–".to_owned(),
        };
    };
    let is_level = |best: &Row| row.is_level_with(best, figure).unwrap_or(false);
    // A mark in every cell, or the digits of a column do not stand under each other.
    let mark = match best {
        _ if row.status == Status::Doubtful => "○",
        _ if figure.is_throughput() && row.about_client => "°",
        Some(best) if best.model == row.model => "*",
        Some(best) if figure.is_ranked(row) && is_level(best) => "≈",
        _ => " ",
    };
    let mut cell = format!("{}{note}{mark}", figure.cell(estimate.median));
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
    use crate::rounds::{Latencies, Round};
    use crate::setting::{Axes, Axis, Range, Setting};

    fn row(model: &str, connections: usize, rates: &[f64]) -> Row {
        let round = |(round, rate): (usize, &f64)| Round {
            point: point(|point| {
                (point.model, point.setting.connections) = (model.into(), connections);
                (point.round, point.connected) = (round as u32, connections);
                point.messages_per_s = Some(*rate);
                point.server_cpu_ns_per_message = Some(1e9 / rate);
                point.status = Status::Ok;
                point.limiters = vec![Limiter { name: LimiterName::ServerCpu, evidence: String::new() }];
            }),
            latency: Latencies::default(),
            uncorrected: Latencies::default(),
        };
        let rounds: Vec<Round> = rates.iter().enumerate().map(round).collect();
        let subject =
            Subject { model: model.into(), mechanism: "echo".into(), compared: true, ceiling: false };
        let setting = Setting { connections, ..Setting::default() };
        let place = Place::at(connections as f64);
        Row::of(&subject, place, &setting, &rounds.iter().collect::<Vec<_>>(), None).unwrap()
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
            axes: Axes { x: Range { axis: Axis::Connections, values: vec![1.0, 4096.0] }, by: None },
            figures: vec![Quantity::Throughput, Quantity::Cpu],
            laws: Vec::new(),
            subjects: vec![
                subject("select", true),
                subject("poll", true),
                subject("epoll", true),
                subject("raw", false),
            ],
            rows,
        }
    }

    /// The first line of a table that begins so; the picture above has such values, too.
    fn table_line<'a>(text: &'a str, begin: &str) -> &'a str {
        let is_of_table = |line: &&str| line.split_whitespace().count() > 3;
        text.lines().filter(is_of_table).find(|line| line.trim_start().starts_with(begin)).unwrap()
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
        let line = table_line(&text, "1 ");
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
        let line = table_line(&text, "4,096");
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
