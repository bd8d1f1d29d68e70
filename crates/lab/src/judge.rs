//! Whether a point counts, and why its figure is not twice as high.
//!
//! Everything here follows from what is written in the point, so that anybody can reach the verdict again from the
//! raw data. The thresholds are constants with their reasons beside them.

use std::collections::BTreeMap;

use switchboard_load::trend::trend;

use crate::format::{grouped, nanoseconds};
use crate::mechanism;
use crate::record::{Canary, Check, CheckName, Limiter, LimiterName, Point, Quiet, Status};

/// How far the number of messages under way may be from what was asked for. What is left over is the client's own
/// time between reading a message and sending the next, which no message is under way in.
const LITTLE: f64 = 0.02;
/// The part of an open loop's schedule that has to be sent within the window.
const OFFERED: f64 = 0.99;
/// How late a message that was due at random may be sent. What kept it back for longer than that, two of the scheduler's ticks or more, kept the load generator
/// from reading as well, and what it read afterwards looks older than it was.
const LATE_NS: u64 = 10_000_000;
/// A slice with less than this part of the usual number of messages has stood still for most of its time.
const STALL: f64 = 0.2;
/// Of fewer messages in a slice chance alone can leave out many.
const ENOUGH_IN_A_SLICE: u64 = 50;
/// How far the fixed workload may be from its usual time. Undisturbed it repeats to 2 %.
const CANARY: f64 = 0.1;
/// Cores that others may keep busy, or the hypervisor may keep back: the kernel counts in steps of 10 ms, which in a
/// window of 300 ms are 0.03.
const OTHERS: f64 = 0.1;
/// A core that is busy for more than half of the time cannot do twice as much.
const HALF: f64 = 0.5;
/// Below this neither side is busy: the messages under way are too few to keep one so.
const BUSY: f64 = 0.85;
/// With so many messages under way there is always something to do: who is not busy then, was not woken.
const ENOUGH_IN_FLIGHT: usize = 16;
/// One segment sent again for so many messages is worth a word: each delays one connection by 200 ms.
const MESSAGES_PER_RETRANSMISSION: u64 = 1000;
/// From here on throughput is about the client.
pub(crate) const ABOUT_CLIENT: f64 = 0.95;

/// Examines a point and writes the outcome into it. `server_cores` is what the server may use. A point that broke
/// before its window keeps the status and the reason that it has.
pub(crate) fn judge(point: &mut Point, server_cores: f64) {
    if point.window_s.is_some() {
        (point.status, point.reason) = outcome(point);
        point.checks = checks(point);
    }
    if point.status == Status::Ok
        && let Some(failed) = point.checks.iter().find(|check| check.holds == Some(false))
    {
        // Over a window that begins or ends in a stall Little's law does not hold; elsewhere the measurement itself is broken.
        let is_disturbed = point.checks.iter().any(|check| {
            check.holds == Some(false) && matches!(check.name, CheckName::Steady | CheckName::Quiet)
        });
        let is_broken = failed.name == CheckName::LittlesLaw && !is_disturbed;
        let because = |check: &&Check| check.holds == Some(false) && check.name != CheckName::LittlesLaw;
        let failed = point.checks.iter().find(because).unwrap_or(failed);
        point.status = if is_broken { Status::Invalid } else { Status::Doubtful };
        point.reason = Some(failed.evidence.clone());
    }
    point.limiters = limiters(point, server_cores);
}

