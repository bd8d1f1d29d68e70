//! Two runs, or two models of one run, side by side: ratios with intervals, and what may be called a difference.
//!
//! Models of one run were measured next to each other, so their rounds are pairs. Two runs were not: their rounds are
//! independent samples, and the machine may have been at another speed. Every time in them is therefore divided by the time that the
//! fixed workload took around the same point. That allows for most of a drift but not for all of it, since the workload is not the
//! server; what is left is a doubt that grows with the drift and that no number of rounds makes smaller.

mod figure;
mod gate;
mod show;
mod side;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

pub use figure::Figure;
pub use gate::Gate;

use crate::judge::ABOUT_CLIENT;
use crate::record::SCHEMA;
use crate::rounds::Round;
use crate::setting::Place;
use crate::stats::{Ratio, discoveries, independent, independent_around, paired, paired_around, quantile};
use figure::pace;
use side::{Side, differences, other_machine};

/// Of the rows that are called different, this share may be wrong on average.
const FALSE_DISCOVERIES: f64 = 0.05;

/// How far off the fixed workload may be as a stand-in for a server, as a share of the drift that it shows. Seen: where it went down to 0.75,
/// the CPU time per message of five models went down to between 0.72 and 0.80.
const DOUBT: f64 = 0.12;

/// How far two runs of the same server may be apart when the machine's speed has not changed, as a standard error: every run has its own
/// minutes. Seen: ten pooled lines of two runs of the same build were up to 2.4 % apart where their rounds promised 1 %.
const BETWEEN_RUNS: f64 = 0.008;

/// Below so many rounds on either side nothing is called different. Latencies at few connections come in two or three levels, and
/// three rounds of one run may well have met another level than three of the next.
const FEWEST_ROUNDS: usize = 4;

/// Fewest rounds to compare, if both sides were measured side by side.
const FEWEST_PAIRS: usize = 2;

/// Memory is taken in pages, so that all rounds may agree to the byte and be a page or two off.
const PAGES_BYTES: f64 = 8192.0;

/// What is to be compared with what.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// `FOLDER` or `FOLDER:MODEL`.
    pub a: String,
    /// `FOLDER`, `FOLDER:MODEL`, or `:MODEL` of the same folder.
    pub b: String,
    /// Only these models.
    pub models: Option<Vec<String>>,
    /// Only these numbers of connections.
    pub connections: Option<Vec<usize>>,
    /// Conditions under which the comparison fails.
    pub gates: Vec<Gate>,
    /// Compare the times as they were measured, whatever the speed of the machine.
    pub raw_times: bool,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The options cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// A folder cannot be read.
    #[error("{}: {reason}; is it a folder that `switchboard run` made?", .dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is nothing that both have.
    #[error(
        "{a} and {b} have no good points of the same model and place; switchboard compare FOLDER:MODEL FOLDER:MODEL compares different ones"
    )]
    NothingInCommon {
        /// One side.
        a: String,
        /// The other.
        b: String,
    },
}

impl CompareError {
    /// The exit status for the command.
    pub fn exit_status(&self) -> u8 {
        if matches!(self, CompareError::Usage(_)) { 2 } else { 1 }
    }
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the others are divided by.
    pub a: String,
    /// What is divided.
    pub b: String,
    /// The two were measured side by side: rounds are compared in pairs.
    pub paired: bool,
    /// The two did not run on the same machine.
    pub other_machine: bool,
    /// What was varied, in words.
    pub varied: String,
    /// Machine, versions and settings that differ.
    pub differs: Vec<String>,
    /// How much longer the fixed workload took on the side of B, as a ratio; `null` if it was not run.
    pub drift: Option<f64>,
    /// Times are divided by those of the fixed workload.
    pub normalised: bool,
    /// Number of rows that could be compared, including those over all places.
    pub compared: usize,
    /// If no row could be compared: the reason, and what to do. Otherwise `null`.
    pub nothing_because: Option<String>,
    /// Every figure of every model and number of connections that both sides have.
    pub rows: Vec<CompareRow>,
    /// Each model over all numbers of connections.
    pub pooled: Vec<CompareRow>,
    /// What only one side has: `fork at 64: only in A`.
    pub unmatched: Vec<String>,
    /// Doubtful and invalid points of both sides, which are not compared.
    pub left_out: usize,
    /// Lines that could not be read.
    pub damaged: Vec<String>,
    /// The conditions, and what each caught.
    pub gates: Vec<GateOutcome>,
}

