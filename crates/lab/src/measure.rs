//! The points of a plan, one after the other: the ceilings, the rounds, and once more what was disturbed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::calibration::{self, Calibration};
use crate::canary::Drift;
use crate::error::LabError;
use crate::judge::{is_worth_another_try, judge};
use crate::machine::{Cores, core_count, server_cores};
use crate::plan::{Job, Plan};
use crate::progress::Meter;
use crate::record::{Histograms, Point, Recorder, Status};
use crate::setting::Place;
use crate::trial::Trial;
use crate::verdict::blank;

/// Disturbed points are tried again for at most this part of the planned time; on a machine that is never quiet a run would
/// else take twice as long and be no better.
const REPEATS: f64 = 0.25;
/// A short run may take longer.
const SHORTEST_REPEATS: Duration = Duration::from_secs(10);

/// One experiment on its way.
pub(crate) struct Measurement<'a> {
    pub(crate) trial: &'a Trial<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) dir: &'a Path,
    pub(crate) cores: Option<Cores>,
}

impl Measurement<'_> {
    /// Measures what is missing among `points` and adds it to them, until all is there or the user has enough.
    pub(crate) fn run(&self, points: &mut Vec<Point>, meter: &mut Meter) -> Result<(), LabError> {
        let mut recorder = Recorder::open(self.dir)?;
        let start =
            |source| LabError::System { what: "start the threads that watch the machine's speed", source };
        let mut drift = Drift::start(self.cores, points).map_err(start)?;
        let Some(calibration) = self.calibrate(&mut drift, meter)? else { return Ok(()) };
        let mut reached = limits_of(self.plan, points);
        for job in missing(self.plan, points) {
            let known = reached.get(&(job.model.clone(), self.plan.axes.place(&job.setting)));
            let Some((point, histograms)) = self.point(job, known, 1, &calibration, &mut drift, meter)?
            else {
                return Ok(());
            };
            recorder.append(&point, &histograms)?;
            reached.extend(limits_of(self.plan, std::slice::from_ref(&point)));
            points.push(point);
        }
        let repeats = repeats(self.plan, points);
        meter.repeats(&repeats);
        for job in repeats {
            let Some((point, histograms)) = self.point(job, None, 2, &calibration, &mut drift, meter)? else {
                return Ok(());
            };
            recorder.append(&point, &histograms)?;
            points.push(point);
        }
        Ok(())
    }

    /// Measures the ceilings, or reads them where an earlier part of the run did. `None`: the user wants no more.
    fn calibrate(&self, drift: &mut Drift, meter: &Meter) -> Result<Option<Calibration>, LabError> {
        let path = self.dir.join(calibration::CALIBRATION);
        if let Some(known) = Calibration::read(self.dir).map_err(LabError::file(&path))? {
            return Ok(Some(known));
        }
        let plan = calibration::plan(self.plan);
        let trial = Trial { plan: &plan, ..*self.trial };
        let mut calibration = Calibration { schema: crate::record::SCHEMA, ..Calibration::default() };
        for job in calibration::ceilings(self.plan) {
            if self.trial.is_stopped() {
                return Ok(None);
            }
            meter.aside(&format!("the load generator's own ceiling: {}", meter.name(&job)));
            calibration.ceilings.extend(calibration::measure(&trial, &job, drift)?);
        }
        let mut tries = Vec::new();
        for job in calibration::capacities(self.plan) {
            if self.trial.is_stopped() {
                return Ok(None);
            }
            meter.aside(&format!("what {} can do", job.model));
            if let Some(found) = calibration::measure(&trial, &job, drift)? {
                tries.push((job.model, found.messages_per_s));
            }
        }
        calibration.capacities = calibration::medians(&tries);
        if self.trial.is_stopped() {
            return Ok(None);
        }
        calibration.write(self.dir)?;
        Ok(Some(calibration))
    }

    fn point(
        &self,
        job: &Job,
        known: Option<&Point>,
        attempt: u32,
        calibration: &Calibration,
        drift: &mut Drift,
        meter: &mut Meter,
    ) -> Result<Option<(Point, Histograms)>, LabError> {
        if self.trial.is_stopped() {
            return Ok(None);
        }
        meter.point_begins(job);
        let setting = calibration.with_rate(job.setting, &job.model);
        let job = &Job { setting, ..job.clone() };
        if setting.load.is_some() && setting.rate_per_s.is_none() {
            // A share of what is not known is nothing that could be offered.
            let reason = "what this server can do could not be measured at the start of the run".to_owned();
            let point = Point { attempt, reason: Some(reason), ..blank(self.plan, job) };
            meter.point_ends(job, &point);
            return Ok(Some((point, Histograms::default())));
        }
        let Some((mut point, histograms)) = self.trial.run(job, known)? else { return Ok(None) };
        point.attempt = attempt;
        if point.window_s.is_some() {
            let seen = drift.after_point();
            let quiet = point.quiet.get_or_insert_default();
            (quiet.before, quiet.after, quiet.usual) = (seen.before, seen.after, seen.usual);
        }
        point.share_of_ceiling = calibration.share(&point);
        let server_cores = server_cores(&point, self.cores.is_some(), core_count() as f64);
        judge(&mut point, server_cores);
        meter.point_ends(job, &point);
        Ok(Some((point, histograms)))
    }
}

