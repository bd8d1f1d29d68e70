//! A run from its options to its summary: plan, folder, points, report.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::checksums;
use crate::collection::Collection;
use crate::difference;
use crate::environment;
use crate::error::LabError;
use crate::experiment::{self, Effort, Experiment, find_all};
use crate::external::{self, ExternalServer};
use crate::files;
use crate::format::seconds;
use crate::lock::{self, LOCK, Lock};
use crate::machine::{Cores, Machine, Pinned, usable_cpus};
use crate::measure::{Measurement, missing};
use crate::plan::{Job, Plan};
use crate::progress::{Meter, Progress, announcement};
use crate::quota::Quotas;
use crate::record::{HISTOGRAMS, POINTS, RUN, SCHEMA, read_points};
use crate::report::{self, Findings};
use crate::say::say;
use crate::summary::{ExperimentSummary, RunSummary};
use crate::syscalls::{self, SYSCALLS};
use crate::text;
use crate::trial::Trial;

/// Others that keep more than this share of all cores busy are worth a warning.
const BUSY: f64 = 0.1;

/// What is to be run, and how. The default is the experiment `connections` as its definition says.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Names of built-in experiments or paths of .toml files; none means `connections`.
    pub experiments: Vec<String>,
    /// How much time to take.
    pub effort: Effort,
    /// More servers: those of the built-in experiment of this name, or of a file with `[[server]]` tables.
    pub servers: Option<String>,
    /// Install the servers that are missing, by the commands of their definitions.
    pub install: bool,
    /// These models instead of all that can take part; hidden ones may be named.
    pub models: Option<Vec<String>>,
    /// These numbers of connections instead of the definition's.
    pub connections: Option<Vec<usize>>,
    /// Bytes of payload a message.
    pub payload: Option<usize>,
    /// Messages per second over all connections, in an open loop; `None`: a closed loop.
    pub rate_per_s: Option<f64>,
    /// Simulated work per message in every server, in microseconds.
    pub work_us: f64,
    /// This number of rounds instead of as many as fit.
    pub rounds: Option<u32>,
    /// The results folder, new or empty; with several experiments the folder of their folders. By default
    /// `results/<date>-<host>-<experiment>` in the working directory, with a number behind it if that exists.
    pub out: Option<PathBuf>,
    /// Continue the run in this folder. Of the other options only `progress`, `program`, `patience`, `servers` and `trust_commands` are used.
    pub resume: Option<PathBuf>,
    /// Run any command in the plan of the resumed folder. Otherwise the commands must be those of a built-in experiment or of `servers`.
    pub trust_commands: bool,
    /// The seed of the order.
    pub seed: Option<u64>,
    /// The name of this machine in the results; by default the host name.
    pub host: Option<String>,
    /// What is shown during the run.
    pub progress: Progress,
    /// The program that serves and loads; by default the one that is running.
    pub program: Option<PathBuf>,
    /// How long a server or load generator may be silent beyond its work before its point is given up;
    /// by default 20 s.
    pub patience: Option<Duration>,
}

