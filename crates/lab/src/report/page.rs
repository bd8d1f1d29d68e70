//! The page: one file that opens offline and makes no request. Without its script, and on paper, the pictures are still there.

use std::borrow::Cow;
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, escape_formatter};
use serde::Serialize;

use super::finding;
use super::interactive::ChartData;
use super::pictures::{Drawing, Picture};
use super::tables::{self, LawRow, Table};
use super::{Findings, ReportError};
use crate::difference::{self, FILES, ModelFile, Pair, side_by_side};
use crate::external::External;
use crate::files;
use crate::plan::Plan;
use crate::record::{ENVIRONMENT, Status};
use crate::rounds::Round;
use crate::summary::ExperimentSummary;
use crate::text;

/// Lines that are alike around each difference of two files.
const CONTEXT: usize = 3;

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    sections: Vec<Section<'a>>,
    differences: Vec<Difference<'a>>,
    /// Of the library, as a comment.
    licence: String,
    library: &'static str,
    library_style: &'static str,
    script: &'static str,
}

#[derive(Serialize)]
struct Section<'a> {
    experiment: &'a str,
    question: &'a str,
    analysis: Vec<&'a str>,
    findings: Vec<String>,
    pictures: Vec<Drawn<'a>>,
    prices: Vec<Table<'a>>,
    tables: Vec<Table<'a>>,
    laws: Vec<LawRow>,
    limiters: Table<'a>,
    costs: Vec<Table<'a>>,
    doubts: Vec<Doubt<'a>>,
    calls_note: Option<String>,
    summary: &'a ExperimentSummary,
    facts: Vec<(&'static str, String)>,
    servers: &'a [External],
    environment: String,
    command: String,
    folder: String,
}

#[derive(Serialize)]
struct Drawn<'a> {
    svg: String,
    /// The figures of the picture, for the script; text that is safe within a script element.
    data: Option<String>,
    title: &'a str,
    how_to_read: &'a str,
    is_over_rounds: bool,
    has_bands: bool,
}

/// The files of two models that were measured, of which one adds to the other.
#[derive(Serialize)]
struct Difference<'a> {
    left: &'a str,
    right: &'a str,
    about: &'a str,
    pairs: Vec<Pair<'a>>,
}

/// A point that does not count, and why.
#[derive(Serialize)]
struct Doubt<'a> {
    model: &'a str,
    place: String,
    round: u32,
    attempt: u32,
    status: Status,
    evidence: Vec<&'a str>,
}

/// One experiment of a page.
pub(super) struct Part<'a> {
    pub(super) findings: &'a Findings,
    pub(super) pictures: &'a [Picture],
    /// Where its environment record is.
    pub(super) dir: &'a Path,
    /// The name of its folder, if that is not the one it has.
    pub(super) called: Option<&'a str>,
}

/// What stands before the name of its folder on a page, and behind it.
const COMMAND: [&str; 2] = ["<code>switchboard report ", "</code>"];

/// The name that a folder had when its page was drawn: the folder may have been renamed since, and is the same.
pub(crate) fn called(page: &str) -> Option<String> {
    let [before, behind] = COMMAND;
    let (_, rest) = page.rsplit_once(before)?;
    let (name, _) = rest.split_once(behind)?;
    let plain =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&#x2f;", "/"), ("&amp;", "&")];
    Some(plain.iter().fold(name.to_owned(), |name, (escaped, letter)| name.replace(escaped, letter)))
}

