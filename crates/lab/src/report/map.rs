//! A figure over two axes: one panel for each model, a field for each place.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::draw::{Draw, Drawn, INK, text};
use crate::format;
use crate::quantity::Quantity;
use crate::record::Status;
use crate::setting::{Axes, Place};
use crate::summary::{ExperimentSummary, Row};

/// Where the panels lie, and the room between them.
const LEFT: i32 = 40;
const TOP: i32 = 120;
const WIDTH: i32 = 1200;
const HEIGHT: i32 = 560;
const GAP: i32 = 26;
/// Room in a panel for its name and for what stands along its axes.
const NAME: i32 = 34;
const ROWS: i32 = 64;
const COLUMNS: i32 = 28;
/// Factors from here on have the full colour.
const FULL: f64 = 4.0;

const DEARER: (f64, f64, f64) = (213.0, 94.0, 0.0);
const CHEAPER: (f64, f64, f64) = (0.0, 114.0, 178.0);
const NOTHING: RGBColor = RGBColor(236, 236, 238);

/// CPU time per message over two axes: of one model in figures, of the others relative to it.
pub(super) struct Map {
    pub(super) title: String,
    label: String,
    columns: Vec<String>,
    rows: Vec<String>,
    panels: Vec<Panel>,
}

struct Panel {
    name: String,
    /// By row and column.
    fields: Vec<Vec<Field>>,
}

#[derive(Default)]
struct Field {
    text: String,
    /// The figure relative to the first panel's, if it can be told apart from it.
    ratio: Option<f64>,
    is_known: bool,
}

impl Map {
    /// The first panel is that of epoll, or of whoever is compared first.
    pub(super) fn of(summary: &ExperimentSummary) -> Map {
        let compared: Vec<&str> = summary
            .subjects
            .iter()
            .filter(|subject| subject.compared)
            .map(|subject| subject.model.as_str())
            .collect();
        let first =
            compared.iter().find(|model| **model == "epoll").or(compared.first()).copied().unwrap_or("");
        let axes = &summary.axes;
        let (columns, rows) = (&axes.x.values, axes.by.as_ref().map_or(&[][..], |by| &by.values));
        let others = compared.iter().copied().filter(|model| *model != first);
        let panels = std::iter::once(first).chain(others).map(|model| {
            let field = |by: &f64, x: &f64| field(summary, first, model, Place { x: *x, by: Some(*by) });
            let fields = rows.iter().map(|by| columns.iter().map(|x| field(by, x)).collect()).collect();
            Panel { name: model.to_owned(), fields }
        });
        Map {
            title: format!("Where is {} as good as {first}?", several(&compared, first)),
            label: label(axes, first),
            columns: columns.iter().map(|x| axes.x.axis.show(*x)).collect(),
            rows: rows
                .iter()
                .map(|by| axes.by.as_ref().map_or_else(String::new, |axis| axis.axis.show(*by)))
                .collect(),
            panels: panels.collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.panels.iter().all(|panel| panel.fields.iter().flatten().all(|field| field.text.is_empty()))
    }
}

fn several(compared: &[&str], first: &str) -> String {
    let others: Vec<&str> = compared.iter().copied().filter(|model| *model != first).collect();
    match others.as_slice() {
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} or {two}"),
        _ => "another model".to_owned(),
    }
}

fn label(axes: &Axes, first: &str) -> String {
    let rows = axes.by.as_ref().map_or("", |by| by.axis.label());
    format!(
        "CPU time per message, of the others relative to {first}; rows: {rows}, columns: {}",
        axes.x.axis.label()
    )
}

