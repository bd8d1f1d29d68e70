//! The figures of a picture as the page's script draws them.

use serde::Serialize;

use super::chart::{Chart, Scale};
use super::style::Marker;
use crate::quantity::Unit;
use crate::setting::Spread;

/// A picture, in what the script needs to draw it: values with their texts, so that nothing is formatted twice in two languages.
#[derive(Serialize)]
pub(super) struct ChartData {
    name: String,
    title: String,
    x_label: String,
    y_label: String,
    spread: Spread,
    scale: Scale,
    unit: Unit,
    has_bands: bool,
    /// Every value of x, with its text.
    ticks: Vec<(f64, String)>,
    lines: Vec<LineData>,
}

#[derive(Serialize)]
struct LineData {
    name: String,
    colour: String,
    marker: Marker,
    is_dashed: bool,
    is_thin: bool,
    limit: Option<(f64, String)>,
    points: Vec<PointData>,
}

#[derive(Serialize)]
struct PointData {
    x: f64,
    y: f64,
    low: f64,
    high: f64,
    /// The figure and its interval.
    text: String,
    /// Why it does not count.
    doubt: Option<String>,
}

impl ChartData {
    pub(super) fn of(name: &str, chart: &Chart) -> ChartData {
        let lines = chart.lines.iter().filter(|line| !line.points.is_empty()).map(|line| {
            let look = chart.look(&line.model);
            let points = line.points.iter().map(|dot| {
                let (low, high) = dot.interval();
                let show = |value: f64| chart.unit.show(value);
                let interval = match (dot.value.low, dot.value.high) {
                    (Some(low), Some(high)) => format!(" ({} to {})", show(low), show(high)),
                    _ => String::new(),
                };
                let rounds = if dot.value.rounds == 1 {
                    "1 round".to_owned()
                } else {
                    format!("{} rounds", dot.value.rounds)
                };
                let text = format!("{}{interval}, {rounds}", show(dot.value.median));
                PointData { x: dot.x, y: dot.value.median, low, high, text, doubt: dot.doubt.clone() }
            });
            LineData {
                name: line.name(),
                colour: format!("#{:02x}{:02x}{:02x}", look.colour.0, look.colour.1, look.colour.2),
                marker: look.marker,
                is_dashed: look.is_dashed || line.variant.is_some(),
                is_thin: line.variant.is_some(),
                limit: line.limit.clone(),
                points: points.collect(),
            }
        });
        ChartData {
            name: name.to_owned(),
            title: chart.title.clone(),
            x_label: chart.x_label.clone(),
            y_label: chart.y_label.clone(),
            spread: chart.x.spread(),
            scale: chart.scale,
            unit: chart.unit,
            has_bands: chart.has_bands(),
            ticks: chart.values().into_iter().map(|value| (value, chart.x.show(value))).collect(),
            lines: lines.collect(),
        }
    }

    /// As JSON that may stand in a script element: nothing in it can end the element or begin another.
    pub(super) fn embedded(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        crate::text::plain_json(&json).replace('<', "\\u003c").replace("-->", "--\\u003e")
    }
}
