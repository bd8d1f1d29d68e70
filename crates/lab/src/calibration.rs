//! What the load generator itself can do, measured before anything else: a point close to that is about the client.
//!
//! The ceiling is the load generator against `raw`, which returns bytes and does nothing else. It has a value for each number of
//! connections, because the client too works more or less well with many.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::canary::Drift;
use crate::error::LabError;
use crate::judge::judge;
use crate::plan::{Job, Plan};
use crate::record::{Canary, OLDEST_SCHEMA, Point, SCHEMA, Status, write_whole};
use crate::trial::Trial;

/// The file of a results folder.
pub(crate) const CALIBRATION: &str = "calibration.json";
/// Load before and during a measurement of the ceiling.
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
    /// One for each number of connections that could be measured.
    pub ceilings: Vec<Ceiling>,
}

/// The load generator's own limit at one number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ceiling {
    /// Connections open.
    pub connections: usize,
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
        let text = match std::fs::read(dir.join(CALIBRATION)) {
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
        text.and_then(|text| write_whole(&path, &text)).map_err(LabError::file(&path))
    }

    /// A point's throughput as a share of the ceiling, both at the speed that the machine had at the time.
    pub(crate) fn share(&self, point: &Point) -> Option<f64> {
        if point.mechanism != COMPARABLE || point.rate_per_s.is_some() {
            return None;
        }
        let ceiling = self.ceilings.iter().find(|ceiling| ceiling.connections == point.connections)?;
        let pace = |before: &Canary, after: &Canary| (before.calls_ns + after.calls_ns) as f64;
        let then = pace(&ceiling.before, &ceiling.after);
        let now = point.quiet.as_ref().map_or(0.0, |quiet| pace(&quiet.before, &quiet.after));
        let drift = if then > 0.0 && now > 0.0 { now / then } else { 1.0 };
        Some(point.messages_per_s? / ceiling.messages_per_s * drift)
    }
}

/// The points that measure the ceilings of a plan.
pub(crate) fn jobs(plan: &Plan) -> Vec<Job> {
    if plan.rate_per_s.is_some() || plan.subjects.iter().all(|subject| subject.mechanism != COMPARABLE) {
        return Vec::new();
    }
    let job = |&connections: &usize| Job {
        order: 0,
        round: 0,
        model: RAW.0.to_owned(),
        mechanism: RAW.1.to_owned(),
        connections,
        limit: None,
    };
    // Where no compared model can be run there is nothing to compare.
    let is_reached = |connections: usize| {
        plan.jobs.iter().any(|job| job.connections == connections && job.limit.is_none())
    };
    plan.connections.iter().filter(|&&connections| is_reached(connections)).map(job).collect()
}

/// What measuring them takes, about.
pub(crate) fn cost(of: &Plan) -> Duration {
    plan(of).cost_of(&jobs(of))
}

/// The plan under which ceilings are measured.
pub(crate) fn plan(plan: &Plan) -> Plan {
    let milliseconds = |time: Duration| time.as_millis() as u64;
    Plan {
        warmup_ms: milliseconds(WARMUP),
        window_ms: milliseconds(WINDOW),
        work_us: 0.0,
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
        connections: job.connections,
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
            messages_per_s: 1000.0,
            client_cpu: 1.0,
            before: canary(100),
            after: canary(100),
        };
        Calibration { schema: SCHEMA, ceilings: vec![ceiling] }
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
            (|point| point.connections = 5) as fn(&mut Point),
            |point| point.mechanism = "udp-echo".into(),
            |point| point.rate_per_s = Some(5.0),
            |point| point.messages_per_s = None,
        ] {
            assert_eq!(calibration().share(&point(change)), None);
        }
    }

    #[test]
    fn what_was_written_is_read_and_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Calibration::read(folder.path()).unwrap(), None);
        calibration().write(folder.path()).unwrap();
        assert_eq!(Calibration::read(folder.path()).unwrap(), Some(calibration()));
        Calibration { schema: SCHEMA + 1, ..calibration() }.write(folder.path()).unwrap();
        assert!(Calibration::read(folder.path()).unwrap_err().to_string().contains("schema 3"));
    }
}
