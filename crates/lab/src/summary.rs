//! What came out of a run: medians over the rounds, with their spread, and how the points ended.

use std::path::PathBuf;

use serde::Serialize;

use crate::experiment::Subject;
use crate::plan::Plan;
use crate::record::{Point, Status};

/// The outcome of [`run`](crate::run); as JSON the answer to `switchboard run --json`, as text the tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// [`SCHEMA`](crate::record::SCHEMA).
    pub schema: u32,
    /// Whether the user stopped the run before its end.
    pub interrupted: bool,
    /// One for each experiment that was begun.
    pub experiments: Vec<ExperimentSummary>,
}

/// The outcome of one experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentSummary {
    /// The experiment's name.
    pub experiment: String,
    /// What it answers.
    pub question: String,
    /// The results folder.
    pub dir: PathBuf,
    /// The files of the report, `report.html` first; empty if there is none.
    pub report: Vec<PathBuf>,
    /// Why there is no report.
    pub report_error: Option<String>,
    /// Whether the user stopped it before its end.
    pub interrupted: bool,
    /// The seed of the order.
    pub seed: u64,
    /// Rounds planned.
    pub rounds: u32,
    /// Time that this run took, in seconds.
    pub elapsed_s: f64,
    /// Points of the plan.
    pub planned: usize,
    /// Points recorded as good.
    pub ok: usize,
    /// Points that a model or the machine does not reach.
    pub limit: usize,
    /// Points that broke.
    pub invalid: usize,
    /// Lines of the results that could not be read, each with file and number.
    pub damaged: Vec<String>,
    /// The numbers of connections, ascending.
    pub connections: Vec<usize>,
    /// Who took part, in reading order.
    pub subjects: Vec<Subject>,
    /// One for every model and number of connections that was measured.
    pub rows: Vec<Row>,
}

/// A model at a number of connections, over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The model's name.
    pub model: String,
    /// The mechanism's name.
    pub mechanism: String,
    /// Connections wanted.
    pub connections: usize,
    /// The worst status of all rounds: invalid before limit before ok.
    pub status: Status,
    /// The reason of the first round with that status.
    pub reason: Option<String>,
    /// Rounds with status ok; the figures are theirs alone.
    pub rounds: usize,
    /// Messages or deliveries a second.
    pub messages_per_s: Option<Spread>,
    /// Server CPU time per message.
    pub server_cpu_ns_per_message: Option<Spread>,
    /// Cores that the load generator kept busy.
    pub client_cpu: Option<Spread>,
    /// Each round's 99th percentile of latency.
    pub latency_p99_ns: Option<Spread>,
    /// Each round's median time until the last receiver had a broadcast.
    pub last_receiver_p50_ns: Option<Spread>,
    /// Memory of the server per open connection.
    pub memory_bytes_per_connection: Option<Spread>,
}

/// A figure over several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl RunSummary {
    /// The exit status for the command: 130 after Ctrl-C, 1 if a point or a report broke, otherwise 0.
    pub fn exit_status(&self) -> u8 {
        let broke = |one: &ExperimentSummary| one.invalid > 0 || one.report_error.is_some();
        match self {
            RunSummary { interrupted: true, .. } => 130,
            RunSummary { experiments, .. } if experiments.iter().any(broke) => 1,
            _ => 0,
        }
    }
}

impl ExperimentSummary {
    /// Adds up the points of a plan; what concerns the report and the clock is left for the caller to fill in.
    pub(crate) fn of(plan: &Plan, dir: PathBuf, points: &[Point]) -> ExperimentSummary {
        let count = |status| points.iter().filter(|point| point.status == status).count();
        let pairs =
            plan.subjects.iter().flat_map(|subject| plan.connections.iter().map(move |&n| (subject, n)));
        ExperimentSummary {
            experiment: plan.experiment.clone(),
            question: plan.question.clone(),
            dir,
            report: Vec::new(),
            report_error: None,
            interrupted: false,
            seed: plan.seed,
            rounds: plan.rounds,
            elapsed_s: 0.0,
            planned: plan.jobs.len(),
            ok: count(Status::Ok),
            limit: count(Status::Limit),
            invalid: count(Status::Invalid),
            damaged: Vec::new(),
            connections: plan.connections.clone(),
            subjects: plan.subjects.clone(),
            rows: pairs.filter_map(|(subject, connections)| Row::of(subject, connections, points)).collect(),
        }
    }

    /// The row of `model` at `connections`.
    pub fn row(&self, model: &str, connections: usize) -> Option<&Row> {
        self.rows.iter().find(|row| row.model == model && row.connections == connections)
    }
}

impl Row {
    fn of(subject: &Subject, connections: usize, points: &[Point]) -> Option<Row> {
        let mine = |point: &&Point| point.model == subject.model && point.connections == connections;
        let points: Vec<&Point> = points.iter().filter(mine).collect();
        let first = |status| points.iter().find(|point| point.status == status);
        let worst = first(Status::Invalid).or(first(Status::Limit)).or(first(Status::Ok))?;
        let good: Vec<&Point> = points.iter().copied().filter(|point| point.status == Status::Ok).collect();
        let spread =
            |figure: fn(&Point) -> Option<f64>| Spread::of(good.iter().filter_map(|point| figure(point)));
        Some(Row {
            model: subject.model.clone(),
            mechanism: subject.mechanism.clone(),
            connections,
            status: worst.status,
            reason: worst.reason.clone(),
            rounds: good.len(),
            messages_per_s: spread(|point| point.messages_per_s),
            server_cpu_ns_per_message: spread(|point| point.server_cpu_ns_per_message),
            client_cpu: spread(|point| point.client_cpu),
            latency_p99_ns: spread(|point| Some(point.latency_ns?.p99 as f64)),
            last_receiver_p50_ns: spread(|point| Some(point.last_receiver_ns?.p50 as f64)),
            memory_bytes_per_connection: spread(|point| point.memory_bytes_per_connection),
        })
    }
}

impl Spread {
    /// `None` if there is no figure at all.
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
        Some(Spread { median, min, max })
    }

    /// Whether the two were not told apart: the ranges over the rounds touch.
    pub fn overlaps(&self, other: &Spread) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_nothing_has_none() {
        let of = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn ranges_that_touch_are_not_told_apart() {
        let spread = |min, max| Spread { median: (min + max) / 2.0, min, max };
        assert!(spread(1.0, 3.0).overlaps(&spread(3.0, 4.0)));
        assert!(spread(1.0, 5.0).overlaps(&spread(2.0, 3.0)));
        assert!(!spread(1.0, 2.0).overlaps(&spread(3.0, 4.0)));
    }
}
