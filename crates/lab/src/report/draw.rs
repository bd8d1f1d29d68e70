//! What all pictures are drawn with: text, lines and markers, alike in SVG and PNG.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;
use super::style::{Marker, Style};

pub(super) const SIZE: (u32, u32) = (1280, 720);
pub(super) const LEFT: i32 = 130;
pub(super) const RIGHT: i32 = 1000;
pub(super) const TOP: i32 = 110;
pub(super) const BOTTOM: i32 = 610;
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const FAINT: RGBColor = RGBColor(222, 222, 222);

/// The outcome of drawing on a backend.
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Something that can be drawn on either backend.
pub(super) trait Draw {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B>;

    /// The picture as an SVG document.
    fn svg(&self) -> Result<String, ReportError> {
        let mut text = String::new();
        self.draw_on(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area())?;
        Ok(text)
    }

    /// The picture as a PNG file.
    fn png(&self) -> Result<Vec<u8>, ReportError> {
        let failed = |error: io::Error| ReportError::Draw(error.to_string());
        // The backend writes PNG only to a path.
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = folder.path().join("picture.png");
        self.draw_on(&BitMapBackend::new(&path, SIZE).into_drawing_area())?;
        std::fs::read(&path).map_err(failed)
    }

    /// Draws on a white ground.
    fn draw_on<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), ReportError> {
        register_font();
        let drawn = area.fill(&WHITE).and_then(|()| self.draw(area)).and_then(|()| area.present());
        drawn.map_err(|error| ReportError::Draw(error.to_string()))
    }
}

/// A straight line, dashed if asked for: plotters has no dashes that both backends draw alike.
pub(super) fn stroke<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    from: (i32, i32),
    to: (i32, i32),
    colour: RGBColor,
    width: u32,
    is_dashed: bool,
) -> Drawn<B> {
    if !is_dashed {
        return area.draw(&PathElement::new(vec![from, to], colour.stroke_width(width)));
    }
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let length = dx.hypot(dy);
    let point = |along: f64| {
        let part = (along / length).min(1.0);
        (from.0 + (dx * part).round() as i32, from.1 + (dy * part).round() as i32)
    };
    let mut along = 0.0;
    while along < length {
        let dash = vec![point(along), point(along + 10.0)];
        area.draw(&PathElement::new(dash, colour.stroke_width(width)))?;
        along += 18.0;
    }
    Ok(())
}

pub(super) fn marker<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    at: (i32, i32),
    style: Style,
    is_hollow: bool,
) -> Drawn<B> {
    const R: i32 = 9;
    let shape: &[(i32, i32)] = match style.marker {
        Marker::Circle => {
            let fill = if is_hollow { WHITE.filled() } else { style.colour.filled() };
            area.draw(&Circle::new(at, R, fill))?;
            return area.draw(&Circle::new(at, R, style.colour.stroke_width(3)));
        }
        Marker::Plus | Marker::Cross => {
            let arms = if style.marker == Marker::Plus {
                [(R, 0), (0, R)]
            } else {
                [(R - 2, R - 2), (R - 2, 2 - R)]
            };
            for (dx, dy) in arms {
                let ends = vec![(at.0 - dx, at.1 - dy), (at.0 + dx, at.1 + dy)];
                let width = if is_hollow { 1 } else { 4 };
                area.draw(&PathElement::new(ends, style.colour.stroke_width(width)))?;
            }
            return Ok(());
        }
        Marker::Square => &[(-8, -8), (8, -8), (8, 8), (-8, 8)],
        Marker::Diamond => &[(0, -11), (11, 0), (0, 11), (-11, 0)],
        Marker::TriangleUp => &[(0, -11), (10, 8), (-10, 8)],
        Marker::TriangleDown => &[(0, 11), (10, -8), (-10, -8)],
    };
    let mut corners: Vec<(i32, i32)> = shape.iter().map(|(dx, dy)| (at.0 + dx, at.1 + dy)).collect();
    let fill = if is_hollow { WHITE.filled() } else { style.colour.filled() };
    area.draw(&Polygon::new(corners.clone(), fill))?;
    corners.push(corners[0]);
    area.draw(&PathElement::new(corners, style.colour.stroke_width(3)))
}

pub(super) fn text<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    words: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    side: HPos,
) -> Drawn<B> {
    let font = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(side, VPos::Center));
    // The backend escapes what XML would take for markup; what XML cannot have at all it leaves as it is.
    area.draw(&Text::new(crate::text::line(words).into_owned(), at, font))
}

/// The font of the PNG comes with the program: a machine without any draws the same picture.
fn register_font() {
    use plotters::style::{FontStyle, register_font};
    for font in [FontStyle::Normal, FontStyle::Bold] {
        // It fails only if the font cannot be parsed, and then the text is missing in the picture's test.
        let _ = register_font("sans-serif", font, epaint_default_fonts::UBUNTU_LIGHT);
    }
}