/// The jobs of the plan that no point was recorded for, in their order.
pub(crate) fn missing<'a>(plan: &'a Plan, points: &[Point]) -> Vec<&'a Job> {
    let done: HashSet<usize> = points.iter().map(|point| point.order).collect();
    plan.jobs.iter().filter(|job| !done.contains(&job.order)).collect()
}

/// The jobs whose last point was disturbed and has not been tried again, as far as there is time for them.
fn repeats<'a>(plan: &'a Plan, points: &[Point]) -> Vec<&'a Job> {
    let last: HashMap<usize, &Point> = points.iter().map(|point| (point.order, point)).collect();
    let mut left = Duration::from_secs_f64(plan.expected_s * REPEATS).max(SHORTEST_REPEATS);
    let disturbed =
        plan.jobs.iter().filter(|job| last.get(&job.order).is_some_and(|point| is_worth_another_try(point)));
    let fits = |job: &&Job| {
        left = left.saturating_sub(plan.cost(job));
        !left.is_zero()
    };
    disturbed.take_while(fits).collect()
}

/// The limits that were met, by model and place: they do not move from round to round.
fn limits_of(plan: &Plan, points: &[Point]) -> HashMap<(String, Place), Point> {
    let met = points.iter().filter(|point| point.status == Status::Limit);
    met.map(|point| ((point.model.clone(), plan.axes.place(&point.setting)), point.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::find;
    use crate::machine::Machine;
    use crate::record::{Check, CheckName};
    use crate::{Interrupt, RunOptions};

    fn plan() -> Plan {
        let options = RunOptions {
            seed: Some(1),
            rounds: Some(2),
            connections: Some(vec![1, 4]),
            ..RunOptions::default()
        };
        let machine = Machine {
            descriptors: 1000,
            has_tables_for_threads: true,
            tasks: 1000,
            memory_bytes: 1 << 34,
            maps: 1 << 16,
        };
        Plan::make(&find("connections").unwrap(), &options, &machine, &Interrupt::new()).unwrap()
    }

    #[test]
    fn what_is_recorded_is_not_measured_again_and_the_rest_keeps_its_order() {
        let plan = plan();
        let points: Vec<Point> = plan.jobs.iter().step_by(2).map(|job| blank(&plan, job)).collect();
        let orders: Vec<usize> = missing(&plan, &points).iter().map(|job| job.order).collect();
        assert_eq!(orders, (1..plan.jobs.len()).step_by(2).collect::<Vec<_>>());
        assert_eq!(missing(&plan, &[]).len(), plan.jobs.len());
    }

    #[test]
    fn a_disturbed_point_is_tried_again_once_and_not_without_end() {
        let plan = plan();
        let disturbed = |job: &Job, attempt| Point {
            attempt,
            connected: job.setting.connections,
            status: Status::Doubtful,
            checks: vec![Check { name: CheckName::Quiet, holds: Some(false), evidence: String::new() }],
            ..blank(&plan, job)
        };
        let mut points: Vec<Point> = plan.jobs.iter().take(2).map(|job| disturbed(job, 1)).collect();
        let orders =
            |points: &[Point]| repeats(&plan, points).iter().map(|job| job.order).collect::<Vec<_>>();
        assert_eq!(orders(&points), [0, 1]);
        points.push(disturbed(&plan.jobs[0], 2));
        assert_eq!(orders(&points), [1]);
        let all: Vec<Point> = plan.jobs.iter().map(|job| disturbed(job, 1)).collect();
        let repeated = orders(&all).len();
        assert!((1..plan.jobs.len() / 2).contains(&repeated), "{repeated} of {}", plan.jobs.len());
    }
}
