//! How a model looks, wherever it is drawn. `scripts/plot.py` has the same table.

use plotters::style::RGBColor;
use serde::Serialize;
use switchboard_models::{Family, MODELS};

use crate::mechanism::server_of;

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

/// The colour of a family, those of Okabe and Ito ("Color Universal Design", 2008), which the colour-blind can tell apart; yellow, which
/// is hard to see on white, is darkened.
const fn family_colour(family: Family) -> (u8, u8, u8) {
    match family {
        Family::Iterative => (140, 130, 0),
        Family::Process => (213, 94, 0),
        Family::Thread => (230, 159, 0),
        Family::Asking => (0, 158, 115),
        Family::Told => (20, 20, 20),
        Family::Tasks => (204, 121, 167),
        Family::Completion => (0, 114, 178),
        Family::Datagram => (86, 180, 233),
    }
}

/// The colours of servers that are none of the models.
const OTHERS: [(u8, u8, u8); 4] = [(110, 70, 40), (170, 60, 60), (90, 90, 160), (60, 110, 60)];

/// The shapes of a family's models, in the order of the registry.
const MARKERS: [Marker; 7] = [
    Marker::Circle,
    Marker::Square,
    Marker::Diamond,
    Marker::TriangleUp,
    Marker::TriangleDown,
    Marker::Plus,
    Marker::Cross,
];

/// How much lighter each model is than the one before it in its family, towards white.
const LIGHTER: f64 = 0.13;

/// The style of a model: its family's colour, and a shape and a shade of its own. Ceilings are dashed, and so are models that speak in datagrams. One that
/// is not in the registry gets a colour and a shape that follow from its name. Lines of one model over several mechanisms have its colour, and a shape that
/// follows from the mechanism.
pub(super) fn style(line: &str) -> Style {
    let model = server_of(line);
    if model.len() < line.len() && switchboard_models::find(model).is_some() {
        return Style { marker: MARKERS[hash(&line[model.len()..]) % MARKERS.len()], ..style(model) };
    }
    let model = line;
    let Some(found) = switchboard_models::find(model) else {
        let sum = hash(model);
        let (red, green, blue) = OTHERS[sum % OTHERS.len()];
        let (colour, marker) = (RGBColor(red, green, blue), MARKERS[sum % MARKERS.len()]);
        return Style { colour, marker, is_dashed: false };
    };
    let family = MODELS.iter().filter(|other| other.family == found.family);
    let place = family.take_while(|other| other.name != model).count();
    let (red, green, blue) = family_colour(found.family);
    let lighter = |part: u8| {
        let part = f64::from(part);
        (part + (255.0 - part) * LIGHTER * place as f64).round() as u8
    };
    Style {
        colour: RGBColor(lighter(red), lighter(green), lighter(blue)),
        marker: MARKERS[place % MARKERS.len()],
        is_dashed: found.hidden || found.family == Family::Datagram,
    }
}

/// More lines of one model than these cannot be told apart by their shapes.
const MOST_SHAPES: usize = 4;

/// The colours of many lines of one model, in the order of the lines: again Okabe and Ito's, and brown.
const LINES: [(u8, u8, u8); 9] = [
    (213, 94, 0),
    (230, 159, 0),
    (140, 130, 0),
    (204, 121, 167),
    (0, 158, 115),
    (20, 20, 20),
    (0, 114, 178),
    (110, 70, 40),
    (86, 180, 233),
];

/// The style of a line among all of a picture: where one model has so many that shapes cannot tell them apart, each line has a colour of its own.
pub(super) fn style_among(line: &str, all: &[&str]) -> Style {
    let usual = style(line);
    let of_one = |one: &&str| all.iter().filter(|other| server_of(other) == server_of(one)).count();
    let is_crowded = all.iter().any(|one| of_one(one) > MOST_SHAPES && server_of(one).len() < one.len());
    match all.iter().position(|other| *other == line).filter(|_| is_crowded) {
        Some(place) => {
            let (red, green, blue) = LINES[place % LINES.len()];
            let marker = MARKERS[place % MARKERS.len()];
            Style { colour: RGBColor(red, green, blue), marker, ..usual }
        }
        None => usual,
    }
}

fn hash(name: &str) -> usize {
    name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(5).wrapping_add(byte.into())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_models_look_alike() {
        for (place, one) in MODELS.iter().enumerate() {
            for other in &MODELS[..place] {
                assert_ne!(style(one.name), style(other.name), "{} and {}", one.name, other.name);
            }
        }
        assert_eq!(style("my-model"), style("my-model"));
    }

    #[test]
    fn many_lines_of_one_model_have_a_colour_each() {
        let few = ["epoll:sse", "epoll:longpoll", "threads:sse", "threads:longpoll"];
        assert!(few.iter().all(|line| style_among(line, &few) == style(line)));
        let names =
            ["poll-10ms", "poll-1s", "longpoll", "sse", "broadcast"].map(|name| format!("epoll:{name}"));
        let mut many: Vec<&str> = names.iter().map(String::as_str).collect();
        many.push("udp-epoll:udp-broadcast");
        for (place, one) in many.iter().enumerate() {
            for other in &many[..place] {
                assert_ne!(
                    style_among(one, &many).colour,
                    style_among(other, &many).colour,
                    "{one} and {other}"
                );
            }
        }
        assert!(style_among("udp-epoll:udp-broadcast", &many).is_dashed);
        // Of many models each has its own look already.
        let models: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        assert!(models.iter().all(|model| style_among(model, &models) == style(model)));
    }

    #[test]
    fn the_script_draws_them_in_the_same_way() {
        let script = include_str!("../../../../scripts/plot.py");
        for model in MODELS {
            let Style { colour: RGBColor(red, green, blue), marker, is_dashed } = style(model.name);
            let letter = match marker {
                Marker::Circle => "o",
                Marker::Square => "s",
                Marker::Diamond => "D",
                Marker::TriangleUp => "^",
                Marker::TriangleDown => "v",
                Marker::Plus => "P",
                Marker::Cross => "X",
            };
            let is_beside = if is_dashed { "True" } else { "False" };
            let line = format!(
                "    \"{}\": (\"#{red:02x}{green:02x}{blue:02x}\", \"{letter}\", {is_beside}),\n",
                model.name
            );
            // One that it does not know it draws in brown.
            let is_known = script.contains(&format!("    \"{}\": (", model.name));
            assert!(!is_known || script.contains(&line), "scripts/plot.py needs the line\n{line}");
        }
    }
}
