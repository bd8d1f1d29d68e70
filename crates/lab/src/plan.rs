//! Which points are run, in which order, for how long: decided and written down before the first one starts.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bounds::{LONGEST, MOST_POINTS, MOST_ROUNDS, MOST_SERVERS, MOST_VALUES};
use crate::calibration;
use crate::environment;
use crate::error::LabError;
use crate::experiment::{AxisDefinition, Budget, Effort, Experiment, Fit, Subject};
use crate::external::{self, External, ExternalServer};
use crate::files;
use crate::machine::{Machine, core_count, needs};
use crate::mechanism::{self, MechanismName, is_text, server_of};
use crate::record::{OLDEST_SCHEMA, RUN, SCHEMA};
use crate::report::PictureName;
use crate::restart::LEAST_AFTER;
use crate::setting::{Axes, Axis, Range, Setting};
use crate::syscalls;
use crate::text;
use crate::{Interrupt, RunOptions};

/// Starting and stopping the two processes of a point and reading their state, without any connection.
const START_AND_STOP: Duration = Duration::from_millis(100);
/// Time for which the load generator holds few connections open after the window, so that they can be looked at.
const SHORTEST_HOLD: Duration = Duration::from_millis(80);
/// The warm-up goes on until the rate is steady, for at most so many times its planned length.
const WARMUP_LIMIT: u64 = 6;
/// A point that alone takes more than this part of the budget is run in the first round only.
const HEAVY: u32 = 40;
/// One that takes more than this part is not run at all, unless the user asks for this number of connections.
const TOO_SLOW: u32 = 8;
/// The short name of that reason.
pub(crate) const TOO_SLOW_REASON: &str = "too slow";

/// The settings of a run and all its points: the content of `run.json`, and all that `--resume` needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The experiment's name.
    pub experiment: String,
    /// What the experiment answers.
    pub question: String,
    /// What to expect and why, in paragraphs divided by empty lines.
    pub analysis: String,
    /// How much time the run may take.
    pub effort: Effort,
    /// The seed of the order.
    pub seed: u64,
    /// What is the same at every point, unless it is varied.
    pub setting: Setting,
    /// What is varied.
    pub axes: Axes,
    /// What is drawn, the main picture first.
    pub pictures: Vec<PictureName>,
    /// The laws that are fitted.
    #[serde(default)]
    pub fit: Vec<Fit>,
    /// Whether the system calls of a message are counted.
    #[serde(default)]
    pub system_calls: bool,
    /// How often every point is measured; some heavy ones only once, see `jobs`.
    pub rounds: u32,
    /// Load before each window, in milliseconds.
    pub warmup_ms: u64,
    /// Length of each window, in milliseconds.
    pub window_ms: u64,
    /// Who takes part, in reading order.
    pub subjects: Vec<Subject>,
    /// Those of them that are none of the models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<External>,
    /// Every point in the order in which it is run.
    pub jobs: Vec<Job>,
    /// How long the run was expected to take, in seconds.
    pub expected_s: f64,
    /// When it began, in UTC.
    pub started_at: String,
    /// The command line.
    pub command: Vec<String>,
}

/// A point that is to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The place in the order of the whole run, from 0.
    pub order: usize,
    /// The round, from 0.
    pub round: u32,
    /// The model's name.
    pub model: String,
    /// The mechanism's name.
    pub mechanism: String,
    /// What is done to the server.
    #[serde(flatten)]
    pub setting: Setting,
    /// Why it is pointless to try: what the kernel does not have, the short name of a limit of the machine or the model, or `too slow`.
    pub limit: Option<String>,
}

