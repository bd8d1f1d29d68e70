//! Whether a results folder says what was measured: every figure, verdict and picture is derived again from the raw data and must
//! agree, and nothing may have changed since the run wrote its checksums.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::calibration::{CALIBRATION, Calibration};
use crate::checksums;
use crate::collection::Collection;
use crate::files;
use crate::judge::judge;
use crate::lock;
use crate::machine::server_cores;
use crate::plan::{Job, Plan};
use crate::record::{Damaged, ENVIRONMENT, Point, SCHEMA, Status};
use crate::report::{self, Findings, Format, ReportError};
use crate::rounds::{self, Round};
use crate::setting::Setting;
use crate::syscalls;
use crate::text;

/// Figures that were computed in another order differ in their last digits.
const TOLERANCE: f64 = 1e-9;

/// The first version whose points carry verdicts.
const VERDICTS_SINCE: u32 = 2;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The folder.
    pub dir: PathBuf,
    /// What was examined, in order.
    pub examined: Vec<Examined>,
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Examined {
    /// What.
    pub what: &'static str,
    /// What was looked at, or why nothing could be.
    pub note: String,
    /// Whether anything could be examined at all.
    pub could_be_examined: bool,
    /// What does not agree, each with its file.
    pub problems: Vec<String>,
}

impl Examined {
    fn problem(what: &'static str, problem: String) -> Examined {
        Examined { what, note: String::new(), could_be_examined: true, problems: vec![problem] }
    }
}

impl Verification {
    fn of(dir: &Path, examined: Vec<Examined>) -> Verification {
        Verification { schema: SCHEMA, dir: dir.to_owned(), examined }
    }

    /// Whether nothing disagrees.
    pub fn agrees(&self) -> bool {
        self.examined.iter().all(|examined| examined.problems.is_empty())
    }
}

/// Examines a results folder, or all those in a folder of several and their common page.
pub fn verify_all(dir: &Path) -> Vec<Verification> {
    if let Some(busy) = being_written(dir) {
        return vec![busy];
    }
    let collection = match Collection::read(dir) {
        Ok(Some(collection)) => collection,
        Ok(None) => return vec![verify(dir)],
        Err(error) => {
            return vec![Verification::of(dir, vec![Examined::problem("experiments", error.to_string())])];
        }
    };
    let mut all: Vec<Verification> = collection.folders(dir).iter().map(|folder| verify(folder)).collect();
    let page = redrawn(dir, |to| Ok(vec![collection.page_into(dir, to)?]));
    all.push(Verification::of(dir, vec![sums(dir), page]));
    all
}

/// Examines a results folder. Whatever is wrong with it is in the outcome; nothing is changed.
pub fn verify(dir: &Path) -> Verification {
    if let Some(busy) = being_written(dir) {
        return busy;
    }
    let verification = verify_still(dir);
    // If a run has begun to write into it meanwhile, this outcome means nothing.
    match being_written(dir).filter(|_| !verification.agrees()) {
        Some(busy) => busy,
        None => verification,
    }
}

/// The outcome for a folder that is being written: it cannot be verified yet.
fn being_written(dir: &Path) -> Option<Verification> {
    let error = lock::is_free(dir).err()?;
    Some(Verification::of(dir, vec![Examined::problem("lock", error.to_string())]))
}

fn verify_still(dir: &Path) -> Verification {
    let mut examined = vec![sums(dir)];
    match rounds::read(dir) {
        Err(error) => {
            let problems = vec![format!("{error}; is this a folder that `switchboard run` made?")];
            examined.push(Examined {
                what: "raw data",
                note: String::new(),
                could_be_examined: true,
                problems,
            });
        }
        Ok((rounds, damaged)) => {
            examined.push(raw(dir, &rounds, damaged.iter().map(Damaged::without_folder).collect()));
            examined.push(planned(dir, &rounds));
            examined.push(figures(&rounds));
            examined.push(verdicts(dir, &rounds));
            examined.push(pictures(dir));
        }
    }
    Verification::of(dir, examined)
}

fn sums(dir: &Path) -> Examined {
    let what = "checksums";
    match checksums::problems(dir) {
        Ok(Some(problems)) => {
            Examined { what, note: "every file is as it was".into(), could_be_examined: true, problems }
        }
        Ok(None) => Examined {
            what,
            note: "there are none: the folder is older than they are, or the run did not end".into(),
            could_be_examined: false,
            problems: Vec::new(),
        },
        Err(error) => {
            let problems = vec![format!("{}: {error}", checksums::CHECKSUMS)];
            Examined { what, note: String::new(), could_be_examined: true, problems }
        }
    }
}

