//! What came out of a run: medians over the rounds with their intervals, verdicts, and what each figure rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::experiment::{Fit, Subject};
use crate::judge::ABOUT_CLIENT;
use crate::mechanism;
use crate::plan::Plan;
use crate::quantity::{Quantity, Words};
use crate::record::{LimiterName, Point, Status};
use crate::report;
use crate::rounds::{Round, rounds};
use crate::setting::{Axes, Place, Setting};
use crate::stats::{Estimate, Law, Points, Ratio, fit, paired, quantile};
use crate::syscalls::CensusLine;

/// The outcome of [`run`](crate::run); as JSON the answer to `switchboard run --json`, as text the tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// [`SCHEMA`](crate::record::SCHEMA).
    pub schema: u32,
    /// Whether the user stopped the run before its end.
    pub interrupted: bool,
    /// The folder of several experiments.
    pub dir: Option<PathBuf>,
    /// The page of several experiments.
    pub report: Option<PathBuf>,
    /// Why there is no such page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_error: Option<String>,
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
    /// Points whose window was not steady or whose machine was not quiet, in the second try too.
    pub doubtful: usize,
    /// Points that a model or the machine does not reach.
    pub limit: usize,
    /// Points that broke.
    pub invalid: usize,
    /// Points that were measured a second time.
    pub repeated: usize,
    /// Lines of the results that could not be read, each with file and number.
    pub damaged: Vec<String>,
    /// What was varied, and its values.
    pub axes: Axes,
    /// What is drawn and tabled, the main figure first.
    pub figures: Vec<Quantity>,
    /// Who took part, in reading order.
    pub subjects: Vec<Subject>,
    /// One for every model and place that was measured.
    pub rows: Vec<Row>,
    /// The laws that were fitted to them.
    pub laws: Vec<FittedLaw>,
}

/// A law in the figures of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FittedLaw {
    /// The model's name.
    pub model: String,
    /// What follows the law.
    pub figure: Quantity,
    /// What one step on the x-axis is, in words.
    pub per: String,
    /// The law.
    #[serde(flatten)]
    pub law: Law,
}