/// The page of one experiment, or of several.
pub(super) fn render(title: &str, parts: &[Part<'_>]) -> Result<String, ReportError> {
    let sections = parts.iter().map(Section::of).collect::<Result<_, _>>()?;
    let mut files: Vec<ModelFile> = Vec::new();
    for part in parts {
        let path = part.dir.join(FILES);
        let recorded = difference::read(part.dir).map_err(|source| ReportError::File { path, source })?;
        files.extend(recorded);
    }
    let page = Page {
        title,
        sections,
        differences: differences(&files),
        licence: format!("/* uPlot\n{}*/", include_str!("vendor/uplot/LICENSE")),
        library: include_str!("vendor/uplot/uPlot.iife.min.js"),
        library_style: include_str!("vendor/uplot/uPlot.min.css"),
        script: include_str!("charts.js"),
    };
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_formatter(|out, state, value| {
        match value.as_str().filter(|_| !value.is_safe()).map(text::lines) {
            Some(Cow::Owned(shown)) => escape_formatter(out, state, &Value::from(shown)),
            _ => escape_formatter(out, state, value),
        }
    });
    templates.add_template("page", include_str!("page.html"))?;
    Ok(templates.get_template("page")?.render(Serde(&page))?)
}

impl<'a> Section<'a> {
    fn of(part: &Part<'a>) -> Result<Section<'a>, ReportError> {
        let Part { findings: Findings { plan, summary, rounds }, pictures, dir, called } = *part;
        let drawn = pictures.iter().map(|picture| {
            let svg = scalable(&picture.drawing.svg()?);
            let data = match &picture.drawing {
                Drawing::Chart(chart) => Some(ChartData::of(&picture.name, chart).embedded()),
                _ => None,
            };
            let is_over_rounds = data.is_some();
            let has_bands = matches!(&picture.drawing, Drawing::Chart(chart) if chart.has_bands());
            Ok(Drawn {
                svg,
                data,
                title: &picture.title,
                how_to_read: picture.how_to_read,
                is_over_rounds,
                has_bands,
            })
        });
        let environment = files::read_text(&dir.join(ENVIRONMENT)).unwrap_or_default();
        // Also where the folder was called `.`.
        let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let folder = match called {
            Some(name) => name.to_owned(),
            None => whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        };
        Ok(Section {
            experiment: &plan.experiment,
            question: &plan.question,
            analysis: plan.analysis.split("\n\n").map(str::trim).filter(|text| !text.is_empty()).collect(),
            findings: finding::sentences(summary),
            pictures: drawn.collect::<Result<_, ReportError>>()?,
            prices: tables::prices(summary),
            tables: tables::figures(summary),
            laws: tables::laws(summary),
            limiters: tables::limiters(summary),
            costs: tables::costs(summary),
            doubts: doubts(plan, rounds),
            calls_note: calls_note(summary),
            summary,
            facts: facts(plan, &environment),
            servers: &plan.servers,
            environment,
            command: plan.command.join(" "),
            folder,
        })
    }
}

/// What each model does otherwise than the one that it builds upon; each pair once, though several experiments may have it.
fn differences(files: &[ModelFile]) -> Vec<Difference<'_>> {
    let mut differences: Vec<Difference<'_>> = Vec::new();
    for right in files {
        let before = right.builds_on.as_ref().and_then(|name| files.iter().find(|file| file.name == *name));
        if let Some(left) = before
            && !differences.iter().any(|known| (known.left, known.right) == (&*left.name, &*right.name))
        {
            let pairs = side_by_side(&left.source, &right.source, Some(CONTEXT));
            differences.push(Difference { left: &left.name, right: &right.name, about: &right.about, pairs });
        }
    }
    differences
}

/// Every point that does not count, those that were tried again included.
fn doubts<'a>(plan: &Plan, rounds: &'a [Round]) -> Vec<Doubt<'a>> {
    fn doubt(round: &Round) -> Vec<&str> {
        let point = &round.point;
        let failed = point.checks.iter().filter(|check| check.holds == Some(false));
        let mut evidence: Vec<&str> = failed.map(|check| check.evidence.as_str()).collect();
        if evidence.is_empty() {
            evidence.extend(point.reason.as_deref());
        }
        evidence
    }
    let is_doubtful = |round: &&Round| matches!(round.point.status, Status::Doubtful | Status::Invalid);
    let named = rounds.iter().filter(is_doubtful).map(|round| Doubt {
        model: &round.point.model,
        place: plan.axes.show(plan.axes.place(&round.point.setting)),
        round: round.point.round + 1,
        attempt: round.point.attempt,
        status: round.point.status,
        evidence: doubt(round),
    });
    named.collect()
}

/// How system calls were counted, or what would permit it.
fn calls_note(summary: &ExperimentSummary) -> Option<String> {
    let lines = summary.rows.iter().filter_map(|row| row.system_calls.as_ref());
    let note = lines.clone().find_map(|line| line.note.clone());
    note.or_else(|| lines.map(|line| format!("Counted by {}.", line.how)).next())
}

/// What a reader wants to know of the machine and the run at a glance.
fn facts(plan: &Plan, environment: &str) -> Vec<(&'static str, String)> {
    let environment: serde_json::Value = serde_json::from_str(environment).unwrap_or_default();
    let text = |pointer: &str| match environment.pointer(pointer) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Null) | None => "unknown".into(),
        Some(other) => other.to_string(),
    };
    let pinning = match environment.pointer("/pinning/server") {
        Some(server) => format!("server on core {server}, load generator on core {}", text("/pinning/load")),
        None => "none: server and load generator share the cores".into(),
    };
    let quota = environment.pointer("/cpu_quota/cores").and_then(serde_json::Value::as_f64);
    let quota = quota.map_or_else(String::new, |cores| format!(", of which a quota allows {cores:.2}"));
    vec![
        ("machine", format!("{}, {} cores{quota}", text("/cpu/model"), text("/cpu/cores"))),
        ("kernel", text("/kernel")),
        ("date", plan.started_at.clone()),
        ("pinning", pinning),
        ("message", format!("{} bytes, {} in flight", plan.setting.payload_bytes, plan.setting.depth)),
        ("window", format!("{} ms after {} ms of warm-up", plan.window_ms, plan.warmup_ms)),
        ("rounds", format!("{}, in random order (seed {})", plan.rounds, plan.seed)),
        ("commit", text("/git/commit")),
    ]
}

/// The picture without its fixed size, so that it fits the page it stands on.
fn scalable(svg: &str) -> String {
    svg.replacen("width=\"1280\" height=\"720\" ", "", 1)
}
