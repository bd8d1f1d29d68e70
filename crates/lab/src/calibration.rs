//! What is measured before anything else: what the load generator itself can do, and, for experiments that offer a share of it, what each
//! server can.
//!
//! The ceiling is the load generator against `raw`, which returns bytes and does nothing else. It has a value for each setting,
//! because the client too works more or less well with many connections or large messages. A server's capacity is its throughput in a closed loop.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::canary::Drift;
use crate::error::LabError;
use crate::files;
use crate::judge::judge;
use crate::plan::{Job, Plan};
use crate::record::{Canary, OLDEST_SCHEMA, Point, SCHEMA, Status};
use crate::setting::Setting;
use crate::stats::Estimate;
use crate::trial::Trial;

/// The file of a results folder.
pub(crate) const CALIBRATION: &str = "calibration.json";
/// Load before and during such a measurement.
const WARMUP: Duration = Duration::from_millis(60);
const WINDOW: Duration = Duration::from_millis(240);
/// The model and what it serves.
const RAW: (&str, &str) = ("raw", "tcp-echo");
/// What the ceiling is compared with: it sends the same number of messages over connections of the same kind.
const COMPARABLE: &str = "echo";

/// The ceilings of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calibration {
    /// [`SCHEMA`].
    pub schema: u32,
    /// One for each setting that could be measured.
    pub ceilings: Vec<Ceiling>,
    /// One for each model, where the experiment offers shares of it.
    #[serde(default)]
    pub capacities: Vec<Capacity>,
}

/// What a server does in a closed loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Capacity {
    /// The model's name.
    pub model: String,
    /// The median of the tries.
    pub messages_per_s: f64,
}

/// The load generator's own limit at one setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ceiling {
    /// Connections open.
    pub connections: usize,
    /// All of the setting; `null` in older files, which vary nothing but the connections.
    #[serde(default)]
    pub setting: Option<Setting>,
    /// Messages returned by `raw`.
    pub messages_per_s: f64,
    /// Cores that the load generator kept busy.
    pub client_cpu: f64,
    /// The fixed workload before and after, to allow for the machine's drift since then.
    pub before: Canary,
    /// See `before`.
    pub after: Canary,
}

impl Calibration {
    /// Reads a folder's ceilings; none if it has none.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Calibration>> {
        let text = match files::read(&dir.join(CALIBRATION)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let calibration: Calibration = serde_json::from_slice(&text)?;
        if !(OLDEST_SCHEMA..=SCHEMA).contains(&calibration.schema) {
            let reads = format!("this switchboard reads {OLDEST_SCHEMA} to {SCHEMA}");
            return Err(io::Error::other(format!("schema {}, {reads}", calibration.schema)));
        }
        Ok(Some(calibration))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), LabError> {
        let path = dir.join(CALIBRATION);
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| files::write_whole(&path, &text)).map_err(LabError::file(&path))
    }

    /// A point's throughput as a share of the ceiling, both at the speed that the machine had at the time.
    pub(crate) fn share(&self, point: &Point) -> Option<f64> {
        if point.mechanism != COMPARABLE || !is_comparable(&point.setting) {
            return None;
        }
        // The client is the same whatever the server has to do for a message.
        let asked = Setting { work_us: 0.0, ..point.setting };
        let is_same = |ceiling: &&Ceiling| match ceiling.setting {
            Some(setting) => setting == asked,
            None => ceiling.connections == asked.connections,
        };
        let ceiling = self.ceilings.iter().find(is_same)?;
        let pace = |before: &Canary, after: &Canary| (before.calls_ns + after.calls_ns) as f64;
        let then = pace(&ceiling.before, &ceiling.after);
        let now = point.quiet.as_ref().map_or(0.0, |quiet| pace(&quiet.before, &quiet.after));
        let drift = if then > 0.0 && now > 0.0 { now / then } else { 1.0 };
        Some(point.messages_per_s? / ceiling.messages_per_s * drift)
    }
}

/// Whether the load generator does the same for a server as for `raw`: as much as it can, over connections that stay.
fn is_comparable(setting: &Setting) -> bool {
    let is_undisturbed = setting.pause_ms == 0 && setting.restart_ms == 0;
    !setting.is_open_loop() && !setting.churn && is_undisturbed && setting.talking() > 0
}

impl Calibration {
    /// The point's rate, if it is to be a share of what the server can do.
    pub(crate) fn with_rate(&self, setting: Setting, model: &str) -> Setting {
        let capacity = self.capacities.iter().find(|capacity| capacity.model == model);
        match setting.load.zip(capacity) {
            Some((load, capacity)) => {
                Setting { rate_per_s: Some((load * capacity.messages_per_s).round().max(1.0)), ..setting }
            }
            None => setting,
        }
    }
}

/// The points that measure the ceilings of a plan.
pub(crate) fn ceilings(plan: &Plan) -> Vec<Job> {
    if plan.subjects.iter().all(|subject| subject.mechanism != COMPARABLE) {
        return Vec::new();
    }
    // Where no compared model can be run as it stands, one loop before one load generator's, there is nothing to compare.
    let is_reached = |setting: &Setting| {
        let is_same = |job: &Job| Setting { work_us: 0.0, ..job.setting } == *setting;
        plan.jobs.iter().any(|job| is_same(job) && job.limit.is_none())
    };
    let mut settings: Vec<Setting> = Vec::new();
    for setting in plan.axes.settings(plan.setting) {
        let setting = Setting { work_us: 0.0, ..setting };
        if is_comparable(&setting) && is_reached(&setting) && !settings.contains(&setting) {
            settings.push(setting);
        }
    }
    settings.into_iter().map(|setting| job(RAW.0, RAW.1, setting)).collect()
}

