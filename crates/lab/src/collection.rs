//! Several experiments in one folder: which they are, in the order in which they are run.

use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bounds::MOST_EXPERIMENTS;
use crate::error::LabError;
use crate::files;
use crate::record::SCHEMA;
use crate::text;

/// The file of such a folder.
const COLLECTION: &str = "experiments.json";

/// A folder with a results folder for each experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Collection {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// The names of the experiments, which are those of their folders.
    pub(crate) experiments: Vec<String>,
}

impl Collection {
    /// What a folder says that it holds; `None` if it is none of several.
    pub(crate) fn read(dir: &Path) -> Result<Option<Collection>, LabError> {
        let path = dir.join(COLLECTION);
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LabError::file(&path)(error)),
        };
        let collection: Collection =
            serde_json::from_slice(&bytes).map_err(|error| LabError::file(&path)(error.into()))?;
        if collection.schema > SCHEMA {
            let reason = format!("schema {}, this switchboard reads up to {SCHEMA}", collection.schema);
            return Err(LabError::Unreadable { file: path, reason });
        }
        let unreadable = |reason| LabError::Unreadable { file: path.clone(), reason };
        if collection.experiments.len() > MOST_EXPERIMENTS {
            return Err(unreadable(format!("names more than {MOST_EXPERIMENTS} experiments")));
        }
        for (name, folder) in collection.experiments.iter().zip(collection.folders(dir)) {
            // A name that leads out of this folder was not written by a run, and neither was a link.
            if !matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
                return Err(unreadable(format!("`{}` is no name of an experiment", text::line(name))));
            }
            if folder.symlink_metadata().is_ok_and(|folder| !folder.is_dir()) {
                return Err(unreadable(format!("`{}` is no folder", text::line(name))));
            }
        }
        Ok(Some(collection))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), LabError> {
        let path = dir.join(COLLECTION);
        let text = serde_json::to_vec_pretty(self).expect("names can be written");
        files::write_whole(&path, &text).map_err(LabError::file(&path))
    }

    /// Each experiment has a folder of its own.
    pub(crate) fn check(&self) -> Result<(), LabError> {
        let twice = self
            .experiments
            .iter()
            .enumerate()
            .find(|(place, name)| self.experiments[..*place].contains(name));
        match twice {
            Some((_, name)) => Err(LabError::Usage(format!("the experiment {name} is named twice"))),
            None => Ok(()),
        }
    }

    /// The results folders, in order.
    pub(crate) fn folders(&self, dir: &Path) -> Vec<PathBuf> {
        self.experiments.iter().map(|name| dir.join(name)).collect()
    }
}
