//! The finding in one or two sentences that the data carry, and no more than that.

use crate::format;
use crate::record::Status;
use crate::stats::{Estimate, Ratio};
use crate::summary::{Each, ExperimentSummary, Row};

/// What models are compared by.
const CPU: fn(&Each) -> Option<f64> = |each| each.server_cpu_ns_per_message;

/// Which models took the least and the most server CPU per message, at the most connections that several reach.
pub(super) fn sentence(summary: &ExperimentSummary) -> String {
    let Some((connections, rows)) = widest_comparison(summary) else {
        return "No two models can be compared: see the table for what each reached.".into();
    };
    let is_broadcast = summary.is_broadcast();
    let (what, per) = if is_broadcast { ("receivers", "delivery") } else { ("connections", "message") };
    let (best, best_cpu) = rows[0];
    let (worst, worst_cpu) = rows[rows.len() - 1];
    let connections = format::count(connections);
    if summary.rounds < 2 || best.rounds < 2 {
        return format!(
            "In one round with {connections} {what}, {} took the least server CPU per {per} ({}), {} the most ({}). \
             One round says nothing about noise.",
            best.model,
            format::nanoseconds(best_cpu.median),
            worst.model,
            format::nanoseconds(worst_cpu.median),
        );
    }
    let is_level = |row: &Row| row.is_level_with(best, CPU).unwrap_or(true);
    let level: Vec<&str> =
        rows.iter().take_while(|(row, _)| is_level(row)).map(|(row, _)| row.model.as_str()).collect();
    let first = match level.as_slice() {
        [] | [_] => format!(
            "With {connections} {what}, {} took the least server CPU per {per}: {}",
            best.model,
            interval(&best_cpu)
        ),
        several => format!(
            "With {connections} {what}, {} took the least server CPU per {per} and cannot be told apart in {} rounds \
             ({} at best)",
            several.join(" and "),
            best.rounds,
            format::nanoseconds(best_cpu.median)
        ),
    };
    match worst.ratio_to(best, CPU).filter(|_| level.len() < rows.len()) {
        None => format!("{first}."),
        Some(Ratio { ratio, low, high, .. }) => format!(
            "{first}; {} took the most: {}, {ratio:.2} times as much as {} (95 % interval {low:.2} to {high:.2}).",
            worst.model,
            format::nanoseconds(worst_cpu.median),
            best.model
        ),
    }
}

/// The models with a good figure at the highest number of connections that at least two have one at, by rising CPU
/// per message. Those with another protocol or none are not compared.
fn widest_comparison(summary: &ExperimentSummary) -> Option<(usize, Vec<(&Row, Estimate)>)> {
    let compared =
        |model: &str| summary.subjects.iter().any(|subject| subject.compared && subject.model == model);
    summary.connections.iter().rev().find_map(|connections| {
        let is_good =
            |row: &&Row| row.connections == *connections && row.status == Status::Ok && compared(&row.model);
        let good = summary.rows.iter().filter(is_good);
        let mut rows: Vec<(&Row, Estimate)> =
            good.filter_map(|row| Some((row, row.server_cpu_ns_per_message?))).collect();
        rows.sort_by(|one, other| one.1.median.total_cmp(&other.1.median));
        (rows.len() >= 2).then_some((*connections, rows))
    })
}

fn interval(estimate: &Estimate) -> String {
    let median = format::nanoseconds(estimate.median);
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => {
            let [low, high] = [low, high].map(format::nanoseconds);
            format!("{median} (95 % interval {low} to {high}, {} rounds)", estimate.rounds)
        }
        _ => median,
    }
}
