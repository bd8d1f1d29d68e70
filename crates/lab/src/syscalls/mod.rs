//! System calls by name, counted in short runs of their own: counting them costs what is being measured.
//!
//! A count is exact only where no message is under way, and the one such place that every server and every mechanism has is its whole life. So two
//! lives are counted, one with more messages than the other, and what the longer one has more of, calls and messages, is divided: the start, the
//! connections and the end are in both. How long either takes, and how busy the machine is meanwhile, does not matter.

mod strace;
mod tracepoints;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

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
use crate::verdict::LoadResult;
use tracepoints::Tracepoints;

/// Load before the window; in a short life, and in a long one at first.
const WARMUP: Duration = Duration::from_millis(20);
const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_millis(250);
/// The short life of an open loop, in which a message must be due.
const SHORT_OPEN: Duration = Duration::from_millis(150);
/// Messages that a long life must have more than a short one, so that a call more or less at its end is not seen in the second digit; where it has
/// fewer, as on a busy machine, it is made longer, so many times.
const LEAST_MORE: u64 = 400;
const LONGER: u32 = 4;
const TRIES: u32 = 4;
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
    let jobs = jobs(plan);
    let cost = |window| lasting(plan, window).cost_of(&jobs);
    cost(SHORT) + cost(LONG)
}

/// The same plan with one window as long as this.
fn lasting(plan: &Plan, window: Duration) -> Plan {
    let milliseconds = |time: Duration| time.as_millis() as u64;
    Plan {
        warmup_ms: milliseconds(WARMUP),
        window_ms: milliseconds(window),
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
        plan: &plan,
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
    let mut file = open_lines(&path).map_err(LabError::file(&path))?;
    for (number, job) in missing.iter().enumerate() {
        if trial.is_stopped() {
            break;
        }
        meter.counting(number + 1, missing.len(), job);
        let Some(line) = line(trial, job, &means)? else { break };
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
    match means {
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
        Means::Tracepoints => line.how = "tracepoints".to_owned(),
        Means::Strace => line.how = "strace".to_owned(),
    }
    let is_open_loop = job.setting.rate_per_s.is_some();
    let Some(short) = life(trial, job, means, if is_open_loop { SHORT_OPEN } else { SHORT })? else {
        return Ok(None);
    };
    let mut window = if is_open_loop { SHORT_OPEN + LONG } else { LONG };
    for attempt in 1..=TRIES {
        let Some(long) = life(trial, job, means, window)? else { return Ok(None) };
        line.messages = long.messages.saturating_sub(short.messages);
        line.note = short.error.clone().or(long.error.clone());
        line.calls = per_message(&short, &long);
        // An open loop has as many messages as its rate says, and a silent one has none.
        let is_enough = line.messages >= LEAST_MORE || is_open_loop || long.messages == 0;
        if is_enough || line.note.is_some() || attempt == TRIES {
            break;
        }
        window *= LONGER;
    }
    Ok(Some(line))
}

/// What a server did from its start to its end.
struct Life {
    messages: u64,
    calls: BTreeMap<String, u64>,
    /// Why that is not known.
    error: Option<String>,
}

/// What the longer life has more of, for each message that it has more; nothing if it has none.
fn per_message(short: &Life, long: &Life) -> BTreeMap<String, f64> {
    let messages = long.messages.saturating_sub(short.messages);
    if messages == 0 || short.error.is_some() || long.error.is_some() {
        return BTreeMap::new();
    }
    let more = |(name, count): (&String, &u64)| {
        let more = count.checked_sub(short.calls.get(name).copied().unwrap_or(0)).filter(|more| *more > 0)?;
        Some((name.clone(), more as f64 / messages as f64))
    };
    long.calls.iter().filter_map(more).collect()
}

/// Counts a life whose window is so long. `None`: the user wants no more.
fn life(trial: &Trial, job: &Job, means: &Means, window: Duration) -> Result<Option<Life>, LabError> {
    let plan = lasting(trial.plan, window);
    let trial = Trial { plan: &plan, ..*trial };
    let table = tempfile::NamedTempFile::new().map_err(LabError::file(Path::new("a temporary file")))?;
    let (mut counting, prefix) = match means {
        Means::Tracepoints => (Counting::default(), Vec::new()),
        _ => (Counting { is_unused: true, ..Counting::default() }, strace::prefix(table.path())),
    };
    let Some((point, _)) = trial.run_before(job, &mut counting, &prefix)? else { return Ok(None) };
    let calls = match counting.is_unused {
        true => strace::parse(&fs::read_to_string(table.path()).unwrap_or_default()),
        false => counting.calls,
    };
    // Without the load generator's account there is nothing to divide by.
    let error =
        counting.error.or_else(|| counting.messages.is_none().then(|| point.reason.unwrap_or_default()));
    Ok(Some(Life { messages: counting.messages.unwrap_or(0), calls, error }))
}

/// Takes note of a life, and counts its calls by tracepoints if nobody else does.
#[derive(Default)]
struct Counting {
    is_unused: bool,
    tracepoints: Option<Tracepoints>,
    calls: BTreeMap<String, u64>,
    messages: Option<u64>,
    error: Option<String>,
}

impl Spectator for Counting {
    fn server_started(&mut self, server: Pid) {
        if self.is_unused {
            return;
        }
        let attached = Tracepoints::attach(server).and_then(|mut tracepoints| {
            tracepoints.enable()?;
            Ok(tracepoints)
        });
        match attached {
            Ok(tracepoints) => self.tracepoints = Some(tracepoints),
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    fn ended(&mut self, load: &LoadResult) {
        self.messages = load.messages_in_all;
        match self.tracepoints.take().map(|mut tracepoints| tracepoints.counts()) {
            Some(Ok(calls)) => self.calls = calls,
            Some(Err(error)) => self.error = Some(error.to_string()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(messages: u64, calls: &[(&str, u64)]) -> Life {
        let calls = calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Life { messages, calls, error: None }
    }

    #[test]
    fn what_both_lives_have_is_no_call_of_a_message() {
        let short = life(10, &[("accept4", 1), ("recvfrom", 13), ("sendto", 12), ("futex", 4)]);
        let long = life(510, &[("accept4", 1), ("recvfrom", 513), ("sendto", 512), ("futex", 3), ("brk", 5)]);
        let expected = [("brk", 0.01), ("recvfrom", 1.0), ("sendto", 1.0)];
        assert_eq!(per_message(&short, &long), expected.map(|(name, calls)| (name.to_owned(), calls)).into());
        assert_eq!(per_message(&long, &short), BTreeMap::new(), "a life that is no longer says nothing");
    }
}
