//! What is measured: the definitions in `experiments/`, compiled in, and any file of the same form on disk.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize};
use switchboard_models::{MODELS, Mechanism, Model};

use crate::bounds::{LONGEST, MOST_EXPERIMENTS, MOST_ROUNDS, MOST_VALUES};
use crate::error::{LabError, nearest};
use crate::external::{self, ExternalServer};
use crate::files;
use crate::mechanism::{self, MechanismName, server_of};
use crate::quantity::Quantity;
use crate::report::PictureName;
use crate::setting::{Axis, Setting};
use crate::stats::LawKind;

/// The definitions that are compiled in, the default one first and then in reading order.
const BUILT_IN: &[(&str, &str)] = &[
    ("connections", include_str!("../../../experiments/connections.toml")),
    ("idle", include_str!("../../../experiments/idle.toml")),
    ("active", include_str!("../../../experiments/active.toml")),
    ("latency", include_str!("../../../experiments/latency.toml")),
    ("payload", include_str!("../../../experiments/payload.toml")),
    ("depth", include_str!("../../../experiments/depth.toml")),
    ("broadcast", include_str!("../../../experiments/broadcast.toml")),
    ("churn", include_str!("../../../experiments/churn.toml")),
    ("memory", include_str!("../../../experiments/memory.toml")),
    ("slow", include_str!("../../../experiments/slow.toml")),
    ("pause", include_str!("../../../experiments/pause.toml")),
    ("udp", include_str!("../../../experiments/udp.toml")),
    ("datagrams", include_str!("../../../experiments/datagrams.toml")),
    ("work", include_str!("../../../experiments/work.toml")),
    ("cores", include_str!("../../../experiments/cores.toml")),
    ("wakeup", include_str!("../../../experiments/wakeup.toml")),
    ("peers", include_str!("../../../experiments/peers.toml")),
    ("polling", include_str!("../../../experiments/polling.toml")),
    ("fanout", include_str!("../../../experiments/fanout.toml")),
    ("socketio", include_str!("../../../experiments/socketio.toml")),
    ("delivery", include_str!("../../../experiments/delivery.toml")),
    ("reconnect", include_str!("../../../experiments/reconnect.toml")),
    ("scale", include_str!("../../../experiments/scale.toml")),
    ("scale-broadcast", include_str!("../../../experiments/scale-broadcast.toml")),
];

/// What stands for all experiments on the command line, and for all models there and in a definition.
const ALL: &str = "all";

/// How much time a run may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Under a minute: does everything work, and what is the order of magnitude?
    Quick,
    /// A few minutes.
    #[default]
    Default,
    /// As long as it takes.
    Full,
}

/// The definition of an experiment, as its .toml file has it. What is not varied has the value that stands in `setting`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The name: that of the file without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// What the experiment answers, in one sentence.
    pub question: String,
    /// What to expect and why, and what would be a surprise.
    pub analysis: String,
    /// Every visible model that serves one of these takes part. The first is what models are compared on; the others stand beside.
    pub mechanisms: Vec<MechanismName>,
    /// Only these of them, where the question is not about all.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// A line for each of these mechanisms that a server speaks, named `epoll:sse`, and not only for the first.
    #[serde(default)]
    pub each_mechanism: bool,
    /// Models of all these mechanisms are compared with each other, where the question is about that.
    #[serde(default)]
    pub compare_mechanisms: bool,
    /// Hidden models that serve this take part as well, as a line that nobody can be above.
    #[serde(default)]
    pub ceiling: Option<MechanismName>,
    /// Servers that are none of the models.
    #[serde(default, rename = "server")]
    pub servers: Vec<ExternalServer>,
    /// Experiments that belong to this one and are run behind it, by their names.
    #[serde(default)]
    pub also: Vec<String>,
    /// What is the same at every point.
    #[serde(default)]
    pub setting: Constants,
    /// What figures are drawn against.
    pub x: AxisDefinition,
    /// A second axis: the rows of a map, or a picture for each of its values.
    #[serde(default)]
    pub by: Option<AxisDefinition>,
    /// What is drawn, the main picture first.
    pub pictures: Vec<PictureName>,
    /// The laws that the figures should follow.
    #[serde(default)]
    pub fit: Vec<Fit>,
    /// Count the system calls of a message, in short runs of their own.
    #[serde(default)]
    pub system_calls: bool,
    /// Windows, rounds and time for each [`Effort`].
    pub effort: Efforts,
}

