//! How a model looks, wherever it is drawn. `scripts/plot.py` has the same table.

use plotters::style::RGBColor;
use serde::Serialize;

/// The shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Marker {
    Circle,
    Square,
    Diamond,
    TriangleUp,
    TriangleDown,
    Plus,
    Cross,
}

/// Colour and marker: either alone tells models apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) colour: RGBColor,
    pub(super) marker: Marker,
    pub(super) is_dashed: bool,
}

/// The colours are those of Okabe and Ito ("Color Universal Design", 2008), which the colour-blind can tell apart.
const STYLES: [(&str, Style); 8] = [
    ("fork", solid(213, 94, 0, Marker::Circle)),
    ("threads", solid(230, 159, 0, Marker::Square)),
    ("threads-direct", solid(204, 121, 167, Marker::Diamond)),
    ("select", solid(0, 158, 115, Marker::TriangleUp)),
    ("poll", solid(0, 114, 178, Marker::TriangleDown)),
    ("epoll", solid(20, 20, 20, Marker::Circle)),
    ("udp", Style { is_dashed: true, ..solid(86, 180, 233, Marker::Plus) }),
    ("raw", Style { is_dashed: true, ..solid(130, 130, 130, Marker::Cross) }),
];

const fn solid(red: u8, green: u8, blue: u8, marker: Marker) -> Style {
    Style { colour: RGBColor(red, green, blue), marker, is_dashed: false }
}

/// The style of a model; one that is not in the table gets one that follows from its name.
pub(super) fn style(model: &str) -> Style {
    const MARKERS: [Marker; 4] = [Marker::Square, Marker::Diamond, Marker::TriangleUp, Marker::TriangleDown];
    if let Some((_, style)) = STYLES.iter().find(|(name, _)| *name == model) {
        return *style;
    }
    let sum = model.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Style { marker: MARKERS[sum % MARKERS.len()], ..STYLES[sum % 6].1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_models_look_alike() {
        for (index, (_, one)) in STYLES.iter().enumerate() {
            for (_, other) in &STYLES[..index] {
                assert_ne!(one.colour, other.colour);
                assert!(one.marker != other.marker || one.colour != other.colour);
            }
        }
        assert_eq!(style("my-model"), style("my-model"));
    }
}
