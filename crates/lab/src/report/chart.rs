//! A figure against the number of connections, drawn as SVG and as PNG by the same code.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::draw::{BOTTOM, Draw, Drawn, FAINT, INK, LEFT, RIGHT, TOP, marker, stroke, text};
use super::style::{Style, style};
use crate::format;
use crate::stats::Estimate;

/// Room for the name at the end of a line, and for the limit below it.
const LABEL_HEIGHT: i32 = 30;
const LIMIT_HEIGHT: i32 = 20;

/// One picture.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) y_label: &'static str,
    pub(super) x_label: &'static str,
    pub(super) scale: Scale,
    /// How a value of the y-axis is written.
    pub(super) tick: fn(f64) -> String,
    pub(super) lines: Vec<Line>,
}

/// How the y-axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Logarithmic,
    /// By powers of four, for sizes in bytes.
    Binary,
}

/// One model's points, by rising number of connections.
pub(super) struct Line {
    pub(super) model: String,
    pub(super) points: Vec<Dot>,
    /// The first number of connections that is beyond a limit, and the limit.
    pub(super) limit: Option<(usize, String)>,
}

/// The median over rounds, with its interval.
pub(super) struct Dot {
    pub(super) connections: usize,
    pub(super) value: Estimate,
    /// No round of it is good: it is drawn hollow.
    pub(super) is_hollow: bool,
}

impl Dot {
    /// The interval, or the range over the rounds where there is none.
    fn interval(&self) -> (f64, f64) {
        (self.value.low.unwrap_or(self.value.min), self.value.high.unwrap_or(self.value.max))
    }
}

impl Draw for Chart {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let counts = self.counts();
        let axes = Axes::new(&counts, self);
        self.draw_frame(area, &counts, &axes)?;
        for line in &self.lines {
            draw_line(area, line, &axes)?;
        }
        self.draw_labels(area, &axes)
    }
}

impl Chart {
    /// Every number of connections that a line speaks of.
    fn counts(&self) -> Vec<usize> {
        let dots = self.lines.iter().flat_map(|line| line.points.iter().map(|dot| dot.connections));
        let limits = self.lines.iter().filter_map(|line| line.limit.as_ref().map(|(count, _)| *count));
        let mut counts: Vec<usize> = dots.chain(limits).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }

