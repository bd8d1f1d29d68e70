//! The finding in a few sentences that the data carry, and no more than that.

use std::collections::BTreeMap;

use crate::format;
use crate::quantity::Quantity;
use crate::record::Status;
use crate::setting::Place;
use crate::stats::{Estimate, LawKind, Ratio};
use crate::summary::{ExperimentSummary, FittedLaw, Row};

/// A law that is further than this from a figure, or explains less than that, does not hold.
const FAR: f64 = 0.3;
const LITTLE: f64 = 0.8;

/// What follows from the figures: who is best at the far end of the x-axis, and which laws hold.
pub(super) fn sentences(summary: &ExperimentSummary) -> Vec<String> {
    // Throughput is as much the client's: models are compared by what is the server's alone.
    let figures: Vec<Quantity> =
        summary.figures.iter().copied().filter(|figure| !figure.is_throughput()).collect();
    let main = figures.first().copied().unwrap_or(Quantity::Cpu);
    let mut sentences = vec![comparison(summary, main)];
    sentences.extend(corrected(summary));
    sentences.extend(laws(summary));
    sentences
}

/// Which models are best and worst by the figure, at the far end of the x-axis that several reach.
fn comparison(summary: &ExperimentSummary, figure: Quantity) -> String {
    let Some((place, rows)) = widest_comparison(summary, figure) else {
        return "No two models can be compared: see the table for what each reached.".into();
    };
    let name = figure.name(summary.words());
    let (least, most) = if figure.is_better_high() { ("most", "least") } else { ("least", "most") };
    let show = |estimate: &Estimate| figure.unit().show(estimate.median);
    let (best, best_figure) = rows[0];
    let (worst, worst_figure) = rows[rows.len() - 1];
    let at = at(summary, place);
    let took = if figure == Quantity::Cpu { "took the" } else { "had the" };
    let (low, high) = match figure {
        Quantity::Cpu => (least.to_owned(), most.to_owned()),
        _ if figure.is_better_high() => ("highest".to_owned(), "lowest".to_owned()),
        _ => ("lowest".to_owned(), "highest".to_owned()),
    };
    if summary.rounds < 2 || best.rounds < 2 {
        return format!(
            "{at}, in one round, {} {took} {low} {name} ({}), {} the {high} ({}). One round says nothing about noise.",
            best.model,
            show(&best_figure),
            worst.model,
            show(&worst_figure),
        );
    }
    let is_level = |row: &Row| row.is_level_with(best, figure).unwrap_or(true);
    let level: Vec<&str> =
        rows.iter().take_while(|(row, _)| is_level(row)).map(|(row, _)| row.model.as_str()).collect();
    let first = match level.as_slice() {
        [] | [_] => format!("{at}, {} {took} {low} {name}: {}", best.model, interval(&best_figure, figure)),
        several => format!(
            "{at}, {} {took} {low} {name} and cannot be told apart in {} rounds ({} at best)",
            and(several),
            best.rounds,
            show(&best_figure)
        ),
    };
    match worst.ratio_to(best, figure).filter(|_| level.len() < rows.len()) {
        None => format!("{first}."),
        Some(Ratio { ratio, low, high: top, .. }) => {
            format!(
                "{first}; {} {took} {high}: {}, {} times that of {} (95 % interval {} to {}).",
                worst.model,
                show(&worst_figure),
                factor(ratio),
                best.model,
                factor(low),
                factor(top),
            )
        }
    }
}

/// `With 4,096 connections`, `At an offered load of 90 %`
fn at(summary: &ExperimentSummary, place: Place) -> String {
    use crate::setting::Axis;
    let axis = summary.axes.x.axis;
    let shown = summary.axes.show(place);
    match axis {
        Axis::Connections if summary.is_broadcast() => format!("With {shown} receivers"),
        Axis::Connections => format!("With {shown} connections"),
        Axis::Active => match &summary.axes.by {
            Some(_) => {
                format!("With {} of {} connections talking", axis.show(place.x), connections(summary, place))
            }
            None => format!("With {shown} connections that talk"),
        },
        Axis::PayloadBytes => format!("With a payload of {shown}"),
        Axis::Depth => format!("With {shown} messages in flight per connection"),
        Axis::RatePerS => format!("At {shown} messages per second"),
        Axis::Load => format!("At an offered load of {shown}"),
        Axis::WorkUs if place.x == 0.0 => "Without any work".to_owned(),
        Axis::WorkUs => format!("With {shown} of work per message"),
        Axis::Slow => format!("With {shown} receivers that do not read"),
        Axis::PauseMs => format!("When the server is stopped for {shown}"),
    }
}

fn connections(summary: &ExperimentSummary, place: Place) -> String {
    summary.axes.by.as_ref().zip(place.by).map_or_else(String::new, |(by, value)| by.axis.show(value))
}