/// The part of a [`Setting`] that a definition can give; what it does not give is [`Setting::default`].
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // The names are those of [`Setting`].
pub struct Constants {
    pub connections: Option<NonZeroUsize>,
    pub active: Option<usize>,
    pub active_share: Option<f64>,
    pub payload_bytes: Option<NonZeroUsize>,
    pub depth: Option<NonZeroUsize>,
    pub rate_per_s: Option<f64>,
    pub arrivals_seed: Option<u64>,
    pub load: Option<f64>,
    pub work_us: Option<f64>,
    pub slow: Option<usize>,
    pub pause_ms: Option<u64>,
    pub restart_ms: Option<u64>,
    pub churn: Option<bool>,
    pub workers: Option<NonZeroUsize>,
    pub all_cores: Option<bool>,
    pub busy_poll_us: Option<f64>,
}

impl Constants {
    /// Everything that a point needs.
    pub(crate) fn setting(self) -> Setting {
        let usual = Setting::default();
        Setting {
            connections: self.connections.map_or(usual.connections, usize::from),
            active: self.active,
            active_share: self.active_share,
            payload_bytes: self.payload_bytes.map_or(usual.payload_bytes, usize::from),
            depth: self.depth.map_or(usual.depth, usize::from),
            rate_per_s: self.rate_per_s,
            arrivals_seed: self.arrivals_seed,
            load: self.load,
            work_us: self.work_us.unwrap_or(usual.work_us),
            slow: self.slow.unwrap_or(usual.slow),
            pause_ms: self.pause_ms.unwrap_or(usual.pause_ms),
            restart_ms: self.restart_ms.unwrap_or(usual.restart_ms),
            churn: self.churn.unwrap_or(usual.churn),
            workers: self.workers.map(usize::from),
            all_cores: self.all_cores.unwrap_or(usual.all_cores),
            busy_poll_us: self.busy_poll_us.unwrap_or(usual.busy_poll_us),
            load_threads: usual.load_threads,
        }
    }
}

/// What is varied, and its values: either listed, or from `from` on, each `factor` times the one before, up to `to`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisDefinition {
    /// The name of a field of [`Setting`].
    pub vary: Axis,
    /// The values.
    #[serde(default)]
    pub values: Option<Vec<f64>>,
    /// The first value; 1 if it is not given.
    #[serde(default)]
    pub from: Option<f64>,
    /// The last value is at most this; without it the machine's limits and the effort's decide.
    #[serde(default)]
    pub to: Option<f64>,
    /// The step from one value to the next.
    #[serde(default)]
    pub factor: Option<f64>,
}

/// A law that a figure should follow along the x-axis, fitted for each model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Which law.
    pub law: LawKind,
    /// Of what.
    pub figure: Quantity,
    /// What one step on the x-axis is, in words: `silent connection`.
    pub per: String,
}

/// One [`Budget`] for each [`Effort`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Efforts {
    /// `--quick`
    pub quick: Budget,
    /// neither
    pub default: Budget,
    /// `--full`
    pub full: Budget,
}

/// How much is measured in how much time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The run is planned to take at most this long.
    #[serde(deserialize_with = "positive")]
    pub budget: Duration,
    /// How often every point is measured, if the budget allows.
    pub rounds: NonZeroU32,
    /// Time under load before each window.
    #[serde(deserialize_with = "positive")]
    pub warmup: Duration,
    /// The measured window, if the budget allows.
    #[serde(deserialize_with = "positive")]
    pub window: Duration,
    /// Rounds are given up before windows get shorter than this.
    #[serde(deserialize_with = "positive")]
    pub shortest_window: Duration,
    /// No more connections than this, whatever the machine allows.
    #[serde(default)]
    pub most_connections: Option<NonZeroUsize>,
    /// These values of the x-axis instead.
    #[serde(default)]
    pub x: Option<Vec<f64>>,
    /// These values of the second axis instead.
    #[serde(default)]
    pub by: Option<Vec<f64>>,
    /// Only these models.
    #[serde(default)]
    pub models: Option<Vec<String>>,
}

