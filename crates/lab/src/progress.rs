//! What a person sees during the run, on stderr: a bar on a terminal, a line per point elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::format::{count, grouped, nanoseconds, seconds};
use crate::plan::{Job, Plan};
use crate::record::{Point, Status};
use crate::say::say;
use crate::text;

/// How a run shows where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Progress {
    /// A bar if stderr is a terminal, otherwise a line per point.
    #[default]
    Automatic,
    /// Nothing at all.
    Silent,
}

/// The progress of one experiment.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    plan: &'a Plan,
    style: Style,
    begun: Instant,
    /// Planned time of all points to be run, and of those that have been.
    all: Duration,
    done: Duration,
    points: usize,
    points_done: usize,
}

#[derive(Debug)]
enum Style {
    Bar(ProgressBar),
    Lines,
    Silent,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(progress: Progress, plan: &'a Plan, jobs: &[&Job]) -> Meter<'a> {
        let all = plan.cost_of(jobs.iter().copied());
        let style = match progress {
            Progress::Silent => Style::Silent,
            Progress::Automatic if std::io::stderr().is_terminal() => Style::Bar(bar(all)),
            Progress::Automatic => Style::Lines,
        };
        Meter {
            plan,
            style,
            begun: Instant::now(),
            all,
            done: Duration::ZERO,
            points: jobs.len(),
            points_done: 0,
        }
    }

    /// Something that is worth a line of its own.
    pub(crate) fn say(&self, line: &str) {
        match &self.style {
            Style::Bar(bar) => bar.println(text::lines(line)),
            Style::Lines => say(line),
            Style::Silent => {}
        }
    }

    /// Something is measured before all points.
    pub(crate) fn aside(&self, what: &str) {
        match &self.style {
            Style::Bar(bar) => bar.set_message(text::line(what).into_owned()),
            Style::Lines => say(what),
            Style::Silent => {}
        }
    }

    /// The model and its place: `poll × 1,024`.
    pub(crate) fn name(&self, job: &Job) -> String {
        format!("{} × {}", text::line(&job.model), self.plan.axes.show(self.plan.axes.place(&job.setting)))
    }

    /// System calls are counted behind all points.
    pub(crate) fn counting(&self, number: usize, all: usize, job: &Job) {
        let what = format!("counting system calls: {number}/{all}  {}", self.name(job));
        match &self.style {
            Style::Bar(bar) => bar.set_message(text::line(&what).into_owned()),
            Style::Lines => say(what),
            Style::Silent => {}
        }
    }

    /// These points are measured once more, behind all others.
    pub(crate) fn repeats(&mut self, jobs: &[&Job]) {
        if jobs.is_empty() {
            return;
        }
        self.points += jobs.len();
        self.all += self.plan.cost_of(jobs.iter().copied());
        if let Style::Bar(bar) = &self.style {
            bar.set_length(milliseconds(self.all));
        }
        self.say(&format!(
            "once more, because the machine was not quiet or the load not steady: {}",
            jobs.len()
        ));
    }

    pub(crate) fn point_begins(&self, job: &Job) {
        if let Style::Bar(bar) = &self.style {
            let (number, left) = (self.points_done + 1, self.left());
            bar.set_message(format!("{number}/{}  {left} left  {}", self.points, self.name(job)));
        }
    }

    pub(crate) fn point_ends(&mut self, job: &Job, point: &Point) {
        self.done += self.plan.cost(job);
        self.points_done += 1;
        let line = format!("{:<24} {}", self.name(job), text::line(&figures(point)));
        match &self.style {
            Style::Bar(bar) => {
                bar.set_position(milliseconds(self.done));
                // The last point stays readable above the bar; the whole list would scroll the screen away.
                if point.status == Status::Invalid { bar.println(line) } else { bar.set_prefix(line) }
            }
            Style::Lines => {
                let width = self.points.to_string().len();
                say(format_args!(
                    "[{:>width$}/{}] {line}  ({} left)",
                    self.points_done,
                    self.points,
                    self.left()
                ));
            }
            Style::Silent => {}
        }
    }

    pub(crate) fn finish(self) {
        if let Style::Bar(bar) = self.style {
            bar.finish_and_clear();
        }
    }

    /// The plan's time for what is left, corrected by how the plan has held so far.
    fn left(&self) -> String {
        let left = (self.all - self.done.min(self.all)).as_secs_f64();
        let (spent, planned) = (self.begun.elapsed().as_secs_f64(), self.done.as_secs_f64());
        let pace = if planned > 2.0 { spent / planned } else { 1.0 };
        seconds(left * pace)
    }
}

/// What is going to happen and how long it will take, in one line.
pub(crate) fn announcement(plan: &Plan, points: usize, expected: Duration) -> String {
    let rounds = if plan.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", plan.rounds) };
    format!(
        "{}: {points} points ({} models, {} × {}, {rounds}), windows of {} ms, seed {}, about {}",
        plan.experiment,
        plan.subjects.len(),
        plan.axes.settings(plan.setting).len(),
        plan.axes.label(),
        plan.window_ms,
        plan.seed,
        seconds(expected.as_secs_f64())
    )
}

fn bar(all: Duration) -> ProgressBar {
    let template = "{prefix}\n{bar:24}  {wide_msg}";
    let style = ProgressStyle::with_template(template).expect("the template is constant");
    let target = ProgressDrawTarget::stderr_with_hz(4);
    ProgressBar::with_draw_target(Some(milliseconds(all)), target).with_style(style)
}

fn figures(point: &Point) -> String {
    let reason = point.reason.as_deref().unwrap_or("no reason known");
    match point.status {
        Status::Limit => format!("limit: {reason}, {} connected", count(point.connected)),
        Status::Invalid => format!("invalid: {reason}"),
        Status::Ok | Status::Doubtful => {
            let rate = point.messages_per_s.map_or("?".to_owned(), grouped);
            let cpu = point.server_cpu_ns_per_message.map_or("?".to_owned(), nanoseconds);
            let p99 = point.latency_ns.map_or("?".to_owned(), |latency| nanoseconds(latency.p99 as f64));
            let figures = format!("{rate} messages/s, {cpu} server CPU each, p99 {p99}");
            if point.status == Status::Ok { figures } else { format!("{figures}; doubtful: {reason}") }
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
