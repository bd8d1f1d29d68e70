//! The main curve of a run in a terminal, for whoever sits at the other end of ssh.
//!
//! Eight lines have to be told apart without colours, so a point is its model's letter and the line's name stands at its end. The crates
//! that draw in a terminal (textplots, rasciigraph) draw lines of dots that look alike.

use crate::quantity::Quantity;
use crate::record::Status;
use crate::setting::{Axis, Spread};
use crate::summary::ExperimentSummary;

/// Rows and columns of the picture itself.
const ROWS: usize = 14;
const COLUMNS: usize = 56;

/// A line of the picture.
struct Line {
    letter: char,
    name: String,
    points: Vec<(f64, f64)>,
}

/// The figure against what is varied; `None` where there is nothing to draw.
pub(crate) fn picture(summary: &ExperimentSummary) -> Option<String> {
    let figure = *summary.figures.first()?;
    if summary.axes.by.is_some() {
        return None;
    }
    let mut letters = Letters::default();
    let line = |model: &str| {
        let mine = summary.rows.iter().filter(|row| row.model == model);
        let good = mine.filter(|row| matches!(row.status, Status::Ok | Status::Doubtful));
        let points: Vec<(f64, f64)> = good
            .filter_map(|row| Some((row.place.x, figure.of(row)?.median)))
            .filter(|(_, y)| *y >= 0.0)
            .collect();
        (!points.is_empty()).then(|| Line { letter: letters.of(model), name: model.to_owned(), points })
    };
    let subjects: Vec<&str> = summary.subjects.iter().map(|subject| subject.model.as_str()).collect();
    let lines: Vec<Line> = subjects.into_iter().filter_map(line).collect();
    let title = figure.name(summary.words());
    draw(&lines, &title, figure, summary.axes.x.axis)
}

/// Gives every model a letter of its name that no other has.
#[derive(Default)]
struct Letters(Vec<char>);

impl Letters {
    fn of(&mut self, name: &str) -> char {
        let own = name.chars().filter(char::is_ascii_alphabetic);
        let free = own.chain('a'..='z').chain('A'..='Z').find(|letter| !self.0.contains(letter));
        let letter = free.unwrap_or('?');
        self.0.push(letter);
        letter
    }
}

fn draw(lines: &[Line], title: &str, figure: Quantity, axis: Axis) -> Option<String> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let mut xs: Vec<f64> = all().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (first, last) = (*xs.first()?, *xs.last()?);
    let above_zero = || all().map(|(_, y)| *y).filter(|y| *y > 0.0);
    let (low, high) = above_zero().fold((f64::INFINITY, 0.0_f64), |(low, high), y| (low.min(y), high.max(y)));
    if high == 0.0 {
        // That everything is zero is in the table.
        return None;
    }
    // Zeros have no place on a logarithmic scale: the last row is theirs, if there are any.
    let has_zeros = all().any(|(_, y)| *y <= 0.0);
    let rows = if has_zeros { ROWS - 2 } else { ROWS };
    let spread = |value: f64| match axis.spread() {
        Spread::Logarithmic => value.max(f64::MIN_POSITIVE).log2(),
        Spread::Linear => value,
        Spread::Steps => xs.iter().filter(|known| **known < value).count() as f64,
    };
    let part = |value: f64, from: f64, to: f64| if to > from { (value - from) / (to - from) } else { 0.5 };
    let column =
        |x: f64| (part(spread(x), spread(first), spread(last)) * (COLUMNS - 1) as f64).round() as usize;
    let row = |y: f64| match y > 0.0 {
        true => rows - 1 - (part(y.ln(), low.ln(), high.ln()) * (rows - 1) as f64).round() as usize,
        false => ROWS - 1,
    };

    let mut canvas = vec![vec![' '; COLUMNS]; ROWS];
    let between = lines.iter().flat_map(|line| line.points.windows(2)).flat_map(|pair| {
        let (from, to) = (column(pair[0].0), column(pair[1].0));
        (from + 1..to).map(move |at| {
            let share = (at - from) as f64 / (to - from) as f64;
            // From row to row: a line to zero has an end.
            let (from, to) = (row(pair[0].1) as f64, row(pair[1].1) as f64);
            (at, (from + share * (to - from)).round() as usize)
        })
    });
    for (at, row) in between {
        canvas[row][at] = '·';
    }
    // Points come last, so that no line hides one.
    for line in lines {
        for (x, y) in &line.points {
            canvas[row(*y)][column(*x)] = line.letter;
        }
    }
    let mut ends: Vec<(usize, &Line)> =
        lines.iter().filter_map(|line| Some((row(line.points.last()?.1), line))).collect();
    ends.sort_by_key(|(row, _)| *row);
    let names = beside(&ends);
    let value_at = |number: usize| {
        // The ends are values that were measured, and no rounding is to make others of them.
        let y = match number {
            0 => high,
            number if number == rows - 1 => low,
            number if number >= rows => 0.0,
            _ => (low.ln() + (rows - 1 - number) as f64 / (rows - 1) as f64 * (high.ln() - low.ln())).exp(),
        };
        let is_shown =
            number == ROWS - 1 || number == rows - 1 || number < rows - 1 && number.is_multiple_of(4);
        if is_shown { figure.unit().show(y) } else { String::new() }
    };
    let values: Vec<String> = (0..ROWS).map(value_at).collect();
    let left = values.iter().map(|value| value.chars().count()).max().unwrap_or(0) + 2;
    let mut text = format!("{title}\n");
    for ((fields, names), value) in canvas.iter().zip(&names).zip(&values) {
        let fields: String = fields.iter().collect();
        text += format!("{value:>left$} │{fields} {names}").trim_end();
        text.push('\n');
    }
    text += &format!("{:>left$} └{}\n", "", "─".repeat(COLUMNS));
    text += &format!("{:>left$}  {}\n", "", ticks(&xs, axis, column));
    text += &format!("{:>left$}  {}", "", axis.label());
    Some(text)
}