    fn draw_frame<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        counts: &[usize],
        axes: &Axes,
    ) -> Drawn<B> {
        text(area, &self.title, (40, 48), 36, INK, HPos::Left)?;
        text(area, self.y_label, (40, 84), 24, INK, HPos::Left)?;
        text(area, self.x_label, ((LEFT + RIGHT) / 2, BOTTOM + 70), 24, INK, HPos::Center)?;
        for tick in axes.ticks() {
            let y = axes.y(tick);
            area.draw(&PathElement::new(vec![(LEFT, y), (RIGHT, y)], FAINT.stroke_width(1)))?;
            text(area, &(self.tick)(tick), (LEFT - 14, y), 22, INK, HPos::Right)?;
        }
        for count in counts {
            let x = axes.x(*count);
            area.draw(&PathElement::new(vec![(x, BOTTOM), (x, BOTTOM + 8)], INK.stroke_width(2)))?;
            text(area, &format::count(*count), (x, BOTTOM + 28), 22, INK, HPos::Center)?;
        }
        area.draw(&PathElement::new(vec![(LEFT, BOTTOM), (RIGHT, BOTTOM)], INK.stroke_width(2)))
    }

    /// Names at the ends of the lines, with the limit that ended one, pushed apart where they would overlap.
    fn draw_labels<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, axes: &Axes) -> Drawn<B> {
        let ends = self.lines.iter().filter_map(|line| {
            let end = line.points.last()?;
            let (limit, limit_height) = match &line.limit {
                Some((_, reason)) => (Some(reason.as_str()), LIMIT_HEIGHT),
                None => (None, 0),
            };
            let connections = line.limit.as_ref().map_or(end.connections, |(connections, _)| *connections);
            let end = (axes.x(connections), axes.y(end.value.median));
            Some(Label { y: end.1, height: LABEL_HEIGHT + limit_height, end, model: &line.model, limit })
        });
        let mut labels: Vec<Label<'_>> = ends.collect();
        labels.sort_by_key(|label| (label.y, label.model));
        spread_out(&mut labels);
        for Label { y, end, model, limit, .. } in labels {
            let Style { colour, .. } = style(model);
            let leader = vec![(end.0 + 12, end.1), (RIGHT + 20, y)];
            area.draw(&PathElement::new(leader, colour.mix(0.35).stroke_width(1)))?;
            text(area, model, (RIGHT + 28, y), 26, colour, HPos::Left)?;
            if let Some(limit) = limit {
                text(area, &format!("limit: {limit}"), (RIGHT + 28, y + 24), 18, colour, HPos::Left)?;
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
    limit: Option<&'a str>,
}

fn draw_line<B: DrawingBackend>(area: &DrawingArea<B, Shift>, line: &Line, axes: &Axes) -> Drawn<B> {
    let style = style(&line.model);
    let at = |dot: &Dot, value: f64| (axes.x(dot.connections), axes.y(value));
    let upper = line.points.iter().map(|dot| at(dot, dot.interval().1));
    let lower = line.points.iter().rev().map(|dot| at(dot, dot.interval().0));
    let band: Vec<(i32, i32)> = upper.chain(lower).collect();
    if line.points.len() > 1 {
        area.draw(&Polygon::new(band, style.colour.mix(0.14).filled()))?;
    }
    let middle: Vec<(i32, i32)> = line.points.iter().map(|dot| at(dot, dot.value.median)).collect();
    for pair in middle.windows(2) {
        stroke(area, pair[0], pair[1], style.colour, 4, style.is_dashed)?;
    }
    for (dot, at) in line.points.iter().zip(&middle) {
        marker(area, *at, style, dot.is_hollow)?;
    }
    let (Some((count, _)), Some(last)) = (&line.limit, middle.last()) else { return Ok(()) };
    let end = (axes.x(*count), last.1);
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
    first: f64,
    last: f64,
}

impl Axes {
    fn new(counts: &[usize], chart: &Chart) -> Axes {
        let values = || chart.lines.iter().flat_map(|line| &line.points);
        let greatest = values().map(|dot| dot.value.max).fold(f64::MIN_POSITIVE, f64::max);
        let least = values().map(|dot| dot.value.min).filter(|value| *value > 0.0).fold(greatest, f64::min);
        let (low, high) = match chart.scale {
            Scale::Linear => (0.0, greatest * 1.05),
            Scale::Logarithmic | Scale::Binary => (least / 1.3, greatest * 1.3),
        };
        let log = |count: Option<&usize>| count.map_or(0.0, |count| (*count as f64).log2());
        Axes { scale: chart.scale, low, high, first: log(counts.first()), last: log(counts.last()) }
    }

    fn x(&self, count: usize) -> i32 {
        let (left, right) = (f64::from(LEFT) + 30.0, f64::from(RIGHT) - 30.0);
        let part = ((count as f64).log2() - self.first) / (self.last - self.first).max(1e-9);
        (left + part.clamp(0.0, 1.0) * (right - left)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        let part = match self.scale {
            Scale::Linear => value / self.high,
            Scale::Logarithmic | Scale::Binary => {
                (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
            }
        };
        // Of two rounds the interval may be wider than any picture.
        let part = part.clamp(0.0, 1.0);
        (f64::from(BOTTOM) - part * f64::from(BOTTOM - TOP)).round() as i32
    }

    /// Round values, about five of them.
    fn ticks(&self) -> Vec<f64> {
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
            .map(|(y, height)| Label { y, height, end: (0, y), model: "epoll", limit: None })
            .into();
        spread_out(&mut labels);
        assert!(labels.windows(2).all(|pair| pair[1].y - pair[0].y >= pair[0].height));
        assert!(labels.iter().all(|label| label.y <= BOTTOM));
    }

    #[test]
    fn a_limit_is_written_where_it_is_and_the_same_data_give_the_same_picture() {
        let dot = |connections, value| Dot { connections, value: estimate(value), is_hollow: false };
        let chart = Chart {
            title: "T".into(),
            y_label: "y",
            x_label: "x",
            scale: Scale::Linear,
            tick: |value| format!("{value}"),
            lines: vec![Line {
                model: "select".into(),
                points: vec![dot(1, 10.0), dot(64, 90.0)],
                limit: Some((1024, "FD_SETSIZE".into())),
            }],
        };
        let svg = chart.svg().unwrap();
        assert!(svg.contains("limit: FD_SETSIZE"), "{svg}");
        assert!(svg.contains("1,024"));
        assert_eq!(svg, chart.svg().unwrap());
    }
}
