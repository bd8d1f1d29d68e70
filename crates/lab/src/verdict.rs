//! From what a load generator reports and the lab saw to a point.

use std::collections::BTreeMap;

use serde::Deserialize;
use switchboard_load::Traffic;

use crate::observe::Observed;
use crate::plan::{Job, Plan};
use crate::record::{Point, Quantiles, Reconnect, SCHEMA, Status};

/// The load generator's report; the fields are those of `switchboard load --json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LoadResult {
    pub(crate) connections_open: usize,
    #[serde(default)]
    pub(crate) opening_ns: Option<u64>,
    #[serde(default)]
    pub(crate) memory_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) refused: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) window_ns: u64,
    pub(crate) messages: u64,
    #[serde(default)]
    pub(crate) messages_in_all: Option<u64>,
    pub(crate) messages_per_s: f64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    pub(crate) latency_ns: Option<Quantiles>,
    #[serde(default)]
    pub(crate) uncorrected_latency_ns: Option<Quantiles>,
    #[serde(default)]
    pub(crate) first_receiver_ns: Option<Quantiles>,
    #[serde(default)]
    pub(crate) fairness: Option<f64>,
    #[serde(default)]
    pub(crate) slow_closed: Option<u64>,
    pub(crate) last_receiver_ns: Option<Quantiles>,
    pub(crate) connect_ns: Option<Quantiles>,
    pub(crate) upgrade_ns: Option<Quantiles>,
    pub(crate) client_cpu_ns: Option<u64>,
    pub(crate) client_cpu: Option<f64>,
    pub(crate) latency_histogram: Option<String>,
    #[serde(default)]
    pub(crate) uncorrected_histogram: Option<String>,
    #[serde(default)]
    pub(crate) bytes_sent: Option<u64>,
    #[serde(default)]
    pub(crate) bytes_received: Option<u64>,
    #[serde(default)]
    pub(crate) warmup_ns: Option<u64>,
    #[serde(default)]
    pub(crate) slices: Vec<u64>,
    #[serde(default)]
    pub(crate) in_flight_ns: Option<u64>,
    #[serde(default)]
    pub(crate) due: Option<u64>,
    #[serde(default)]
    pub(crate) sent: Option<u64>,
    #[serde(default)]
    pub(crate) reconnect: Option<Reconnect>,
    #[serde(default)]
    pub(crate) lateness_ns: Option<Quantiles>,
    #[serde(default)]
    pub(crate) polls_due: Option<u64>,
    #[serde(default)]
    pub(crate) polls_skipped: Option<u64>,
    #[serde(default)]
    pub(crate) subscribers: Option<Traffic>,
    #[serde(default)]
    pub(crate) publisher: Option<Traffic>,
}

/// A point about which nothing is known yet; it is invalid until it is judged.
pub(crate) fn blank(plan: &Plan, job: &Job) -> Point {
    Point {
        schema: SCHEMA,
        experiment: plan.experiment.clone(),
        model: job.model.clone(),
        mechanism: job.mechanism.clone(),
        setting: job.setting,
        connected: 0,
        round: job.round,
        order: job.order,
        attempt: 1,
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
        lateness_ns: None,
        polls_due: None,
        polls_skipped: None,
        subscribers: None,
        publisher: None,
        messages: None,
        messages_per_s: None,
        latency_ns: None,
        uncorrected_ns: None,
        first_receiver_ns: None,
        fairness: None,
        slow_closed: None,
        last_receiver_ns: None,
        connect_ns: None,
        upgrade_ns: None,
        opening_s: None,
        client_memory_bytes: None,
        reconnect: None,
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
    observed.fill(point);
    let window_ns = result.window_ns as f64;
    let per_message =
        |ns: Option<u64>| ns.filter(|_| result.messages > 0).map(|ns| ns as f64 / result.messages as f64);
    point.connected = result.connections_open;
    point.warmup_s = result.warmup_ns.map(|ns| ns as f64 / 1e9);
    point.window_s = Some(window_ns / 1e9);
    point.slices = result.slices.clone();
    point.in_flight = result.in_flight_ns.map(|ns| ns as f64 / window_ns);
    (point.due, point.sent) = (result.due, result.sent);
    point.lateness_ns = result.lateness_ns;
    (point.polls_due, point.polls_skipped) = (result.polls_due, result.polls_skipped);
    (point.subscribers, point.publisher) = (result.subscribers, result.publisher);
    point.messages = Some(result.messages);
    point.messages_per_s = Some(result.messages_per_s);
    point.latency_ns = result.latency_ns;
    point.uncorrected_ns = result.uncorrected_latency_ns;
    point.first_receiver_ns = result.first_receiver_ns;
    point.fairness = result.fairness;
    point.slow_closed = result.slow_closed;
    point.last_receiver_ns = result.last_receiver_ns;
    point.connect_ns = result.connect_ns;
    point.upgrade_ns = result.upgrade_ns;
    point.opening_s = result.opening_ns.filter(|_| !point.setting.churn).map(|ns| ns as f64 / 1e9);
    point.client_memory_bytes = result.memory_bytes;
    point.reconnect = result.reconnect.clone();
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

/// A point of no plan in particular.
#[cfg(test)]
pub(crate) fn blank_for_tests(job: &Job) -> Point {
    let plan = r#"{"schema":3,"experiment":"e","question":"","analysis":"","effort":"quick","seed":1,
        "setting":{"connections":1,"payload_bytes":64,"depth":1},"axes":{"x":{"axis":"connections","values":[]}},"pictures":[],
        "rounds":1,"warmup_ms":1,"window_ms":1,"subjects":[],"jobs":[],"expected_s":1.0,"started_at":"","command":[]}"#;
    blank(&serde_json::from_str(plan).unwrap(), job)
}
