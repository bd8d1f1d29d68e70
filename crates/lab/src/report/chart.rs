//! A figure against what is varied, drawn as SVG and as PNG by the same code.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use serde::Serialize;

use super::draw::{BOTTOM, Draw, Drawn, FAINT, INK, LEFT, RIGHT, TOP, marker, stroke, text};
use super::style::{Style, style_among};
use crate::quantity::Unit;
use crate::setting::{Axis, Spread};
use crate::stats::Estimate;

/// Room for the name at the end of a line, and for the limit below it.
const LABEL_HEIGHT: i32 = 30;
const LIMIT_HEIGHT: i32 = 20;
/// Lines that have a band each.
const MOST_BANDS: usize = 12;
/// How far up labels may be pushed.
const HIGHEST_LABEL: i32 = 16;
/// Letters of a name that there is room for at its usual size.
const LONG_NAME: usize = 17;
/// And one that is longer than this would not fit in those either.
const LONGER_NAME: usize = 30;

/// How much of a logarithmic y-axis zeros take, if there are any.
const FOOT: f64 = 0.1;

/// One picture.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) y_label: String,
    pub(super) x_label: String,
    /// What stands along the x-axis.
    pub(super) x: Axis,
    pub(super) scale: Scale,
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line>,
}

/// How the y-axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Logarithmic,
    /// By powers of four, for sizes in bytes.
    Binary,
}

/// One model's points, by rising x.
pub(super) struct Line {
    pub(super) model: String,
    /// Which of a model's lines, if it has several: `uncorrected`. Its line is thin and dashed.
    pub(super) variant: Option<&'static str>,
    pub(super) points: Vec<Dot>,
    /// The first value of x that is beyond a limit, and the limit.
    pub(super) limit: Option<(f64, String)>,
}

impl Line {
    /// What stands at its end.
    pub(super) fn name(&self) -> String {
        match self.variant {
            Some(variant) => format!("{} {variant}", self.model),
            None => self.model.clone(),
        }
    }
}

/// The median over rounds, with its interval.
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) value: Estimate,
    /// No round of it is good: it is drawn hollow, for this reason.
    pub(super) doubt: Option<String>,
}

impl Dot {
    /// The interval, or the range over the rounds where there is none.
    pub(super) fn interval(&self) -> (f64, f64) {
        (self.value.low.unwrap_or(self.value.min), self.value.high.unwrap_or(self.value.max))
    }
}

impl Draw for Chart {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let axes = Axes::new(self);
        self.draw_frame(area, &axes)?;
        for line in &self.lines {
            draw_line(area, line, self.look(&line.model), &axes, self.has_bands())?;
        }
        self.draw_labels(area, &axes)
    }
}

impl Chart {
    /// Whether intervals are drawn as bands: of more lines they would hide everything.
    pub(super) fn has_bands(&self) -> bool {
        self.lines.len() <= MOST_BANDS
    }

    /// How a line looks among the others.
    pub(super) fn look(&self, model: &str) -> Style {
        let all: Vec<&str> =
            self.lines.iter().filter(|line| line.variant.is_none()).map(|line| line.model.as_str()).collect();
        style_among(model, &all)
    }

    /// Every value of x that a line speaks of.
    pub(super) fn values(&self) -> Vec<f64> {
        let dots = self.lines.iter().flat_map(|line| line.points.iter().map(|dot| dot.x));
        let limits = self.lines.iter().filter_map(|line| line.limit.as_ref().map(|(x, _)| *x));
        let mut values: Vec<f64> = dots.chain(limits).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    }