/// One line of the plot: a model and what it is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The model's name, with the mechanism's behind it where there is a line for each: `epoll`, `epoll:sse`.
    pub model: String,
    /// The mechanism's name.
    pub mechanism: String,
    /// Does the same as most others, so that a best among them means something.
    pub compared: bool,
    /// Shows what would be possible, see [`Experiment::ceiling`].
    pub ceiling: bool,
}

/// The experiments that are compiled in, the default one first.
pub fn experiments() -> Vec<Experiment> {
    BUILT_IN.iter().map(|(name, text)| parse(name, text).expect("a test parses every one")).collect()
}

/// The text of a built-in definition, as its file has it: what one's own begins with.
pub fn definition(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The experiments that names and paths stand for; `all` are all built-in ones.
pub(crate) fn find_all(names: &[String]) -> Result<Vec<Experiment>, LabError> {
    let mut found: Vec<Experiment> = Vec::new();
    for name in names {
        if name == ALL {
            found.extend(experiments());
            if found.len() > MOST_EXPERIMENTS {
                return Err(LabError::Usage("all: is named more than once".to_owned()));
            }
            continue;
        }
        if found.len() >= MOST_EXPERIMENTS {
            return Err(LabError::Usage(format!(
                "more than {MOST_EXPERIMENTS} experiments: run them in several runs"
            )));
        }
        let experiment = find(name)?;
        let also = experiment.also.iter().filter(|name| !names.contains(name)).map(|name| find(name));
        let also = also.collect::<Result<Vec<_>, _>>()?;
        found.push(experiment);
        found.extend(also);
    }
    Ok(found)
}

/// Finds an experiment by its name, or reads it from a file: a name with a slash or with `.toml` at its end is a path.
pub(crate) fn find(name: &str) -> Result<Experiment, LabError> {
    if let Some(text) = definition(name) {
        return parse(name, text)
            .map_err(|reason| LabError::Definition { file: PathBuf::from(name), reason });
    }
    if name.contains('/') || name.ends_with(".toml") {
        let path = Path::new(name);
        let text = files::read_definition(path).map_err(LabError::file(path))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        return parse(&stem, &text).map_err(|reason| LabError::Definition { file: path.to_owned(), reason });
    }
    let known: Vec<String> =
        BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).chain([ALL.to_owned()]).collect();
    Err(LabError::UnknownExperiment { nearest: nearest(name, &known), name: name.to_owned(), known })
}

fn parse(name: &str, text: &str) -> Result<Experiment, String> {
    let mut experiment: Experiment = toml::from_str(text).map_err(|error| with_hint(&error))?;
    experiment.name = name.to_owned();
    experiment.check().map_err(|(key, reason)| match line_of(text, key) {
        Some(line) => format!("line {line}, {key}: {reason}"),
        None => format!("{key}: {reason}"),
    })?;
    Ok(experiment)
}

/// The parser's own words, with line and key, and the valid key that is most like the one that is not.
pub(crate) fn with_hint(error: &toml::de::Error) -> String {
    let message = error.to_string().trim().to_owned();
    let quoted =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let unknown =
        error.message().strip_prefix("unknown field ").or(error.message().strip_prefix("unknown variant "));
    let Some((wrong, known)) = unknown.map(quoted).and_then(|names| {
        let (wrong, known) = names.split_first()?;
        Some((wrong.clone(), known.to_vec()))
    }) else {
        return message;
    };
    nearest(&wrong, &known).map_or(message.clone(), |near| format!("{message} (did you mean `{near}`?)"))
}