/// The user's wish to stop: a run looks at it many times a second.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// An interrupt that only [`Interrupt::trigger`] triggers.
    pub fn new() -> Interrupt {
        Interrupt::default()
    }

    /// An interrupt that Ctrl-C and SIGTERM trigger; a second one of them ends the process at once.
    pub fn on_signals() -> Result<Interrupt, LabError> {
        let interrupt = Interrupt::new();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The order matters: the first signal finds the flag unset and only sets it.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupt.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupt.0)))
                .map_err(|source| LabError::System { what: "listen for Ctrl-C", source })?;
        }
        Ok(interrupt)
    }

    /// Stops the run after what it is doing now; the point that is being measured is given up.
    pub fn trigger(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// For whoever only looks.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }

    pub(crate) fn triggered(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs experiments, one after the other, each into a results folder of its own with a report in it.
///
/// Points that break are recorded as invalid and stop nothing. An error means that the run could not begin or go
/// on; what was measured until then is in the folder.
pub fn run(options: &RunOptions, interrupt: &Interrupt) -> Result<RunSummary, LabError> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|source| LabError::System { what: "find the running program", source })?,
    };
    let lab = Lab {
        options,
        interrupt,
        program,
        machine: Machine::here(),
        cores: Cores::choose(),
        cpus: usable_cpus(),
        busy_share: environment::busy_share(),
    };
    let _pinned = lab.cores.map(|cores| Pinned::to(cores.lab));
    let mut experiments = Vec::new();
    let mut collection = None;
    // Held until the last file has been written.
    let mut locks = Vec::new();
    if let Some(dir) = &options.resume {
        let folders = match Collection::read(dir)? {
            Some(found) => {
                collection = Some(dir.clone());
                found.folders(dir)
            }
            None => vec![dir.clone()],
        };
        // All experiments are checked first, so that an error in the last one is found before the first has run for minutes.
        let plans = lab.plans_of(&folders)?;
        for folder in collection.iter().chain(&folders) {
            locks.push(Lock::take(folder)?);
        }
        for (plan, folder) in plans.iter().zip(&folders).take_while(|_| !interrupt.triggered()) {
            experiments.push(lab.carry_out(plan, folder)?);
        }
    } else {
        let names =
            if options.experiments.is_empty() { &["connections".to_owned()] } else { &*options.experiments };
        // Mistakes in the last one are found before the first has run for minutes.
        let mut found = find_all(names)?;
        if let Some(name) = &options.servers {
            let servers = external::read(name)?;
            found.iter_mut().for_each(|experiment| experiment.add_servers(&servers));
        }
        if options.install {
            lab.install(&found);
        }
        let plans = found
            .iter()
            .map(|one| Plan::make(one, options, &lab.machine, interrupt))
            .collect::<Result<Vec<_>, _>>()?;
        let (dir, lock) = lab.folder(&found)?;
        locks.push(lock);
        let dirs: Vec<PathBuf> = match found.as_slice() {
            [_] => vec![dir],
            several => {
                let names = several.iter().map(|experiment| experiment.name.clone());
                let list = Collection { schema: SCHEMA, experiments: names.collect() };
                list.check()?;
                list.write(&dir)?;
                let folders = list.folders(&dir);
                for folder in &folders {
                    fs::create_dir_all(folder).map_err(LabError::file(folder))?;
                    locks.push(Lock::take(folder)?);
                }
                collection = Some(dir);
                folders
            }
        };
        lab.name_missing(&plans);
        // All plans are written before the first point, so that --resume knows of all of them.
        for (plan, dir) in plans.iter().zip(&dirs) {
            plan.write(dir)?;
            environment::write(dir, &lab.host(), lab.cores, lab.busy_share)?;
            difference::record(dir, plan)?;
        }
        let all: f64 = plans.iter().map(|plan| plan.expected_s).sum();
        if plans.len() > 1 && options.progress != Progress::Silent {
            say(format_args!("{} experiments, about {} in all", plans.len(), seconds(all)));
        }
        let mut left = all;
        for (number, (plan, dir)) in plans.iter().zip(&dirs).enumerate() {
            if interrupt.triggered() {
                break;
            }
            if plans.len() > 1 && options.progress != Progress::Silent {
                let name = &plan.experiment;
                say(format_args!(
                    "\n{name}: experiment {} of {}, about {} left in all",
                    number + 1,
                    plans.len(),
                    seconds(left)
                ));
            }
            left -= plan.expected_s;
            experiments.push(lab.carry_out(plan, dir)?);
        }
    }
    let page = collection.as_ref().map(|dir| report::write_collection(dir)).transpose();
    let (report, report_error) = match page {
        Ok(page) => (page, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(RunSummary {
        schema: SCHEMA,
        interrupted: interrupt.triggered(),
        dir: collection,
        report,
        report_error,
        experiments,
    })
}

struct Lab<'a> {
    options: &'a RunOptions,
    interrupt: &'a Interrupt,
    program: PathBuf,
    machine: Machine,
    cores: Option<Cores>,
    cpus: Vec<usize>,
    busy_share: Option<f64>,
}

