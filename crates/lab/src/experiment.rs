//! What is measured: the definitions in `experiments/`, compiled in, and any file of the same form on disk.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize};
use switchboard_models::{MODELS, Model};

use crate::error::{LabError, nearest};

/// The definitions that are compiled in, the default one first.
const BUILT_IN: &[(&str, &str)] = &[
    ("connections", include_str!("../../../experiments/connections.toml")),
    ("broadcast", include_str!("../../../experiments/broadcast.toml")),
];

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

/// The definition of an experiment, as its .toml file has it.
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
    /// Hidden models that serve this take part as well, as a line that nobody can be above.
    #[serde(default)]
    pub ceiling: Option<MechanismName>,
    /// Bytes of payload a message.
    pub payload_bytes: NonZeroUsize,
    /// Messages in flight per connection.
    pub depth: NonZeroUsize,
    /// The numbers of connections.
    pub connections: Counts,
    /// Windows, rounds and time for each [`Effort`].
    pub effort: Efforts,
}

/// Which numbers of connections are measured: powers of `factor` from 1 up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The step from one number to the next.
    pub factor: NonZeroUsize,
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
}

/// The name of a mechanism that some model serves, such as `udp-echo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MechanismName(String);

impl TryFrom<String> for MechanismName {
    type Error = String;

    fn try_from(name: String) -> Result<MechanismName, String> {
        // What the lab can put load on, not all that a model serves.
        let known = ["echo", "broadcast", "udp-echo", "udp-broadcast", "tcp-echo"].map(str::to_owned);
        if known.contains(&name) {
            return Ok(MechanismName(name));
        }
        let hint =
            nearest(&name, &known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        Err(format!("unknown mechanism `{name}`{hint}; one of {}", known.join(", ")))
    }
}

impl std::ops::Deref for MechanismName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// One line of the plot: a model and what it is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The model's name.
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

/// Finds an experiment by its name, or reads it from a file: a name with a slash or with `.toml` at its end is a path.
pub(crate) fn find(name: &str) -> Result<Experiment, LabError> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return parse(name, text)
            .map_err(|reason| LabError::Definition { file: PathBuf::from(*name), reason });
    }
    if name.contains('/') || name.ends_with(".toml") {
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).map_err(LabError::file(path))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        return parse(&stem, &text).map_err(|reason| LabError::Definition { file: path.to_owned(), reason });
    }
    let known: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    Err(LabError::UnknownExperiment { nearest: nearest(name, &known), name: name.to_owned(), known })
}

fn parse(name: &str, text: &str) -> Result<Experiment, String> {
    let mut experiment: Experiment =
        toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
    if experiment.connections.factor.get() < 2 {
        return Err("connections.factor: must be at least 2".to_owned());
    }
    if experiment.mechanisms.is_empty() {
        return Err("mechanisms: must name at least one".to_owned());
    }
    experiment.name = name.to_owned();
    Ok(experiment)
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

    /// Who takes part, in the order of the registry.
    pub fn subjects(&self) -> Vec<Subject> {
        MODELS.iter().filter_map(|model| self.subject(model)).collect()
    }

    /// Those of [`Experiment::subjects`] that were asked for by name.
    pub(crate) fn subjects_named(&self, names: &[String]) -> Result<Vec<Subject>, LabError> {
        let all = self.subjects();
        for name in names {
            if !all.iter().any(|subject| subject.model == *name) {
                let known: Vec<String> = all.iter().map(|subject| subject.model.clone()).collect();
                let (nearest, experiment) = (nearest(name, &known), self.name.clone());
                return Err(LabError::UnknownModel { name: name.clone(), experiment, nearest, known });
            }
        }
        Ok(all.into_iter().filter(|subject| names.contains(&subject.model)).collect())
    }

    fn subject(&self, model: &Model) -> Option<Subject> {
        let wanted = if model.hidden { self.ceiling.as_slice() } else { self.mechanisms.as_slice() };
        let place = wanted.iter().position(|mechanism| serves(model, mechanism))?;
        Some(Subject {
            model: model.name.to_owned(),
            mechanism: wanted[place].0.clone(),
            compared: !model.hidden && place == 0,
            ceiling: model.hidden,
        })
    }
}

fn serves(model: &Model, mechanism: &str) -> bool {
    model.serves.iter().any(|served| serde_json::to_value(served).is_ok_and(|name| name == mechanism))
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = SignedDuration::deserialize(deserializer)?;
    let unsigned = Duration::try_from(duration).ok().filter(|duration| !duration.is_zero());
    unsigned.ok_or_else(|| serde::de::Error::custom("must be longer than nothing, such as \"300ms\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_definition_can_be_read_and_tells_what_it_is_for() {
        let all = experiments();
        assert_eq!(all.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["connections", "broadcast"]);
        for experiment in all {
            assert!(experiment.question.ends_with('?'), "{}", experiment.name);
            for word in ["What to expect.", "What would surprise."] {
                assert!(experiment.analysis.contains(word), "{}: {word}", experiment.name);
            }
        }
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
    fn models_that_serve_no_broadcast_stay_out_of_it() {
        let subjects = find("broadcast").unwrap().subjects();
        assert!(subjects.iter().all(|subject| subject.model != "threads-direct" && subject.model != "raw"));
        assert!(
            subjects.iter().any(|subject| subject.model == "udp" && subject.mechanism == "udp-broadcast")
        );
    }

    #[test]
    fn an_unknown_name_brings_the_list_and_the_nearest() {
        let error = find("conections").unwrap_err();
        assert_eq!(error.exit_status(), 2);
        let expected = "unknown experiment `conections` (did you mean `connections`?); experiments: connections, broadcast, or the path of a .toml file";
        assert_eq!(error.to_string(), expected);
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
            ("depth = 1", "dephts = 1", ["dephts", "unknown field"]),
            ("\"udp-echo\"]", "\"udp-ecko\"]", ["mechanisms", "did you mean `udp-echo`?"]),
            ("rounds = 1", "rounds = 0", ["rounds", "nonzero"]),
            ("budget = \"42s\"", "budget = \"-1s\"", ["budget", "longer than nothing"]),
        ] {
            assert!(good.contains(from), "{from}");
            let text = good.replace(from, to);
            let line = text.lines().position(|line| line.contains(to)).unwrap() + 1;
            std::fs::write(&path, text).unwrap();
            let message = find(path.to_str().unwrap()).unwrap_err().to_string();
            assert!(message.starts_with(path.to_str().unwrap()), "{message}");
            assert!(message.contains(&format!("line {line},")), "{message}");
            for word in words {
                assert!(message.contains(word), "{word}: {message}");
            }
        }
        std::fs::write(&path, good).unwrap();
        assert_eq!(find(path.to_str().unwrap()).unwrap().name, "mine");
    }
}