/// One figure on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareRow {
    /// The model, or both: `poll → epoll`.
    pub model: String,
    /// Where on the axes of the experiment; `null` for all places together.
    pub place: Option<Place>,
    /// Connections there.
    pub connections: Option<usize>,
    /// The place as people write it.
    #[serde(skip)]
    pub(crate) shown: String,
    /// What is compared.
    pub figure: Figure,
    /// B divided by A; `null` where there are too few rounds.
    pub ratio: Option<Ratio>,
    /// What may be said of it.
    pub verdict: RowVerdict,
}

/// What may be said of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowVerdict {
    /// The interval excludes 1, also when it is considered how many rows are looked at.
    Differs,
    /// No difference that this machine can resolve.
    NoDifference,
    /// The throughput is the client's on at least one side.
    AboutClient,
    /// There are too few rounds to say.
    TooFewRounds,
}

/// A condition and the rows that it caught.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateOutcome {
    /// The condition.
    pub gate: Gate,
    /// Rows that it could be applied to.
    pub examined: usize,
    /// Rows with its figure that could not be compared.
    pub not_compared: usize,
    /// Rows beyond the threshold whose difference is real.
    pub caught: Vec<String>,
}

impl Comparison {
    /// The exit status of the command: 3 if a gate caught something; 1 if a gate had no row to examine, or if no row could be compared; else 0.
    pub fn exit_status(&self) -> u8 {
        if self.gates.iter().any(|outcome| !outcome.caught.is_empty()) {
            3
        } else {
            u8::from(self.compared == 0 || self.gates.iter().any(|outcome| outcome.examined == 0))
        }
    }
}

/// Compares.
///
/// # Errors
/// A side cannot be read, or the two have nothing in common.
pub fn compare(options: &CompareOptions) -> Result<Comparison, CompareError> {
    let a = Side::read(&options.a, None)?;
    let b = Side::read(&options.b, Some(&a.dir))?;
    let is_paired = same_folder(&a, &b);
    let pairs = matched(&a, &b, options);
    let axes = |side: &Side| side.plan.axes.axes().collect::<Vec<_>>();
    if axes(&a) != axes(&b) {
        let label = |side: &Side| format!("{} varies {}", side.name(), side.plan.axes.label());
        return Err(CompareError::Usage(format!(
            "{}, {}: they have no point in common",
            label(&a),
            label(&b)
        )));
    }
    if pairs.is_empty() {
        return Err(CompareError::NothingInCommon { a: a.name(), b: b.name() });
    }
    let drift = drift(&pairs);
    let normalised = !is_paired && !options.raw_times && drift.is_some();
    let judge = |pair: &Pair<'_>, figure: Figure| CompareRow {
        model: pair.name.clone(),
        place: Some(pair.place),
        connections: pair.a.first().map(|round| round.point.setting.connections),
        shown: a.plan.axes.show(pair.place),
        figure,
        ratio: pair.ratio(figure, is_paired, normalised),
        verdict: if pair.is_about_client(figure) {
            RowVerdict::AboutClient
        } else {
            RowVerdict::TooFewRounds
        },
    };
    let is_measured = |pair: &&Pair<'_>, figure: Figure| pair.has(figure);
    let rows = pairs.iter().flat_map(|pair| {
        Figure::ALL
            .into_iter()
            .filter(move |figure| is_measured(&pair, *figure))
            .map(move |figure| judge(pair, figure))
    });
    let mut rows: Vec<CompareRow> = rows.collect();
    decide(&mut rows);
    let mut pooled = pool(&pairs, is_paired, normalised);
    decide(&mut pooled);
    let compared = rows.iter().chain(&pooled).filter(|row| row.is_judged()).count();
    let nothing_because =
        (compared == 0).then(|| why_nothing(&rows, &pairs, is_paired, a.left_out + b.left_out));
    let gates = options.gates.iter().map(|gate| examine(gate, &rows, &pooled)).collect();
    Ok(Comparison {
        schema: SCHEMA,
        paired: is_paired,
        other_machine: other_machine(&a, &b),
        varied: a.plan.axes.label(),
        differs: differences(&a, &b),
        drift: drift.map(f64::exp).filter(|_| !is_paired),
        normalised,
        compared,
        nothing_because,
        rows,
        pooled,
        unmatched: unmatched(&a, &b),
        left_out: a.left_out + b.left_out,
        damaged: a.damaged.iter().chain(&b.damaged).cloned().collect(),
        gates,
        a: a.name(),
        b: b.name(),
    })
}