impl Lab<'_> {
    /// Installs the servers that are to take part and are missing. One that cannot be installed is named, and the run goes on without it.
    fn install(&self, experiments: &[Experiment]) {
        let mut tried = Vec::new();
        for server in experiments.iter().flat_map(|experiment| &experiment.servers) {
            let is_wanted = self.options.models.as_ref().is_none_or(|names| names.contains(&server.name));
            if is_wanted && !tried.contains(&server) && !self.interrupt.triggered() {
                tried.push(server);
                server.install();
            }
        }
    }

    /// Names the servers that cannot take part, once each.
    fn name_missing(&self, plans: &[Plan]) {
        let mut named: Vec<&str> = Vec::new();
        for external in plans.iter().flat_map(|plan| &plan.servers) {
            let name = external.server.name.as_str();
            if let Some(reason) = &external.missing
                && !named.contains(&name)
                && self.options.progress != Progress::Silent
            {
                named.push(name);
                say(format_args!("{name} is left out, {reason}"));
            }
        }
        if !named.is_empty() && self.options.progress != Progress::Silent {
            say("--install does that");
        }
    }

    /// The plans of the folders to be resumed; an error if one cannot be.
    fn plans_of(&self, folders: &[PathBuf]) -> Result<Vec<Plan>, LabError> {
        let mut known: Vec<ExternalServer> =
            experiment::experiments().into_iter().flat_map(|experiment| experiment.servers).collect();
        if let Some(name) = &self.options.servers {
            known.extend(external::read(name)?);
        }
        let plan_of = |dir: &PathBuf| {
            let refuse = |reason: String| LabError::Resume { dir: dir.clone(), reason };
            let plan = Plan::read(dir).map_err(|error| refuse(error.to_string()))?;
            plan.check_jobs().map_err(|reason| refuse(format!("{RUN}: {reason}")))?;
            if let Some(reason) = environment::differs_from(dir) {
                return Err(refuse(reason));
            }
            let untrusted = plan.untrusted(&known);
            let commands =
                untrusted.iter().map(|server| format!("{}: {}", server.name, server.command)).collect();
            if !untrusted.is_empty() && !self.options.trust_commands {
                return Err(LabError::Untrusted { dir: dir.clone(), commands });
            }
            for command in commands {
                say(format_args!(
                    "running a trusted command of {}: {}",
                    dir.join(RUN).display(),
                    text::line(&command)
                ));
            }
            Ok(plan)
        };
        folders.iter().map(plan_of).collect()
    }

    /// Measures what is missing in `dir`, and writes the report of all that is there.
    fn carry_out(&self, plan: &Plan, dir: &Path) -> Result<ExperimentSummary, LabError> {
        let begun = Instant::now();
        let mended = mend(dir)?;
        let (mut points, damaged) = match read_points(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), Vec::new()),
            outcome => outcome.map_err(LabError::file(&dir.join(POINTS)))?,
        };
        let missing = missing(plan, &points);
        let mut meter = Meter::start(self.options.progress, plan, &missing);
        self.announce(&meter, plan, &missing, dir);
        mended.iter().for_each(|line| meter.say(line));
        damaged.iter().for_each(|line| meter.say(&line.to_string()));

        let trial = Trial {
            program: &self.program,
            plan,
            cores: self.cores,
            all_cpus: &self.cpus,
            patience: self.options.patience.unwrap_or(Duration::from_secs(20)),
            stop: &self.interrupt.0,
        };
        let measurement = Measurement { trial: &trial, plan, dir, cores: self.cores };
        let outcome = measurement
            .run(&mut points, &mut meter)
            .and_then(|()| syscalls::count(&trial, dir, &points, &meter));
        meter.finish();
        outcome?;

        let mut summary = match Findings::read(dir) {
            Ok(findings) => {
                let mut summary = findings.summary;
                match report::write_locked(dir, &report::Format::USUAL) {
                    Ok(files) => summary.report = files,
                    Err(error) => summary.report_error = Some(error.to_string()),
                }
                summary
            }
            Err(error) => {
                let mut summary = ExperimentSummary::of(plan, dir.to_owned(), &[], &[]);
                summary.report_error = (!points.is_empty()).then(|| error.to_string());
                summary
            }
        };
        summary.interrupted = self.interrupt.triggered();
        if let Err(error) = checksums::write(dir) {
            summary.report_error.get_or_insert(format!("{}: {error}", checksums::CHECKSUMS));
        }
        summary.elapsed_s = begun.elapsed().as_secs_f64();
        Ok(summary)
    }

    fn announce(&self, meter: &Meter, plan: &Plan, jobs: &[&Job], dir: &Path) {
        meter.say(&announcement(plan, jobs.len(), plan.cost_of(jobs.iter().copied())));
        meter.say(&match self.cores {
            Some(cores) => cores.to_string(),
            None => "nothing is pinned: server and load generator share the one core there is".to_owned(),
        });
        if let Some(quota) = Quotas::here().tightest() {
            meter.say(&format!(
                "a CPU quota allows this container {:.2} cores; points in which it held processes back do not count",
                quota.cores
            ));
        }
        meter.say(&format!("results: {}", dir.display()));
        if cfg!(debug_assertions) {
            meter.say("this is a debug build, its figures say little; use cargo run --release");
        }
        if let Some(busy) = self.busy_share.filter(|&busy| busy > BUSY) {
            let percent = 100.0 * busy;
            meter.say(&format!(
                "this machine was {percent:.0} % busy before the run; stop what else runs for better figures"
            ));
        }
    }

    fn host(&self) -> String {
        self.options.host.as_deref().map_or_else(environment::host_name, environment::label)
    }

    /// A new folder for the results of one experiment, or of several.
    fn folder(&self, experiments: &[Experiment]) -> Result<(PathBuf, Lock), LabError> {
        if let Some(dir) = &self.options.out {
            fs::create_dir_all(dir).map_err(LabError::file(dir))?;
            // A folder with other files must stay unchanged, so the lock is taken only after this check.
            lock::is_free(dir)?;
            is_empty(dir)?;
            let lock = Lock::take(dir)?;
            // Another run may have used the folder in between.
            is_empty(dir)?;
            return Ok((dir.clone(), lock));
        }
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let what = match experiments {
            [first, also @ ..] if also.iter().all(|experiment| first.also.contains(&experiment.name)) => {
                first.name.as_str()
            }
            _ => "all",
        };
        let dir = new_folder(Path::new("results"), &format!("{date}-{}-{what}", self.host()))?;
        let lock = Lock::take(&dir)?;
        Ok((dir, lock))
    }
}

