//! The finding in a few sentences that the data carry, and no more than that.

use std::collections::BTreeMap;

use crate::format;
use crate::quantity::{Quantity, Unit};
use crate::record::Status;
use crate::setting::{Axis, Place};
use crate::stats::{Estimate, LawKind, Ratio};
use crate::summary::{ExperimentSummary, FittedLaw, Row};

/// A law that is further than this from a figure, or explains less than that, does not hold.
const FAR: f64 = 0.3;
const LITTLE: f64 = 0.8;

/// What follows from the figures: who is best where it matters, what a law says, what was lost.
pub(super) fn sentences(summary: &ExperimentSummary) -> Vec<String> {
    // Throughput is as much the client's: models are compared by what is the server's alone.
    let figures: Vec<Quantity> =
        summary.figures.iter().copied().filter(|figure| !figure.is_throughput()).collect();
    let main = figures.first().copied().unwrap_or(Quantity::Cpu);
    let mut sentences: Vec<String> = ends(summary, main)
        .into_iter()
        .map(|(place, rows)| comparison(summary, main, place, &rows))
        .collect();
    if sentences.is_empty() {
        sentences.push("No two models can be compared: see the table for what each reached.".into());
    }
    sentences.extend(corrected(summary));
    sentences.extend(slowed(summary, main));
    sentences.extend(lost(summary));
    sentences.extend(laws(summary));
    sentences
}

/// Models with a good figure at one place, the best first.
type Ranking<'a> = Vec<(&'a Row, Estimate)>;

/// The last place on the x-axis that several models reach; where the way there is the question, the first one before it. Of two axes,
/// both ends of the last row.
fn ends(summary: &ExperimentSummary, figure: Quantity) -> Vec<(Place, Ranking<'_>)> {
    let ranked: Vec<(Place, Ranking<'_>)> = summary
        .places()
        .into_iter()
        .filter_map(|place| Some((place, ranking(summary, figure, place)?)))
        .collect();
    let Some((last, _)) = ranked.last() else { return Vec::new() };
    let (last, axis) = (*last, summary.axes.x.axis);
    let shows_the_way = summary.axes.by.is_some() || axis == Axis::WorkUs;
    let first = ranked.iter().find(|(place, _)| place.by == last.by).map(|(place, _)| *place);
    let wanted = |place: &Place| *place == last || shows_the_way && Some(*place) == first;
    ranked.into_iter().filter(|(place, _)| wanted(place)).collect()
}

/// The models with a good figure at a place, the best first; at least two. Those with another protocol or none are not compared.
fn ranking(summary: &ExperimentSummary, figure: Quantity, place: Place) -> Option<Ranking<'_>> {
    let is_good =
        |row: &&Row| row.place == place && row.status == Status::Ok && summary.is_compared(&row.model);
    let good = summary.rows.iter().filter(is_good).filter_map(|row| Some((row, figure.of(row)?)));
    let mut rows: Ranking<'_> = good.filter(|(_, value)| value.median > 0.0).collect();
    // What has one good round beside others with more cannot be compared with them.
    if rows.iter().filter(|(row, _)| row.rounds > 1).count() > 1 {
        rows.retain(|(row, _)| row.rounds > 1);
    }
    rows.sort_by(|one, other| one.1.median.total_cmp(&other.1.median));
    if figure.is_better_high() {
        rows.reverse();
    }
    (rows.len() >= 2).then_some(rows)
}

