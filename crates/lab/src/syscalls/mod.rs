//! System calls by name, counted in short runs of their own: counting them costs what is being measured.

mod strace;
mod tracepoints;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use switchboard_models::Model;

use crate::error::LabError;
use crate::experiment::{Effort, find};
use crate::files::{append_line, open_lines};
use crate::machine::{Cores, Machine, Pinned, usable_cpus};
use crate::plan::{Job, Plan};
use crate::progress::Meter;
use crate::record::{Damaged, Point, SCHEMA, Status, read_lines};
use crate::run::{Interrupt, RunOptions};
use crate::setting::Setting;
use crate::text;
use crate::trial::{Spectator, Trial};
use tracepoints::Tracepoints;

/// Load before and while the calls are counted.
const WARMUP: Duration = Duration::from_millis(50);
const WINDOW: Duration = Duration::from_millis(150);
/// strace stops a server at each call; with more processes or threads than these nothing moves any more.
const MOST_UNDER_STRACE: usize = 64;
/// A quick run counts at one setting, with at most so many connections.
const QUICK: usize = 64;

/// The file of a results folder.
pub(crate) const SYSCALLS: &str = "syscalls.jsonl";

/// The system calls of one model at one setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CensusLine {
    /// [`SCHEMA`](crate::record::SCHEMA).
    pub schema: u32,
    /// The model's name.
    pub model: String,
    /// What was done to it.
    #[serde(flatten)]
    pub setting: CensusSetting,
    /// How they were counted: `tracepoints`, `strace` or `not permitted`.
    pub how: String,
    /// What a reader should know, such as what would permit it.
    pub note: Option<String>,
    /// Messages that they are divided by.
    pub messages: u64,
    /// Calls per message, by name; empty if nothing could be counted.
    pub calls: BTreeMap<String, f64>,
}

/// Connections, and in files since version 3 all of the setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CensusSetting {
    /// Connections open.
    pub connections: usize,
    /// Everything else.
    #[serde(default)]
    pub setting: Option<Setting>,
}

impl CensusSetting {
    /// Whether these calls are those of a point with this setting.
    pub(crate) fn is(&self, setting: &Setting) -> bool {
        // A rate that was found at the start of a run is not part of its plan.
        let planned = |setting: Setting| match setting.load {
            Some(_) => Setting { rate_per_s: None, ..setting },
            None => setting,
        };
        match self.setting {
            Some(counted) => planned(counted) == planned(*setting),
            None => self.connections == setting.connections,
        }
    }
}

/// Reads a folder's counts; none if it has none.
pub(crate) fn read(dir: &Path) -> io::Result<(Vec<CensusLine>, Vec<Damaged>)> {
    match read_lines(&dir.join(SYSCALLS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), Vec::new())),
        outcome => outcome,
    }
}

/// Makes all text of them fit to be shown.
pub(crate) fn tidy(lines: &mut [CensusLine]) {
    for line in lines {
        [&mut line.model, &mut line.how].into_iter().chain(&mut line.note).for_each(text::tidy);
        line.calls = std::mem::take(&mut line.calls)
            .into_iter()
            .map(|(name, count)| (text::line(&name).into_owned(), count))
            .collect();
    }
}

/// Every model at every setting that is quickly set up; in a quick run at one. Nothing where the experiment is not about that.
pub(crate) fn jobs(plan: &Plan) -> Vec<Job> {
    if !plan.system_calls {
        return Vec::new();
    }
    let settings = plan.axes.settings(plan.setting);
    let small = settings.iter().filter(|setting| setting.connections <= QUICK);
    let quick = small.max_by_key(|setting| plan.axes.place(setting)).copied();
    let is_wanted = |job: &&Job| {
        let cheap = plan.overhead(job) < Duration::from_secs(1);
        job.round == 0
            && job.limit.is_none()
            && cheap
            && (plan.effort != Effort::Quick || Some(job.setting) == quick)
    };
    plan.jobs.iter().filter(is_wanted).cloned().collect()
}