    fn draw_frame<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, axes: &Axes) -> Drawn<B> {
        text(area, &self.title, (40, 48), 36, INK, HPos::Left)?;
        text(area, &self.y_label, (40, 84), 24, INK, HPos::Left)?;
        text(area, &self.x_label, ((LEFT + RIGHT) / 2, BOTTOM + 70), 24, INK, HPos::Center)?;
        for tick in axes.ticks() {
            let y = axes.y(tick);
            area.draw(&PathElement::new(vec![(LEFT, y), (RIGHT, y)], FAINT.stroke_width(1)))?;
            text(area, &self.unit.tick(tick), (LEFT - 14, y), 22, INK, HPos::Right)?;
        }
        let mut free_from = i32::MIN;
        for value in &axes.values {
            let (x, words) = (axes.x(*value), self.x.show(*value));
            area.draw(&PathElement::new(vec![(x, BOTTOM), (x, BOTTOM + 8)], INK.stroke_width(2)))?;
            // A letter is about half as wide as it is high.
            let half = words.chars().count() as i32 * 6;
            if x - half >= free_from {
                text(area, &words, (x, BOTTOM + 28), 22, INK, HPos::Center)?;
                free_from = x + half + 8;
            }
        }
        area.draw(&PathElement::new(vec![(LEFT, BOTTOM), (RIGHT, BOTTOM)], INK.stroke_width(2)))
    }

    /// Names at the ends of the lines, with the limit that ended one, pushed apart where they would overlap.
    fn draw_labels<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, axes: &Axes) -> Drawn<B> {
        let ends = self.lines.iter().filter_map(|line| {
            let end = line.points.last()?;
            let (limit, limit_height) = match &line.limit {
                // What the kernel says of itself stands behind its name.
                Some((_, reason)) => (reason.split(": ").next(), LIMIT_HEIGHT),
                None => (None, 0),
            };
            let x = line.limit.as_ref().map_or(end.x, |(x, _)| *x);
            let end = (axes.x(x), axes.y(end.value.median));
            let height = LABEL_HEIGHT + limit_height;
            Some(Label { y: end.1, height, end, model: &line.model, name: line.name(), limit })
        });
        let mut labels: Vec<Label<'_>> = ends.collect();
        labels.sort_by(|one, other| (one.y, &one.name).cmp(&(other.y, &other.name)));
        // Many of them have to be smaller.
        let wanted: i32 = labels.iter().map(|label| label.height).sum();
        let scale = (f64::from(BOTTOM - HIGHEST_LABEL) / f64::from(wanted.max(1))).min(1.0);
        let scaled = |length: i32| (f64::from(length) * scale).round() as i32;
        labels.iter_mut().for_each(|label| label.height = scaled(label.height));
        spread_out(&mut labels);
        for Label { y, end, model, name, limit, .. } in labels {
            let Style { colour, .. } = self.look(model);
            let leader = vec![(end.0 + 12, end.1), (RIGHT + 20, y)];
            area.draw(&PathElement::new(leader, colour.mix(0.35).stroke_width(1)))?;
            let size = match name.chars().count() {
                letters if letters > LONGER_NAME => 15,
                letters if letters > LONG_NAME => 20,
                _ => 26,
            };
            text(area, &name, (RIGHT + 28, y), scaled(size), colour, HPos::Left)?;
            if let Some(limit) = limit {
                text(
                    area,
                    &format!("limit: {limit}"),
                    (RIGHT + 28, y + scaled(24)),
                    scaled(18),
                    colour,
                    HPos::Left,
                )?;
            }
        }
        Ok(())
    }
}

/// The name at the end of a line.
struct Label<'a> {
    y: i32,
    height: i32,
    end: (i32, i32),
    model: &'a str,
    name: String,
    limit: Option<&'a str>,
}

