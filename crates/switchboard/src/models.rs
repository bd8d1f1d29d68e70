use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use switchboard_lab::{CensusLine, Interrupt, LabError, calls_of_a_message};
use switchboard_models::{MODELS, Model, Workers};

use crate::{Failure, args};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these models; hidden ones can be named too [default: all]
    #[arg(value_name = "MODEL", value_delimiter = ',', value_parser = args::element(NonEmptyStringValueParser::new()))]
    models: Vec<String>,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
    /// List the hidden ones too: ceilings that are no servers
    #[arg(long)]
    all: bool,
    /// Count the system calls of one message here and now (up to a minute): by tracepoints, or by strace where those are not permitted
    #[arg(long)]
    measure: bool,
}

/// The column in which what is said of a model begins, and that in which the values stand.
const INDENT: usize = 24;
const LABEL: usize = 13;

/// Calls that come with less than so many messages are not worth a word.
const RARE: f64 = 0.005;

pub(crate) fn list(args: &Args) -> Result<ExitCode, Failure> {
    let named = args.models.iter().map(|name| args::model(name)).collect::<Result<Vec<&Model>, Failure>>()?;
    let is_listed = |model: &&Model| match named.is_empty() {
        true => args.all || !model.hidden,
        false => named.iter().any(|one| one.name == model.name),
    };
    let models: Vec<&Model> = MODELS.iter().filter(is_listed).collect();
    let counted = if args.measure { count(&models)? } else { Vec::new() };
    if args.json {
        let objects: Vec<Value> = models.iter().map(|model| object(model, &counted)).collect();
        let text = serde_json::to_string_pretty(&objects).map_err(|error| Failure::new(1, error))?;
        crate::print(format_args!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    let mut family = None;
    for model in &models {
        if family != Some(model.family) {
            text += &format!("{}{}\n", if family.is_some() { "\n" } else { "" }, model.family.title());
            family = Some(model.family);
        }
        text += &entry(model, &models, &counted);
    }
    if !args.measure {
        text += "\nThe calls of a message are those of one busy client, in order; --measure counts them here and now.\n";
    }
    crate::print(text)?;
    Ok(ExitCode::SUCCESS)
}

/// What is said of a model.
fn entry(model: &Model, models: &[&Model], counted: &[CensusLine]) -> String {
    let depth = ancestors(model, models);
    let branch = if depth == 0 { String::new() } else { format!("{}└ ", "  ".repeat(depth - 1)) };
    let mut text =
        format!("  {:<width$}{}\n", format!("{branch}{}", model.name), model.about, width = INDENT);
    let mut line = |label: &str, value: &str| text += &format!("{:INDENT$}    {label:<LABEL$}{value}\n", "");
    if let Some(after) = model.after.filter(|_| depth == 0) {
        line("adds to", after);
    }
    line("waits with", model.waits_with);
    line("runs as", model.runs_as);
    match model.workers {
        Workers::None => {}
        Workers::OnePerCore => line("workers", "--workers, default: one for each core"),
        Workers::OneConnectionEach(usual) => line("workers", &format!("--workers, default: {usual}")),
    }
    line("a message", &model.calls.join(", "));
    if let Some(counts) = counted.iter().find(|line| line.model == model.name) {
        line("counted", &said(counts));
    }
    line("a broadcast", model.broadcast);
    for limit in model.limits {
        line("limit", limit);
    }
    line("failure ends", model.failure_ends);
    let spoken: Vec<String> = model
        .serves
        .iter()
        .filter_map(|mechanism| {
            serde_json::to_value(mechanism).ok().and_then(|name| name.as_str().map(str::to_owned))
        })
        .filter(|name| name != "together")
        .collect();
    line("serves", &spoken.join(", "));
    if let Some(obstacle) = (model.obstacle)() {
        line("not here", &obstacle);
    }
    text
}

/// How many models of its own family this one builds upon.
fn ancestors(model: &Model, models: &[&Model]) -> usize {
    let before = |model: &Model| {
        let same = |other: &&&Model| Some(other.name) == model.after && other.family == model.family;
        models.iter().find(same).copied()
    };
    std::iter::successors(before(model), |model| before(model)).count()
}

/// `1.00 epoll_wait, 1.00 recvfrom, 1.00 sendto (tracepoints)`, the calls of the registry first.
fn said(line: &CensusLine) -> String {
    if line.calls.is_empty() {
        return line.note.clone().unwrap_or_else(|| line.how.clone());
    }
    let mut calls: Vec<(&String, f64)> =
        line.calls.iter().map(|(name, count)| (name, *count)).filter(|(_, count)| *count > RARE).collect();
    calls.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
    let calls: Vec<String> = calls.into_iter().map(|(name, count)| format!("{count:.2} {name}")).collect();
    format!("{} (by {})", calls.join(", "), line.how)
}

fn object(model: &Model, counted: &[CensusLine]) -> Value {
    let mut object = json!(model);
    object["obstacle"] = json!((model.obstacle)());
    if let Some(line) = counted.iter().find(|line| line.model == model.name) {
        let calls: BTreeMap<&String, f64> = line.calls.iter().map(|(name, count)| (name, *count)).collect();
        object["counted"] =
            json!({"how": line.how, "note": line.note, "messages": line.messages, "calls": calls});
    }
    object
}

fn count(models: &[&Model]) -> Result<Vec<CensusLine>, Failure> {
    let failed = |error: LabError| Failure::new(error.exit_status(), error);
    let interrupt = Interrupt::on_signals().map_err(failed)?;
    let (mut status, mut number) = (switchboard_console::Status::new(), 0);
    let begin = |model: &Model| {
        number += 1;
        status.show(format_args!("{number} of {}: {}", models.len(), model.name));
    };
    calls_of_a_message(models, &interrupt, begin).map_err(failed)
}