fn same_folder(a: &Side, b: &Side) -> bool {
    let whole = |side: &Side| side.dir.canonicalize().unwrap_or_else(|_| side.dir.clone());
    whole(a) == whole(b)
}

/// The same model and place on both sides, or the two models that were named.
struct Pair<'a> {
    name: String,
    place: Place,
    a: &'a [Round],
    b: &'a [Round],
}

fn matched<'a>(a: &'a Side, b: &'a Side, options: &CompareOptions) -> Vec<Pair<'a>> {
    let is_wanted = |model: &str, connections: usize| {
        options.models.as_ref().is_none_or(|models| models.iter().any(|wanted| wanted == model))
            && options.connections.as_ref().is_none_or(|counts| counts.contains(&connections))
    };
    let pair = |((model, place), rounds): (&(String, Place), &'a Vec<Round>)| {
        let other = b.model.as_ref().unwrap_or(model);
        let theirs = b.rounds.get(&(other.clone(), *place))?;
        let name = if other == model { model.clone() } else { format!("{model} → {other}") };
        is_wanted(model, rounds.first()?.point.setting.connections).then_some(Pair {
            name,
            place: *place,
            a: rounds,
            b: theirs,
        })
    };
    a.rounds.iter().filter_map(pair).collect()
}

fn unmatched(a: &Side, b: &Side) -> Vec<String> {
    if a.model.is_some() || b.model.is_some() {
        return Vec::new();
    }
    let only = |these: &Side, those: &Side, name: &str| {
        let keys = these.rounds.keys().filter(|key| !those.rounds.contains_key(key));
        let shown = |place: &Place| these.plan.axes.show(*place);
        keys.map(|(model, place)| format!("{model} at {}: good points only in {name}", shown(place)))
            .collect::<Vec<_>>()
    };
    only(a, b, "A").into_iter().chain(only(b, a, "B")).collect()
}