/// The line on which a key is given, by its last part: `x.values` is the first `values` behind `[x]`.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let lines: Vec<&str> = text.lines().collect();
    let start = if table.is_empty() {
        0
    } else {
        lines.iter().position(|line| line.trim().trim_matches(['[', ']']) == table)?
    };
    let is_key = |line: &&str| line.split('=').next().is_some_and(|left| left.trim() == name);
    let place = lines[start..].iter().position(is_key);
    place.map(|place| start + place + 1).or((start > 0).then_some(start + 1))
}

/// The key that is wrong, and why.
type Mistake = (&'static str, String);

impl Experiment {
    fn check(&self) -> Result<(), Mistake> {
        if self.mechanisms.is_empty() {
            return Err(("mechanisms", "must name at least one".to_owned()));
        }
        if self.pictures.is_empty() {
            return Err(("pictures", "must name at least one".to_owned()));
        }
        let known: Vec<String> = MODELS.iter().map(|model| model.name.to_owned()).collect();
        let efforts = [&self.effort.quick, &self.effort.default, &self.effort.full];
        for name in
            self.models.iter().chain(efforts.iter().filter_map(|budget| budget.models.as_ref())).flatten()
        {
            if name != ALL && !known.contains(name) {
                let hint = nearest(name, &known)
                    .map(|near| format!(" (did you mean `{near}`?)"))
                    .unwrap_or_default();
                return Err(("models", format!("unknown model `{name}`{hint}; one of {}", known.join(", "))));
            }
        }
        external::check(&self.servers).map_err(|reason| ("server", reason))?;
        if self.also.len() > MOST_EXPERIMENTS {
            return Err(("also", format!("must name at most {MOST_EXPERIMENTS}")));
        }
        self.x.check("x")?;
        self.by.as_ref().map_or(Ok(()), |by| by.check("by"))?;
        if self.by.as_ref().is_some_and(|by| by.vary == self.x.vary) {
            return Err(("by.vary", "is what x varies already".to_owned()));
        }
        let setting = self.setting.setting();
        let lists = [
            ("effort.quick.x", "effort.quick.by", "effort.quick.rounds", &self.effort.quick),
            ("effort.default.x", "effort.default.by", "effort.default.rounds", &self.effort.default),
            ("effort.full.x", "effort.full.by", "effort.full.rounds", &self.effort.full),
        ];
        for (x, by, rounds, budget) in lists {
            if budget.rounds.get() > MOST_ROUNDS {
                return Err((rounds, format!("must be from 1 to {MOST_ROUNDS}")));
            }
            budget.x.as_ref().map_or(Ok(()), |values| self.x.vary.check(x, values))?;
            match (&self.by, &budget.by) {
                (Some(axis), Some(values)) => axis.vary.check(by, values)?,
                (None, Some(_)) => return Err((by, "there is no second axis".to_owned())),
                _ => {}
            }
        }
        for (axis, key) in Axis::ALL {
            if let Some(objection) = axis.objection(axis.of(&setting)) {
                return Err((key, objection));
            }
        }
        if setting.payload_bytes < switchboard_load::LEAST_PAYLOAD_BYTES {
            let least = switchboard_load::LEAST_PAYLOAD_BYTES;
            return Err(("setting.payload_bytes", format!("must be at least {least}")));
        }
        for (key, value) in [("setting.rate_per_s", setting.rate_per_s), ("setting.load", setting.load)] {
            if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
                return Err((key, "must be above 0".to_owned()));
            }
        }
        if setting.arrivals_seed.is_some() && !setting.is_open_loop() && self.x.vary != Axis::RatePerS {
            return Err((
                "setting.arrivals_seed",
                "is for messages that are due: give rate_per_s or load".to_owned(),
            ));
        }
        if setting.active_share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return Err(("setting.active_share", "must be above 0 and at most 1".to_owned()));
        }
        for (key, value) in
            [("setting.work_us", setting.work_us), ("setting.busy_poll_us", setting.busy_poll_us)]
        {
            if !(0.0..=1e6).contains(&value) {
                return Err((key, "must be from 0 to 1000000 (a second)".to_owned()));
            }
        }
        Ok(())
    }
}