/// Cuts off an incomplete last line that a kill or a full disk has left; returns messages about it.
fn mend(dir: &Path) -> Result<Vec<String>, LabError> {
    let mut said = Vec::new();
    for name in [POINTS, HISTOGRAMS, SYSCALLS] {
        let path = dir.join(name);
        let cut = files::mend(&path).map_err(LabError::file(&path))?;
        if cut > 0 {
            said.push(format!(
                "{}: the last line was incomplete; its {cut} bytes were cut off",
                path.display()
            ));
        }
    }
    Ok(said)
}

/// An error if a folder holds anything but a lock.
fn is_empty(dir: &Path) -> Result<(), LabError> {
    for entry in fs::read_dir(dir).map_err(LabError::file(dir))? {
        if entry.map_err(LabError::file(dir))?.file_name() != LOCK {
            return Err(LabError::FolderExists(dir.to_owned()));
        }
    }
    Ok(())
}

/// `root/name`, or `root/name-2` if that exists, and so on. Whoever creates a folder has it, so two runs at once
/// do not meet in one.
fn new_folder(root: &Path, name: &str) -> Result<PathBuf, LabError> {
    fs::create_dir_all(root).map_err(LabError::file(root))?;
    let names = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
    for name in names {
        let dir = root.join(name);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map_err(LabError::file(&dir)).map(|()| dir),
        }
    }
    unreachable!("the numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_results_folder_is_never_used_twice() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|_| new_folder(root.path(), "today").unwrap().file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["today", "today-2", "today-3"]);
    }
}
