//! A comparison for people: what differs at a glance, and how small a difference could have been seen.

use std::collections::BTreeSet;
use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use super::{CompareRow, Comparison, FALSE_DISCOVERIES, Figure, RowVerdict};
use crate::setting::Place;

/// Differences that are listed one by one.
const LISTED: usize = 12;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A  {}\nB  {}", self.a, self.b)?;
        self.circumstances(f)?;
        let models: Vec<&str> = in_order(self.rows.iter().map(|row| row.model.as_str()));
        for model in models {
            writeln!(f, "\n{model}, B relative to A\n{}", self.table(model))?;
        }
        writeln!(
            f,
            "\n* differs; ± what could have been seen: half of the 95 % interval; ° about the client; – too few rounds"
        )?;
        writeln!(
            f,
            "many rows are looked at at once: of those that are said to differ, {:.0} % may be wrong (Benjamini–Hochberg)",
            100.0 * FALSE_DISCOVERIES
        )?;
        self.verdict(f)?;
        for outcome in &self.gates {
            match (outcome.examined, outcome.caught.as_slice()) {
                (0, _) => {
                    writeln!(f, "gate {}: nothing could be compared, so it does not hold", outcome.gate.text)?
                }
                (examined, []) if outcome.not_compared > 0 => writeln!(
                    f,
                    "gate {}: holds, {examined} rows examined; {} more could not be compared",
                    outcome.gate.text, outcome.not_compared
                )?,
                (examined, []) => writeln!(f, "gate {}: holds, {examined} rows examined", outcome.gate.text)?,
                (_, caught) => writeln!(f, "gate {}: FAILED by {}", outcome.gate.text, caught.join("; "))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for CompareRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.place.map_or_else(|| "everywhere".to_owned(), |_| format!("at {}", self.shown));
        write!(f, "{} {at}: {} ", self.model, self.figure.name())?;
        match (self.verdict, self.ratio) {
            (RowVerdict::NoDifference, Some(ratio)) => {
                write!(
                    f,
                    "no difference that this machine can resolve (±{:.1} %)",
                    100.0 * ratio.resolution()
                )
            }
            (_, Some(ratio)) => {
                write!(f, "× {:.3} (95 % interval {:.3} to {:.3})", ratio.ratio, ratio.low, ratio.high)
            }
            (_, None) => write!(f, "too few good rounds to compare"),
        }
    }
}

impl Comparison {
    fn circumstances(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.paired {
            writeln!(f, "measured side by side in one run: compared round by round")?;
        }
        match self.differs.as_slice() {
            [] if !self.paired => writeln!(f, "same machine, versions and settings")?,
            [] => {}
            differs => {
                writeln!(f, "not the same in A (here) and B (there):")?;
                differs.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        if self.other_machine {
            writeln!(f, "these are two machines: the ratios compare them as much as what ran on them")?;
        }
        match self.drift {
            Some(drift) if self.normalised => writeln!(
                f,
                "the machine took {:+.1} % longer for a fixed workload in B; times are divided by that of the workload around each point",
                100.0 * (drift - 1.0)
            )?,
            _ if !self.paired => {
                writeln!(f, "times as they were measured: a drift of the machine's speed is not allowed for")?
            }
            _ => {}
        }
        if self.left_out > 0 {
            writeln!(f, "{} doubtful or invalid points are not compared", self.left_out)?;
        }
        self.unmatched.iter().chain(&self.damaged).try_for_each(|line| writeln!(f, "{line}"))
    }

    fn table(&self, model: &str) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let figures: Vec<Figure> = Figure::ALL
            .into_iter()
            .filter(|figure| self.rows.iter().any(|row| row.figure == *figure))
            .collect();
        let mut header = vec![self.varied.clone()];
        header.extend(figures.iter().map(|figure| figure.name().to_owned()));
        table.set_header(header);
        let mine: Vec<&CompareRow> =
            self.rows.iter().chain(&self.pooled).filter(|row| row.model == model).collect();
        let places: BTreeSet<Option<Place>> = mine.iter().map(|row| row.place).collect();
        // All places together stand last.
        let (all, each): (Vec<_>, Vec<_>) = places.into_iter().partition(Option::is_none);
        for place in each.into_iter().chain(all) {
            let shown = mine.iter().find(|row| row.place == place).map(|row| row.shown.clone());
            let mut cells = vec![shown.unwrap_or_default()];
            let row = |figure: &Figure| mine.iter().find(|row| row.place == place && row.figure == *figure);
            cells.extend(figures.iter().map(|figure| row(figure).map(|row| cell(row)).unwrap_or_default()));
            table.add_row(cells);
        }
        table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.nothing_because {
            return writeln!(
                f,
                "\nnothing could be compared, which does not mean that nothing differs: {why}"
            );
        }
        let judged = self
            .rows
            .iter()
            .filter(|row| matches!(row.verdict, RowVerdict::Differs | RowVerdict::NoDifference));
        let (differing, level): (Vec<&CompareRow>, Vec<&CompareRow>) =
            judged.partition(|row| row.verdict == RowVerdict::Differs);
        let mut resolutions: Vec<f64> =
            level.iter().filter_map(|row| row.ratio).map(|ratio| ratio.resolution()).collect();
        resolutions.sort_by(f64::total_cmp);
        let typical = resolutions.get(resolutions.len() / 2).copied().unwrap_or(0.0);
        writeln!(
            f,
            "\n{} of {} rows: no difference that this machine can resolve (typically ±{:.1} %)",
            level.len(),
            level.len() + differing.len(),
            100.0 * typical
        )?;
        for row in self.pooled.iter().filter(|row| row.verdict == RowVerdict::Differs) {
            writeln!(f, "{row}")?;
        }
        let mut sorted = differing;
        sorted.sort_by(|one, other| {
            let size = |row: &CompareRow| row.ratio.map_or(0.0, |ratio| ratio.ratio.ln().abs());
            size(other).total_cmp(&size(one))
        });
        for row in sorted.iter().take(LISTED) {
            writeln!(f, "{row}")?;
        }
        match sorted.len().checked_sub(LISTED) {
            Some(more @ 1..) => writeln!(f, "and {more} more, marked * above"),
            _ => Ok(()),
        }
    }
}

fn cell(row: &CompareRow) -> String {
    let percent = |share: f64| 100.0 * share;
    match (row.verdict, row.ratio) {
        (RowVerdict::AboutClient, _) => "° ".to_owned(),
        (_, None) => "– ".to_owned(),
        (RowVerdict::Differs, Some(ratio)) => {
            format!("{:+.1} ±{:.1} %*", percent(ratio.ratio - 1.0), percent(ratio.resolution()))
        }
        (_, Some(ratio)) if ratio.resolution() < 10.0 => format!("≈ ±{:.1} % ", percent(ratio.resolution())),
        (_, Some(_)) => "≈ ±>1000 % ".to_owned(),
    }
}

/// Each once, in the order of their first appearance.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
