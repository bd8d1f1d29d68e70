//! The report of a results folder: pictures and a page, made from its raw data alone.
//!
//! The same data give the same bytes. Nothing here measures, and nothing is kept from the run itself.

mod chart;
mod draw;
mod finding;
mod page;
mod pictures;
mod style;
mod tables;
#[cfg(test)]
mod tests;
mod timeline;

use std::io;
use std::path::{Path, PathBuf};

use crate::checksums;
use crate::error::LabError;
use crate::plan::Plan;
use crate::record::{POINTS, write_whole};
use crate::rounds::{self, Round};
use crate::summary::ExperimentSummary;
use crate::syscalls::{self, SYSCALLS};

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder was not made by a run, or a file of it cannot be read.
    #[error(transparent)]
    Results(#[from] LabError),
    /// There is nothing to draw.
    #[error("{}: no point in it; is this a folder that `switchboard run` made?", .0.display())]
    NoPoints(PathBuf),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A picture could not be drawn.
    #[error("cannot draw: {0}")]
    Draw(String),
    /// The page's template is wrong: a mistake in this program.
    #[error("cannot fill in the page: {0}")]
    Page(#[from] minijinja::Error),
}

/// Makes `report.html` and the pictures of a results folder, and returns their paths, the page first.
///
/// Damaged lines of the data are named on the page and on stderr; the others are used.
///
/// # Errors
/// The folder holds no run or no points, or a file cannot be written.
pub fn write(dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let findings = Findings::read(dir)?;
    findings.summary.damaged.iter().for_each(|line| eprintln!("{line}"));
    let names: Vec<String> = findings.draw_into(dir, dir)?;
    let path = dir.join(checksums::CHECKSUMS);
    checksums::renew(dir, &names).map_err(|source| ReportError::File { path, source })?;
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// All that a folder's raw data say.
pub(crate) struct Findings {
    plan: Plan,
    pub(crate) summary: ExperimentSummary,
    rounds: Vec<Round>,
}

impl Findings {
    /// Derives everything from the raw data of `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Findings, ReportError> {
        let failed = |name: &str| {
            let path = dir.join(name);
            |source| ReportError::File { path, source }
        };
        let (rounds, mut damaged) = rounds::read(dir).map_err(failed(POINTS))?;
        let (census, broken) = syscalls::read(dir).map_err(failed(SYSCALLS))?;
        damaged.extend(broken);
        if rounds.is_empty() {
            return Err(ReportError::NoPoints(dir.to_owned()));
        }
        let plan = Plan::read(dir)?;
        let mut summary = ExperimentSummary::of(&plan, dir.to_owned(), &rounds, &census);
        // Without the folder: the same data say the same wherever they lie.
        summary.damaged =
            damaged.iter().map(|line| line.to_string().replace(&format!("{}/", dir.display()), "")).collect();
        Ok(Findings { plan, summary, rounds })
    }

    /// Writes page, pictures and figures into `to`, the page first, and returns their names. The environment record is
    /// that of `from`.
    pub(crate) fn draw_into(&self, from: &Path, to: &Path) -> Result<Vec<String>, ReportError> {
        let pictures = pictures::of(&self.summary, &self.rounds);
        let page = page::render(&self.plan, &self.summary, &pictures, &self.rounds, from)?;
        let mut written = vec![save(to, "report.html".into(), page.as_bytes())?];
        for picture in &pictures {
            written.push(save(to, format!("{}.svg", picture.name), picture.drawing.svg()?.as_bytes())?);
            written.push(save(to, format!("{}.png", picture.name), &picture.drawing.png()?)?);
        }
        let figures = serde_json::to_vec_pretty(&self.summary.figures())
            .map_err(|error| ReportError::Draw(error.to_string()))?;
        written.push(save(to, SUMMARY.into(), &figures)?);
        Ok(written)
    }
}

/// The figures of a results folder, for programs.
pub(crate) const SUMMARY: &str = "summary.json";

fn save(dir: &Path, name: String, bytes: &[u8]) -> Result<String, ReportError> {
    let path = dir.join(&name);
    match write_whole(&path, bytes) {
        Ok(()) => Ok(name),
        Err(source) => Err(ReportError::File { path, source }),
    }
}
