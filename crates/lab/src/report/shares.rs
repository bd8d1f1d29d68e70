//! What one connection holds, by place: a bar for each model.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::draw::{Draw, Drawn, INK, text};
use crate::format;
use crate::record::Status;
use crate::summary::{ExperimentSummary, PerConnection};

/// Pixels that a number needs.
const ROOM: i32 = 90;

const LEFT: i32 = 210;
const RIGHT: i32 = 1090;
const WIDTH: i32 = 1240;
const TOP: i32 = 170;
const BOTTOM: i32 = 640;

/// A place that memory is held in, with its colour: those of Okabe and Ito.
type Part = (&'static str, RGBColor, fn(&PerConnection) -> Option<f64>);

const PARTS: [Part; 6] = [
    ("allocated by the server", RGBColor(0, 114, 178), |held| held.user_bytes),
    ("its page tables", RGBColor(86, 180, 233), |held| held.page_tables_bytes),
    ("kernel stacks", RGBColor(213, 94, 0), |held| held.kernel_stacks_bytes),
    ("socket buffers", RGBColor(240, 228, 66), |held| held.socket_buffers_bytes),
    ("objects of the kernel", RGBColor(0, 158, 115), |held| held.slab_bytes),
    ("allocated by the client", RGBColor(204, 121, 167), |held| held.client_bytes),
];

/// The bars, in reading order.
pub(super) struct Shares(Vec<Bar>);

struct Bar {
    name: String,
    connections: usize,
    /// As in [`PARTS`]; `None`: not known.
    parts: Vec<Option<f64>>,
    is_hollow: bool,
}

impl Shares {
    /// Each model at the most connections that it has figures for.
    pub(super) fn of(summary: &ExperimentSummary) -> Shares {
        let bar = |model: &str| {
            let mine = summary
                .rows
                .iter()
                .filter(|row| row.model == model && matches!(row.status, Status::Ok | Status::Doubtful));
            let row = mine.rev().find(|row| row.per_connection.slab_bytes.is_some())?;
            // Freed pages of somebody else may outweigh a small part: there is no negative bar.
            let part = |(_, _, of): &Part| of(&row.per_connection).map(|bytes| bytes.max(0.0));
            Some(Bar {
                name: model.to_owned(),
                connections: row.connections,
                parts: PARTS.iter().map(part).collect(),
                is_hollow: row.status != Status::Ok,
            })
        };
        Shares(summary.subjects.iter().filter_map(|subject| bar(&subject.model)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Draw for Shares {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        text(area, "What one connection holds", (40, 48), 36, INK, HPos::Left)?;
        text(area, "shares of the bytes per open connection, by place", (40, 84), 24, INK, HPos::Left)?;
        let (mut x, mut y) = (40, 112);
        let is_known = |place: usize| self.0.iter().any(|bar| bar.parts[place].is_some());
        for (place, (name, colour, _)) in PARTS.into_iter().enumerate().filter(|(place, _)| is_known(*place))
        {
            let wide = 70 + name.chars().count() as i32 * 9;
            if place > 0 && x + wide > WIDTH {
                (x, y) = (40, y + 28);
            }
            area.draw(&Rectangle::new([(x, y), (x + 22, y + 22)], colour.filled()))?;
            text(area, name, (x + 30, y + 11), 20, INK, HPos::Left)?;
            x += wide;
        }
        let step = (BOTTOM - TOP) / self.0.len().max(1) as i32;
        for (number, bar) in self.0.iter().enumerate() {
            let y = TOP + number as i32 * step;
            let high = (step - 12).clamp(8, 52);
            let middle = y + high / 2;
            text(area, &bar.name, (LEFT - 12, middle - 8), 24, INK, HPos::Right)?;
            let count = format!("at {}", format::count(bar.connections));
            text(area, &count, (LEFT - 12, middle + 14), 15, INK, HPos::Right)?;
            self.draw_bar(area, bar, y, high)?;
            let mark = if bar.is_hollow { " ?" } else { "" };
            let words = format!("{}{mark}", format::bytes(bar.parts.iter().flatten().sum()));
            text(area, &words, (RIGHT + 16, middle), 26, INK, HPos::Left)?;
        }
        Ok(())
    }
}

impl Shares {
    fn draw_bar<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        bar: &Bar,
        y: i32,
        high: i32,
    ) -> Drawn<B> {
        let all: f64 = bar.parts.iter().flatten().sum::<f64>().max(1.0);
        let at = |bytes: f64| LEFT + (bytes / all * f64::from(RIGHT - LEFT)).round() as i32;
        let mut sum = 0.0;
        for (bytes, (_, colour, _)) in bar.parts.iter().zip(PARTS) {
            let Some(bytes) = bytes else { continue };
            let corners = [(at(sum), y), (at(sum + bytes), y + high)];
            sum += bytes;
            if corners[1].0 <= corners[0].0 {
                continue;
            }
            area.draw(&Rectangle::new(corners, colour.filled()))?;
            if corners[1].0 - corners[0].0 > ROOM {
                // Dark letters on the light colours, light ones on the dark.
                let is_light = u32::from(colour.0) + u32::from(colour.1) + u32::from(colour.2) > 400;
                let ink = if is_light { INK } else { WHITE };
                let middle = ((corners[0].0 + corners[1].0) / 2, y + high / 2);
                text(area, &format::bytes(*bytes), middle, 20, ink, HPos::Center)?;
            }
        }
        Ok(())
    }
}
