//! The report of a results folder: pictures and a page, made from its raw data alone.
//!
//! The same data give the same bytes. Nothing here measures, and nothing is kept from the run itself.

mod chart;
mod draw;
mod export;
mod finding;
mod interactive;
mod map;
mod page;
mod pictures;
mod shares;
mod style;
mod tables;
#[cfg(test)]
mod tests;
mod timeline;

use std::io;
use std::path::{Path, PathBuf};

use draw::Draw;
use page::Part;
pub(crate) use page::called;
use pictures::Picture;
pub use pictures::PictureName;
pub(crate) use pictures::figures;

use crate::checksums;
use crate::collection::Collection;
use crate::error::LabError;
use crate::files;
use crate::lock::Lock;
use crate::plan::Plan;
use crate::record::Damaged;
use crate::rounds::{self, Round};
use crate::say::say;
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

/// What a report can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The pictures, to be drawn at any size.
    Svg,
    /// The pictures in pixels.
    Png,
    /// The page.
    Html,
    /// All figures in one table, a line for each.
    Csv,
    /// The tables, to be pasted into a text.
    Md,
}

impl Format {
    /// What a run writes.
    pub const USUAL: [Format; 3] = [Format::Html, Format::Svg, Format::Png];
}

/// Makes the report of a results folder, or of a folder of such folders, and returns the paths of its files, the page first.
///
/// Damaged lines of the data are named on the page and on stderr; the others are used.
///
/// # Errors
/// The folder holds no run or no points, or a file cannot be written.
pub fn write(dir: &Path, formats: &[Format]) -> Result<Vec<PathBuf>, ReportError> {
    match Collection::read(dir)? {
        Some(collection) => collection.reports(dir, formats),
        None => {
            // What is no results folder is not written into, and who only draws does not wait for who measures.
            Plan::read(dir)?;
            let _lock = Lock::take(dir)?;
            write_locked(dir, formats)
        }
    }
}