impl AxisDefinition {
    fn check(&self, table: &'static str) -> Result<(), Mistake> {
        let key = |name: &'static str| match (table, name) {
            ("x", "values") => "x.values",
            ("x", _) => "x.factor",
            (_, "values") => "by.values",
            _ => "by.factor",
        };
        match (&self.values, self.factor) {
            (Some(values), None) => self.vary.check(key("values"), values),
            (None, Some(factor)) if factor > 1.0 && factor.is_finite() => {
                let ends = [self.from, self.to];
                match ends.iter().flatten().find(|end| !(end.is_finite() && **end > 0.0)) {
                    Some(end) => Err((key("factor"), format!("{end}: from and to must be numbers above 0"))),
                    None => ends
                        .into_iter()
                        .flatten()
                        .find_map(|end| self.vary.objection(end))
                        .map_or(Ok(()), |objection| Err((key("factor"), objection))),
                }
            }
            (None, Some(_)) => Err((key("factor"), "must be more than 1".to_owned())),
            (Some(_), Some(_)) => Err((key("values"), "either values or a factor, not both".to_owned())),
            (None, None) => Err((key("values"), "needs values = [...] or factor = ...".to_owned())),
        }
    }

    /// The values, up to what the effort allows. A series ends where the machine does; of a list all is wished, reached or not.
    pub(crate) fn range(&self, listed: Option<&Vec<f64>>, allowed: f64, reached: f64) -> Vec<f64> {
        let allowed = self.to.map_or(allowed, |to| to.min(allowed));
        let is_series = listed.or(self.values.as_ref()).is_none();
        let most = if is_series { allowed.min(reached) } else { allowed };
        let mut values: Vec<f64> = match (listed.or(self.values.as_ref()), self.factor) {
            (Some(values), _) => values.iter().copied().filter(|value| *value <= most).collect(),
            (None, factor) => {
                let factor = factor.unwrap_or(2.0);
                let powers =
                    std::iter::successors(Some(self.from.unwrap_or(1.0)), |value| Some(value * factor));
                let whole = |value: f64| if self.vary.is_whole() { value.round() } else { value };
                powers.take(MOST_VALUES).take_while(|value| *value <= most).map(whole).collect()
            }
        };
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    }
}

impl Axis {
    fn check(self, key: &'static str, values: &[f64]) -> Result<(), Mistake> {
        if values.is_empty() {
            return Err((key, "needs at least one value".to_owned()));
        }
        if values.len() > MOST_VALUES {
            return Err((key, format!("{} values: must be at most {MOST_VALUES}", values.len())));
        }
        let is_wrong = |value: &&f64| {
            !value.is_finite() || **value < self.least() || self.is_whole() && value.fract() != 0.0
        };
        if let Some(objection) =
            values.iter().filter(|value| !is_wrong(value)).find_map(|value| self.objection(*value))
        {
            return Err((key, objection));
        }
        match values.iter().find(is_wrong) {
            Some(value) => {
                let whole = if self.is_whole() { "whole numbers " } else { "" };
                Err((key, format!("{value}: needs {whole}from {} up", self.least())))
            }
            None => Ok(()),
        }
    }
}

impl Experiment {
    /// The plan's budget for `effort`.
    pub fn budget(&self, effort: Effort) -> &Budget {
        match effort {
            Effort::Quick => &self.effort.quick,
            Effort::Default => &self.effort.default,
            Effort::Full => &self.effort.full,
        }
    }

    /// Who can take part, in the order of the registry, and behind it the servers that are none of the models.
    pub fn subjects(&self) -> Vec<Subject> {
        let models = MODELS.iter().flat_map(|model| {
            let wanted = if model.hidden { self.ceiling.as_slice() } else { self.mechanisms.as_slice() };
            self.lines(model.name, model.hidden, wanted, |mechanism| serves(model, mechanism))
        });
        let servers = self.servers.iter().flat_map(|server| {
            self.lines(&server.name, false, &self.mechanisms, |mechanism| server.speaks.contains(mechanism))
        });
        models.chain(servers).collect()
    }

