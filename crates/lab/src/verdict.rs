//! From what a load generator reports and the lab saw to a point and a verdict on it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::plan::{Job, Plan};
use crate::record::{Point, Quantiles, SCHEMA, Status};
use crate::trial::Observed;

/// The load generator's report; the fields are those of `switchboard load --json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LoadResult {
    pub(crate) connections_open: usize,
    #[serde(default)]
    pub(crate) refused: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) window_ns: u64,
    pub(crate) messages: u64,
    pub(crate) messages_per_s: f64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    pub(crate) latency_ns: Option<Quantiles>,
    pub(crate) last_receiver_ns: Option<Quantiles>,
    pub(crate) connect_ns: Option<Quantiles>,
    pub(crate) upgrade_ns: Option<Quantiles>,
    pub(crate) client_cpu_ns: Option<u64>,
    pub(crate) client_cpu: Option<f64>,
    pub(crate) latency_histogram: Option<String>,
}

/// Whether the point counts, and if not, why.
pub(crate) fn judge(job: &Job, result: &LoadResult) -> (Status, Option<String>) {
    let open = result.connections_open;
    let damage = damage(result, job.mechanism.starts_with("udp"));
    let most = |kinds: &BTreeMap<String, u64>| {
        kinds.iter().max_by_key(|&(_, &count)| count).map(|(kind, _)| kind.clone())
    };
    if let Some(damage) = damage {
        (Status::Invalid, Some(damage))
    } else if open < job.connections {
        match (most(&result.refused), most(&result.errors)) {
            // "503 FD_SETSIZE": the server says which limit it has met.
            (Some(refusal), _) => {
                let name = refusal.strip_prefix("503 ").unwrap_or(&refusal);
                (Status::Limit, Some(name.to_owned()))
            }
            (None, Some(error)) => {
                (Status::Invalid, Some(format!("{open} of {} connected: {error}", job.connections)))
            }
            (None, None) => (Status::Invalid, Some(format!("{open} of {} connected", job.connections))),
        }
    } else if let Some(error) = most(&result.errors) {
        (Status::Invalid, Some(format!("{} × {error}", result.errors[&error])))
    } else if result.messages == 0 {
        (Status::Invalid, Some("not one message came back in the window".to_owned()))
    } else {
        (Status::Ok, None)
    }
}