/// The same of one results folder that nobody else writes into.
pub(crate) fn write_locked(dir: &Path, formats: &[Format]) -> Result<Vec<PathBuf>, ReportError> {
    let findings = Findings::read(dir)?;
    findings.summary.damaged.iter().for_each(say);
    let names: Vec<String> = findings.draw_into(dir, dir, formats, None)?;
    renew(dir, &names)?;
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Draws the main curve of two results folders in one picture, as SVG or PNG by the ending of its name: A thick, B thin and dashed.
///
/// # Errors
/// A folder holds no run, the two vary different things, or the picture cannot be written.
pub fn draw_two(a: &Path, b: &Path, models: Option<&[String]>, to: &Path) -> Result<(), ReportError> {
    let (first, second) = (Findings::read(a)?, Findings::read(b)?);
    if first.plan.axes.x.axis != second.plan.axes.x.axis {
        let [one, other] = [&first, &second].map(|findings| findings.plan.axes.label());
        return Err(ReportError::Draw(format!("one varies {one}, the other {other}")));
    }
    let name = first.plan.pictures.iter().copied().find(|name| name.has_lines());
    let name = name.ok_or_else(|| ReportError::Draw("neither has a picture with lines".to_owned()))?;
    let mut chart = pictures::chart(&first.summary, name, None);
    let theirs = pictures::chart(&second.summary, name, None);
    let is_main = |line: &chart::Line| line.variant.is_none() && !line.points.is_empty();
    let is_wanted = |line: &chart::Line| models.is_none_or(|models| models.contains(&line.model));
    let theirs =
        theirs.lines.into_iter().filter(is_main).map(|line| chart::Line { variant: Some("B"), ..line });
    chart.lines.retain(is_main);
    chart.lines.extend(theirs);
    chart.lines.retain(is_wanted);
    let folder =
        |dir: &Path| dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    chart.y_label = format!("thick A: {}; dashed B: {}", folder(a), folder(b));
    let bytes = match to.extension().and_then(|ending| ending.to_str()) {
        Some("png") => chart.png()?,
        Some("svg") => chart.svg()?.into_bytes(),
        _ => return Err(ReportError::Draw(format!("{}: the ending must be .svg or .png", to.display()))),
    };
    files::write_whole(to, &bytes).map_err(|source| ReportError::File { path: to.to_owned(), source })
}

/// Makes the page of a folder of several experiments, whose own reports are there. Returns its path.
pub(crate) fn write_collection(dir: &Path) -> Result<PathBuf, ReportError> {
    let Some(collection) = Collection::read(dir)? else { return Err(ReportError::NoPoints(dir.to_owned())) };
    let name = collection.page_into(dir, dir)?;
    let path = dir.join(checksums::CHECKSUMS);
    checksums::write(dir).map_err(|source| ReportError::File { path, source })?;
    Ok(dir.join(name))
}

fn renew(dir: &Path, names: &[String]) -> Result<(), ReportError> {
    let path = dir.join(checksums::CHECKSUMS);
    checksums::renew(dir, names).map_err(|source| ReportError::File { path, source })
}

impl Collection {
    /// The reports of all its folders, and one of all of them together.
    fn reports(&self, dir: &Path, formats: &[Format]) -> Result<Vec<PathBuf>, ReportError> {
        let mut written = Vec::new();
        let _lock = Lock::take(dir)?;
        for folder in self.folders(dir) {
            match write(&folder, formats) {
                Ok(files) => written.extend(files),
                // Of an interrupted run the last ones have no points.
                Err(ReportError::NoPoints(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if written.is_empty() {
            return Err(ReportError::NoPoints(dir.to_owned()));
        }
        if formats.contains(&Format::Html) {
            let name = self.page_into(dir, dir)?;
            renew(dir, std::slice::from_ref(&name))?;
            written.insert(0, dir.join(name));
        }
        Ok(written)
    }

    /// Writes the page of all folders of `from` that have points into `to`.
    pub(crate) fn page_into(&self, from: &Path, to: &Path) -> Result<String, ReportError> {
        let mut all = Vec::new();
        for folder in self.folders(from) {
            match Findings::read(&folder) {
                Ok(findings) => {
                    let pictures = findings.pictures();
                    all.push((folder, findings, pictures));
                }
                Err(ReportError::NoPoints(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let parts: Vec<Part<'_>> = all
            .iter()
            .map(|(dir, findings, pictures)| Part { findings, pictures, dir, called: None })
            .collect();
        save(to, PAGE.into(), page::render("all experiments", &parts)?.as_bytes())
    }
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
        let mut plan = Plan::read(dir)?;
        plan.tidy();
        let (mut rounds, mut damaged) = match rounds::read(dir) {
            Err(LabError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(ReportError::NoPoints(dir.to_owned()));
            }
            outcome => outcome?,
        };
        rounds::tidy(&mut rounds);
        let (mut census, broken) = syscalls::read(dir).map_err(failed(SYSCALLS))?;
        syscalls::tidy(&mut census);
        damaged.extend(broken);
        if rounds.is_empty() {
            return Err(ReportError::NoPoints(dir.to_owned()));
        }
        let mut summary = ExperimentSummary::of(&plan, dir.to_owned(), &rounds, &census);
        summary.damaged = damaged.iter().map(Damaged::without_folder).collect();
        Ok(Findings { plan, summary, rounds })
    }

    fn pictures(&self) -> Vec<Picture> {
        pictures::of(&self.summary, &self.plan.pictures, &self.rounds)
    }

    /// Writes page, pictures and figures into `to`, the page first, and returns their names. The environment record is
    /// that of `from`. `called` is the folder's name on the page, if that is not the one it has.
    pub(crate) fn draw_into(
        &self,
        from: &Path,
        to: &Path,
        formats: &[Format],
        called: Option<&str>,
    ) -> Result<Vec<String>, ReportError> {
        let wants = |format| formats.contains(&format);
        let pictures = self.pictures();
        let mut written = Vec::new();
        if wants(Format::Html) {
            let part = Part { findings: self, pictures: &pictures, dir: from, called };
            written.push(save(to, PAGE.into(), page::render(&self.plan.experiment, &[part])?.as_bytes())?);
        }
        for picture in &pictures {
            if wants(Format::Svg) {
                written.push(save(to, format!("{}.svg", picture.name), picture.drawing.svg()?.as_bytes())?);
            }
            if wants(Format::Png) {
                written.push(save(to, format!("{}.png", picture.name), &picture.drawing.png()?)?);
            }
        }
        if wants(Format::Csv) {
            written.push(save(to, "figures.csv".into(), export::csv(&self.summary)?.as_bytes())?);
        }
        if wants(Format::Md) {
            written.push(save(to, "figures.md".into(), export::markdown(&self.summary).as_bytes())?);
        }
        let figures = serde_json::to_vec_pretty(&self.summary.figures())
            .map_err(|error| ReportError::Draw(error.to_string()))?;
        written.push(save(to, SUMMARY.into(), &figures)?);
        Ok(written)
    }
}

/// The page of a results folder.
pub(crate) const PAGE: &str = "report.html";

/// The figures of a results folder, for programs.
pub(crate) const SUMMARY: &str = "summary.json";

fn save(dir: &Path, name: String, bytes: &[u8]) -> Result<String, ReportError> {
    let path = dir.join(&name);
    match files::write_whole(&path, bytes) {
        Ok(()) => Ok(name),
        Err(source) => Err(ReportError::File { path, source }),
    }
}