/// What counting takes, about.
pub(crate) fn cost(plan: &Plan) -> Duration {
    let short = short(plan);
    short.cost_of(&jobs(plan))
}

fn short(plan: &Plan) -> Plan {
    let milliseconds = |time: Duration| time.as_millis() as u64;
    Plan {
        warmup_ms: milliseconds(WARMUP),
        window_ms: milliseconds(WINDOW),
        jobs: Vec::new(),
        ..plan.clone()
    }
}

/// How calls can be counted here.
enum Means {
    Tracepoints,
    Strace,
    None(String),
}

impl Means {
    fn here() -> Means {
        let reason = match Tracepoints::are_permitted() {
            Ok(()) => return Means::Tracepoints,
            Err(error) => error,
        };
        if strace::is_usable() {
            return Means::Strace;
        }
        Means::None(format!(
            "not permitted ({reason}); it would be with tracefs mounted (mount -t tracefs tracefs /sys/kernel/tracing) and root or \
             CAP_PERFMON, or with strace installed and allowed to trace"
        ))
    }
}

/// Counts the calls of one message now, for each of these models: with one connection and one message in flight. `begin` is told whose turn it
/// is. Stops when the user wants no more.
pub fn calls_of_a_message(
    models: &[&Model],
    interrupt: &Interrupt,
    mut begin: impl FnMut(&Model),
) -> Result<Vec<CensusLine>, LabError> {
    let program = std::env::current_exe()
        .map_err(|source| LabError::System { what: "find the running program", source })?;
    let options = RunOptions {
        models: Some(models.iter().map(|model| model.name.to_owned()).collect()),
        connections: Some(vec![1]),
        effort: Effort::Quick,
        rounds: Some(1),
        ..RunOptions::default()
    };
    let plan = Plan::make(&find("connections")?, &options, &Machine::here(), interrupt)?;
    let (cores, all_cpus) = (Cores::choose(), usable_cpus());
    let _pinned = cores.map(|cores| Pinned::to(cores.lab));
    let trial = Trial {
        program: &program,
        plan: &short(&plan),
        cores,
        all_cpus: &all_cpus,
        patience: Duration::from_secs(20),
        stop: interrupt.flag(),
    };
    let means = Means::here();
    let mut lines = Vec::new();
    for model in models {
        let Some(job) = plan.jobs.iter().find(|job| job.model == model.name && job.limit.is_none()) else {
            continue;
        };
        begin(model);
        match line(&trial, job, &means)? {
            Some(line) => lines.push(line),
            None => break,
        }
    }
    Ok(lines)
}