fn draw_line<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    line: &Line,
    style: Style,
    axes: &Axes,
    has_bands: bool,
) -> Drawn<B> {
    let at = |dot: &Dot, value: f64| (axes.x(dot.x), axes.y(value));
    let upper = line.points.iter().map(|dot| at(dot, dot.interval().1));
    let lower = line.points.iter().rev().map(|dot| at(dot, dot.interval().0));
    let band: Vec<(i32, i32)> = upper.chain(lower).collect();
    // Those of the thin lines would hide the others.
    if has_bands && line.points.len() > 1 && line.variant.is_none() {
        area.draw(&Polygon::new(band, style.colour.mix(0.14).filled()))?;
    }
    let middle: Vec<(i32, i32)> = line.points.iter().map(|dot| at(dot, dot.value.median)).collect();
    let (width, is_dashed) = if line.variant.is_some() { (2, true) } else { (4, style.is_dashed) };
    for pair in middle.windows(2) {
        stroke(area, pair[0], pair[1], style.colour, width, is_dashed)?;
    }
    for (dot, at) in line.points.iter().zip(&middle) {
        marker(area, *at, style, dot.doubt.is_some())?;
    }
    let (Some((x, _)), Some(last)) = (&line.limit, middle.last()) else { return Ok(()) };
    let end = (axes.x(*x), last.1);
    stroke(area, *last, end, style.colour, 2, true)?;
    for (dx, dy) in [(9, 9), (9, -9)] {
        let ends = vec![(end.0 - dx, end.1 - dy), (end.0 + dx, end.1 + dy)];
        area.draw(&PathElement::new(ends, style.colour.stroke_width(4)))?;
    }
    Ok(())
}