    /// Who takes part if nobody is named.
    pub(crate) fn subjects_for(&self, effort: Effort) -> Vec<Subject> {
        let wanted = self.budget(effort).models.as_ref().or(self.models.as_ref());
        let is_wanted = |subject: &Subject| {
            let is_named =
                |wanted: &Vec<String>| wanted.iter().any(|name| is_meant(name, subject) || name == ALL);
            subject.ceiling || self.is_external(&subject.model) || wanted.is_none_or(is_named)
        };
        self.subjects().into_iter().filter(is_wanted).collect()
    }

    /// Those of [`Experiment::subjects`] that were asked for by name.
    pub(crate) fn subjects_named(&self, names: &[String]) -> Result<Vec<Subject>, LabError> {
        let all = self.subjects();
        if names == [ALL] {
            return Ok(all);
        }
        for name in names {
            if !all.iter().any(|subject| is_meant(name, subject)) {
                let known: Vec<String> = all.iter().map(|subject| subject.model.clone()).collect();
                let (nearest, experiment) = (nearest(name, &known), self.name.clone());
                return Err(LabError::UnknownModel { name: name.clone(), experiment, nearest, known });
            }
        }
        let is_named = |subject: &Subject| names.iter().any(|name| is_meant(name, subject));
        Ok(all.into_iter().filter(is_named).collect())
    }

    /// Lets these take part as well; what has the same name already stays as it is.
    pub(crate) fn add_servers(&mut self, servers: &[ExternalServer]) {
        let new: Vec<ExternalServer> =
            servers.iter().filter(|server| !self.is_external(&server.name)).cloned().collect();
        self.servers.extend(new);
    }

    fn is_external(&self, name: &str) -> bool {
        self.servers.iter().any(|server| server.name == server_of(name))
    }

    /// The lines of one server: what it serves of what is wanted, or only the first of that.
    fn lines(
        &self,
        server: &str,
        ceiling: bool,
        wanted: &[MechanismName],
        serves: impl Fn(&MechanismName) -> bool,
    ) -> Vec<Subject> {
        let served = wanted.iter().enumerate().filter(|(_, mechanism)| serves(mechanism));
        let line = |(place, asked): (usize, &MechanismName)| Subject {
            model: match self.each_mechanism {
                true => mechanism::line_of(server, asked),
                false => server.to_owned(),
            },
            mechanism: (**asked).to_owned(),
            compared: !ceiling && (place == 0 || self.compare_mechanisms),
            ceiling,
        };
        served.take(if self.each_mechanism { usize::MAX } else { 1 }).map(line).collect()
    }
}

/// Whether somebody who says `name` means this line.
fn is_meant(name: &str, subject: &Subject) -> bool {
    name == subject.model || name == server_of(&subject.model)
}

