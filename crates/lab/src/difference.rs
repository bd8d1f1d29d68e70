//! Two models' files side by side: what the one does otherwise is the lesson.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use similar::{DiffOp, TextDiff};
use switchboard_models::MODELS;

use crate::error::LabError;
use crate::files;
use crate::mechanism::server_of;
use crate::plan::Plan;

/// The file of a results folder.
pub(crate) const FILES: &str = "models.json";

/// The file of a model that took part in a run, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelFile {
    /// The model's name.
    pub(crate) name: String,
    /// How it waits, in one line.
    pub(crate) about: String,
    /// The nearest of those that it builds upon that took part as well.
    pub(crate) builds_on: Option<String>,
    pub(crate) source: String,
}

/// Writes down the files of the models that take part.
pub(crate) fn record(dir: &Path, plan: &Plan) -> Result<(), LabError> {
    let measured: BTreeSet<&str> = plan.subjects.iter().map(|subject| server_of(&subject.model)).collect();
    let file = |model: &switchboard_models::Model| {
        let before = |name: &&str| switchboard_models::find(name)?.after;
        let builds_on = std::iter::successors(model.after, before)
            .find(|name| measured.contains(name))
            .map(str::to_owned);
        let (name, about, source) = (model.name.to_owned(), model.about.to_owned(), model.source.to_owned());
        ModelFile { name, about, builds_on, source }
    };
    let files: Vec<ModelFile> =
        MODELS.iter().filter(|model| measured.contains(model.name)).map(file).collect();
    let text = serde_json::to_vec_pretty(&files).expect("a file has no keys but strings");
    let path = dir.join(FILES);
    files::write_whole(&path, &text).map_err(LabError::file(&path))
}

/// Reads them; folders of older versions have none.
pub(crate) fn read(dir: &Path) -> io::Result<Vec<ModelFile>> {
    match files::read(&dir.join(FILES)) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A line on each side, or on one, or so many lines that are alike and left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pair<'a> {
    /// The same on both sides.
    Alike(Line<'a>, Line<'a>),
    /// Different, or on one side only.
    Different(Option<Line<'a>>, Option<Line<'a>>),
    /// So many that are the same on both sides.
    Skipped(usize),
}

/// A line and its number in its file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// Its number.
    pub number: usize,
    /// What is on it, without its end.
    pub text: &'a str,
}

/// Two files, line beside line. `context`: lines that are alike are shown as far as they are so near to a difference; `None`: all of them.
pub fn side_by_side<'a>(left: &'a str, right: &'a str, context: Option<usize>) -> Vec<Pair<'a>> {
    let (lines, others): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let diff = TextDiff::from_slices(&lines, &others);
    let ops = diff.ops();
    let mut pairs = Vec::new();
    for (place, op) in ops.iter().enumerate() {
        let (old, new) = (op.old_range(), op.new_range());
        if !matches!(op, DiffOp::Equal { .. }) {
            let side = |range: Range<usize>, lines: &[&'a str], offset: usize| {
                range.clone().nth(offset).map(|index| Line { number: index + 1, text: lines[index] })
            };
            let longest = old.len().max(new.len());
            pairs.extend((0..longest).map(|offset| {
                Pair::Different(side(old.clone(), &lines, offset), side(new.clone(), &others, offset))
            }));
            continue;
        }
        let both = |(old, new): (usize, usize)| {
            Pair::Alike(
                Line { number: old + 1, text: lines[old] },
                Line { number: new + 1, text: others[new] },
            )
        };
        let alike: Vec<(usize, usize)> = old.zip(new).collect();
        // Nothing to be near to before the first difference and after the last.
        let (before, after) = match context {
            None => (alike.len(), 0),
            Some(context) => {
                (if place > 0 { context } else { 0 }, if place + 1 < ops.len() { context } else { 0 })
            }
        };
        if before + after + 1 >= alike.len() {
            pairs.extend(alike.into_iter().map(both));
        } else {
            let skipped = alike.len() - before - after;
            pairs.extend(alike[..before].iter().copied().map(both));
            pairs.push(Pair::Skipped(skipped));
            pairs.extend(alike[before + skipped..].iter().copied().map(both));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_beside_each_other_and_what_is_alike_is_left_out() {
        let left = "a\nb\nc\nd\ne\nf\nold\ng\n";
        let right = "a\nb\nc\nd\ne\nf\nnew\nnewer\ng\n";
        let line = |number, text| Line { number, text };
        assert_eq!(
            side_by_side(left, right, Some(1)),
            [
                Pair::Skipped(5),
                Pair::Alike(line(6, "f"), line(6, "f")),
                Pair::Different(Some(line(7, "old")), Some(line(7, "new"))),
                Pair::Different(None, Some(line(8, "newer"))),
                Pair::Alike(line(8, "g"), line(9, "g")),
            ]
        );
        assert_eq!(side_by_side(left, right, None).len(), 9);
        assert_eq!(side_by_side(left, left, Some(3)), [Pair::Skipped(8)]);
    }
}
