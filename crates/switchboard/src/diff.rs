use std::process::ExitCode;

use console::{Style, Term, measure_text_width};
use switchboard_lab::difference::{Line, Pair, side_by_side};

use crate::{Failure, args};

/// Lines that are alike around each difference.
const CONTEXT: usize = 3;

/// Columns where nobody can say how many there are, and those below which nothing can stand beside anything.
const USUAL_COLUMNS: usize = 160;
const FEWEST_COLUMNS: usize = 60;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A model; alone it is held against the one that it adds to
    model: String,
    /// Another one
    other: Option<String>,
    /// Show all lines, not only those around the differences
    #[arg(long)]
    whole: bool,
    /// Print an array of pairs of lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn show(args: &Args) -> Result<ExitCode, Failure> {
    let one = args::model(&args.model)?;
    let (left, right) = match (&args.other, one.after) {
        (Some(other), _) => (one, args::model(other)?),
        (None, Some(after)) => (args::model(after)?, one),
        (None, None) => {
            let name = one.name;
            return Err(Failure::new(2, format!("`{name}` adds to no other model: name a second one")));
        }
    };
    let pairs = side_by_side(left.source, right.source, (!args.whole).then_some(CONTEXT));
    if args.json {
        let text = serde_json::to_string_pretty(&pairs).map_err(|error| Failure::new(1, error))?;
        crate::print(format_args!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let term = Term::stdout();
    let columns = term.size_checked().map_or(USUAL_COLUMNS, |(_, columns)| usize::from(columns));
    // A number, a space, the line, and what stands between the two.
    let width = (columns.max(FEWEST_COLUMNS) - 3) / 2 - 5;
    let heading = Style::new().bold();
    let mut text = format!(
        "{}\n",
        row(&heading, [left.name, right.name].map(|name| ("    ".to_owned(), name.to_owned())), width, ' ')
    );
    text += &format!(
        "{}\n",
        row(
            &heading,
            [left.about, right.about].map(|about| ("    ".to_owned(), cut(about, width))),
            width,
            ' '
        )
    );
    for pair in &pairs {
        match pair {
            Pair::Skipped(lines) => {
                text += &format!("{}\n", Style::new().dim().apply_to(format!("     ⋯ {lines} lines alike")));
            }
            Pair::Alike(left, right) => {
                text += &beside(Some(left), Some(right), width, [Style::new().dim(), Style::new().dim()], ' ')
            }
            Pair::Different(left, right) => {
                text += &beside(
                    left.as_ref(),
                    right.as_ref(),
                    width,
                    [Style::new().red(), Style::new().green()],
                    '│',
                );
            }
        }
    }
    crate::print(text)?;
    Ok(ExitCode::SUCCESS)
}

/// Two lines side by side, in as many rows as the longer one needs.
fn beside(
    left: Option<&Line<'_>>,
    right: Option<&Line<'_>>,
    width: usize,
    styles: [Style; 2],
    mark: char,
) -> String {
    let [left, right] = [left, right].map(|line| line.map(|line| (line.number, wrapped(line.text, width))));
    let rows = |side: &Option<(usize, Vec<String>)>| side.as_ref().map_or(0, |(_, rows)| rows.len());
    let mut text = String::new();
    for index in 0..rows(&left).max(rows(&right)) {
        let cell = |side: &Option<(usize, Vec<String>)>| match side {
            Some((number, rows)) if index == 0 => (format!("{number:>4}"), rows[0].clone()),
            Some((_, rows)) => ("    ".to_owned(), rows.get(index).cloned().unwrap_or_default()),
            None => ("    ".to_owned(), String::new()),
        };
        let [one, other] = [cell(&left), cell(&right)];
        let halves = [(one, &styles[0]), (other, &styles[1])].map(|((number, line), style)| {
            let room = " ".repeat(width.saturating_sub(measure_text_width(&line)));
            format!("{} {}{room}", Style::new().dim().apply_to(number), style.apply_to(line))
        });
        text += &format!("{} {mark} {}\n", halves[0], halves[1].trim_end());
    }
    text
}

/// A heading over both sides.
fn row(style: &Style, cells: [(String, String); 2], width: usize, mark: char) -> String {
    let halves = cells.map(|(number, text)| {
        let room = " ".repeat(width.saturating_sub(measure_text_width(&text)));
        format!("{number} {}{room}", style.apply_to(text))
    });
    format!("{} {mark} {}", halves[0], halves[1].trim_end())
}

fn cut(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

/// A line in rows of this width; an empty one is a row too.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let letters: Vec<char> = line.chars().collect();
    match letters.is_empty() {
        true => vec![String::new()],
        false => letters.chunks(width).map(|row| row.iter().collect()).collect(),
    }
}