/// What the registry says, and what every model serves that carries the whole session: a broadcast is the hub's, and so is all that one can hear of it.
fn serves(model: &Model, mechanism: &str) -> bool {
    let named =
        model.serves.iter().any(|served| serde_json::to_value(served).is_ok_and(|name| name == mechanism));
    named || mechanism::is_of_the_session(mechanism) && model.serves.contains(&Mechanism::Broadcast)
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = SignedDuration::deserialize(deserializer)?;
    let unsigned = Duration::try_from(duration).ok().filter(|duration| !duration.is_zero());
    let unsigned =
        unsigned.ok_or_else(|| serde::de::Error::custom("must be longer than nothing, such as \"300ms\""))?;
    match unsigned <= LONGEST {
        true => Ok(unsigned),
        false => Err(serde::de::Error::custom("must be at most a day, \"24h\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_definition_can_be_read_and_tells_what_it_is_for() {
        let all = experiments();
        assert_eq!((all.len(), all[0].name.as_str()), (24, "connections"));
        for experiment in all {
            assert!(experiment.question.ends_with('?'), "{}", experiment.name);
            for word in ["What to expect.", "What would surprise."] {
                assert!(experiment.analysis.contains(word), "{}: {word}", experiment.name);
            }
            assert!(experiment.also.iter().all(|name| definition(name).is_some()), "{}", experiment.name);
        }
    }

    #[test]
    fn what_belongs_to_an_experiment_is_run_behind_it_and_once() {
        let names = |wished: &[&str]| -> Vec<String> {
            let wished: Vec<String> = wished.iter().map(|name| (*name).to_owned()).collect();
            find_all(&wished).unwrap().into_iter().map(|experiment| experiment.name).collect()
        };
        assert_eq!(names(&["scale"]), ["scale", "scale-broadcast"]);
        assert_eq!(names(&["scale-broadcast", "scale"]), ["scale-broadcast", "scale"]);
        assert_eq!(names(&["idle"]), ["idle"]);
    }

    #[test]
    fn every_visible_model_takes_part_in_connections_and_raw_is_the_ceiling() {
        let subjects = find("connections").unwrap().subjects();
        for model in MODELS.iter().filter(|model| !model.hidden) {
            assert!(subjects.iter().any(|subject| subject.model == model.name), "{}", model.name);
        }
        let one = |name: &str| subjects.iter().find(|subject| subject.model == name).unwrap().clone();
        assert_eq!(
            (one("raw").mechanism.as_str(), one("raw").ceiling, one("raw").compared),
            ("tcp-echo", true, false)
        );
        assert_eq!((one("udp").mechanism.as_str(), one("udp").compared), ("udp-echo", false));
        assert_eq!((one("epoll").mechanism.as_str(), one("epoll").compared), ("echo", true));
    }

    #[test]
    fn each_mechanism_has_a_line_where_that_is_the_question() {
        let fanout = find("fanout").unwrap();
        let lines = |names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            fanout.subjects_named(&names).unwrap().into_iter().map(|subject| subject.model).collect()
        };
        assert_eq!(lines(&["epoll"]), ["epoll:broadcast", "epoll:sse", "epoll:longpoll"]);
        assert_eq!(lines(&["epoll:sse", "poll:longpoll"]), ["poll:longpoll", "epoll:sse"]);
        assert!(fanout.subjects().iter().all(|subject| subject.compared && subject.model != "udp"));
        let quick = fanout.subjects_for(Effort::Quick);
        assert!(quick.iter().all(|subject| server_of(&subject.model) == "epoll") && quick.len() == 3);
        let socketio = find("socketio").unwrap().subjects_for(Effort::Default);
        assert!(socketio.iter().any(|subject| subject.model == "socket.io:socketio-polling"));
    }

    #[test]
    fn all_the_ways_to_hear_of_an_event_are_lines_of_one_picture() {
        let delivery = find("delivery").unwrap();
        let lines: Vec<String> =
            delivery.subjects_for(Effort::Default).into_iter().map(|subject| subject.model).collect();
        let expected = [
            "epoll:poll-10ms",
            "epoll:poll-100ms",
            "epoll:poll-1s",
            "epoll:longpoll",
            "epoll:sse",
            "epoll:broadcast",
            "epoll:socketio-broadcast",
            "epoll:socketio-polling-broadcast",
            "udp-epoll:udp-broadcast",
        ];
        assert_eq!(lines, expected);
        assert!(delivery.subjects().iter().all(|subject| subject.compared));
        // Whoever asks once in a second must have asked before the window opens.
        for effort in [Effort::Quick, Effort::Default, Effort::Full] {
            assert!(delivery.budget(effort).warmup >= Duration::from_secs(1));
        }
    }

    #[test]
    fn models_that_serve_no_broadcast_stay_out_of_it() {
        let subjects = find("broadcast").unwrap().subjects();
        assert!(
            subjects.iter().all(|subject| subject.model != "threads-direct" && subject.model != "raw-uring")
        );
        let raw = subjects.iter().find(|subject| subject.model == "raw").unwrap();
        assert_eq!((raw.mechanism.as_str(), raw.ceiling, raw.compared), ("tcp-broadcast", true, false));
        assert!(
            subjects.iter().any(|subject| subject.model == "udp" && subject.mechanism == "udp-broadcast")
        );
    }

    #[test]
    fn an_unknown_name_brings_the_list_and_the_nearest() {
        let error = find("conections").unwrap_err();
        assert_eq!(error.exit_status(), 2);
        let message = error.to_string();
        assert!(
            message.starts_with("unknown experiment `conections` (did you mean `connections`?)"),
            "{message}"
        );
        assert!(
            message.contains("broadcast") && message.ends_with("or the path of a .toml file"),
            "{message}"
        );
        let error = find("connections").unwrap().subjects_named(&["epol".to_owned()]).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.to_string().starts_with("unknown model `epol` (did you mean `epoll`?)"), "{error}");
    }

    #[test]
    fn a_mistake_in_a_definition_is_named_by_file_line_and_key() {
        let good = BUILT_IN[0].1;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        for (from, to, words) in [
            ("depth = 1", "dephts = 1", ["dephts", "did you mean `depth`?"]),
            ("\"udp-echo\"]", "\"udp-ecko\"]", ["mechanisms", "did you mean `udp-echo`?"]),
            (
                "vary = \"connections\"",
                "vary = \"conections\"",
                ["conections", "did you mean `connections`?"],
            ),
            ("\"throughput\", \"latency\"", "\"througput\"", ["througput", "did you mean `throughput`?"]),
            ("rounds = 1", "rounds = 0", ["rounds", "nonzero"]),
            ("budget = \"42s\"", "budget = \"-1s\"", ["budget", "longer than nothing"]),
            ("factor = 4", "factor = 1", ["x.factor", "more than 1"]),
            ("factor = 4", "values = [0, 1]", ["x.values", "from 1 up"]),
            ("factor = 4", "values = [1.5]", ["x.values", "whole numbers"]),
            ("payload_bytes = 64", "payload_bytes = 15", ["setting.payload_bytes", "at least 16"]),
            ("\"select\", \"poll\"", "\"selekt\"", ["models", "did you mean `select`?"]),
        ] {
            assert!(good.contains(from), "{from}");
            let text = good.replacen(from, to, 1);
            let line = text.lines().position(|line| line.contains(to)).unwrap() + 1;
            std::fs::write(&path, text).unwrap();
            let message = find(path.to_str().unwrap()).unwrap_err().to_string();
            assert!(message.starts_with(path.to_str().unwrap()), "{message}");
            assert!(message.contains(&format!("line {line},")), "{to}: {message}");
            for word in words {
                assert!(message.contains(word), "{word}: {message}");
            }
        }
        std::fs::write(&path, good).unwrap();
        assert_eq!(find(path.to_str().unwrap()).unwrap().name, "mine");
    }

    #[test]
    fn all_stands_for_every_one_and_a_definition_can_be_shown() {
        assert_eq!(find_all(&["all".to_owned()]).unwrap().len(), BUILT_IN.len());
        assert!(definition("idle").unwrap().contains("question ="));
        assert_eq!(definition("all"), None);
    }

    #[test]
    fn who_is_compared_follows_the_question() {
        let compared = |name: &str| {
            let subjects = find(name).unwrap().subjects_for(Effort::Default);
            subjects
                .into_iter()
                .filter(|subject| subject.compared)
                .map(|subject| subject.model)
                .collect::<Vec<_>>()
        };
        assert_eq!(compared("udp"), ["epoll", "udp"]);
        assert_eq!(compared("active"), ["select", "poll", "epoll"]);
        assert!(!compared("connections").contains(&"udp".to_owned()));
        let quick = find("idle").unwrap().subjects_for(Effort::Quick);
        assert!(quick.iter().any(|subject| subject.ceiling), "the ceiling stays");
    }
}