/// Whether every connection was open and every message accounted for, and if not, why.
fn outcome(point: &Point) -> (Status, Option<String>) {
    let most = |kinds: &BTreeMap<String, u64>| {
        kinds.iter().max_by_key(|&(_, &count)| count).map(|(kind, _)| kind.clone())
    };
    let invalid = |reason: String| (Status::Invalid, Some(reason));
    let (open, wanted) = (point.connected, point.setting.connections);
    if let Some(damage) = damage(point) {
        invalid(damage)
    } else if open < wanted {
        match (most(&point.refused), most(&point.errors)) {
            // "503 FD_SETSIZE": the server says which limit it has met.
            (Some(refusal), _) if refusal.starts_with("503 ") => {
                (Status::Limit, Some(refusal["503 ".len()..].to_owned()))
            }
            // Any other answer is to a request that this server does not know.
            (Some(refusal), _) => invalid(format!("{open} of {wanted} connected: {refusal}")),
            (None, Some(error)) => invalid(format!("{open} of {wanted} connected: {error}")),
            (None, None) => invalid(format!("{open} of {wanted} connected")),
        }
    } else if let Some(blind) =
        point.reconnect.as_ref().map(|again| again.still_blind).filter(|count| *count > 0)
    {
        invalid(format!("{blind} of {wanted} did not come back"))
    } else if let Some(error) = most(&point.errors) {
        invalid(format!("{} × {error}", point.errors[&error]))
    } else if point.messages.unwrap_or(0) == 0 && point.setting.talking() > 0 {
        invalid("not one message came back in the window".to_owned())
    } else {
        (Status::Ok, None)
    }
}