/// Every line can be read, every file is whole.
fn raw(dir: &Path, rounds: &[Round], mut problems: Vec<String>) -> Examined {
    match syscalls::read(dir) {
        Ok((_, damaged)) => problems.extend(damaged.iter().map(Damaged::without_folder)),
        Err(error) => problems.push(format!("{}: {error}", syscalls::SYSCALLS)),
    }
    if let Err(error) = Calibration::read(dir) {
        problems.push(format!("{CALIBRATION}: {error}"));
    }
    let environment = files::read(&dir.join(ENVIRONMENT)).map_err(|error| error.to_string());
    let environment = environment
        .and_then(|text| serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string()));
    if let Err(error) = environment {
        problems.push(format!("{ENVIRONMENT}: {error}"));
    }
    let note = format!("{} points, every line can be read", rounds.len());
    Examined { what: "raw data", note, could_be_examined: true, problems }
}

/// Every planned point is there, once, and no other.
fn planned(dir: &Path, rounds: &[Round]) -> Examined {
    let what = "plan";
    let plan = match Plan::read(dir) {
        Ok(plan) => plan,
        Err(error) => {
            let problems = vec![error.to_string()];
            return Examined { what, note: String::new(), could_be_examined: true, problems };
        }
    };
    let name = |job: &Job| {
        let place = plan.axes.show(plan.axes.place(&job.setting));
        format!("{} at {place}, round {}", job.model, job.round + 1)
    };
    let wanted: BTreeMap<usize, &Job> = plan.jobs.iter().map(|job| (job.order, job)).collect();
    let mut seen: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let mut problems = Vec::new();
    for Round { point, .. } in rounds {
        let is_planned = wanted.get(&point.order).is_some_and(|job| {
            let place = |setting: &Setting| plan.axes.place(setting);
            job.model == point.model
                && job.round == point.round
                && place(&job.setting) == place(&point.setting)
        });
        if !is_planned {
            problems.push(format!("points.jsonl: {} is not in the plan", title(point)));
        }
        seen.entry(point.order).or_default().push(point.attempt);
    }
    for (order, attempts) in &seen {
        let is_twice = attempts.iter().collect::<HashSet<_>>().len() < attempts.len();
        if let Some(job) = wanted.get(order).filter(|_| is_twice) {
            problems.push(format!("points.jsonl: {} is there twice", name(job)));
        }
    }
    let missing = plan.jobs.iter().filter(|job| !seen.contains_key(&job.order));
    problems
        .extend(missing.map(|job| format!("points.jsonl: {} is missing; go on with --resume", name(job))));
    problems.sort();
    let note = format!("all {} planned points are there", plan.jobs.len());
    Examined { what, note, could_be_examined: true, problems }
}

/// The figures of every point follow from its counts and its histogram.
fn figures(rounds: &[Round]) -> Examined {
    let mut problems = Vec::new();
    let mut count = 0;
    for Round { point, latency, uncorrected } in rounds {
        let (latency, uncorrected) = (latency.histogram(), uncorrected.histogram());
        let mut expect = |field: &str, recorded: Option<f64>, derived: Option<f64>| {
            let (Some(recorded), Some(derived)) = (recorded, derived) else { return };
            count += 1;
            if (recorded - derived).abs() > TOLERANCE * derived.abs().max(TOLERANCE) {
                problems.push(format!(
                    "points.jsonl: {}: {field} is {recorded}, derived again {derived}",
                    title(point)
                ));
            }
        };
        let messages = point.messages.map(|messages| messages as f64);
        let per = |whole: Option<f64>, part: Option<f64>| Some(whole? / part.filter(|part| *part > 0.0)?);
        let nanoseconds = |ns: Option<u64>| ns.map(|ns| ns as f64);
        let window_ns = point.window_s.map(|seconds| seconds * 1e9);
        expect("messages_per_s", point.messages_per_s, per(messages, point.window_s));
        let (server, client) = (nanoseconds(point.server_cpu_ns), nanoseconds(point.client_cpu_ns));
        expect("server_cpu_ns_per_message", point.server_cpu_ns_per_message, per(server, messages));
        expect("server_cpu", point.server_cpu, per(server, window_ns));
        expect("client_cpu_ns_per_message", point.client_cpu_ns_per_message, per(client, messages));
        expect("client_cpu", point.client_cpu, per(client, window_ns));
        if !point.slices.is_empty() {
            expect("the sum of slices", Some(point.slices.iter().sum::<u64>() as f64), messages);
        }
        match latency {
            Some(latency) => {
                expect("the number of latencies in histograms.jsonl", Some(latency.len() as f64), messages);
                let recorded = point.latency_ns;
                let quantile =
                    |q: f64| Some(latency.value_at_quantile(q) as f64).filter(|_| !latency.is_empty());
                expect("latency_ns.p50", recorded.map(|times| times.p50 as f64), quantile(0.5));
                expect("latency_ns.p90", recorded.map(|times| times.p90 as f64), quantile(0.9));
                expect("latency_ns.p99", recorded.map(|times| times.p99 as f64), quantile(0.99));
                expect("latency_ns.p99_9", recorded.map(|times| times.p99_9 as f64), quantile(0.999));
                expect("latency_ns.min", recorded.map(|times| times.min as f64), Some(latency.min() as f64));
                expect("latency_ns.max", recorded.map(|times| times.max as f64), Some(latency.max() as f64));
                expect("latency_ns.mean", recorded.map(|times| times.mean), Some(latency.mean()));
                if let (Some(recorded), Some(histogram)) = (point.uncorrected_ns, uncorrected) {
                    let p99 = histogram.value_at_quantile(0.99) as f64;
                    expect("uncorrected_ns.p99", Some(recorded.p99 as f64), Some(p99));
                    expect("uncorrected_ns.max", Some(recorded.max as f64), Some(histogram.max() as f64));
                }
            }
            None if point.status == Status::Ok && point.setting.talking() > 0 => {
                problems.push(format!("histograms.jsonl: {}: there is no histogram", title(point)));
            }
            None => {}
        }
    }
    Examined { what: "figures", note: format!("{count} derived again"), could_be_examined: true, problems }
}