impl Plan {
    /// Plans `experiment` for `machine`: first the rounds, then the windows give way to the budget.
    pub(crate) fn make(
        experiment: &Experiment,
        options: &RunOptions,
        machine: &Machine,
        interrupt: &Interrupt,
    ) -> Result<Plan, LabError> {
        let budget = experiment.budget(options.effort);
        let subjects = match &options.models {
            Some(names) => experiment.subjects_named(names)?,
            None => experiment.subjects_for(options.effort),
        };
        let takes_part = |server: &&ExternalServer| {
            subjects.iter().any(|subject| server_of(&subject.model) == server.name)
        };
        let servers = experiment
            .servers
            .iter()
            .filter(takes_part)
            .cloned()
            .map(|server| server.find(interrupt))
            .collect();
        let (setting, axes) = settings(experiment, options, machine)?;
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
        let mut plan = Plan {
            schema: SCHEMA,
            experiment: experiment.name.clone(),
            question: experiment.question.clone(),
            analysis: experiment.analysis.trim().to_owned(),
            effort: options.effort,
            seed,
            setting,
            axes,
            pictures: experiment.pictures.clone(),
            fit: experiment.fit.clone(),
            system_calls: experiment.system_calls,
            rounds: options.rounds.unwrap_or(budget.rounds.get()),
            warmup_ms: milliseconds(budget.warmup),
            window_ms: milliseconds(budget.window),
            subjects,
            servers,
            jobs: Vec::new(),
            expected_s: 0.0,
            started_at: crate::now(),
            command: environment::command_line(),
        };
        let rounds_can_shrink = options.rounds.is_none();
        if rounds_can_shrink {
            // So many are never needed, so they give way to the bound as they do to the budget.
            plan.rounds = plan.rounds.min(plan.most_rounds());
        }
        plan.check_size()?;
        plan.check()?;
        let wished = plan.rounds;
        let counts_are_wished = options.connections.is_some();
        let fits = plan.fill(machine, budget, counts_are_wished, interrupt)?;
        if !fits && rounds_can_shrink {
            // What more rounds take more of does not fit either, so the most that fit are found by halving. One round is the least, whatever it takes.
            let (mut most, mut too_many) = (1, wished);
            while too_many - most > 1 {
                plan.rounds = most + (too_many - most) / 2;
                match plan.fill(machine, budget, counts_are_wished, interrupt)? {
                    true => most = plan.rounds,
                    false => too_many = plan.rounds,
                }
            }
            plan.rounds = most;
            plan.fill(machine, budget, counts_are_wished, interrupt)?;
        }
        if plan.jobs.is_empty() {
            return Err(LabError::Usage(format!("{}: 0 points: {}", plan.experiment, plan.why_empty())));
        }
        plan.with_a_message_in_the_window()?.with_room_for_restarts()
    }

    /// Decides the points and the window for the number of rounds. Whether the budget allows that.
    fn fill(
        &mut self,
        machine: &Machine,
        budget: &Budget,
        counts_are_wished: bool,
        interrupt: &Interrupt,
    ) -> Result<bool, LabError> {
        self.jobs = self.shuffled(machine, budget.budget, counts_are_wished, interrupt)?;
        self.expected_s = budget.budget.as_secs_f64();
        let aside = calibration::cost(self) + syscalls::cost(self);
        let left = budget.budget.saturating_sub(aside);
        self.window_ms = self.window_that_fits(left, budget.shortest_window, budget.window);
        self.expected_s = (self.cost_of(&self.jobs) + aside).as_secs_f64();
        Ok(self.expected_s <= budget.budget.as_secs_f64())
    }

    /// Points of one round, at the most.
    fn points_per_round(&self) -> usize {
        let values = |range: &Range| range.values.len();
        self.subjects
            .len()
            .saturating_mul(values(&self.axes.x))
            .saturating_mul(self.axes.by.as_ref().map_or(1, values))
    }

    /// Rounds of which all points are not too many.
    fn most_rounds(&self) -> u32 {
        let rounds = MOST_POINTS / self.points_per_round().max(1);
        u32::try_from(rounds).unwrap_or(MOST_ROUNDS).clamp(1, MOST_ROUNDS)
    }