/// A model at one place, over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The model's name.
    pub model: String,
    /// The mechanism's name.
    pub mechanism: String,
    /// Where it stands on the axes.
    #[serde(flatten)]
    pub place: Place,
    /// Connections wanted.
    pub connections: usize,
    /// Messages per second that were to be sent, in an open loop; the median of the rounds.
    pub rate_per_s: Option<f64>,
    /// `invalid` if a round is, else `limit` if one is; else `ok` if a round is good, and `doubtful` if none is.
    pub status: Status,
    /// The reason of the first round with that status.
    pub reason: Option<String>,
    /// Rounds that the figures rest on: the good ones, or the doubtful ones where there is no good one.
    pub rounds: usize,
    /// Rounds that were left out: doubtful beside good ones, or invalid.
    pub left_out: usize,
    /// Messages or deliveries a second.
    pub messages_per_s: Option<Estimate>,
    /// Bytes of payload a second, each counted once.
    pub payload_bytes_per_s: Option<Estimate>,
    /// Server CPU time per message.
    pub server_cpu_ns_per_message: Option<Estimate>,
    /// Cores that the server kept busy.
    pub server_cpu: Option<Estimate>,
    /// Cores that the load generator kept busy.
    pub client_cpu: Option<Estimate>,
    /// Percentiles of the latency of all rounds' messages together.
    pub latency_p50_ns: Option<Estimate>,
    /// See `latency_p50_ns`.
    pub latency_p90_ns: Option<Estimate>,
    /// See `latency_p50_ns`.
    pub latency_p99_ns: Option<Estimate>,
    /// See `latency_p50_ns`.
    pub latency_p99_9_ns: Option<Estimate>,
    /// Each round's longest latency. As the four that follow, known only of a broadcast whose receivers' requests and bytes were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_max_ns: Option<Estimate>,
    /// Requests that receivers made for each delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_delivery: Option<Estimate>,
    /// Those of them that brought nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_answers_per_delivery: Option<Estimate>,
    /// Bytes that receivers sent for each delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent_per_delivery: Option<Estimate>,
    /// Bytes that they received for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received_per_delivery: Option<Estimate>,
    /// Datagrams that came more than once, of those that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicated_share: Option<Estimate>,
    /// Percentiles of the latency as a client sees it that waits when the server does.
    pub uncorrected_p50_ns: Option<Estimate>,
    /// See `uncorrected_p50_ns`.
    pub uncorrected_p99_ns: Option<Estimate>,
    /// See `uncorrected_p50_ns`.
    pub uncorrected_p99_9_ns: Option<Estimate>,
    /// Each round's median time until the first receiver had a broadcast.
    pub first_receiver_p50_ns: Option<Estimate>,
    /// Jain's index of the receivers' mean delivery times.
    pub fairness: Option<Estimate>,
    /// Datagrams that never came back, of those sent.
    pub lost_share: Option<Estimate>,
    /// Each round's median time for which a subscriber was blind whose server was restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind_p50_ns: Option<Estimate>,
    /// Each round's longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind_max_ns: Option<Estimate>,
    /// Deliveries that a subscriber lost by a restart, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_per_subscriber: Option<Estimate>,
    /// Deliveries that it got later, from the server's history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed_per_subscriber: Option<Estimate>,
    /// Datagrams that came back behind a later one, of those that came back.
    pub reordered_share: Option<Estimate>,
    /// Each round's median time until the last receiver had a broadcast.
    pub last_receiver_p50_ns: Option<Estimate>,
    /// Memory of the server per open connection.
    pub memory_bytes_per_connection: Option<Estimate>,
    /// Memory of the load generator per open connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_memory_bytes_per_connection: Option<Estimate>,
    /// Connections opened a second before the load began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_per_s: Option<Estimate>,
    /// Throughput as a share of what the load generator can do.
    pub share_of_ceiling: Option<Estimate>,
    /// Throughput says more about the client than about the server: it is not ranked.
    pub about_client: bool,
    /// Why the throughput is not twice as high, the strongest reason first.
    pub limiters: Vec<RowLimiter>,
    /// What one message costs the server.
    pub per_message: PerMessage,
    /// What one connection holds, in bytes.
    pub per_connection: PerConnection,
    /// System calls, by name.
    pub system_calls: Option<CensusLine>,
    /// The rounds themselves, to compare rows that were measured side by side.
    #[serde(skip)]
    pub(crate) each: BTreeMap<u32, Point>,
}

/// Why a row's throughput is not twice as high.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowLimiter {
    /// What ran out.
    pub name: LimiterName,
    /// Rounds of which this is true.
    pub rounds: usize,
    /// The evidence of the first of them.
    pub evidence: String,
}

/// Costs of one message; medians over the rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // The names are those of [`Costs`](crate::record::Costs).
pub struct PerMessage {
    pub user_cpu_ns: Option<f64>,
    pub system_cpu_ns: Option<f64>,
    pub switches_voluntary: Option<f64>,
    pub switches_involuntary: Option<f64>,
    pub faults: Option<f64>,
    pub bytes_to_server: Option<f64>,
    pub bytes_from_server: Option<f64>,
    pub bytes_on_wire: Option<f64>,
}

/// Memory of one connection; medians over the rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // The names are those of [`Memory`](crate::record::Memory).
pub struct PerConnection {
    pub user_bytes: Option<f64>,
    pub page_tables_bytes: Option<f64>,
    pub kernel_stacks_bytes: Option<f64>,
    pub socket_buffers_bytes: Option<f64>,
    pub slab_bytes: Option<f64>,
    /// Allocated by the load generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_bytes: Option<f64>,
}

impl RunSummary {
    /// The exit status for the command: 130 after Ctrl-C, 1 if a point or a report broke, otherwise 0.
    pub fn exit_status(&self) -> u8 {
        let broke = |one: &ExperimentSummary| one.invalid > 0 || one.report_error.is_some();
        match self {
            RunSummary { interrupted: true, .. } => 130,
            RunSummary { report_error: Some(_), .. } => 1,
            RunSummary { experiments, .. } if experiments.iter().any(broke) => 1,
            _ => 0,
        }
    }
}

