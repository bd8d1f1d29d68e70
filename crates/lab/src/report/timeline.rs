//! How fast the machine was over the run, by the workload that was run between the points.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::draw::{BOTTOM, Draw, Drawn, FAINT, INK, LEFT, RIGHT, TOP, text};
use crate::format;
use crate::record::{CheckName, Point};
use crate::rounds::Round;

const LINE: RGBColor = RGBColor(0, 114, 178);
const DISTURBED: RGBColor = RGBColor(213, 94, 0);

/// The fixed workload against the order of the points.
pub(super) struct Timeline {
    moments: Vec<Moment>,
    usual_ns: f64,
}

struct Moment {
    /// Time that the workload took behind the point, relative to the median of the run.
    relative: f64,
    /// The point's verdict was that the machine was not quiet.
    is_disturbed: bool,
}

impl Timeline {
    /// `None` if the points do not know how fast the machine was.
    pub(super) fn of(rounds: &[Round]) -> Option<Timeline> {
        let points: Vec<&Point> = rounds.iter().map(|round| &round.point).collect();
        let taken = |point: &Point| point.quiet.map(|quiet| quiet.after.calls_ns).filter(|ns| *ns > 0);
        let mut all: Vec<u64> = points.iter().filter_map(|point| taken(point)).collect();
        let middle = all.len() / 2;
        let usual_ns = *all.get_mut(..).filter(|all| !all.is_empty())?.select_nth_unstable(middle).1 as f64;
        let moment = |point: &&Point| {
            let disturbed =
                |check: &crate::record::Check| check.name == CheckName::Quiet && check.holds == Some(false);
            let is_disturbed = point.checks.iter().any(disturbed);
            Some(Moment { relative: taken(point)? as f64 / usual_ns, is_disturbed })
        };
        Some(Timeline { moments: points.iter().filter_map(moment).collect(), usual_ns })
    }

    fn range(&self) -> (f64, f64) {
        let all = || self.moments.iter().map(|moment| moment.relative);
        (all().fold(0.9, f64::min) - 0.05, all().fold(1.1, f64::max).min(3.0) + 0.05)
    }
}

impl Draw for Timeline {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let (low, high) = self.range();
        let y = |relative: f64| {
            let part = ((relative - low) / (high - low)).clamp(0.0, 1.0);
            (f64::from(BOTTOM) - part * f64::from(BOTTOM - TOP)).round() as i32
        };
        let last = self.moments.len().saturating_sub(1).max(1);
        let x = |place: usize| LEFT + 20 + (place * (RIGHT - LEFT - 40) as usize / last) as i32;
        text(area, "How fast the machine was over the run", (40, 48), 36, INK, HPos::Left)?;
        let usual = format::nanoseconds(self.usual_ns);
        text(
            area,
            &format!("a fixed workload, relative to its usual {usual}"),
            (40, 84),
            24,
            INK,
            HPos::Left,
        )?;
        text(
            area,
            "points in the order in which they were measured",
            ((LEFT + RIGHT) / 2, BOTTOM + 70),
            24,
            INK,
            HPos::Center,
        )?;
        let ticks = (0..=30).map(|tick| f64::from(tick) / 10.0).filter(|tick| (low..=high).contains(tick));
        for tick in ticks {
            area.draw(&PathElement::new(vec![(LEFT, y(tick)), (RIGHT, y(tick))], FAINT.stroke_width(1)))?;
            text(area, &format!("{tick:.1}"), (LEFT - 14, y(tick)), 22, INK, HPos::Right)?;
        }
        for place in [0, last / 2, last] {
            text(area, &format::count(place + 1), (x(place), BOTTOM + 28), 22, INK, HPos::Center)?;
        }
        area.draw(&PathElement::new(vec![(LEFT, BOTTOM), (RIGHT, BOTTOM)], INK.stroke_width(2)))?;
        let line: Vec<(i32, i32)> =
            self.moments.iter().enumerate().map(|(place, moment)| (x(place), y(moment.relative))).collect();
        area.draw(&PathElement::new(line.clone(), LINE.stroke_width(2)))?;
        for (at, moment) in line.iter().zip(&self.moments) {
            if moment.is_disturbed {
                area.draw(&Circle::new(*at, 7, WHITE.filled()))?;
                area.draw(&Circle::new(*at, 7, DISTURBED.stroke_width(3)))?;
            } else {
                area.draw(&Circle::new(*at, 3, LINE.filled()))?;
            }
        }
        let end = line.last().copied().unwrap_or((RIGHT, BOTTOM));
        text(area, "slower is up", (RIGHT + 28, TOP), 22, INK, HPos::Left)?;
        text(area, "workload", (RIGHT + 28, end.1), 26, LINE, HPos::Left)?;
        if self.moments.iter().any(|moment| moment.is_disturbed) {
            text(area, "point not quiet", (RIGHT + 28, BOTTOM - 10), 22, DISTURBED, HPos::Left)?;
        }
        Ok(())
    }
}