/// What happened to messages that must not happen. A datagram may be lost, doubled and overtaken, but not changed; whoever is not connected
/// when a message is published loses it, and that is the question where the server is restarted.
fn damage(point: &Point) -> Option<String> {
    let udp = point.mechanism.starts_with("udp");
    let kinds = [
        (point.lost, "lost", udp || point.setting.restart_ms > 0),
        (point.duplicated, "duplicated", udp),
        (point.reordered, "reordered", udp),
        (point.corrupted, "corrupted", false),
    ];
    let found: Vec<String> = kinds
        .iter()
        .filter_map(|&(count, kind, allowed)| Some((count.filter(|&count| count > 0 && !allowed)?, kind)))
        .map(|(count, kind)| format!("{count} {} {kind}", if count == 1 { "message" } else { "messages" }))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Whether another try may give a better point: everybody was there and nothing went wrong, and yet something kept the
/// messages from flowing as they should. A machine that stands still for a moment can break Little's law, too.
pub(crate) fn is_worth_another_try(point: &Point) -> bool {
    let disturbed = |check: &Check| check.holds == Some(false) && check.name != CheckName::Offered;
    let is_whole =
        point.connected == point.setting.connections && point.errors.is_empty() && damage(point).is_none();
    let is_bad = matches!(point.status, Status::Doubtful | Status::Invalid);
    point.attempt == 1 && is_bad && is_whole && point.checks.iter().any(disturbed)
}

fn checks(point: &Point) -> Vec<Check> {
    if point.window_s.is_none() {
        return Vec::new();
    }
    let mut checks = vec![verified(point)];
    checks.extend(point.in_flight.map(|in_flight| littles_law(point, in_flight)));
    // What is due while there is no server is not sent.
    let unpublished = point.reconnect.as_ref().map_or(0, |again| again.unpublished);
    let due = point.due.map(|due| due.saturating_sub(unpublished));
    checks.extend(due.zip(point.sent).map(|(due, sent)| offered(point, due, sent)));
    checks.extend(steady(point));
    checks.extend(point.quiet.as_ref().map(quiet));
    checks
}

fn verified(point: &Point) -> Check {
    let is_broken = point.status == Status::Invalid;
    let messages = grouped(point.messages.unwrap_or(0) as f64);
    let evidence = match &point.reason {
        Some(reason) if is_broken => reason.clone(),
        _ => match point.lost {
            Some(lost @ 1..) => {
                let what = if point.mechanism.starts_with("udp") { "datagrams" } else { "deliveries" };
                format!("{messages} messages verified, {} {what} lost", grouped(lost as f64))
            }
            _ => format!("{messages} messages verified"),
        },
    };
    Check { name: CheckName::Verified, holds: Some(!is_broken), evidence }
}

/// Little (1961): what is in a system is what comes in per second, times how long it stays.
fn littles_law(point: &Point, in_flight: f64) -> Check {
    let setting = &point.setting;
    let is_broadcast = mechanism::is_broadcast(&point.mechanism);
    let asked = setting.depth * if is_broadcast { 1 } else { setting.talking().min(point.connected) };
    let (holds, evidence) = if setting.is_open_loop() {
        // In an open loop as many are under way as it takes.
        (None, format!("{in_flight:.2} under way on average"))
    } else if setting.churn {
        // Between the echo and the next connect(2) a connection is closed, which counts for neither.
        (None, format!("{in_flight:.2} of {asked} connections between connect and echo on average"))
    } else if asked == 0 {
        (None, "nobody talks".to_owned())
    } else {
        let holds = (in_flight / asked as f64 - 1.0).abs() <= LITTLE;
        (Some(holds), format!("throughput × mean latency = {in_flight:.2}, asked for {asked} under way"))
    };
    Check { name: CheckName::LittlesLaw, holds, evidence }
}

/// What was due by the clock, and was done: messages, and the polls of those who ask by it.
fn offered(point: &Point, due: u64, sent: u64) -> Check {
    let share = |done: u64, due: u64| if due == 0 { 1.0 } else { done as f64 / due as f64 };
    let (messages, due_in_words) = (share(sent, due), grouped(due as f64));
    let mut holds = messages >= OFFERED;
    let mut evidence = format!("{:.1} % of {due_in_words} messages due were sent in time", 100.0 * messages);
    if let (Some(due), Some(skipped)) = (point.polls_due, point.polls_skipped) {
        let polls = share(due.saturating_sub(skipped), due);
        let due = grouped(due as f64);
        // Which of the two does not hold comes first.
        let words = format!("{:.1} % of {due} polls due were made", 100.0 * polls);
        evidence = if holds { format!("{words}, {evidence}") } else { format!("{evidence}, {words}") };
        holds &= polls >= OFFERED;
    }
    Check { name: CheckName::Offered, holds: Some(holds), evidence }
}

fn steady(point: &Point) -> Option<Check> {
    if point.setting.pause_ms > 0 {
        let evidence = format!("the server was stopped for {} ms on purpose", point.setting.pause_ms);
        return Some(Check { name: CheckName::Steady, holds: None, evidence });
    }
    if point.setting.restart_ms > 0 {
        let away = point.reconnect.as_ref().and_then(|again| again.away_s);
        let away = away.map_or(point.setting.restart_ms as f64, |away| 1e3 * away);
        let evidence = format!("the server was restarted on purpose and away for {away:.0} ms");
        return Some(Check { name: CheckName::Steady, holds: None, evidence });
    }
    if point.setting.arrivals_seed.is_some() {
        return Some(punctual(point));
    }
    let trend = trend(&point.slices)?;
    let percent = 100.0 * trend.change;
    let stalls = stalls(&point.slices);
    let evidence = match (trend.is_trend(), stalls) {
        (true, _) => format!("the rate changed by {percent:+.0} % within the window (p {:.4})", trend.p),
        (false, 0) => format!("no trend within the window (p {:.2})", trend.p),
        (false, _) => format!("{stalls} of {} slices of the window nearly stood still", point.slices.len()),
    };
    Some(Check { name: CheckName::Steady, holds: Some(!trend.is_trend() && stalls == 0), evidence })
}

/// Where messages are due at random, more of them come in one slice than in another because more were due, and in some none at all: neither a trend nor an
/// empty slice says anything of server or machine. That the server stood still the ages tell, which is what was to be measured. That the load generator did
/// is told by how late it sent, since it sends and reads in one loop.
fn punctual(point: &Point) -> Check {
    let due =
        point.due.map_or_else(|| "messages".to_owned(), |due| format!("{} messages", grouped(due as f64)));
    let (holds, late) = match point.lateness_ns {
        Some(lateness) => (
            Some(lateness.max <= LATE_NS),
            format!(", sent {} late at the most", nanoseconds(lateness.max as f64)),
        ),
        None => (None, String::new()),
    };
    Check { name: CheckName::Steady, holds, evidence: format!("{due} due at random{late}") }
}

/// Slices in which hardly anything came back, where in the others enough did to be sure.
fn stalls(slices: &[u64]) -> usize {
    let mut sorted = slices.to_vec();
    sorted.sort_unstable();
    let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    if usual < ENOUGH_IN_A_SLICE {
        return 0;
    }
    slices.iter().filter(|slice| (**slice as f64) < STALL * usual as f64).count()
}

fn quiet(quiet: &Quiet) -> Check {
    let far = |canary: &Canary| {
        let usual = quiet.usual.calls_ns as f64;
        (usual > 0.0 && canary.calls_ns > 0).then(|| canary.calls_ns as f64 / usual - 1.0)
    };
    let drift = [far(&quiet.before), far(&quiet.after)]
        .into_iter()
        .flatten()
        .max_by(|one, other| one.abs().total_cmp(&other.abs()));
    let mut found = Vec::new();
    if quiet.steal > OTHERS {
        found.push(format!("the hypervisor gave {:.2} cores to others", quiet.steal));
    }
    if quiet.others_cpu > OTHERS {
        found.push(format!("other processes kept {:.2} cores busy", quiet.others_cpu));
    }
    // However short it was: until the next period nobody in the container ran.
    if let Some(throttled) =
        quiet.throttled.filter(|throttled| throttled.periods > 0 || throttled.time_ns > 0)
    {
        found.push(format!(
            "the container's CPU quota of {:.2} cores was used up in {} periods and held processes back for {}",
            throttled.cores,
            grouped(throttled.periods as f64),
            nanoseconds(throttled.time_ns as f64)
        ));
    }
    if let Some(drift) = drift.filter(|drift| drift.abs() > CANARY) {
        let usual = nanoseconds(quiet.usual.calls_ns as f64);
        found.push(format!("the fixed workload took {:+.0} % of its usual {usual}", 100.0 * drift));
    }
    let holds = found.is_empty();
    let evidence = match (holds, drift) {
        (false, _) => found.join(", "),
        (true, Some(drift)) => format!("the fixed workload was {:+.1} % from usual", 100.0 * drift),
        (true, None) => "nobody else was seen".to_owned(),
    };
    Check { name: CheckName::Quiet, holds: Some(holds), evidence }
}

/// What would have to grow for the figure to be twice as high, the strongest first.
fn limiters(point: &Point, server_cores: f64) -> Vec<Limiter> {
    let limiter = |name, evidence| Limiter { name, evidence };
    if point.status == Status::Limit {
        let reason = point.reason.clone().unwrap_or_default();
        let name = match reason.as_str() {
            "descriptors" => LimiterName::Descriptors,
            "processes" | "threads" | "max_map_count" => LimiterName::Processes,
            reason if reason.starts_with("ports") => LimiterName::Ports,
            _ => LimiterName::Other,
        };
        return vec![limiter(name, format!("{} connected: {reason}", point.connected))];
    }
    let mut found = Vec::new();
    for kind in point.errors.keys().chain(point.refused.keys()) {
        if kind.contains("descriptors") {
            found.push(limiter(LimiterName::Descriptors, kind.clone()));
        } else if kind.contains("ports") {
            found.push(limiter(LimiterName::Ports, kind.clone()));
        }
    }
    if let Some(network) = point.network {
        let messages = point.messages.unwrap_or(0);
        if network.listen_overflows + network.listen_drops > 0 {
            let dropped = network.listen_overflows.max(network.listen_drops);
            let evidence = format!("{} connections found the accept queue full", grouped(dropped as f64));
            found.push(limiter(LimiterName::AcceptQueue, evidence));
        }
        if network.receive_buffer_errors > 0 {
            let lost = grouped(network.receive_buffer_errors as f64);
            let evidence = format!("{lost} datagrams found a receive buffer full");
            found.push(limiter(LimiterName::ReceiveBuffers, evidence));
        }
        if network.retransmitted * MESSAGES_PER_RETRANSMISSION > messages {
            let evidence = format!("{} segments sent again", grouped(network.retransmitted as f64));
            found.push(limiter(LimiterName::Retransmissions, evidence));
        }
    }
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let server = point.server_cpu.map(|cores| cores / server_cores);
    let mut busy: Vec<(f64, Limiter)> = Vec::new();
    if let Some(share) = server.filter(|share| *share > HALF) {
        let of = match server_cores {
            1.0 => String::new(),
            whole if whole.fract() == 0.0 => format!(" of {whole} cores"),
            part => format!(" of {part:.1} cores"),
        };
        busy.push((share, limiter(LimiterName::ServerCpu, format!("server CPU {}{of}", percent(share)))));
    }
    if let Some(share) = point.client_cpu.filter(|share| *share > HALF) {
        busy.push((share, limiter(LimiterName::ClientCpu, format!("client CPU {}", percent(share)))));
    }
    busy.sort_by(|one, other| other.0.total_cmp(&one.0));
    let busiest = busy.first().map_or(0.0, |(share, _)| *share);
    match point.setting.rate_per_s {
        Some(rate) => {
            let evidence = format!("{} messages per second were asked for", grouped(rate));
            found.insert(0, limiter(LimiterName::Schedule, evidence));
        }
        None if point.messages.unwrap_or(0) > 0 && busiest < BUSY => {
            let (connected, depth) = (point.setting.talking().min(point.connected), point.setting.depth);
            let enough = connected * depth >= ENOUGH_IN_FLIGHT;
            let name = if enough { LimiterName::WakeUps } else { LimiterName::InFlight };
            let evidence = format!("nobody is busy with {connected} × {depth} messages under way");
            busy.insert(0, (1.0, limiter(name, evidence)));
        }
        None => {}
    }
    found.extend(busy.into_iter().map(|(_, limiter)| limiter));
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::canary::tests::canary;
    use crate::plan::Job;
    use crate::quota::Throttled;
    use crate::record::{Network, Quantiles, Reconnect};
    use crate::setting::Setting;
    use crate::verdict::blank_for_tests;

    /// A good point of `echo` with 4 connections, changed.
    pub(crate) fn point(change: impl FnOnce(&mut Point)) -> Point {
        let setting = Setting { connections: 4, ..Setting::default() };
        let job =
            Job { order: 0, round: 0, model: "m".into(), mechanism: "echo".into(), setting, limit: None };
        let mut point = Point {
            connected: 4,
            window_s: Some(1.0),
            messages: Some(2000),
            messages_per_s: Some(2000.0),
            slices: vec![100; 20],
            in_flight: Some(4.0),
            server_cpu: Some(0.98),
            client_cpu: Some(0.7),
            quiet: Some(Quiet {
                usual: canary(100),
                before: canary(101),
                after: canary(99),
                ..Quiet::default()
            }),
            ..blank_for_tests(&job)
        };
        change(&mut point);
        point
    }

    /// Times of which only the largest matters.
    fn times(max: u64) -> Quantiles {
        Quantiles { min: 0, p50: 0, p90: 0, p99: 0, p99_9: 0, max, mean: 0.0 }
    }

    fn judged(change: impl FnOnce(&mut Point)) -> Point {
        let mut point = point(change);
        judge(&mut point, 1.0);
        point
    }

    fn verdict(change: impl FnOnce(&mut Point)) -> (Status, Option<String>) {
        let point = judged(change);
        (point.status, point.reason)
    }

    fn limiters(change: impl FnOnce(&mut Point)) -> Vec<LimiterName> {
        judged(change).limiters.iter().map(|limiter| limiter.name).collect()
    }

    #[test]
    fn a_point_counts_only_if_every_message_is_accounted_for() {
        assert_eq!(verdict(|_| {}), (Status::Ok, None));
        let invalid = |reason: &str| (Status::Invalid, Some(reason.to_owned()));
        assert_eq!(verdict(|p| p.lost = Some(3)), invalid("3 messages lost"));
        assert_eq!(verdict(|p| p.duplicated = Some(1)), invalid("1 message duplicated"));
        assert_eq!(verdict(|p| p.messages = Some(0)), invalid("not one message came back in the window"));
        assert_eq!(verdict(|p| p.errors = [("reset".into(), 2)].into()), invalid("2 × reset"));
    }

    #[test]
    fn a_container_that_was_held_back_is_not_quiet() {
        let with = |periods, time_ns| {
            let throttled = Throttled { cores: 1.5, periods, time_ns };
            verdict(|p| p.quiet.as_mut().unwrap().throttled = Some(throttled))
        };
        assert_eq!(with(0, 0), (Status::Ok, None));
        let reason = "the container's CPU quota of 1.50 cores was used up in 3 periods and held processes back for 35.0 ms";
        assert_eq!(with(3, 35_000_000), (Status::Doubtful, Some(reason.to_owned())));
        assert_eq!(with(1, 0).0, Status::Doubtful);
    }

    #[test]
    fn loss_is_a_result_on_udp_and_corruption_is_not() {
        let udp = |p: &mut Point| {
            p.mechanism = "udp-echo".into();
            (p.lost, p.reordered, p.duplicated) = (Some(3), Some(2), Some(1));
        };
        assert_eq!(verdict(udp), (Status::Ok, None));
        let corrupted = (Status::Invalid, Some("1 message corrupted".to_owned()));
        assert_eq!(
            verdict(|p| {
                udp(p);
                p.corrupted = Some(1);
            }),
            corrupted
        );
    }

    #[test]
    fn who_was_not_there_has_lost_what_was_published_but_everybody_has_to_come_back() {
        let restarted = |change: fn(&mut Point)| {
            let point = judged(|p| {
                p.mechanism = "sse".into();
                (p.setting.restart_ms, p.setting.rate_per_s, p.lost) = (500, Some(100.0), Some(3));
                (p.due, p.sent) = (Some(1000), Some(951));
                p.slices = [vec![100; 5], vec![0; 5], vec![100; 10]].concat();
                let again = Reconnect { away_s: Some(0.512), unpublished: 49, ..Reconnect::default() };
                p.reconnect = Some(again);
                change(p);
            });
            (point.status, point.reason.unwrap_or_default())
        };
        assert_eq!(restarted(|_| {}), (Status::Ok, String::new()));
        let invalid = |reason: &str| (Status::Invalid, reason.to_owned());
        let blind = restarted(|p| p.reconnect.as_mut().unwrap().still_blind = 2);
        assert_eq!(blind, invalid("2 of 4 did not come back"));
        assert_eq!(restarted(|p| p.duplicated = Some(1)), invalid("1 message duplicated"));
        assert_eq!(restarted(|p| p.reordered = Some(1)), invalid("1 message reordered"));
        assert_eq!(restarted(|p| p.setting.restart_ms = 0), invalid("3 messages lost"));
        let late = restarted(|p| p.reconnect.as_mut().unwrap().unpublished = 0);
        assert_eq!(late.0, Status::Doubtful, "what was due and not sent has to have its reason");
        let steady =
            |point: &Point| point.checks.iter().find(|check| check.name == CheckName::Steady).cloned();
        let point = judged(|p| {
            p.setting.restart_ms = 500;
            p.reconnect = Some(Reconnect { away_s: Some(0.512), ..Reconnect::default() });
        });
        assert!(steady(&point).unwrap().evidence.ends_with("away for 512 ms"), "{point:?}");
    }

    #[test]
    fn a_refusal_is_a_limit_with_the_name_that_the_server_gives_it() {
        let refuse = |p: &mut Point| {
            p.connected = 1;
            p.refused = [("503 descriptors".into(), 1), ("503 FD_SETSIZE".into(), 2)].into();
        };
        assert_eq!(verdict(refuse), (Status::Limit, Some("FD_SETSIZE".to_owned())));
        assert_eq!(limiters(refuse), [LimiterName::Other]);
        let elsewhere = |p: &mut Point| {
            p.connected = 0;
            p.refused = [("404 Not Found".into(), 4)].into();
        };
        assert_eq!(verdict(elsewhere), (Status::Invalid, Some("0 of 4 connected: 404 Not Found".to_owned())));
        let reset = |p: &mut Point| {
            p.connected = 3;
            p.errors = [("reset".into(), 1)].into();
        };
        assert_eq!(verdict(reset), (Status::Invalid, Some("3 of 4 connected: reset".to_owned())));
        let both = |p: &mut Point| {
            refuse(p);
            p.lost = Some(1);
        };
        assert_eq!(verdict(both), (Status::Invalid, Some("1 message lost".to_owned())));
    }

    #[test]
    fn a_measurement_that_breaks_littles_law_is_broken() {
        let (status, reason) = verdict(|p| p.in_flight = Some(3.9));
        assert_eq!(status, Status::Invalid);
        assert_eq!(reason.unwrap(), "throughput × mean latency = 3.90, asked for 4 under way");
        assert_eq!(verdict(|p| p.in_flight = Some(3.95)).0, Status::Ok);
        let stalled = |p: &mut Point| {
            p.in_flight = Some(3.9);
            p.quiet.as_mut().unwrap().steal = 0.5;
        };
        assert_eq!(verdict(stalled).0, Status::Doubtful, "the machine stood still");
        let broadcast = |p: &mut Point| (p.mechanism, p.in_flight) = ("broadcast".into(), Some(1.0));
        assert_eq!(verdict(broadcast).0, Status::Ok, "one message is under way, to however many");
        assert_eq!(verdict(|p| (p.setting.rate_per_s, p.in_flight) = (Some(9.0), Some(2.0))).0, Status::Ok);
    }

    #[test]
    fn a_schedule_that_was_not_kept_is_doubtful() {
        let (status, reason) = verdict(|p| (p.due, p.sent) = (Some(1000), Some(610)));
        assert_eq!(
            (status, reason.unwrap().as_str()),
            (Status::Doubtful, "61.0 % of 1,000 messages due were sent in time")
        );
        assert_eq!(verdict(|p| (p.due, p.sent) = (Some(1000), Some(995))).0, Status::Ok);
    }

    #[test]
    fn at_random_there_is_no_trend_but_a_load_generator_that_stood_still() {
        let random = |change: fn(&mut Point)| {
            judged(|p| {
                (p.setting.rate_per_s, p.setting.arrivals_seed) = (Some(20.0), Some(1));
                (p.due, p.sent) = (Some(40), Some(40));
                // Two events for each of a thousand receivers, or none, or five.
                p.slices = [vec![2000; 12], vec![0; 3], vec![5000; 5]].concat();
                p.lateness_ns = Some(times(3_000_000));
                change(p);
            })
        };
        let point = random(|_| {});
        assert_eq!((point.status, point.reason), (Status::Ok, None));
        let steady = point.checks.iter().find(|check| check.name == CheckName::Steady).unwrap();
        assert_eq!(steady.evidence, "40 messages due at random, sent 3.0 ms late at the most");
        let late = random(|p| p.lateness_ns = Some(times(60_000_000)));
        assert_eq!(late.status, Status::Doubtful);
        assert_eq!(late.reason.as_deref(), Some("40 messages due at random, sent 60.0 ms late at the most"));
        assert!(is_worth_another_try(&late));
        assert_eq!(random(|p| p.lateness_ns = None).status, Status::Ok, "nothing is known");
        // With even gaps an empty slice is what it was.
        let even = random(|p| p.setting.arrivals_seed = None);
        assert_eq!(even.status, Status::Doubtful);
        assert_eq!(random(|p| p.lost = Some(1)).status, Status::Invalid);
    }

    #[test]
    fn polls_that_could_not_be_made_are_doubtful() {
        let polls = |skipped| {
            verdict(|p| {
                p.mechanism = "poll-10ms".into();
                (p.due, p.sent, p.polls_due, p.polls_skipped) =
                    (Some(40), Some(40), Some(1000), Some(skipped));
                p.setting.rate_per_s = Some(20.0);
            })
        };
        assert_eq!(polls(10), (Status::Ok, None));
        let words = "60.0 % of 1,000 polls due were made, 100.0 % of 40 messages due were sent in time";
        assert_eq!(polls(400), (Status::Doubtful, Some(words.to_owned())));
    }

    #[test]
    fn a_trend_in_the_window_is_doubtful_and_worth_another_try() {
        for stall in [|p: &mut Point| p.in_flight = Some(2.0), |p: &mut Point| p.messages = Some(0)] {
            let point = judged(stall);
            assert_eq!(
                (point.status, is_worth_another_try(&point)),
                (Status::Invalid, true),
                "it may be a stall"
            );
        }
        assert!(!is_worth_another_try(&judged(|p| p.lost = Some(1))), "lost is lost");
        let mut point = judged(|p| p.slices = (100..120).collect());
        assert_eq!(point.status, Status::Doubtful);
        assert!(point.reason.as_ref().unwrap().starts_with("the rate changed by +17 %"), "{point:?}");
        assert!(is_worth_another_try(&point));
        point.attempt = 2;
        assert!(!is_worth_another_try(&point));
        assert!(!is_worth_another_try(&judged(|p| (p.due, p.sent) = (Some(1000), Some(610)))));
    }

    #[test]
    fn a_stall_in_the_window_is_doubtful_however_short() {
        let (status, reason) = verdict(|p| p.slices[7] = 3);
        assert_eq!(
            (status, reason.as_deref()),
            (Status::Doubtful, Some("1 of 20 slices of the window nearly stood still"))
        );
        assert_eq!(verdict(|p| p.slices = [vec![20; 19], vec![2]].concat()).0, Status::Ok, "chance");
    }

    #[test]
    fn neighbours_the_hypervisor_and_a_slow_stretch_are_each_named() {
        let change = |change: fn(&mut Quiet)| {
            let point = judged(|p| change(p.quiet.as_mut().unwrap()));
            (point.status, point.reason.unwrap_or_default())
        };
        let doubtful = |reason: &str| (Status::Doubtful, reason.to_owned());
        assert_eq!(change(|q| q.others_cpu = 0.5), doubtful("other processes kept 0.50 cores busy"));
        assert_eq!(change(|q| q.steal = 0.2), doubtful("the hypervisor gave 0.20 cores to others"));
        let slow = "the fixed workload took +30 % of its usual 100 ns";
        assert_eq!(change(|q| q.after = canary(130)), doubtful(slow));
        let fast = "the fixed workload took -26 % of its usual 100 ns";
        assert_eq!(change(|q| q.before = canary(74)), doubtful(fast), "a fast stretch is no better");
        assert_eq!(change(|q| *q = Quiet::default()).0, Status::Ok, "nothing is known");
    }

    #[test]
    fn why_not_double_has_an_answer() {
        use LimiterName::*;
        assert_eq!(limiters(|_| {}), [ServerCpu, ClientCpu]);
        assert_eq!(limiters(|p| p.client_cpu = Some(0.99)), [ClientCpu, ServerCpu]);
        assert_eq!(limiters(|p| p.client_cpu = Some(0.3)), [ServerCpu]);
        let idle = |p: &mut Point| (p.server_cpu, p.client_cpu) = (Some(0.4), Some(0.45));
        assert_eq!(limiters(idle), [InFlight], "everybody waits for somebody else");
        let asleep =
            |p: &mut Point| (p.server_cpu, p.client_cpu, p.setting.depth) = (Some(0.4), Some(0.45), 4);
        assert_eq!(limiters(asleep), [WakeUps]);
        assert_eq!(limiters(|p| p.server_cpu = None), [InFlight, ClientCpu]);
        assert_eq!(limiters(|p| p.setting.rate_per_s = Some(500.0))[0], Schedule);
        let network = |change: fn(&mut Network)| {
            let mut network = Network::default();
            change(&mut network);
            limiters(|p| p.network = Some(network))[0]
        };
        assert_eq!(network(|n| n.listen_overflows = 1), AcceptQueue);
        assert_eq!(network(|n| n.receive_buffer_errors = 1), ReceiveBuffers);
        assert_eq!(network(|n| n.retransmitted = 3), Retransmissions);
        assert_eq!(network(|_| {}), ServerCpu);
        let limit = |reason: &str| {
            let mut point =
                Point { window_s: None, status: Status::Limit, reason: Some(reason.into()), ..point(|_| {}) };
            judge(&mut point, 1.0);
            point.limiters[0].name
        };
        assert_eq!(
            ["descriptors", "threads", "ports: none is free", "memory"].map(limit),
            [Descriptors, Processes, Ports, Other]
        );
    }

    #[test]
    fn a_verdict_can_be_reached_again_from_the_point_alone() {
        for change in [
            (|_| {}) as fn(&mut Point),
            |p| p.lost = Some(1),
            |p| p.slices = (100..120).collect(),
            |p| p.quiet.as_mut().unwrap().steal = 1.0,
            |p| (p.connected, p.refused) = (1, [("503 FD_SETSIZE".into(), 3)].into()),
            |p| (p.window_s, p.reason) = (None, Some("server ended with exit status 1".into())),
        ] {
            let once = judged(change);
            let mut twice = once.clone();
            judge(&mut twice, 1.0);
            assert_eq!(twice, once);
        }
    }
}