/// The names beside the rows in which their lines end, or as near as there is room for one in each; where there are more lines than
/// rows, several in one.
fn beside(ends: &[(usize, &Line)]) -> Vec<String> {
    let mut rows: Vec<usize> = ends.iter().map(|(row, _)| *row).collect();
    for index in 1..rows.len() {
        rows[index] = rows[index].max(rows[index - 1] + 1);
    }
    let mut last = ROWS;
    for row in rows.iter_mut().rev() {
        *row = (*row).min(last.saturating_sub(1));
        last = *row;
    }
    let mut names = vec![Vec::new(); ROWS];
    for (row, (_, line)) in rows.into_iter().zip(ends) {
        names[row].push(format!("{} {}", line.letter, line.name));
    }
    names.iter().map(|names| names.join(", ")).collect()
}

/// As many values as fit below the x-axis.
fn ticks(xs: &[f64], axis: Axis, column: impl Fn(f64) -> usize) -> String {
    let mut line = String::new();
    for x in xs {
        let (words, at) = (axis.show(*x), column(*x));
        let length = line.chars().count();
        let from = at.saturating_sub(words.chars().count() / 2);
        if length == 0 || from > length {
            line += &" ".repeat(from - length.min(from));
            line += &words;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(letter: char, points: &[(f64, f64)]) -> Line {
        Line { letter, name: format!("model-{letter}"), points: points.to_vec() }
    }

    #[test]
    fn the_highest_stands_on_top_and_every_line_has_its_name_at_its_end() {
        let lines = [line('a', &[(1.0, 10.0), (64.0, 1000.0)]), line('b', &[(1.0, 20.0), (64.0, 20.0)])];
        let text = draw(&lines, "title", Quantity::Cpu, Axis::Connections).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[0] == "title" && rows[1].contains("1.0 µs") && rows[1].ends_with("a a model-a"),
            "{text}"
        );
        assert!(rows.iter().any(|row| row.ends_with("b b model-b")), "{text}");
        assert!(rows.iter().all(|row| row.chars().count() <= 100), "{text}");
        assert!(text.contains("64") && text.ends_with("connections"), "{text}");
    }

    #[test]
    fn names_of_lines_that_end_together_stand_below_each_other() {
        let letters: Vec<char> = ('a'..='h').collect();
        let lines: Vec<Line> =
            letters.iter().map(|letter| line(*letter, &[(1.0, 5e9), (64.0, 1e8)])).collect();
        let text = draw(&lines, "title", Quantity::PayloadPerS, Axis::PayloadBytes).unwrap();
        for letter in letters {
            assert_eq!(
                text.lines().filter(|row| row.contains(&format!("{letter} model-{letter}"))).count(),
                1,
                "{text}"
            );
        }
        let axis: Vec<usize> = text.lines().filter_map(|row| row.chars().position(|c| c == '│')).collect();
        assert!(axis.windows(2).all(|pair| pair[0] == pair[1]), "the axis is straight: {text}");
        assert!(text.lines().all(|row| row.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_zero_has_the_last_row_and_the_first_that_is_none_is_above_it() {
        let lines = [line('a', &[(1.0, 0.0), (64.0, 2000.0)]), line('b', &[(1.0, 20.0), (64.0, 0.0)])];
        let text = draw(&lines, "title", Quantity::P99, Axis::Connections).unwrap();
        let last = text.lines().nth(ROWS).unwrap();
        assert!(
            last.trim_start().starts_with('0') && last.contains('a') && last.ends_with("b b model-b"),
            "{text}"
        );
        assert!(text.lines().nth(ROWS - 2).unwrap().contains("20 ns"), "{text}");
        let zeros = [line('a', &[(1.0, 0.0), (64.0, 0.0)])];
        assert!(draw(&zeros, "title", Quantity::P99, Axis::Connections).is_none());
    }

    #[test]
    fn one_point_and_none_are_no_trouble() {
        assert!(
            draw(&[line('a', &[(5.0, 5.0)])], "t", Quantity::P99, Axis::WorkUs)
                .unwrap()
                .contains("a model-a")
        );
        assert_eq!(draw(&[], "t", Quantity::P99, Axis::WorkUs), None);
        let mut letters = Letters::default();
        assert_eq!(["poll", "prefork", "pool"].map(|name| letters.of(name)), ['p', 'r', 'o']);
    }
}