/// Every verdict follows from its point.
fn verdicts(dir: &Path, rounds: &[Round]) -> Examined {
    let environment: Value = files::read(&dir.join(ENVIRONMENT))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let is_pinned = matches!(environment.get("pinning"), Some(Value::Object(_)));
    let cores = environment.pointer("/cpu/cores").and_then(Value::as_f64).unwrap_or(1.0);
    let calibration = Calibration::read(dir).ok().flatten().unwrap_or_default();
    let judged: Vec<&Round> = rounds.iter().filter(|round| round.point.schema >= VERDICTS_SINCE).collect();
    let mut problems = Vec::new();
    for Round { point, .. } in &judged {
        let mut again = point.clone();
        again.share_of_ceiling = calibration.share(point);
        judge(&mut again, server_cores(point, is_pinned, cores));
        if again != *point {
            let (was, is) = (outcome(point), outcome(&again));
            problems
                .push(format!("points.jsonl: {}: the verdict is {was}, reached again {is}", title(point)));
        }
    }
    let note = match judged.len() {
        0 => "these points are older than verdicts are".to_owned(),
        count => format!("{count} reached again"),
    };
    Examined { what: "verdicts", note, could_be_examined: !judged.is_empty(), problems }
}

/// Page, pictures and summary are what this program makes of the raw data.
fn pictures(dir: &Path) -> Examined {
    let called = files::read_text(&dir.join(report::PAGE)).ok().and_then(|page| report::called(&page));
    redrawn(dir, |to| {
        Findings::read(dir)
            .and_then(|findings| findings.draw_into(dir, to, &Format::USUAL, called.as_deref()))
    })
}

/// What is drawn again is what is there.
fn redrawn(dir: &Path, draw: impl FnOnce(&Path) -> Result<Vec<String>, ReportError>) -> Examined {
    let what = "report";
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return Examined::problem(what, format!("cannot make a temporary folder: {error}")),
    };
    let drawn = draw(folder.path());
    let names = match drawn {
        Ok(names) => names,
        Err(error) => return Examined::problem(what, error.to_string()),
    };
    let differs =
        |name: &&String| files::read(&dir.join(name)).ok() != files::read(&folder.path().join(name)).ok();
    let problem = |name: &String| {
        let what = match files::open(&dir.join(name)) {
            Ok(_) => "is not what the raw data give".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing".to_owned(),
            Err(error) => error.to_string(),
        };
        format!(
            "{name}: {what}; if another version of switchboard drew it, `switchboard report` draws it again"
        )
    };
    let problems = names.iter().filter(differs).map(problem).collect();
    Examined {
        what,
        note: format!("{} files drawn again, byte for byte", names.len()),
        could_be_examined: true,
        problems,
    }
}

fn title(point: &Point) -> String {
    let (model, connections) = (&point.model, point.setting.connections);
    format!("{model} at {connections} connections, round {}, try {}", point.round + 1, point.attempt)
}

fn outcome(point: &Point) -> String {
    let status = serde_json::to_value(point.status).unwrap_or_default();
    let reason = point.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{}{reason}", status.as_str().unwrap_or_default())
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        writeln!(f, "{}", self.dir.display())?;
        for Examined { what, note, could_be_examined, problems } in &self.examined {
            match (could_be_examined, problems.len()) {
                (false, _) => writeln!(f, "  – {what}: {note}")?,
                (true, 0) => writeln!(f, "  ✓ {what}: {note}")?,
                (true, count) => {
                    writeln!(
                        f,
                        "  ✗ {what}: {count} {}",
                        if count == 1 { "disagreement" } else { "disagreements" }
                    )?;
                    problems
                        .iter()
                        .take(SHOWN)
                        .try_for_each(|problem| writeln!(f, "      {}", text::line(problem)))?;
                    if count > SHOWN {
                        writeln!(f, "      and {} more (--json has them all)", count - SHOWN)?;
                    }
                }
            }
        }
        Ok(())
    }
}