/// What happened to messages that must not happen. A datagram may be lost, doubled and overtaken, but not changed.
fn damage(result: &LoadResult, udp: bool) -> Option<String> {
    let kinds = [
        (result.lost, "lost", udp),
        (result.duplicated, "duplicated", udp),
        (result.reordered, "reordered", udp),
        (result.corrupted, "corrupted", false),
    ];
    let found: Vec<String> = kinds
        .iter()
        .filter(|&&(count, _, allowed)| count > 0 && !allowed)
        .map(|(count, kind, _)| {
            format!("{count} {} {kind}", if *count == 1 { "message" } else { "messages" })
        })
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// A point about which nothing is known yet; it is invalid until it is judged.
pub(crate) fn blank(plan: &Plan, job: &Job) -> Point {
    Point {
        schema: SCHEMA,
        experiment: plan.experiment.clone(),
        model: job.model.clone(),
        mechanism: job.mechanism.clone(),
        connections: job.connections,
        connected: 0,
        round: job.round,
        order: job.order,
        attempt: 1,
        payload_bytes: plan.payload_bytes,
        depth: plan.depth,
        rate_per_s: plan.rate_per_s,
        status: Status::Invalid,
        reason: None,
        checks: Vec::new(),
        limiters: Vec::new(),
        share_of_ceiling: None,
        warmup_s: None,
        window_s: None,
        slices: Vec::new(),
        in_flight: None,
        due: None,
        sent: None,
        messages: None,
        messages_per_s: None,
        latency_ns: None,
        last_receiver_ns: None,
        connect_ns: None,
        upgrade_ns: None,
        lost: None,
        duplicated: None,
        reordered: None,
        corrupted: None,
        refused: BTreeMap::new(),
        errors: BTreeMap::new(),
        server_cpu_ns: None,
        client_cpu_ns: None,
        costs: None,
        memory: None,
        network: None,
        quiet: None,
        server_cpu_ns_per_message: None,
        server_cpu: None,
        client_cpu_ns_per_message: None,
        client_cpu: None,
        server_memory_bytes: None,
        server_memory_idle_bytes: None,
        server_memory_peak_bytes: None,
        memory_bytes_per_connection: None,
        server_threads: None,
        server_processes: None,
        started_at: crate::now(),
    }
}

/// Writes what was observed into the point.
pub(crate) fn fill(point: &mut Point, observed: &Observed) {
    let result = &observed.result;
    let window_ns = result.window_ns as f64;
    let per_message =
        |ns: Option<u64>| ns.filter(|_| result.messages > 0).map(|ns| ns as f64 / result.messages as f64);
    point.connected = result.connections_open;
    point.window_s = Some(window_ns / 1e9);
    point.messages = Some(result.messages);
    point.messages_per_s = Some(result.messages_per_s);
    point.latency_ns = result.latency_ns;
    point.last_receiver_ns = result.last_receiver_ns;
    point.connect_ns = result.connect_ns;
    point.upgrade_ns = result.upgrade_ns;
    point.lost = Some(result.lost);
    point.duplicated = Some(result.duplicated);
    point.reordered = Some(result.reordered);
    point.corrupted = Some(result.corrupted);
    point.refused = result.refused.clone();
    point.errors = result.errors.clone();
    point.server_cpu_ns = observed.server_cpu_ns;
    point.client_cpu_ns = result.client_cpu_ns;
    point.server_cpu_ns_per_message = per_message(observed.server_cpu_ns);
    point.server_cpu = observed.server_cpu_ns.filter(|_| window_ns > 0.0).map(|ns| ns as f64 / window_ns);
    point.client_cpu_ns_per_message = per_message(result.client_cpu_ns);
    point.client_cpu = result.client_cpu;
    point.server_memory_idle_bytes = Some(observed.idle.memory_bytes);
    if let Some(loaded) = observed.loaded {
        let grown = loaded.memory_allocated_bytes as f64 - observed.idle.memory_allocated_bytes as f64;
        point.server_memory_bytes = Some(loaded.memory_bytes);
        point.server_memory_peak_bytes = Some(loaded.memory_peak_bytes);
        point.memory_bytes_per_connection = (point.connected > 0).then(|| grown / point.connected as f64);
        point.server_threads = Some(loaded.threads);
        point.server_processes = Some(loaded.processes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(mechanism: &str) -> Job {
        Job {
            order: 0,
            round: 0,
            model: "m".into(),
            mechanism: mechanism.into(),
            connections: 4,
            limit: None,
        }
    }

    fn result(change: impl FnOnce(&mut LoadResult)) -> LoadResult {
        let line = r#"{"connections_open":4,"window_ns":1000,"messages":10,"messages_per_s":1.0,"lost":0,
            "duplicated":0,"reordered":0,"corrupted":0,"latency_ns":null,"last_receiver_ns":null,"connect_ns":null,
            "upgrade_ns":null,"client_cpu_ns":5,"client_cpu":0.5,"latency_histogram":null,"one_more":1}"#;
        let mut result = serde_json::from_str(line).unwrap();
        change(&mut result);
        result
    }

    fn verdict(mechanism: &str, change: impl FnOnce(&mut LoadResult)) -> (Status, Option<String>) {
        judge(&job(mechanism), &result(change))
    }

    #[test]
    fn a_point_counts_only_if_every_message_is_accounted_for() {
        assert_eq!(verdict("echo", |_| {}), (Status::Ok, None));
        let invalid = |reason: &str| (Status::Invalid, Some(reason.to_owned()));
        assert_eq!(verdict("echo", |r| r.lost = 3), invalid("3 messages lost"));
        assert_eq!(verdict("echo", |r| r.duplicated = 1), invalid("1 message duplicated"));
        assert_eq!(verdict("echo", |r| r.messages = 0), invalid("not one message came back in the window"));
        assert_eq!(verdict("echo", |r| r.errors = [("reset".into(), 2)].into()), invalid("2 × reset"));
    }

    #[test]
    fn loss_is_a_result_on_udp_and_corruption_is_not() {
        assert_eq!(
            verdict("udp-echo", |r| (r.lost, r.reordered, r.duplicated) = (3, 2, 1)),
            (Status::Ok, None)
        );
        let corrupted = (Status::Invalid, Some("1 message corrupted".to_owned()));
        assert_eq!(verdict("udp-echo", |r| r.corrupted = 1), corrupted);
    }

    #[test]
    fn a_refusal_is_a_limit_with_the_name_that_the_server_gives_it() {
        let refuse = |r: &mut LoadResult| {
            r.connections_open = 1;
            r.refused = [("503 descriptors".into(), 1), ("503 FD_SETSIZE".into(), 2)].into();
        };
        assert_eq!(verdict("echo", refuse), (Status::Limit, Some("FD_SETSIZE".to_owned())));
        let reset = |r: &mut LoadResult| {
            r.connections_open = 3;
            r.errors = [("reset".into(), 1)].into();
        };
        assert_eq!(verdict("echo", reset), (Status::Invalid, Some("3 of 4 connected: reset".to_owned())));
        let both = |r: &mut LoadResult| {
            refuse(r);
            r.lost = 1;
        };
        assert_eq!(verdict("echo", both), (Status::Invalid, Some("1 message lost".to_owned())));
    }
}