impl ExperimentSummary {
    /// Adds up the points of a plan; what concerns the report and the clock is left for the caller to fill in.
    pub(crate) fn of(plan: &Plan, dir: PathBuf, all: &[Round], census: &[CensusLine]) -> ExperimentSummary {
        let last = rounds(all);
        let count = |status| last.iter().filter(|round| round.point.status == status).count();
        let settings = plan.axes.settings(plan.setting);
        let mut places: Vec<(Place, Setting)> =
            settings.iter().map(|setting| (plan.axes.place(setting), *setting)).collect();
        places.sort_by_key(|(place, _)| *place);
        let row = |subject: &Subject, place: Place, setting: &Setting| {
            let mine = |round: &&&Round| {
                round.point.model == subject.model && plan.axes.place(&round.point.setting) == place
            };
            let calls = census.iter().find(|line| {
                line.model == subject.model && line.setting.is(setting) && !line.calls.is_empty()
            });
            let rounds: Vec<&Round> = last.iter().copied().filter(|round| mine(&round)).collect();
            Row::of(subject, place, setting, &rounds, calls)
        };
        let of_subject = |subject: &'_ Subject| -> Vec<Row> {
            places.iter().filter_map(|(place, setting)| row(subject, *place, setting)).collect()
        };
        let rows: Vec<Row> = plan.subjects.iter().flat_map(of_subject).collect();
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
            doubtful: count(Status::Doubtful),
            limit: count(Status::Limit),
            invalid: count(Status::Invalid),
            repeated: all.iter().filter(|round| round.point.attempt > 1).count(),
            damaged: Vec::new(),
            axes: plan.axes.clone(),
            figures: report::figures(&plan.pictures),
            subjects: plan.subjects.clone(),
            laws: laws(plan, &rows),
            rows,
        }
    }

    /// The row of `model` at a place.
    pub fn row(&self, model: &str, place: Place) -> Option<&Row> {
        self.rows.iter().find(|row| row.model == model && row.place == place)
    }

    /// Every place that was measured, in order.
    pub fn places(&self) -> Vec<Place> {
        let places: BTreeSet<Place> = self.rows.iter().map(|row| row.place).collect();
        places.into_iter().collect()
    }

    /// Whether models are ranked against this one.
    pub(crate) fn is_compared(&self, model: &str) -> bool {
        self.subjects.iter().any(|subject| subject.compared && subject.model == model)
    }

    /// What is counted.
    pub(crate) fn words(&self) -> Words {
        let is_churn = self.rows.iter().any(|row| row.each.values().any(|point| point.setting.churn));
        let mut compared = self.subjects.iter().filter(|subject| subject.compared).peekable();
        let are_requests =
            compared.peek().is_some() && compared.all(|subject| mechanism::is_request(&subject.mechanism));
        match (self.is_broadcast(), is_churn) {
            _ if are_requests => Words { one: "request", many: "requests" },
            (true, _) => Words { one: "delivery", many: "deliveries" },
            (_, true) => Words { one: "connection", many: "connections" },
            _ => Words { one: "message", many: "messages" },
        }
    }

    /// What follows from the raw data alone, without where they lie and how long it took to get them.
    pub(crate) fn figures(&self) -> serde_json::Value {
        let mut figures = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = figures.as_object_mut() {
            for passing in ["dir", "report", "report_error", "interrupted", "elapsed_s"] {
                object.remove(passing);
            }
            object.insert("schema".into(), crate::record::SCHEMA.into());
        }
        figures
    }

    /// Whether this is about messages that one sends and many receive.
    pub(crate) fn is_broadcast(&self) -> bool {
        self.subjects.iter().any(|subject| subject.compared && mechanism::is_broadcast(&subject.mechanism))
    }
}

