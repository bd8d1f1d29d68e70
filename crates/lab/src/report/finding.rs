//! The finding in one or two sentences that the data carry, and no more than that.

use crate::format;
use crate::record::Status;
use crate::summary::{ExperimentSummary, Row, Spread};

/// Which models took the least and the most server CPU per message, at the most connections that several reach.
pub(super) fn sentence(summary: &ExperimentSummary) -> String {
    let Some((connections, rows)) = widest_comparison(summary) else {
        return "No two models can be compared: see the table for what each reached.".into();
    };
    let is_broadcast = summary.rows.iter().any(|row| row.last_receiver_p50_ns.is_some());
    let (what, per) = if is_broadcast { ("receivers", "delivery") } else { ("connections", "message") };
    let (best, best_cpu) = rows[0];
    let (worst, worst_cpu) = rows[rows.len() - 1];
    let connections = format::count(connections);
    if summary.rounds < 2 {
        return format!(
            "In one round with {connections} {what}, {best} took the least server CPU per {per} ({}), {worst} the most ({}). \
             One round says nothing about noise.",
            format::nanoseconds(best_cpu.median),
            format::nanoseconds(worst_cpu.median),
        );
    }
    let level: Vec<&str> =
        rows.iter().take_while(|(_, cpu)| cpu.overlaps(&best_cpu)).map(|(model, _)| *model).collect();
    let first = match level.as_slice() {
        [alone] => format!(
            "With {connections} {what}, {alone} took the least server CPU per {per}: {}",
            range(&best_cpu, summary.rounds)
        ),
        several => format!(
            "With {connections} {what}, {} took the least server CPU per {per} and cannot be told apart: their ranges over \
             {} rounds overlap ({} at best)",
            several.join(" and "),
            summary.rounds,
            format::nanoseconds(best_cpu.median)
        ),
    };
    if level.len() == rows.len() {
        return format!("{first}.");
    }
    // The least and the most that the ratio can be, by the ranges.
    let (low, high) = (worst_cpu.min / best_cpu.max, worst_cpu.max / best_cpu.min);
    let ratio = worst_cpu.median / best_cpu.median;
    format!(
        "{first}; {worst} took the most: {}, {ratio:.1} times as much as {best} ({low:.1} to {high:.1} by the ranges).",
        format::nanoseconds(worst_cpu.median)
    )
}

/// The models with a good figure at the highest number of connections that at least two have one at, by rising CPU
/// per message. Those with another protocol or none are not compared.
fn widest_comparison(summary: &ExperimentSummary) -> Option<(usize, Vec<(&str, Spread)>)> {
    let compared =
        |model: &str| summary.subjects.iter().any(|subject| subject.compared && subject.model == model);
    summary.connections.iter().rev().find_map(|connections| {
        let is_good =
            |row: &&Row| row.connections == *connections && row.status == Status::Ok && compared(&row.model);
        let good = summary.rows.iter().filter(is_good);
        let mut rows: Vec<(&str, Spread)> =
            good.filter_map(|row| Some((row.model.as_str(), row.server_cpu_ns_per_message?))).collect();
        rows.sort_by(|one, other| one.1.median.total_cmp(&other.1.median));
        (rows.len() >= 2).then_some((*connections, rows))
    })
}

fn range(spread: &Spread, rounds: u32) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(format::nanoseconds);
    format!("{median} ({min} to {max} over {rounds} rounds)")
}