fn field(summary: &ExperimentSummary, first: &str, model: &str, place: Place) -> Field {
    let Some(row) = summary.row(model, place) else { return Field::default() };
    let (Status::Ok | Status::Doubtful, Some(cpu)) = (row.status, row.server_cpu_ns_per_message) else {
        return Field { text: row.reason.clone().unwrap_or_default(), ..Field::default() };
    };
    // The PNG's font has no hollow circle.
    let mark = if row.status == Status::Ok { "" } else { " ?" };
    if model == first {
        let text = format!("{}{mark}", format::nanoseconds(cpu.median));
        return Field { text, ratio: None, is_known: true };
    }
    let reference: Option<&Row> = summary.row(first, place);
    let Some(ratio) = reference.and_then(|reference| row.ratio_to(reference, Quantity::Cpu)) else {
        return match reference.and_then(|reference| reference.server_cpu_ns_per_message) {
            // One round has no interval: the figure stands, and no colour.
            Some(other) => Field {
                text: format!("{:.2} ×{mark}", cpu.median / other.median),
                ratio: None,
                is_known: true,
            },
            None => Field { text: format::nanoseconds(cpu.median), ratio: None, is_known: true },
        };
    };
    if ratio.holds_one() {
        return Field { text: format!("≈{mark}"), ratio: None, is_known: true };
    }
    let shown =
        if ratio.ratio >= 10.0 { format!("{:.0} ×", ratio.ratio) } else { format!("{:.2} ×", ratio.ratio) };
    Field { text: format!("{shown}{mark}"), ratio: Some(ratio.ratio), is_known: true }
}

impl Field {
    /// White where it is as good, more of a colour the further it is off.
    fn colour(&self) -> RGBColor {
        if !self.is_known {
            return NOTHING;
        }
        let Some(ratio) = self.ratio else { return WHITE };
        let (red, green, blue) = if ratio > 1.0 { DEARER } else { CHEAPER };
        let part = (ratio.ln().abs() / FULL.ln()).clamp(0.08, 0.85);
        let mix = |colour: f64| (255.0 - (255.0 - colour) * part).round() as u8;
        RGBColor(mix(red), mix(green), mix(blue))
    }
}

impl Draw for Map {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        text(area, &self.title, (40, 48), 36, INK, HPos::Left)?;
        text(area, &self.label, (40, 84), 20, INK, HPos::Left)?;
        let across = (self.panels.len() as f64).sqrt().ceil().max(1.0) as i32;
        let down = (self.panels.len() as i32 + across - 1) / across.max(1);
        let (width, height) = ((WIDTH + GAP) / across - GAP, (HEIGHT + GAP) / down.max(1) - GAP);
        for (number, panel) in self.panels.iter().enumerate() {
            let (column, row) = (number as i32 % across, number as i32 / across);
            let corner = (LEFT + column * (width + GAP), TOP + row * (height + GAP));
            self.draw_panel(area, panel, corner, (width, height))?;
        }
        Ok(())
    }
}

impl Map {
    fn draw_panel<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        panel: &Panel,
        (left, top): (i32, i32),
        (width, height): (i32, i32),
    ) -> Drawn<B> {
        text(area, &panel.name, (left + ROWS, top + NAME / 2), 26, INK, HPos::Left)?;
        let (columns, rows) = (self.columns.len().max(1) as i32, self.rows.len().max(1) as i32);
        let (wide, high) = ((width - ROWS) / columns, (height - NAME - COLUMNS) / rows);
        let size = if wide < 84 { 15 } else { 18 };
        // Many connections stand above, as on every other picture.
        for (number, (fields, name)) in panel.fields.iter().zip(&self.rows).enumerate() {
            let y = top + NAME + (rows - 1 - number as i32) * high;
            text(area, name, (left + ROWS - 8, y + high / 2), size, INK, HPos::Right)?;
            for (number, field) in fields.iter().enumerate() {
                let x = left + ROWS + number as i32 * wide;
                let corners = [(x, y), (x + wide - 3, y + high - 3)];
                area.draw(&Rectangle::new(corners, field.colour().filled()))?;
                if field.is_known {
                    area.draw(&Rectangle::new(corners, RGBColor(200, 200, 204).stroke_width(1)))?;
                }
                text(area, &field.text, (x + wide / 2, y + high / 2), size, INK, HPos::Center)?;
            }
        }
        for (number, name) in self.columns.iter().enumerate() {
            let x = left + ROWS + number as i32 * wide + wide / 2;
            text(area, name, (x, top + NAME + rows * high + COLUMNS / 2), size, INK, HPos::Center)?;
        }
        Ok(())
    }
}