/// The mean logarithm by which the fixed workload took longer on the side of B.
fn drift(pairs: &[Pair<'_>]) -> Option<f64> {
    let each: Vec<f64> = pairs.iter().filter_map(Pair::drift).collect();
    (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64)
}

impl Pair<'_> {
    fn has(&self, figure: Figure) -> bool {
        self.a.iter().any(|round| figure.of(round).is_some())
            && self.b.iter().any(|round| figure.of(round).is_some())
    }

    fn connections(&self) -> usize {
        self.a.first().map_or(1, |round| round.point.setting.connections)
    }

    fn is_about_client(&self, figure: Figure) -> bool {
        let about = |rounds: &[Round]| {
            let shares: Vec<f64> = rounds.iter().filter_map(|round| round.point.share_of_ceiling).collect();
            shares.iter().filter(|share| **share >= ABOUT_CLIENT).count() * 2 > shares.len()
        };
        figure == Figure::Throughput && (about(self.a) || about(self.b))
    }

    fn drift(&self) -> Option<f64> {
        let mean = |rounds: &[Round]| {
            let paces: Vec<f64> = rounds.iter().filter_map(pace).collect();
            (paces.len() == rounds.len()).then(|| paces.iter().sum::<f64>() / paces.len() as f64)
        };
        Some(mean(self.b)? - mean(self.a)?)
    }

    fn ratio(&self, figure: Figure, is_paired: bool, normalised: bool) -> Option<Ratio> {
        let merged = figure.quantile().and_then(|q| {
            let of = |rounds: &[Round]| {
                let histograms: Vec<_> =
                    rounds.iter().filter_map(|round| round.latency.histogram()).collect();
                quantile(&histograms.iter().collect::<Vec<_>>(), q)
            };
            Some(of(self.b)?.median / of(self.a)?.median)
        });
        if is_paired {
            let by_round: BTreeMap<u32, f64> =
                self.a.iter().filter_map(|round| Some((round.point.round, figure.of(round)?))).collect();
            let pair = |round: &Round| Some((*by_round.get(&round.point.round)?, figure.of(round)?));
            let pairs: Vec<(f64, f64)> = self.b.iter().filter_map(pair).collect();
            return match merged {
                Some(merged) => paired_around(merged, &pairs),
                None => paired(&pairs),
            };
        }
        let figures = |rounds: &[Round]| -> Vec<f64> {
            rounds.iter().filter_map(|round| at_one_pace(round, figure, normalised)).collect()
        };
        let (first, second) = (figures(self.a), figures(self.b));
        if first.len() < FEWEST_ROUNDS || second.len() < FEWEST_ROUNDS {
            return None;
        }
        let drift = self.drift().filter(|_| normalised).unwrap_or(0.0) * figure.grows_with_time();
        let pages = match figure {
            Figure::Memory => PAGES_BYTES / (self.connections() as f64 * first[0]),
            _ => 0.0,
        };
        let doubt = between_runs(drift) + pages;
        match merged {
            Some(merged) => independent_around(merged / drift.exp(), &first, &second, doubt),
            None => independent(&first, &second, doubt),
        }
    }
}

/// The error of a ratio's logarithm that no number of rounds makes smaller.
fn between_runs(drift: f64) -> f64 {
    BETWEEN_RUNS + DOUBT * drift.abs()
}

/// The figure as it would be if the fixed workload took one unit of time.
fn at_one_pace(round: &Round, figure: Figure, normalised: bool) -> Option<f64> {
    let figure_now = figure.of(round)?;
    if !normalised {
        return Some(figure_now);
    }
    Some(figure_now / (pace(round)? * figure.grows_with_time()).exp())
}