    /// Whether the points can be held and read again.
    fn check_size(&self) -> Result<(), LabError> {
        let usage = |text: String| Err(LabError::Usage(text));
        let rounds = self.rounds;
        if !(1..=MOST_ROUNDS).contains(&rounds) {
            return usage(format!(
                "--rounds {rounds}: must be from 1 to {MOST_ROUNDS}; without it as many are run as fit into the time"
            ));
        }
        for range in std::iter::once(&self.axes.x).chain(&self.axes.by) {
            if range.values.len() > MOST_VALUES {
                let (count, label) = (range.values.len(), range.axis.label());
                return usage(format!("{label}: {count} values; at most {MOST_VALUES}"));
            }
        }
        let points = self.points_per_round().saturating_mul(rounds as usize);
        if points > MOST_POINTS {
            return usage(format!(
                "{}: {points} points in {rounds} rounds; at most {MOST_POINTS} in one experiment: fewer --rounds (up to {}), --models or values",
                self.experiment,
                self.most_rounds()
            ));
        }
        Ok(())
    }

    fn why_empty(&self) -> &'static str {
        if self.subjects.is_empty() {
            "no server is left that takes part; see --models and `models` of the definition"
        } else {
            "everywhere more connections would have to talk than there are; ask for more --connections"
        }
    }

    /// An open loop has to have something to send.
    fn with_a_message_in_the_window(self) -> Result<Plan, LabError> {
        let rates = self.jobs.iter().filter_map(|job| job.setting.rate_per_s);
        match rates.min_by(f64::total_cmp) {
            Some(rate) if rate * (self.window_ms as f64) < 1000.0 => Err(LabError::Usage(format!(
                "--rate {rate}: puts no message into a window of {} ms; ask for more per second",
                self.window_ms
            ))),
            _ => Ok(self),
        }
    }

    /// A server that is restarted has to be there again for long enough to see who comes back.
    fn with_room_for_restarts(self) -> Result<Plan, LabError> {
        let longest = self.jobs.iter().map(|job| job.setting.restart_ms).max().unwrap_or(0);
        match longest > self.window_ms / u64::from(LEAST_AFTER) {
            true => Err(LabError::Usage(format!(
                "restart_ms = {longest}: more than half of a window of {} ms; a longer `shortest_window`, or a server that is away for less",
                self.window_ms
            ))),
            false => Ok(self),
        }
    }

    /// Whether server and load generator can do what the user wishes.
    fn check(&self) -> Result<(), LabError> {
        let usage = |text: String| Err(LabError::Usage(text));
        for setting in self.axes.settings(self.setting) {
            if let Some(rate) = setting.rate_per_s
                && !(rate > 0.0 && rate <= 1e9)
            {
                return usage(format!("--rate {rate}: must be above 0 and at most 1e9 messages per second"));
            }
            for (axis, flag) in [
                (Axis::Connections, "--connections"),
                (Axis::PayloadBytes, "--payload"),
                (Axis::Depth, "depth"),
            ] {
                if let Some(objection) = axis.objection(axis.of(&setting)) {
                    return usage(format!("{flag} {objection}"));
                }
            }
            if !(0.0..=1e6).contains(&setting.work_us) {
                return usage(format!("--work-us {}: must be from 0 to 1000000 (a second)", setting.work_us));
            }
            if setting.payload_bytes < switchboard_load::LEAST_PAYLOAD_BYTES {
                let least = switchboard_load::LEAST_PAYLOAD_BYTES;
                return usage(format!("--payload {}: must be at least {least} bytes", setting.payload_bytes));
            }
            let text = self.subjects.iter().find(|subject| is_text(&subject.mechanism));
            if let Some(subject) = text.filter(|_| setting.payload_bytes < switchboard_load::LEAST_TEXT_BYTES)
            {
                let (least, line) = (switchboard_load::LEAST_TEXT_BYTES, &subject.model);
                return usage(format!(
                    "--payload {}: must be at least {least} bytes for {line}, which carries text",
                    setting.payload_bytes
                ));
            }
        }
        Ok(())
    }

    /// Reads `run.json` of a results folder.
    ///
    /// # Errors
    /// It is not there, or not what a run writes.
    pub fn read(dir: &Path) -> Result<Plan, LabError> {
        let file = dir.join(RUN);
        let text = files::read(&file).map_err(LabError::file(&file))?;
        Plan::parse(&text).map_err(|reason| LabError::Unreadable { file, reason })
    }

    fn parse(text: &[u8]) -> Result<Plan, String> {
        let broken = |error: serde_json::Error| error.to_string();
        let value: Value = serde_json::from_slice(text).map_err(broken)?;
        let schema = value["schema"].as_u64().unwrap_or(0);
        if !(u64::from(OLDEST_SCHEMA)..=u64::from(SCHEMA)).contains(&schema) {
            return Err(format!("schema {schema}, this switchboard reads {OLDEST_SCHEMA} to {SCHEMA}"));
        }
        let value = if schema < AXES_SINCE { with_axes(value) } else { value };
        let plan: Plan = serde_json::from_value(value).map_err(broken)?;
        // No run writes a plan with more than these, so a larger one was not written by a run.
        let is_bounded = plan.jobs.len() <= MOST_POINTS
            && plan.points_per_round() <= MOST_POINTS
            && plan.subjects.len() <= MOST_POINTS
            && plan.servers.len() <= MOST_SERVERS;
        if !is_bounded {
            return Err(format!("has more points than a run can have, {MOST_POINTS}"));
        }
        let longest = milliseconds(LONGEST);
        if plan.window_ms > longest || plan.warmup_ms > longest {
            return Err("has a window or warm-up of more than a day".to_owned());
        }
        Ok(plan)
    }

    /// Makes what is shown of it fit for that; paragraphs stay paragraphs.
    pub(crate) fn tidy(&mut self) {
        let subjects =
            self.subjects.iter_mut().flat_map(|subject| [&mut subject.model, &mut subject.mechanism]);
        let pers = self.fit.iter_mut().map(|fit| &mut fit.per);
        let texts = [&mut self.experiment, &mut self.question, &mut self.started_at];
        texts.into_iter().chain(&mut self.command).chain(subjects).chain(pers).for_each(text::tidy);
    }

    /// Whether what is planned can be run: in a folder of a stranger anything may be written.
    pub(crate) fn check_jobs(&self) -> Result<(), String> {
        let servers: Vec<ExternalServer> =
            self.servers.iter().map(|external| external.server.clone()).collect();
        external::check(&servers)?;
        if !(self.expected_s >= 0.0 && self.expected_s <= 1e9) {
            return Err(format!("expected_s: {}", self.expected_s));
        }
        let settings = std::iter::once((&self.setting, None));
        let jobs = self.jobs.iter().map(|job| (&job.setting, Some(job)));
        for (setting, job) in settings.chain(jobs) {
            let objection =
                |(axis, key): (Axis, &str)| Some(format!("{key} {}", axis.objection(axis.of(setting))?));
            if let Some(objection) = Axis::ALL.into_iter().find_map(objection) {
                return Err(objection);
            }
            let Some(job) = job else { continue };
            let server = server_of(&job.model);
            if switchboard_models::find(server).is_none() && self.external(server).is_none() {
                return Err(format!("unknown model `{server}`"));
            }
            MechanismName::try_from(job.mechanism.clone())?;
        }
        Ok(())
    }

    /// The servers that are started by a command which none of `known` has.
    pub(crate) fn untrusted<'a>(&'a self, known: &[ExternalServer]) -> Vec<&'a ExternalServer> {
        let is_known = |server: &ExternalServer| known.iter().any(|one| one.command == server.command);
        self.servers.iter().map(|external| &external.server).filter(|server| !is_known(server)).collect()
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), LabError> {
        let path = dir.join(RUN);
        let text = serde_json::to_vec_pretty(self).expect("a plan has no keys but strings");
        files::write_whole(&path, &text).map_err(LabError::file(&path))
    }

    /// What a point is expected to take.
    pub(crate) fn cost(&self, job: &Job) -> Duration {
        if job.limit.is_some() {
            return Duration::ZERO;
        }
        overhead(job) + warmup(self, job) + Duration::from_millis(self.window_ms)
    }

    /// What opening and closing a point's connections takes.
    pub(crate) fn overhead(&self, job: &Job) -> Duration {
        overhead(job)
    }

    pub(crate) fn cost_of<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) -> Duration {
        jobs.into_iter().map(|job| self.cost(job)).sum()
    }

    /// All rounds. Each has its blocks, one for each setting, in random order, and each block has its
    /// models in random order: a slow minute of the machine hits all models alike, and what is compared was measured side by side.
    fn shuffled(
        &self,
        machine: &Machine,
        budget: Duration,
        counts_are_wished: bool,
        interrupt: &Interrupt,
    ) -> Result<Vec<Job>, LabError> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut jobs = Vec::new();
        for round in 0..self.rounds {
            let mut settings = self.axes.settings(self.setting);
            random.shuffle(&mut settings);
            for setting in settings {
                if interrupt.triggered() {
                    return Err(LabError::Interrupted);
                }
                let mut block = Vec::new();
                for subject in &self.subjects {
                    let setting = machine.spread(&subject.model, &subject.mechanism, setting);
                    let mut job = Job {
                        order: 0,
                        round,
                        model: subject.model.clone(),
                        mechanism: subject.mechanism.clone(),
                        setting,
                        limit: self.limit(machine, subject, &setting),
                    };
                    let overhead = overhead(&job);
                    if job.limit.is_none() && overhead > budget / TOO_SLOW && !counts_are_wished {
                        job.limit = Some(TOO_SLOW_REASON.to_owned());
                    }
                    if round == 0 || overhead <= budget / HEAVY {
                        block.push(job);
                    }
                }
                random.shuffle(&mut block);
                jobs.append(&mut block);
            }
        }
        for (order, job) in jobs.iter_mut().enumerate() {
            job.order = order;
        }
        Ok(jobs)
    }

    /// Why it is pointless to try: what is not installed or the kernel does not have, in words, or the short name of a limit.
    fn limit(&self, machine: &Machine, subject: &Subject, setting: &Setting) -> Option<String> {
        let name = &*subject.model;
        let limit = || machine.limit(name, &subject.mechanism, setting).map(str::to_owned);
        if let Some(external) = self.external(name) {
            let is_asked_to_work = setting.work_us > 0.0;
            return external
                .missing
                .clone()
                .or_else(|| is_asked_to_work.then(|| "does not simulate work".to_owned()))
                .or_else(limit);
        }
        let obstacle = switchboard_models::find(server_of(name)).and_then(|model| (model.obstacle)());
        obstacle.or_else(limit)
    }

    /// The server of that name, if it is none of the models.
    pub(crate) fn external(&self, name: &str) -> Option<&External> {
        self.servers.iter().find(|external| external.server.name == server_of(name))
    }

    fn window_that_fits(&self, budget: Duration, shortest: Duration, longest: Duration) -> u64 {
        let run: Vec<&Job> = self.jobs.iter().filter(|job| job.limit.is_none()).collect();
        let fixed: Duration = run.iter().map(|job| overhead(job) + warmup(self, job)).sum();
        let points = u32::try_from(run.len().max(1)).unwrap_or(u32::MAX);
        let share = budget.saturating_sub(fixed) / points;
        milliseconds(share.min(longest).max(shortest))
    }
}

