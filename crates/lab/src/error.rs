//! What can stop a run. A point that breaks stops nothing: it is recorded as invalid and the run goes on.

use std::io;
use std::path::{Path, PathBuf};

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// No experiment has this name, and no file either.
    #[error("unknown experiment `{name}`{}; experiments: {}, or the path of a .toml file", suggestion(.nearest), .known.join(", "))]
    UnknownExperiment {
        /// What was asked for.
        name: String,
        /// The known name that is most like it.
        nearest: Option<String>,
        /// Every known name.
        known: Vec<String>,
    },
    /// No model of the experiment has this name.
    #[error("unknown model `{name}`{}; models of the experiment `{experiment}`: {}", suggestion(.nearest), .known.join(", "))]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// The experiment that was to run it.
        experiment: String,
        /// The known name that is most like it.
        nearest: Option<String>,
        /// Every model that the experiment can run.
        known: Vec<String>,
    },
    /// The options contradict each other or the experiment.
    #[error("{0}")]
    Usage(String),
    /// A definition of an experiment cannot be used.
    #[error("{}: {reason}", .file.display())]
    Definition {
        /// The file, or the name of the built-in definition.
        file: PathBuf,
        /// The line, the key and what is wrong with it.
        reason: String,
    },
    /// The folder for the results holds something already.
    #[error("{} exists and is not empty; results are never overwritten: choose another --out, or go on with it: switchboard run --resume {}", .0.display(), .0.display())]
    FolderExists(PathBuf),
    /// `--resume` was given a folder that cannot be continued.
    #[error("cannot resume {}: {reason}", .dir.display())]
    Resume {
        /// The folder.
        dir: PathBuf,
        /// What is missing or different.
        reason: String,
    },
    /// A file of a results folder is not what a run writes.
    #[error("{}: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process is writing into the folder.
    #[error("{} is being written by {holder}; wait until that process has ended, or stop it with SIGTERM and continue with switchboard run --resume", .dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The process, and since when.
        holder: String,
    },
    /// The plan of a folder to be resumed starts servers by commands that the user has not allowed.
    #[error("cannot resume {}: its run.json has commands for servers that are neither built in nor given by --servers:{}\nIf you trust the folder, run them with --trust-commands; if you have their definition, give it with --servers FILE", .dir.display(), indented(.commands))]
    Untrusted {
        /// The folder.
        dir: PathBuf,
        /// The servers' names and commands.
        commands: Vec<String>,
    },
    /// The user interrupted the run before anything was measured.
    #[error("stopped before anything was measured")]
    Interrupted,
    /// A file of the results, or of the machine, could not be read or written.
    #[error("{}: {source}{}", .path.display(), way_out(.source))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The server or the load generator could not be started at all.
    #[error("cannot start {}: {source}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused something else that the lab needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What the lab was about to do.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl LabError {
    /// The exit status for the command: 2 where the user asked for something that does not exist or cannot be,
    /// 1 where the machine failed.
    pub fn exit_status(&self) -> u8 {
        match self {
            LabError::UnknownExperiment { .. }
            | LabError::UnknownModel { .. }
            | LabError::Usage(_)
            | LabError::Untrusted { .. } => 2,
            LabError::Interrupted => 130,
            _ => 1,
        }
    }

    /// For `map_err`: an I/O error with the path that it lacks.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> LabError {
        let path = path.to_owned();
        move |source| LabError::File { path, source }
    }
}

/// Each on a line of its own.
fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {}", crate::text::line(line))).collect()
}

/// The name among `known` that a person who typed `name` probably meant.
pub(crate) fn nearest(name: &str, known: &[String]) -> Option<String> {
    let likeness = |candidate: &String| strsim::jaro_winkler(name, candidate);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then(|| best.clone())
}

/// What to do about an error of the file system that a run may meet after minutes.
fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; what was measured until now is whole: make room, then go on with switchboard run --resume and this folder"
        }
        _ => "",
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name_and_nonsense_finds_none() {
        let known = ["fork", "threads", "select", "epoll"].map(str::to_owned);
        assert_eq!(nearest("epol", &known).as_deref(), Some("epoll"));
        assert_eq!(nearest("thread", &known).as_deref(), Some("threads"));
        assert_eq!(nearest("xyzzy", &known), None);
        assert_eq!(nearest("nonsense", &["connections".to_owned()]), None);
    }
}
