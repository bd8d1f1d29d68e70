//! One side of a comparison: a results folder, or one model of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::CompareError;
use crate::error::nearest;
use crate::files;
use crate::lock;
use crate::plan::Plan;
use crate::record::{ENVIRONMENT, Status};
use crate::rounds::{self, Round};
use crate::setting::{Axis, Place};
use crate::text;

/// The points of one side.
pub(super) struct Side {
    pub(super) dir: PathBuf,
    /// The one model that is wanted.
    pub(super) model: Option<String>,
    pub(super) plan: Plan,
    environment: Value,
    /// Good points, by model and place.
    pub(super) rounds: BTreeMap<(String, Place), Vec<Round>>,
    /// Points that were doubtful or broken.
    pub(super) left_out: usize,
    pub(super) damaged: Vec<String>,
}

impl Side {
    /// Reads `FOLDER`, `FOLDER:MODEL`, or `:MODEL` of the folder that the other side has.
    pub(super) fn read(text: &str, other: Option<&Path>) -> Result<Side, CompareError> {
        let (dir, model) = split(text);
        let dir = match (dir, other) {
            ("", Some(other)) => other.to_owned(),
            ("", None) => return Err(CompareError::Usage(format!("{text}: the first side needs a folder"))),
            (dir, _) => PathBuf::from(dir),
        };
        let unreadable = |reason: String| CompareError::Unreadable { dir: dir.clone(), reason };
        let mut plan = Plan::read(&dir).map_err(|error| unreadable(error.to_string()))?;
        plan.tidy();
        let (mut all, mut damaged) = rounds::read(&dir)
            .map(|(all, damaged)| (all, damaged.iter().map(ToString::to_string).collect::<Vec<_>>()))
            .map_err(|error| unreadable(error.to_string()))?;
        if let Some(holder) = lock::holder(&dir) {
            damaged.push(format!(
                "{} is being written by {holder}: the comparison uses the points written so far",
                dir.display()
            ));
        }
        rounds::tidy(&mut all);
        let last = rounds::rounds(&all);
        let known: BTreeSet<&str> = last.iter().map(|round| round.point.model.as_str()).collect();
        if let Some(model) = model.filter(|model| !known.contains(model)) {
            let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
            let hint =
                nearest(model, &known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let models = known.join(", ");
            return Err(CompareError::Usage(format!(
                "no model `{model}` in {}{hint}; there are {models}",
                dir.display()
            )));
        }
        let mut good: BTreeMap<(String, Place), Vec<Round>> = BTreeMap::new();
        let mut left_out = 0;
        for round in last.into_iter().filter(|round| model.is_none_or(|model| round.point.model == model)) {
            match round.point.status {
                Status::Ok => {
                    let place = (round.point.model.clone(), plan.axes.place(&round.point.setting));
                    good.entry(place).or_default().push(round.clone());
                }
                Status::Doubtful | Status::Invalid => left_out += 1,
                Status::Limit => {}
            }
        }
        let environment = files::read(&dir.join(ENVIRONMENT)).ok();
        Ok(Side {
            model: model.map(str::to_owned),
            plan,
            environment: environment.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default(),
            rounds: good,
            left_out,
            damaged,
            dir,
        })
    }

    /// The folder, and the model if there is one.
    pub(super) fn name(&self) -> String {
        let dir = self.dir.display();
        self.model.as_ref().map_or_else(|| dir.to_string(), |model| format!("{dir}:{model}"))
    }
}

/// The colon before a model; a folder's name may have others.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((dir, model)) if !model.contains('/') && !Path::new(text).exists() => (dir, Some(model)),
        _ => (text, None),
    }
}

/// Where the two sides differ in more than their figures: `what: this here, that there`.
pub(super) fn differences(a: &Side, b: &Side) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |what: &str, ours: &Value, theirs: &Value| {
        if ours != theirs {
            found.push(format!("{what}: {} here, {} there", plain(ours), plain(theirs)));
        }
    };
    for (what, pointer) in [
        ("host", "/host"),
        ("CPU", "/cpu/model"),
        ("cores", "/cpu/cores"),
        ("memory in bytes", "/memory_bytes"),
        ("kernel", "/kernel"),
        ("CPU quota", "/cpu_quota"),
        ("pinning", "/pinning"),
        ("switchboard", "/switchboard/version"),
        ("build", "/switchboard/profile"),
        ("rustc", "/switchboard/rustc"),
        ("crates", "/switchboard/crates"),
        ("commit", "/git/commit"),
    ] {
        let of = |side: &Side| side.environment.pointer(pointer).cloned().unwrap_or_default();
        note(what, &of(a), &of(b));
    }
    let sysctls = |side: &Side| side.environment["sysctls"].as_object().cloned().unwrap_or_default();
    let (ours, theirs) = (sysctls(a), sysctls(b));
    for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        let of = |sysctls: &serde_json::Map<String, Value>| sysctls.get(name).cloned().unwrap_or_default();
        note(&text::line(name), &of(&ours), &of(&theirs));
    }
    let (ours, theirs) = (&a.plan, &b.plan);
    let what_varies = |plan: &Plan| json!(plan.axes.label());
    for (what, ours, theirs) in [
        ("experiment", json!(ours.experiment), json!(theirs.experiment)),
        ("varied", what_varies(ours), what_varies(theirs)),
        ("rounds", json!(ours.rounds), json!(theirs.rounds)),
        ("warm-up in ms", json!(ours.warmup_ms), json!(theirs.warmup_ms)),
        ("window in ms", json!(ours.window_ms), json!(theirs.window_ms)),
    ] {
        note(what, &ours, &theirs);
    }
    let varied: Vec<Axis> = [&a.plan, &b.plan].iter().flat_map(|plan| plan.axes.axes()).collect();
    for (what, axis) in CONSTANTS.into_iter().filter(|(_, axis)| !varied.contains(axis)) {
        let value = |plan: &Plan| json!(axis.of(&plan.setting));
        note(what, &value(ours), &value(theirs));
    }
    found
}

/// What is the same at every point of a run, unless it is varied.
const CONSTANTS: [(&str, Axis); 9] = [
    ("connections", Axis::Connections),
    ("payload in bytes", Axis::PayloadBytes),
    ("messages in flight", Axis::Depth),
    ("rate per second", Axis::RatePerS),
    ("offered load", Axis::Load),
    ("work per message in µs", Axis::WorkUs),
    ("slow receivers", Axis::Slow),
    ("pause in ms", Axis::PauseMs),
    ("restart in ms", Axis::RestartMs),
];

/// Whether the two ran on machines that are not the same one.
pub(super) fn other_machine(a: &Side, b: &Side) -> bool {
    ["/host", "/cpu/model", "/cpu/cores"]
        .iter()
        .any(|pointer| a.environment.pointer(pointer) != b.environment.pointer(pointer))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => text::line(text).into_owned(),
        other => text::line(&other.to_string()).into_owned(),
    }
}