/// Load before the window of this point: never less than the lab needs to find the server's processes, nor than those who ask by the clock need until
/// each has asked.
pub(crate) fn warmup(plan: &Plan, job: &Job) -> Duration {
    let asked = mechanism::every(&job.mechanism).unwrap_or_default();
    Duration::from_millis(plan.warmup_ms).max(needs(&job.model).observe(sockets(job))).max(asked)
}

/// Connections that the server has at this point.
fn sockets(job: &Job) -> usize {
    job.setting.connections.saturating_mul(mechanism::sockets(&job.mechanism))
}

/// Opening this point's connections, and closing them.
pub(crate) fn open_and_close(job: &Job) -> Duration {
    needs(&job.model).open_and_close(sockets(job))
}

/// How long the load generator may take until the rate is steady.
pub(crate) fn warmup_limit(plan: &Plan, job: &Job) -> Duration {
    Duration::from_millis(plan.warmup_ms.saturating_mul(WARMUP_LIMIT)).max(warmup(plan, job))
}

/// How long the load generator is to hold its connections open after the window.
pub(crate) fn hold(job: &Job) -> Duration {
    SHORTEST_HOLD + needs(&job.model).observe(sockets(job))
}

fn overhead(job: &Job) -> Duration {
    START_AND_STOP + open_and_close(job) + hold(job)
}

