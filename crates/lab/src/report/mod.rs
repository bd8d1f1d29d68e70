//! The report of a results folder: pictures and a page, made from its raw data alone.
//!
//! The same data give the same bytes. Nothing here measures, and nothing is kept from the run itself.

mod chart;
mod finding;
mod page;
mod pictures;
mod style;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::plan::Plan;
use crate::record::{Damaged, read_points};
use crate::summary::ExperimentSummary;

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
    let points_file = dir.join(crate::record::POINTS);
    let (points, damaged) =
        read_points(dir).map_err(|source| ReportError::File { path: points_file, source })?;
    if points.is_empty() {
        return Err(ReportError::NoPoints(dir.to_owned()));
    }
    let damaged: Vec<String> = damaged.iter().map(Damaged::to_string).collect();
    damaged.iter().for_each(|line| eprintln!("{line}"));
    let plan = Plan::read(dir)?;
    let summary = ExperimentSummary::of(&plan, dir.to_owned(), &points);
    let pictures = pictures::of(&summary);
    let page = page::render(&plan, &summary, &pictures, &damaged, dir)?;
    let mut written = vec![save(dir.join("report.html"), page.as_bytes())?];
    for picture in &pictures {
        written.push(save(dir.join(format!("{}.svg", picture.name)), picture.chart.svg()?.as_bytes())?);
        let png = dir.join(format!("{}.png", picture.name));
        picture.chart.write_png(&png)?;
        written.push(png);
    }
    Ok(written)
}

fn save(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, ReportError> {
    match fs::write(&path, bytes) {
        Ok(()) => Ok(path),
        Err(source) => Err(ReportError::File { path, source }),
    }
}