/// Moves labels, sorted from top to bottom, so far apart that none covers another.
fn spread_out(labels: &mut [Label<'_>]) {
    for index in 1..labels.len() {
        labels[index].y = labels[index].y.max(labels[index - 1].y + labels[index - 1].height);
    }
    if let Some(last) = labels.last_mut() {
        last.y = last.y.min(BOTTOM);
    }
    for index in (1..labels.len()).rev() {
        labels[index - 1].y = labels[index - 1].y.min(labels[index].y - labels[index - 1].height);
    }
}

/// Where values stand on the picture.
struct Axes {
    scale: Scale,
    low: f64,
    high: f64,
    /// The part of the y-axis that is kept for zeros, below a logarithmic scale.
    foot: f64,
    /// All values of x, ascending.
    values: Vec<f64>,
    spread: Spread,
}

impl Axes {
    fn new(chart: &Chart) -> Axes {
        let dots = || chart.lines.iter().flat_map(|line| &line.points);
        let greatest = dots().map(|dot| dot.value.max).fold(f64::MIN_POSITIVE, f64::max);
        let least = dots().map(|dot| dot.value.min).filter(|value| *value > 0.0).fold(greatest, f64::min);
        let (low, high) = match chart.scale {
            Scale::Linear => (0.0, greatest * 1.05),
            Scale::Logarithmic | Scale::Binary => (least / 1.3, greatest * 1.3),
        };
        let has_zeros = chart.scale != Scale::Linear && dots().any(|dot| dot.value.median <= 0.0);
        let foot = if has_zeros { FOOT } else { 0.0 };
        Axes { scale: chart.scale, low, high, foot, values: chart.values(), spread: chart.x.spread() }
    }

    fn x(&self, value: f64) -> i32 {
        let (left, right) = (f64::from(LEFT) + 30.0, f64::from(RIGHT) - 30.0);
        let place = |value: f64| match self.spread {
            Spread::Logarithmic => value.max(f64::MIN_POSITIVE).log2(),
            Spread::Linear => value,
            Spread::Steps => self.values.iter().filter(|known| **known < value).count() as f64,
        };
        let ends = self.values.first().zip(self.values.last());
        let (first, last) = ends.map_or((0.0, 0.0), |(first, last)| (place(*first), place(*last)));
        let part = if last > first { (place(value) - first) / (last - first) } else { 0.5 };
        (left + part.clamp(0.0, 1.0) * (right - left)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        let part = match self.scale {
            Scale::Linear => value / self.high,
            // Zeros have no place of their own on such a scale: they stand at its foot, below all other values.
            Scale::Logarithmic | Scale::Binary if value <= 0.0 => 0.0,
            Scale::Logarithmic | Scale::Binary => {
                let part = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
                self.foot + part * (1.0 - self.foot)
            }
        };
        // Of two rounds the interval may be wider than any picture.
        let part = part.clamp(0.0, 1.0);
        (f64::from(BOTTOM) - part * f64::from(BOTTOM - TOP)).round() as i32
    }

    /// Round values, about five of them.
    fn ticks(&self) -> Vec<f64> {
        let zero = (self.foot > 0.0).then_some(0.0);
        zero.into_iter().chain(self.ticks_above()).collect()
    }

    fn ticks_above(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let rough = self.high / 5.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step =
                    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(power * 10.0);
                (0..).map(|index| f64::from(index) * step).take_while(|tick| *tick <= self.high).collect()
            }
            Scale::Binary => {
                let powers = (0..40).map(|power| 4_f64.powi(power));
                powers.filter(|tick| (self.low..=self.high).contains(tick)).collect()
            }
            Scale::Logarithmic => {
                let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
                let digits: &[f64] = if self.high / self.low > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                decades
                    .flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)))
                    .filter(|tick| (self.low..=self.high).contains(tick))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(median: f64) -> Estimate {
        Estimate::of([median * 0.9, median, median * 1.1].into_iter()).unwrap()
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        let mut labels: Vec<Label<'_>> = [(300, 30), (600, 50), (600, 30), (601, 30), (602, 30)]
            .map(|(y, height)| Label {
                y,
                height,
                end: (0, y),
                model: "epoll",
                name: String::new(),
                limit: None,
            })
            .into();
        spread_out(&mut labels);
        assert!(labels.windows(2).all(|pair| pair[1].y - pair[0].y >= pair[0].height));
        assert!(labels.iter().all(|label| label.y <= BOTTOM));
    }

    #[test]
    fn zeros_stand_at_the_foot_of_a_logarithmic_scale_and_have_a_tick() {
        let dot = |x, value| Dot { x, value: estimate(value), doubt: None };
        let line = |points| Line { model: "epoll".into(), variant: None, points, limit: None };
        let chart = |scale, points| Chart {
            title: "T".into(),
            y_label: "y".into(),
            x_label: "x".into(),
            x: Axis::Connections,
            scale,
            unit: Unit::Ns,
            lines: vec![line(points)],
        };
        for scale in [Scale::Logarithmic, Scale::Binary] {
            let axes = Axes::new(&chart(scale, vec![dot(1.0, 0.0), dot(4.0, 5e6), dot(16.0, 9e6)]));
            assert_eq!(axes.y(0.0), BOTTOM);
            assert!(axes.ticks().iter().all(|tick| *tick == 0.0 || axes.y(*tick) < BOTTOM - 20), "{scale:?}");
            assert!(axes.ticks().contains(&0.0) && axes.y(5e6) > axes.y(9e6));
            let axes = Axes::new(&chart(scale, vec![dot(4.0, 5e6), dot(16.0, 9e6)]));
            assert!(!axes.ticks().contains(&0.0), "{scale:?}: without zeros there is no tick for zero");
        }
    }

    #[test]
    fn a_limit_is_written_where_it_is_and_the_same_data_give_the_same_picture() {
        let dot = |x, value| Dot { x, value: estimate(value), doubt: None };
        let chart = Chart {
            title: "T".into(),
            y_label: "y".into(),
            x_label: "x".into(),
            x: Axis::Connections,
            scale: Scale::Linear,
            unit: Unit::PerS,
            lines: vec![Line {
                model: "select".into(),
                variant: None,
                points: vec![dot(1.0, 10.0), dot(64.0, 90.0)],
                limit: Some((1024.0, "FD_SETSIZE".into())),
            }],
        };
        let svg = chart.svg().unwrap();
        assert!(svg.contains("limit: FD_SETSIZE"), "{svg}");
        assert!(svg.contains("1,024"));
        assert_eq!(svg, chart.svg().unwrap());
    }
}