/// What is the same everywhere and what is varied, as the definition says, the machine allows and the user wishes.
fn settings(
    experiment: &Experiment,
    options: &RunOptions,
    machine: &Machine,
) -> Result<(Setting, Axes), LabError> {
    let usage = LabError::Usage;
    let budget = experiment.budget(options.effort);
    let range = |axis: &AxisDefinition, listed: Option<&Vec<f64>>| {
        let (allowed, reached) = match axis.vary {
            Axis::Connections => (
                budget.most_connections.map_or(f64::INFINITY, |most| usize::from(most) as f64),
                machine.descriptors as f64,
            ),
            // What follows when there are more than cores is seen by then.
            Axis::Workers => (2.0 * core_count() as f64, f64::INFINITY),
            _ => (f64::INFINITY, f64::INFINITY),
        };
        Range { axis: axis.vary, values: axis.range(listed, allowed, reached) }
    };
    let mut axes = Axes {
        x: range(&experiment.x, budget.x.as_ref()),
        by: experiment.by.as_ref().map(|by| range(by, budget.by.as_ref())),
    };
    let mut setting = experiment.setting.setting();
    let mut wish = |axis: Axis, flag: &str, values: Vec<f64>| {
        if values.len() > MOST_VALUES {
            return Err(usage(format!("{flag}: {} values; at most {MOST_VALUES}", values.len())));
        }
        if let Some(objection) = values.iter().find_map(|value| axis.objection(*value)) {
            return Err(usage(format!("{flag} {objection}")));
        }
        if values.is_empty() || values.iter().any(|value| *value < axis.least()) {
            return Err(usage(format!("{flag}: needs numbers from {} up", axis.least())));
        }
        let mut values = values;
        values.sort_by(f64::total_cmp);
        values.dedup();
        match (&mut axes, values.as_slice()) {
            (Axes { x, .. }, _) if x.axis == axis => x.values = values,
            (Axes { by: Some(by), .. }, _) if by.axis == axis => by.values = values,
            (_, [value]) => setting = axis.set(setting, *value),
            _ => {
                let (name, varies) = (&experiment.name, axes.label());
                return Err(usage(format!(
                    "{flag}: the experiment {name} varies {varies}, so this needs one number"
                )));
            }
        }
        Ok(())
    };
    if let Some(counts) = &options.connections {
        wish(Axis::Connections, "--connections", counts.iter().map(|count| *count as f64).collect())?;
    }
    if let Some(payload) = options.payload {
        wish(Axis::PayloadBytes, "--payload", vec![payload as f64])?;
    }
    if let Some(rate) = options.rate_per_s {
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(usage(format!("--rate {rate}: must be above 0 and at most 1e9 messages per second")));
        }
        if experiment.x.vary == Axis::Load || setting.load.is_some() {
            return Err(usage("--rate: this experiment finds its rates by itself".to_owned()));
        }
        setting.rate_per_s = Some(rate);
    }
    if options.work_us > 0.0 {
        match &mut axes.x {
            Range { axis: Axis::WorkUs, values } => *values = vec![options.work_us],
            _ => setting.work_us = options.work_us,
        }
    }
    let empty = std::iter::once(&axes.x).chain(&axes.by).find(|range| range.values.is_empty());
    if let Some(range) = empty {
        return Err(usage(format!(
            "{}: no value of {} is left on this machine",
            experiment.name,
            range.axis.label()
        )));
    }
    Ok((setting, axes))
}