/// Counts the calls of what is not in `dir` yet and has a good point, until the user has enough.
pub(crate) fn count(trial: &Trial, dir: &Path, points: &[Point], meter: &Meter) -> Result<(), LabError> {
    let path = dir.join(SYSCALLS);
    let (known, _) = read(dir).map_err(LabError::file(&path))?;
    let is_done =
        |job: &Job| known.iter().any(|line| line.model == job.model && line.setting.is(&job.setting));
    let is_good = |job: &Job| {
        points
            .iter()
            .any(|point| point.order == job.order && matches!(point.status, Status::Ok | Status::Doubtful))
    };
    let missing: Vec<Job> =
        jobs(trial.plan).into_iter().filter(|job| !is_done(job) && is_good(job)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let means = Means::here();
    let plan = short(trial.plan);
    let mut file = open_lines(&path).map_err(LabError::file(&path))?;
    for (number, job) in missing.iter().enumerate() {
        if trial.is_stopped() {
            break;
        }
        meter.counting(number + 1, missing.len(), job);
        let Some(line) = line(&Trial { plan: &plan, ..*trial }, job, &means)? else { break };
        append_line(&mut file, &line).map_err(LabError::file(&path))?;
    }
    Ok(())
}

/// The calls of one model at one setting. `None`: the user wants no more.
fn line(trial: &Trial, job: &Job, means: &Means) -> Result<Option<CensusLine>, LabError> {
    let mut line = CensusLine {
        schema: SCHEMA,
        model: job.model.clone(),
        setting: CensusSetting { connections: job.setting.connections, setting: Some(job.setting) },
        how: String::new(),
        note: None,
        messages: 0,
        calls: BTreeMap::new(),
    };
    let counts = match means {
        Means::None(reason) => {
            line.how = "not permitted".to_owned();
            line.note = Some(reason.clone());
            return Ok(Some(line));
        }
        Means::Strace if job.setting.connections > MOST_UNDER_STRACE => {
            line.how = "not permitted".to_owned();
            line.note = Some(format!(
                "strace is too slow above {MOST_UNDER_STRACE} connections; tracepoints are not"
            ));
            return Ok(Some(line));
        }
        Means::Tracepoints => {
            line.how = "tracepoints".to_owned();
            let mut counting = Counting::default();
            let Some((point, _)) = trial.run_before(job, &mut counting, &[])? else { return Ok(None) };
            // The counters were on for somewhat more or less than the window.
            let on =
                counting.on_for.zip(point.window_s).map_or(0.0, |(on, window)| on.as_secs_f64() / window);
            line.messages = (point.messages.unwrap_or(0) as f64 * on) as u64;
            line.note = counting.error.or_else(|| point.reason.filter(|_| point.messages.is_none()));
            counting.counts
        }
        Means::Strace => {
            line.how = "strace".to_owned();
            let table =
                tempfile::NamedTempFile::new().map_err(LabError::file(Path::new("a temporary file")))?;
            let Some((point, _)) =
                trial.run_before(job, &mut Counting::unused(), &strace::prefix(table.path()))?
            else {
                return Ok(None);
            };
            let whole_life =
                "Counted by strace over the server's whole life, the opening of its connections included.";
            line.note = Some(point.reason.unwrap_or_else(|| whole_life.to_owned()));
            // The warm-up is as much a part of its life as the window.
            let warm = point.warmup_s.zip(point.window_s).map_or(0.0, |(warmup, window)| warmup / window);
            line.messages = (point.messages.unwrap_or(0) as f64 * (1.0 + warm)) as u64;
            strace::parse(&fs::read_to_string(table.path()).unwrap_or_default())
        }
    };
    if line.messages > 0 {
        let per_message = |(name, count): (String, u64)| (name, count as f64 / line.messages as f64);
        line.calls = counts.into_iter().map(per_message).collect();
    }
    Ok(Some(line))
}

/// Switches the counters at the edges of the window.
#[derive(Default)]
struct Counting {
    is_unused: bool,
    tracepoints: Option<Tracepoints>,
    counts: BTreeMap<String, u64>,
    on_since: Option<Instant>,
    on_for: Option<Duration>,
    error: Option<String>,
}

impl Counting {
    fn unused() -> Counting {
        Counting { is_unused: true, ..Counting::default() }
    }

    fn keep(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.error.get_or_insert(error.to_string());
        }
    }
}

impl Spectator for Counting {
    fn server_started(&mut self, server: Pid) {
        if self.is_unused {
            return;
        }
        match Tracepoints::attach(server) {
            Ok(tracepoints) => self.tracepoints = Some(tracepoints),
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    fn phase(&mut self, phase: &str) {
        let Some(mut tracepoints) = self.tracepoints.take() else { return };
        match phase {
            "measuring" => {
                self.keep(tracepoints.enable());
                self.on_since = Some(Instant::now());
            }
            "measured" => {
                self.on_for = self.on_since.map(|since| since.elapsed());
                self.keep(tracepoints.disable());
                match tracepoints.counts() {
                    Ok(counts) => self.counts = counts,
                    Err(error) => self.keep(Err(error)),
                }
            }
            _ => {}
        }
        self.tracepoints = Some(tracepoints);
    }
}