/// How often a server's capacity is measured.
const TRIES: usize = 3;

/// The points that measure what servers can do, those of a server one after the other.
pub(crate) fn capacities(plan: &Plan) -> Vec<Job> {
    let settings = plan.axes.settings(plan.setting);
    let is_wanted = settings.iter().any(|setting| setting.load.is_some());
    let closed = Setting { load: None, rate_per_s: None, pause_ms: 0, restart_ms: 0, ..plan.setting };
    let subjects = plan.subjects.iter().filter(|_| is_wanted);
    subjects
        .flat_map(|subject| std::iter::repeat_n(job(&subject.model, &subject.mechanism, closed), TRIES))
        .collect()
}

fn job(model: &str, mechanism: &str, setting: Setting) -> Job {
    let (model, mechanism) = (model.to_owned(), mechanism.to_owned());
    Job { order: 0, round: 0, model, mechanism, setting, limit: None }
}

/// From the tries of all models to what each can do.
pub(crate) fn medians(tries: &[(String, f64)]) -> Vec<Capacity> {
    let groups = tries.chunk_by(|one, other| one.0 == other.0);
    let capacity = |group: &[(String, f64)]| {
        let estimate = Estimate::of(group.iter().map(|(_, rate)| *rate))?;
        Some(Capacity { model: group[0].0.clone(), messages_per_s: estimate.median })
    };
    groups.filter_map(capacity).collect()
}

/// What measuring them takes, about.
pub(crate) fn cost(of: &Plan) -> Duration {
    plan(of).cost_of(ceilings(of).iter().chain(&capacities(of)))
}

/// The plan under which they are measured.
pub(crate) fn plan(plan: &Plan) -> Plan {
    let milliseconds = |time: Duration| time.as_millis() as u64;
    Plan {
        warmup_ms: milliseconds(WARMUP),
        window_ms: milliseconds(WINDOW),
        jobs: Vec::new(),
        ..plan.clone()
    }
}

/// Measures one ceiling. `Ok(None)`: the user wants no more, or there is none to be had; `raw` may not reach this
/// number of connections.
pub(crate) fn measure(trial: &Trial, job: &Job, drift: &mut Drift) -> Result<Option<Ceiling>, LabError> {
    let Some((mut point, _)) = trial.run(job, None)? else { return Ok(None) };
    let quiet = drift.after_point();
    judge(&mut point, 1.0);
    // A ceiling that was measured in a disturbed moment is a ceiling all the same, only a low one.
    let is_whole = matches!(point.status, Status::Ok | Status::Doubtful);
    let figures = point.messages_per_s.zip(point.client_cpu).filter(|_| is_whole);
    Ok(figures.map(|(messages_per_s, client_cpu)| Ceiling {
        connections: job.setting.connections,
        setting: Some(job.setting),
        messages_per_s,
        client_cpu,
        before: quiet.before,
        after: quiet.after,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::tests::canary;
    use crate::judge::tests::point;
    use crate::record::Quiet;

    fn calibration() -> Calibration {
        let ceiling = Ceiling {
            connections: 4,
            setting: Some(Setting { connections: 4, ..Setting::default() }),
            messages_per_s: 1000.0,
            client_cpu: 1.0,
            before: canary(100),
            after: canary(100),
        };
        Calibration { schema: SCHEMA, ceilings: vec![ceiling], capacities: Vec::new() }
    }

    #[test]
    fn a_ceiling_moves_with_the_machine() {
        let mut point = point(|point| point.messages_per_s = Some(950.0));
        assert_eq!(calibration().share(&point), Some(0.95));
        // The machine has become faster since: the client could do more now.
        point.quiet = Some(Quiet { before: canary(80), after: canary(80), ..Quiet::default() });
        assert_eq!(calibration().share(&point), Some(0.95 * 0.8));
    }

    #[test]
    fn what_is_not_comparable_has_no_share() {
        for change in [
            (|point| point.setting.connections = 5) as fn(&mut Point),
            |point| point.mechanism = "udp-echo".into(),
            |point| point.setting.rate_per_s = Some(5.0),
            |point| point.setting.payload_bytes = 100,
            |point| point.setting.churn = true,
            |point| point.messages_per_s = None,
        ] {
            assert_eq!(calibration().share(&point(change)), None);
        }
    }

    #[test]
    fn a_share_of_what_a_server_can_do_becomes_a_rate() {
        let tries = [("poll", 90.0), ("poll", 300.0), ("poll", 100.0), ("epoll", 50.0)];
        let capacities = medians(&tries.map(|(model, rate)| (model.to_owned(), rate)));
        let calibration = Calibration { capacities, ..calibration() };
        let offered = Setting { load: Some(0.5), ..Setting::default() };
        assert_eq!(calibration.with_rate(offered, "poll").rate_per_s, Some(50.0));
        assert_eq!(calibration.with_rate(offered, "epoll").rate_per_s, Some(25.0));
        assert_eq!(calibration.with_rate(Setting::default(), "poll"), Setting::default());
    }

    #[test]
    fn what_was_written_is_read_and_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Calibration::read(folder.path()).unwrap(), None);
        calibration().write(folder.path()).unwrap();
        assert_eq!(Calibration::read(folder.path()).unwrap(), Some(calibration()));
        Calibration { schema: SCHEMA + 1, ..calibration() }.write(folder.path()).unwrap();
        assert!(Calibration::read(folder.path()).unwrap_err().to_string().contains("schema 4"));
    }
}