impl Row {
    pub(crate) fn of(
        subject: &Subject,
        place: Place,
        setting: &Setting,
        all: &[&Round],
        calls: Option<&CensusLine>,
    ) -> Option<Row> {
        let with = |status: Status| -> Vec<&Round> {
            all.iter().copied().filter(|round| round.point.status == status).collect()
        };
        let (good, doubtful) = (with(Status::Ok), with(Status::Doubtful));
        let used = if good.is_empty() { &doubtful } else { &good };
        // One broken round makes all of it suspect; a disturbed one is only left out.
        let (status, reason) = [Status::Invalid, Status::Limit, Status::Ok, Status::Doubtful]
            .into_iter()
            .find_map(|status| with(status).first().map(|round| (status, round.point.reason.clone())))?;
        let points: Vec<&Point> = used.iter().map(|round| &round.point).collect();
        let histograms: Vec<_> = used.iter().filter_map(|round| round.latency.histogram()).collect();
        let uncorrected: Vec<_> = used.iter().filter_map(|round| round.uncorrected.histogram()).collect();
        let (histograms, uncorrected): (Vec<_>, Vec<_>) =
            (histograms.iter().collect(), uncorrected.iter().collect());
        let estimate =
            |figure: fn(&Point) -> Option<f64>| Estimate::of(points.iter().filter_map(|point| figure(point)));
        let of =
            |quantity: Quantity| Estimate::of(points.iter().filter_map(|point| quantity.of_point(point)));
        let is_datagram = subject.mechanism.starts_with("udp");
        let is_counted = points.iter().any(|point| point.subscribers.is_some());
        let median = |figure: &dyn Fn(&Point) -> Option<f64>| {
            Estimate::of(points.iter().filter_map(|point| figure(point))).map(|estimate| estimate.median)
        };
        let share_of_ceiling = estimate(|point| point.share_of_ceiling);
        let each = points.iter().map(|point| (point.round, (*point).clone()));
        let limiting =
            if used.is_empty() { all.iter().map(|round| &round.point).collect() } else { points.clone() };
        Some(Row {
            model: subject.model.clone(),
            mechanism: subject.mechanism.clone(),
            place,
            connections: setting.connections,
            rate_per_s: estimate(|point| point.setting.rate_per_s).map(|rate| rate.median),
            status,
            reason,
            rounds: used.len(),
            left_out: all.len() - used.len(),
            messages_per_s: estimate(|point| point.messages_per_s).filter(|_| setting.talking() > 0),
            payload_bytes_per_s: of(Quantity::PayloadPerS).filter(|_| setting.talking() > 0),
            server_cpu_ns_per_message: estimate(|point| point.server_cpu_ns_per_message),
            server_cpu: estimate(|point| point.server_cpu),
            client_cpu: estimate(|point| point.client_cpu),
            latency_p50_ns: quantile(&histograms, 0.5),
            latency_p90_ns: quantile(&histograms, 0.9),
            latency_p99_ns: quantile(&histograms, 0.99),
            latency_p99_9_ns: quantile(&histograms, 0.999),
            latency_max_ns: of(Quantity::Max).filter(|_| is_counted),
            requests_per_delivery: of(Quantity::Requests),
            empty_answers_per_delivery: of(Quantity::EmptyAnswers),
            bytes_sent_per_delivery: of(Quantity::BytesSent),
            bytes_received_per_delivery: of(Quantity::BytesReceived),
            duplicated_share: of(Quantity::Duplicated).filter(|_| is_counted && is_datagram),
            uncorrected_p50_ns: quantile(&uncorrected, 0.5),
            uncorrected_p99_ns: quantile(&uncorrected, 0.99),
            uncorrected_p99_9_ns: quantile(&uncorrected, 0.999),
            first_receiver_p50_ns: of(Quantity::FirstReceiver),
            last_receiver_p50_ns: of(Quantity::LastReceiver),
            fairness: of(Quantity::Fairness),
            lost_share: of(Quantity::Lost).filter(|_| is_datagram),
            blind_p50_ns: of(Quantity::Blind),
            blind_max_ns: of(Quantity::BlindMax),
            missed_per_subscriber: of(Quantity::Missed),
            replayed_per_subscriber: of(Quantity::Replayed),
            reordered_share: of(Quantity::Reordered).filter(|_| is_datagram),
            memory_bytes_per_connection: estimate(|point| point.memory_bytes_per_connection),
            client_memory_bytes_per_connection: of(Quantity::ClientMemory),
            opened_per_s: of(Quantity::Opening),
            about_client: share_of_ceiling.is_some_and(|share| share.median >= ABOUT_CLIENT),
            share_of_ceiling,
            limiters: limiters(&limiting),
            per_message: PerMessage::of(&median),
            per_connection: PerConnection::of(&median),
            system_calls: calls.cloned(),
            each: each.collect(),
        })
    }