/// Which models are best and worst by the figure at a place.
fn comparison(summary: &ExperimentSummary, figure: Quantity, place: Place, rows: &Ranking<'_>) -> String {
    let name = figure.name(summary.words());
    let show = |estimate: &Estimate| figure.unit().show(estimate.median);
    let (best, best_figure) = rows[0];
    let (worst, worst_figure) = rows[rows.len() - 1];
    let at = at(summary, place);
    let (took, low, high) = match figure {
        Quantity::Cpu => ("took the", "least", "most"),
        _ if figure.is_better_high() => ("had the", "highest", "lowest"),
        _ => ("had the", "lowest", "highest"),
    };
    if summary.rounds < 2 || best.rounds < 2 {
        return format!(
            "{at}, in one good round, {} {took} {low} {name} ({}), {} the {high} ({}). One round says nothing about noise.",
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
        several if several.len() == rows.len() => {
            let (several, rounds) = (and(several), best.rounds);
            return format!(
                "{at}, {several} cannot be told apart by the {name} in {rounds} rounds ({} at best).",
                show(&best_figure)
            );
        }
        [] | [_] => format!("{at}, {} {took} {low} {name}: {}", best.model, interval(&best_figure, figure)),
        several => format!(
            "{at}, {} {took} {low} {name} and cannot be told apart in {} rounds ({} at best)",
            and(several),
            best.rounds,
            show(&best_figure)
        ),
    };
    match worst.ratio_to(best, figure).filter(|ratio| level.len() < rows.len() && !ratio.holds_one()) {
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
        Axis::ActiveShare => format!("With {shown} of the connections talking"),
        Axis::PayloadBytes => format!("With a payload of {shown}"),
        Axis::Depth => format!("With {shown} messages in flight per connection"),
        Axis::RatePerS => format!("At {shown} messages per second"),
        Axis::Load => format!("At an offered load of {shown}"),
        Axis::WorkUs if place.x == 0.0 => "Without any work".to_owned(),
        Axis::WorkUs => format!("With {shown} of work per message"),
        Axis::Slow => format!("With {shown} receivers that do not read"),
        Axis::PauseMs => format!("When the server is stopped for {shown}"),
        Axis::RestartMs => format!("When the server is away for {shown}"),
        Axis::Workers if place.x == 1.0 => "With one worker".to_owned(),
        Axis::Workers => format!("With {shown} workers"),
        Axis::BusyPollUs if place.x == 0.0 => "When loops block at once".to_owned(),
        Axis::BusyPollUs => format!("When loops look for events for {shown} before they block"),
    }
}

fn connections(summary: &ExperimentSummary, place: Place) -> String {
    summary.axes.by.as_ref().zip(place.by).map_or_else(String::new, |(by, value)| by.axis.show(value))
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

/// What receivers that do not read do to the others: the figure with the most of them, relative to that with none.
fn slowed(summary: &ExperimentSummary, figure: Quantity) -> Option<String> {
    if summary.axes.x.axis != Axis::Slow {
        return None;
    }
    let places = summary.places();
    let (first, last) = (*places.first()?, *places.last()?);
    let (mut moved, mut level) = (Vec::new(), Vec::new());
    for subject in summary.subjects.iter().filter(|subject| subject.compared) {
        let good = |place| summary.row(&subject.model, place).filter(|row| row.status == Status::Ok);
        let Some((before, after)) = good(first).zip(good(last)) else { continue };
        match after.ratio_to(before, figure) {
            Some(ratio) if ratio.holds_one() => level.push(subject.model.as_str()),
            Some(Ratio { ratio, low, high, .. }) => {
                let [ratio, low, high] = [ratio, low, high].map(factor);
                moved.push(format!("{} {ratio} times ({low} to {high})", subject.model));
            }
            None => {}
        }
    }
    let name = figure.name(summary.words());
    let beside = format!("{}, of the {name} without any", at(summary, last));
    let mut parts = Vec::new();
    if !moved.is_empty() {
        parts.push(moved.join(", "));
    }
    if !level.is_empty() {
        parts.push(format!("no change can be shown for {}", and(&level)));
    }
    (!parts.is_empty()).then(|| format!("{beside}: {}.", parts.join("; ")))
}

/// What datagrams were lost at the highest load, and up to where none was.
fn lost(summary: &ExperimentSummary) -> Option<String> {
    if !summary.figures.contains(&Quantity::Lost) {
        return None;
    }
    let good = |row: &&Row| row.status == Status::Ok && row.lost_share.is_some();
    let rows: Vec<&Row> = summary.rows.iter().filter(good).collect();
    let last = rows.last()?;
    let share = last.lost_share?;
    let mut text = format!(
        "{}, {} lost {} of its datagrams",
        at(summary, last.place),
        last.model,
        interval(&share, Quantity::Lost)
    );
    let without = rows.iter().take_while(|row| row.lost_share.is_some_and(|share| share.max == 0.0)).last();
    if let Some(row) = without {
        text += &match row.place == last.place {
            true => "; it lost none at any load".to_owned(),
            false => format!("; up to {} it lost none", summary.axes.show(row.place)),
        };
    }
    Some(text + ".")
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
                    Some(false) => {
                        let [value, low, high] =
                            [slope.value, slope.low, slope.high].map(|value| small(value, figure));
                        holds.push(format!("{model} {value} (95 % interval {low} to {high})"));
                    }
                }
            }
            LawKind::Usl => match law.parameter("peak_at") {
                _ if law.worst > FAR || law.r_squared < LITTLE => not.push(model.as_str()),
                Some(peak) => {
                    let [peak, low, high] =
                        [peak.value, peak.low, peak.high].map(|value| format::grouped(value.round()));
                    holds.push(format!("{model} at {peak} ({low} to {high})"));
                }
                None => {}
            },
        }
    }
    let is_usl = laws.iter().any(|law| law.law.kind == LawKind::Usl);
    let mut parts = Vec::new();
    if !holds.is_empty() {
        parts.push(if is_usl {
            format!("by the Universal Scalability Law, {name} have their peak for {}", holds.join(", "))
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

/// A coefficient, which may be below nothing, and of nanoseconds only some.
fn small(value: f64, figure: Quantity) -> String {
    match value {
        value if value < 0.0 => format!("−{}", small(-value, figure)),
        value if figure.unit() == Unit::Ns && value < 10.0 => format!("{value:.2} ns"),
        value if figure.unit() == Unit::Ns && value < 100.0 => format!("{value:.1} ns"),
        value => figure.unit().show(value),
    }
}

fn interval(estimate: &Estimate, figure: Quantity) -> String {
    let show = |value: f64| figure.unit().show(value);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::point;
    use crate::plan::Plan;
    use crate::record::Point;
    use crate::rounds::{Latencies, Round};
    use crate::setting::Setting;
    use serde_json::{Value, json};

    const NOISE: [f64; 5] = [0.99, 1.01, 1.0, 1.005, 0.995];

    /// Five rounds of some models at some places; `figure` writes what a model does at a place into the point, times the noise of the round.
    fn summary(
        experiment: Value,
        models: &[&str],
        places: &[f64],
        figure: impl Fn(&str, f64, f64, &mut Point),
    ) -> ExperimentSummary {
        let mechanism = |model: &str| if model == "udp" { "udp-echo" } else { "echo" };
        let subject = |model: &&str| json!({"model": model, "mechanism": mechanism(model), "compared": true, "ceiling": false});
        let mut plan = json!({
            "schema": 3, "experiment": "e", "question": "?", "analysis": "", "effort": "default", "seed": 1,
            "setting": Setting::default(), "axes": {"x": {"axis": "connections", "values": places}}, "pictures": ["cpu"],
            "rounds": 5, "warmup_ms": 1, "window_ms": 1000, "subjects": models.iter().map(subject).collect::<Vec<_>>(),
            "jobs": [], "expected_s": 1.0, "started_at": "", "command": []
        });
        for (key, value) in experiment.as_object().unwrap() {
            plan[key] = value.clone();
        }
        let plan: Plan = serde_json::from_value(plan).unwrap();
        let mut rounds = Vec::new();
        for (round, noise) in NOISE.iter().enumerate() {
            for (number, model) in models.iter().enumerate() {
                for place in places {
                    let mut point = point(|point| {
                        (point.model, point.mechanism) = ((*model).into(), mechanism(model).into());
                        (point.round, point.order, point.status) = (round as u32, rounds.len(), Status::Ok);
                        point.setting = plan.axes.x.axis.set(plan.setting, *place);
                        point.lost = Some(0);
                    });
                    // No two models have the same noise.
                    figure(model, *place, NOISE[(round + number) % NOISE.len()] * noise, &mut point);
                    rounds.push(Round {
                        point,
                        latency: Latencies::default(),
                        uncorrected: Latencies::default(),
                    });
                }
            }
        }
        ExperimentSummary::of(&plan, "x".into(), &rounds, &[])
    }

    #[test]
    fn a_law_is_said_where_it_holds_flat_where_nothing_can_be_shown_and_broken_where_it_does_not() {
        let places = [64.0, 256.0, 1024.0, 4096.0];
        let fit = json!([{"law": "linear", "figure": "cpu", "per": "silent connection"}]);
        let experiment = json!({"fit": fit});
        let found = summary(experiment, &["poll", "epoll", "select"], &places, |model, x, noise, point| {
            let cpu = match model {
                "poll" => 5000.0 + 14.0 * x,
                "select" => 5000.0 + x * x / 100.0,
                _ => 5000.0,
            };
            point.server_cpu_ns_per_message = Some(cpu * noise);
        });
        let sentences = sentences(&found);
        let law = sentences.last().unwrap();
        assert!(
            law.starts_with("Each silent connection adds to the server CPU per message: poll 1"),
            "{law}"
        );
        assert!(law.contains("no dependence on the number can be shown for epoll"), "{law}");
        assert!(law.contains("a straight line does not describe select"), "{law}");
        let first = &sentences[0];
        assert!(
            first.starts_with("With 4,096 connections, epoll took the least server CPU per message: "),
            "{first}"
        );
        assert!(
            first.contains("select took the most") && first.contains("times that of epoll (95 % interval"),
            "{first}"
        );
    }

    #[test]
    fn where_the_way_is_the_question_both_ends_are_said() {
        let experiment = json!({"axes": {"x": {"axis": "work_us", "values": [0, 100]}}});
        let found = summary(experiment, &["threads", "epoll"], &[0.0, 100.0], |model, x, noise, point| {
            let own = if model == "epoll" { 5000.0 } else { 10_000.0 };
            point.server_cpu_ns_per_message = Some((own / (1.0 + x) + 1000.0 * x) * noise);
        });
        let sentences = sentences(&found);
        assert!(sentences[0].starts_with("Without any work, epoll took the least"), "{sentences:?}");
        assert!(sentences[1].starts_with("With 100 µs of work per message, "), "{sentences:?}");
        assert!(sentences[1].contains("cannot be told apart"), "{sentences:?}");
    }

    #[test]
    fn what_slow_readers_do_to_the_others_is_said_with_its_factor() {
        let experiment = json!({"axes": {"x": {"axis": "slow", "values": [0, 4]}}});
        let found = summary(experiment, &["threads", "epoll"], &[0.0, 4.0], |model, x, noise, point| {
            let factor = if model == "threads" { 1.0 + x } else { 1.0 };
            point.server_cpu_ns_per_message = Some(1000.0 * factor * noise);
        });
        let sentence = slowed(&found, Quantity::Cpu).unwrap();
        assert!(sentence.contains("threads 5.00 times"), "{sentence}");
        assert!(sentence.contains("no change can be shown for epoll"), "{sentence}");
    }

    #[test]
    fn lost_datagrams_are_counted_and_so_is_where_none_was() {
        let experiment =
            json!({"axes": {"x": {"axis": "load", "values": [0.5, 0.9, 1.5]}}, "pictures": ["cpu", "lost"]});
        let found = summary(experiment, &["epoll", "udp"], &[0.5, 0.9, 1.5], |model, x, noise, point| {
            point.server_cpu_ns_per_message = Some(1000.0 * noise);
            point.messages = Some(8000);
            point.lost = Some(if model == "udp" && x > 1.0 { 2000 } else { 0 });
        });
        let sentence = lost(&found).unwrap();
        assert!(sentence.starts_with("At an offered load of 150 %, udp lost 20.0 %"), "{sentence}");
        assert!(sentence.ends_with("up to 90 % it lost none."), "{sentence}");
    }
}