/// The first version that knows of axes; before it, connections alone were varied.
const AXES_SINCE: u64 = 3;

/// A plan of an older version in the words of today.
fn with_axes(mut plan: Value) -> Value {
    let of = |name: &str| plan.get(name).cloned().unwrap_or_default();
    let (payload, depth, rate) = (of("payload_bytes"), of("depth"), of("rate_per_s"));
    let setting = json!({
        "connections": 1, "payload_bytes": payload, "depth": depth, "rate_per_s": rate,
        "work_us": plan.get("work_us").and_then(Value::as_f64).unwrap_or(0.0)
    });
    let pictures = match of("experiment").as_str() {
        Some("broadcast") => json!(["throughput", "cpu", "receivers", "latency", "memory"]),
        _ => json!(["throughput", "cpu", "latency", "memory"]),
    };
    let counts: Vec<f64> =
        of("connections").as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let jobs = plan.get_mut("jobs").and_then(Value::as_array_mut);
    for job in jobs.into_iter().flatten().filter_map(Value::as_object_mut) {
        // The points of those days do not say how much work was simulated.
        for (name, value) in [("payload_bytes", &payload), ("depth", &depth), ("rate_per_s", &rate)] {
            job.insert(name.to_owned(), value.clone());
        }
    }
    plan["setting"] = setting;
    plan["axes"] = json!({"x": {"axis": "connections", "values": counts}});
    plan["pictures"] = pictures;
    plan["system_calls"] = json!(true);
    plan
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::find;

    /// A machine with 20,000 descriptors.
    const HERE: Machine = Machine {
        descriptors: 20_000 - 64,
        has_tables_for_threads: true,
        tasks: 31_000,
        memory_bytes: 16 << 30,
        maps: 65_530,
    };

    fn plan(effort: Effort, machine: &Machine) -> Plan {
        let options = RunOptions { effort, seed: Some(7), ..RunOptions::default() };
        Plan::make(&find("connections").unwrap(), &options, machine, &Interrupt::new()).unwrap()
    }

    #[test]
    fn the_powers_of_four_end_where_the_descriptors_do() {
        let counts = |plan: Plan| plan.axes.x.values.iter().map(|count| *count as usize).collect::<Vec<_>>();
        assert_eq!(counts(plan(Effort::Default, &HERE)), [1, 4, 16, 64, 256, 1024, 4096, 16384]);
        let laptop = Machine { descriptors: 1024 - 64, ..HERE };
        assert_eq!(counts(plan(Effort::Default, &laptop)), [1, 4, 16, 64, 256]);
        let large = Machine {
            descriptors: 1 << 20,
            has_tables_for_threads: true,
            tasks: 1 << 22,
            memory_bytes: 1 << 38,
            maps: 1 << 30,
        };
        assert_eq!(*counts(plan(Effort::Default, &large)).last().unwrap(), 16384);
        assert_eq!(*counts(plan(Effort::Full, &large)).last().unwrap(), 1 << 20);
    }

    #[test]
    fn every_effort_keeps_its_time_and_every_subject_and_count_has_its_point() {
        for (effort, most_s) in [(Effort::Quick, 50.0), (Effort::Default, 345.0)] {
            let plan = plan(effort, &HERE);
            assert!(plan.expected_s < most_s, "{effort:?}: {}", plan.expected_s);
            for subject in &plan.subjects {
                for setting in plan.axes.settings(plan.setting) {
                    let found = plan
                        .jobs
                        .iter()
                        .any(|job| job.model == subject.model && job.setting == setting && job.round == 0);
                    assert!(found, "{} at {setting:?}", subject.model);
                }
            }
        }
    }

    #[test]
    fn what_alone_would_eat_the_budget_is_marked_unless_it_is_asked_for() {
        let limit = |plan: &Plan| {
            let job = plan.jobs.iter().find(|job| job.model == "fork" && job.setting.connections == 16384);
            job.unwrap().limit.clone()
        };
        assert_eq!(limit(&plan(Effort::Default, &HERE)).as_deref(), Some(TOO_SLOW_REASON));
        assert_eq!(limit(&plan(Effort::Full, &HERE)), None);
        let options = RunOptions { connections: Some(vec![16384]), ..RunOptions::default() };
        assert_eq!(
            limit(&Plan::make(&find("connections").unwrap(), &options, &HERE, &Interrupt::new()).unwrap()),
            None
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_one_another() {
        let jobs = |seed| {
            let options = RunOptions { seed: Some(seed), ..RunOptions::default() };
            Plan::make(&find("connections").unwrap(), &options, &HERE, &Interrupt::new()).unwrap().jobs
        };
        assert_eq!(jobs(1), jobs(1));
        assert_ne!(jobs(1), jobs(2));
        assert!(jobs(1).iter().enumerate().all(|(place, job)| job.order == place));
    }

    #[test]
    fn rounds_do_not_mix() {
        let plan = plan(Effort::Default, &HERE);
        assert!(plan.rounds > 1);
        assert!(plan.jobs.is_sorted_by_key(|job| job.round));
    }

    #[test]
    fn wishes_are_obeyed_and_a_wish_for_nothing_is_refused() {
        let options = RunOptions {
            models: Some(vec!["epoll".into(), "raw".into()]),
            connections: Some(vec![64, 3, 64]),
            payload: Some(1000),
            rounds: Some(2),
            ..RunOptions::default()
        };
        let plan = Plan::make(&find("connections").unwrap(), &options, &HERE, &Interrupt::new()).unwrap();
        assert_eq!(plan.axes.x.values, [3.0, 64.0]);
        assert_eq!((plan.setting.payload_bytes, plan.rounds, plan.jobs.len()), (1000, 2, 8));
        let options = RunOptions { connections: Some(vec![0]), ..RunOptions::default() };
        let error =
            Plan::make(&find("connections").unwrap(), &options, &HERE, &Interrupt::new()).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        for rate in [0.0, -5.0, f64::NAN, f64::INFINITY, 2e9, 0.001] {
            let options = RunOptions { rate_per_s: Some(rate), ..RunOptions::default() };
            let error =
                Plan::make(&find("connections").unwrap(), &options, &HERE, &Interrupt::new()).unwrap_err();
            assert_eq!(error.exit_status(), 2, "{rate}: {error}");
            assert!(error.to_string().contains("--rate"), "{error}");
        }
    }

    #[test]
    fn a_limit_that_is_known_in_advance_costs_no_time() {
        let plan = plan(Effort::Quick, &Machine { tasks: 500, ..HERE });
        let job =
            plan.jobs.iter().find(|job| job.model == "fork" && job.setting.connections == 1024).unwrap();
        assert_eq!((job.limit.as_deref(), plan.cost(job)), (Some("processes"), Duration::ZERO));
    }

    #[test]
    fn a_written_plan_reads_back_and_a_folder_without_one_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let message = Plan::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("run.json") && !message.contains("resume"), "{message}");
        let plan = plan(Effort::Quick, &HERE);
        plan.write(folder.path()).unwrap();
        assert_eq!(Plan::read(folder.path()).unwrap(), plan);
    }
}