/// The models with a good figure at the last place that at least two have one at, the best first. Those with another
/// protocol or none are not compared.
fn widest_comparison(
    summary: &ExperimentSummary,
    figure: Quantity,
) -> Option<(Place, Vec<(&Row, Estimate)>)> {
    summary.places().into_iter().rev().find_map(|place| {
        let is_good =
            |row: &&Row| row.place == place && row.status == Status::Ok && summary.is_compared(&row.model);
        let good = summary.rows.iter().filter(is_good);
        let mut rows: Vec<(&Row, Estimate)> = good
            .filter_map(|row| Some((row, figure.of(row)?)))
            .filter(|(_, value)| value.median > 0.0)
            .collect();
        rows.sort_by(|one, other| one.1.median.total_cmp(&other.1.median));
        if figure.is_better_high() {
            rows.reverse();
        }
        (rows.len() >= 2).then_some((place, rows))
    })
}

/// How much of a stall a client would not have seen that waits when the server does, where it is most.
fn corrected(summary: &ExperimentSummary) -> Option<String> {
    let pairs = [
        (Quantity::P99, Quantity::UncorrectedP99),
        (Quantity::P999, Quantity::UncorrectedP999),
        (Quantity::P50, Quantity::UncorrectedP50),
    ];
    let (corrected, uncorrected) = pairs
        .into_iter()
        .find(|(one, other)| summary.figures.contains(one) && summary.figures.contains(other))?;
    let good = summary.rows.iter().filter(|row| row.status == Status::Ok && summary.is_compared(&row.model));
    let both = good.filter_map(|row| Some((row, corrected.of(row)?, uncorrected.of(row)?)));
    let (row, with, without) = both.max_by(|one, other| {
        let factor = |(_, with, without): &(&Row, Estimate, Estimate)| with.median / without.median;
        factor(one).total_cmp(&factor(other))
    })?;
    // Only where the intervals leave no doubt.
    let clear = with.low.unwrap_or(with.min) > without.high.unwrap_or(without.max);
    clear.then(|| {
        format!(
            "{}, the {} of {} was {}; a client that waits for the answer before it sends again would have measured {}.",
            at(summary, row.place),
            corrected.name(summary.words()),
            row.model,
            corrected.unit().show(with.median),
            corrected.unit().show(without.median),
        )
    })
}

/// What the fits say, one sentence for each law and figure.
fn laws(summary: &ExperimentSummary) -> Vec<String> {
    let mut groups: BTreeMap<(Quantity, &str), Vec<&FittedLaw>> = BTreeMap::new();
    for law in summary.laws.iter().filter(|law| summary.is_compared(&law.model)) {
        groups.entry((law.figure, law.per.as_str())).or_default().push(law);
    }
    groups.into_iter().filter_map(|((figure, per), laws)| sentence(summary, figure, per, &laws)).collect()
}

fn sentence(summary: &ExperimentSummary, figure: Quantity, per: &str, laws: &[&FittedLaw]) -> Option<String> {
    let name = figure.name(summary.words());
    let (mut holds, mut flat, mut not) = (Vec::new(), Vec::new(), Vec::new());
    for FittedLaw { model, law, .. } in laws.iter().copied() {
        match law.kind {
            LawKind::Linear => {
                let Some(slope) = law.parameter("slope") else { continue };
                match law.is_flat() {
                    None => {}
                    Some(true) => flat.push(model.as_str()),
                    Some(false) if law.worst > FAR || law.r_squared < LITTLE => not.push(model.as_str()),
                    Some(false) => holds.push(format!("{model} {}", interval(slope, figure))),
                }
            }
            LawKind::Usl => match law.parameter("peak_at") {
                _ if law.worst > FAR || law.r_squared < LITTLE => not.push(model.as_str()),
                Some(peak) if peak.low.is_some() => {
                    let [peak, low, high] = [Some(peak.median), peak.low, peak.high]
                        .map(|value| format::grouped(value.unwrap_or(0.0).round()));
                    holds.push(format!("{model} at {peak} ({low} to {high})"));
                }
                _ => {}
            },
        }
    }
    let is_usl = laws.iter().any(|law| law.law.kind == LawKind::Usl);
    let mut parts = Vec::new();
    if !holds.is_empty() {
        parts.push(if is_usl {
            format!("by the Universal Scalability Law, {name} has its peak for {}", holds.join(", "))
        } else {
            format!("each {per} adds to the {name}: {}", holds.join(", "))
        });
    }
    if !flat.is_empty() {
        parts.push(format!("no dependence on the number can be shown for {}", and(&flat)));
    }
    if !not.is_empty() {
        let law = if is_usl { "the Universal Scalability Law" } else { "a straight line" };
        parts.push(format!("{law} does not describe {}", and(&not)));
    }
    let text = parts.join("; ");
    let mut letters = text.chars();
    let first = letters.next()?;
    Some(format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

fn and(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `1.07`, `12.4`, `310`
fn factor(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 10.0 => format!("{ratio:.2}"),
        ratio if ratio < 100.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

fn interval(estimate: &Estimate, figure: Quantity) -> String {
    let show = |value: f64| match value {
        value if value < 0.0 => format!("−{}", figure.unit().show(-value)),
        // A slope in nanoseconds may be a few of them.
        value if figure.unit() == crate::quantity::Unit::Ns && value < 100.0 => format!("{value:.1} ns"),
        value => figure.unit().show(value),
    };
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!(
            "{} (95 % interval {} to {}, {} rounds)",
            show(estimate.median),
            show(low),
            show(high),
            estimate.rounds
        ),
        _ => show(estimate.median),
    }
}