/// Every model over all its numbers of connections: first the counts of a round together, since they share its minute, then
/// the rounds.
fn pool(pairs: &[Pair<'_>], is_paired: bool, normalised: bool) -> Vec<CompareRow> {
    let names: BTreeSet<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
    let mut rows = Vec::new();
    for name in names {
        let mine: Vec<&Pair<'_>> = pairs.iter().filter(|pair| pair.name == name).collect();
        if mine.len() < 2 {
            continue;
        }
        for figure in [Figure::Throughput, Figure::Cpu, Figure::P50, Figure::P99] {
            let usable: Vec<&&Pair<'_>> =
                mine.iter().filter(|pair| pair.has(figure) && !pair.is_about_client(figure)).collect();
            if usable.len() < 2 {
                continue;
            }
            // Each number of connections has a level of its own, which must not count when one is missing in a round.
            let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
            for pair in &usable {
                let of = |rounds: &[Round]| -> Vec<(u32, f64)> {
                    let one = |round: &Round| {
                        Some((round.point.round, at_one_pace(round, figure, normalised)?.ln()))
                    };
                    rounds.iter().filter_map(one).collect()
                };
                let (ours, theirs) = (of(pair.a), of(pair.b));
                let mean =
                    |side: &[(u32, f64)]| side.iter().map(|(_, log)| log).sum::<f64>() / side.len() as f64;
                let level = (mean(&ours) + mean(&theirs)) / 2.0;
                for (side, into) in [(ours, &mut first), (theirs, &mut second)] {
                    for (round, log) in side {
                        into.entry(round).or_insert_with(Vec::new).push(log - level);
                    }
                }
            }
            let by_round = |side: &BTreeMap<u32, Vec<f64>>| -> BTreeMap<u32, f64> {
                let mean = |logs: &Vec<f64>| (logs.iter().sum::<f64>() / logs.len() as f64).exp();
                side.iter().map(|(round, logs)| (*round, mean(logs))).collect()
            };
            let (first, second) = (by_round(&first), by_round(&second));
            let ratio = if is_paired {
                let pair = |(round, theirs): (&u32, &f64)| Some((*first.get(round)?, *theirs));
                paired(&second.iter().filter_map(pair).collect::<Vec<_>>())
            } else {
                let drifts: Vec<f64> = usable.iter().filter_map(|pair| pair.drift()).collect();
                let drift = drifts.iter().sum::<f64>() / drifts.len().max(1) as f64;
                let doubt = between_runs(if normalised { drift } else { 0.0 });
                let values = |side: BTreeMap<u32, f64>| side.into_values().collect::<Vec<_>>();
                let is_enough = first.len() >= FEWEST_ROUNDS && second.len() >= FEWEST_ROUNDS;
                is_enough.then(|| independent(&values(first), &values(second), doubt)).flatten()
            };
            let verdict = RowVerdict::TooFewRounds;
            let (model, shown) = (name.to_owned(), "all".to_owned());
            rows.push(CompareRow { model, place: None, connections: None, shown, figure, ratio, verdict });
        }
    }
    rows
}

/// Calls different what is, all rows considered together.
fn decide(rows: &mut [CompareRow]) {
    let judged = |row: &CompareRow| row.verdict != RowVerdict::AboutClient && row.ratio.is_some();
    let p_values: Vec<f64> =
        rows.iter().filter(|row| judged(row)).filter_map(|row| row.ratio).map(|ratio| ratio.p).collect();
    let found = discoveries(&p_values, FALSE_DISCOVERIES);
    for (row, is_discovery) in rows.iter_mut().filter(|row| judged(row)).zip(found) {
        let is_outside = row.ratio.is_some_and(|ratio| !ratio.holds_one());
        row.verdict = if is_discovery && is_outside { RowVerdict::Differs } else { RowVerdict::NoDifference };
    }
}

fn examine(gate: &Gate, rows: &[CompareRow], pooled: &[CompareRow]) -> GateOutcome {
    let (mine, others): (Vec<&CompareRow>, Vec<&CompareRow>) =
        rows.iter().chain(pooled).filter(|row| row.figure == gate.figure).partition(|row| row.is_judged());
    let beyond = |row: &&&CompareRow| {
        row.verdict == RowVerdict::Differs && row.ratio.is_some_and(|ratio| gate.catches(ratio.ratio))
    };
    let caught = mine.iter().filter(beyond).map(|row| row.to_string()).collect();
    GateOutcome { gate: gate.clone(), examined: mine.len(), not_compared: others.len(), caught }
}

impl CompareRow {
    /// Whether the row could be compared.
    fn is_judged(&self) -> bool {
        matches!(self.verdict, RowVerdict::Differs | RowVerdict::NoDifference)
    }
}

/// Why no row could be compared, and what to do.
fn why_nothing(rows: &[CompareRow], pairs: &[Pair<'_>], is_paired: bool, left_out: usize) -> String {
    if rows.is_empty() {
        return "no figure was measured on both sides".to_owned();
    }
    if rows.iter().all(|row| row.verdict == RowVerdict::AboutClient) {
        return "the throughput is limited by the load generator, not by a server; compare `cpu`, or offer a rate".to_owned();
    }
    let most = |side: fn(&Pair<'_>) -> usize| pairs.iter().map(side).max().unwrap_or(0);
    let (a, b) = (most(|pair| pair.a.len()), most(|pair| pair.b.len()));
    let least = if is_paired { FEWEST_PAIRS } else { FEWEST_ROUNDS };
    let mut why = if a < least || b < least {
        format!(
            "A has {a} good rounds at most, B has {b}; {least} of each side are the least: switchboard run --rounds {FEWEST_ROUNDS}, or more"
        )
    } else {
        "no figure has enough good rounds above 0 on both sides: switchboard run with more --rounds"
            .to_owned()
    };
    if left_out > 0 {
        why += &format!(
            "; {left_out} doubtful or invalid points do not count; on a quieter machine there are fewer of them"
        );
    }
    why
}