    /// Whether the two rows cannot be told apart by the figure. `None`: there are too few rounds to say.
    pub(crate) fn is_level_with(&self, other: &Row, figure: Quantity) -> Option<bool> {
        self.ratio_to(other, figure).map(|ratio| ratio.holds_one())
    }

    /// This row's figure divided by the other's, round by round: in a round the two were measured side by side.
    pub(crate) fn ratio_to(&self, other: &Row, figure: Quantity) -> Option<Ratio> {
        let pair = |(round, point): (&u32, &Point)| {
            Some((figure.of_point(other.each.get(round)?)?, figure.of_point(point)?))
        };
        let pairs: Vec<(f64, f64)> = self.each.iter().filter_map(pair).collect();
        paired(&pairs)
    }
}

/// The laws of the plan, in the figures of every model that has enough of them. Where a model has only doubtful rounds at a place, that
/// place is left out.
fn laws(plan: &Plan, rows: &[Row]) -> Vec<FittedLaw> {
    let mut laws = Vec::new();
    for Fit { law, figure, per } in &plan.fit {
        for subject in &plan.subjects {
            let mine = rows.iter().filter(|row| row.model == subject.model && row.status == Status::Ok);
            let point = |row: &Row, point: &Point| Some((row.place.x, figure.of_point(point)?));
            let points: Points =
                mine.flat_map(|row| row.each.values().filter_map(move |each| point(row, each))).collect();
            if let Some(law) = fit(*law, &points) {
                let (model, per) = (subject.model.clone(), per.clone());
                laws.push(FittedLaw { model, figure: *figure, per, law });
            }
        }
    }
    laws
}

type Median<'a> = &'a dyn Fn(&dyn Fn(&Point) -> Option<f64>) -> Option<f64>;

impl PerMessage {
    fn of(median: Median<'_>) -> PerMessage {
        let per = |figure: fn(&crate::record::Costs) -> Option<u64>| {
            median(&|point: &Point| {
                let messages = point.messages.filter(|messages| *messages > 0)?;
                Some(figure(&point.costs?)? as f64 / messages as f64)
            })
        };
        PerMessage {
            user_cpu_ns: per(|costs| Some(costs.user_cpu_ns)),
            system_cpu_ns: per(|costs| Some(costs.system_cpu_ns)),
            switches_voluntary: per(|costs| Some(costs.switches_voluntary)),
            switches_involuntary: per(|costs| Some(costs.switches_involuntary)),
            faults: per(|costs| Some(costs.faults_minor + costs.faults_major)),
            bytes_to_server: per(|costs| Some(costs.bytes_to_server)),
            bytes_from_server: per(|costs| Some(costs.bytes_from_server)),
            bytes_on_wire: per(|costs| costs.bytes_on_wire),
        }
    }
}

impl PerConnection {
    fn of(median: Median<'_>) -> PerConnection {
        let per = |figure: fn(&crate::record::Memory) -> i64| {
            median(&|point: &Point| {
                (point.connected > 0).then_some(figure(&point.memory?) as f64 / point.connected as f64)
            })
        };
        PerConnection {
            user_bytes: per(|memory| memory.user_bytes),
            page_tables_bytes: per(|memory| memory.page_tables_bytes),
            kernel_stacks_bytes: per(|memory| memory.kernel_stacks_bytes),
            socket_buffers_bytes: per(|memory| memory.socket_buffers_bytes),
            slab_bytes: per(|memory| memory.slab_bytes),
            client_bytes: median(&|point| Quantity::ClientMemory.of_point(point)),
        }
    }
}

/// The reasons by the number of rounds that have them, and by their place in those.
fn limiters(points: &[&Point]) -> Vec<RowLimiter> {
    let mut found: Vec<(RowLimiter, usize)> = Vec::new();
    for point in points {
        for (place, limiter) in point.limiters.iter().enumerate() {
            match found.iter_mut().find(|(known, _)| known.name == limiter.name) {
                Some((known, places)) => {
                    known.rounds += 1;
                    *places += place;
                }
                None => {
                    let (name, evidence) = (limiter.name, limiter.evidence.clone());
                    found.push((RowLimiter { name, rounds: 1, evidence }, place));
                }
            }
        }
    }
    found.sort_by_key(|(limiter, places)| (usize::MAX - limiter.rounds, *places));
    found.into_iter().map(|(limiter, _)| limiter).collect()
}
