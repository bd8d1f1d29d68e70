//! `throughput<0.95`: what must not be, for a gate in a build.

use std::str::FromStr;

use serde::Serialize;

use super::figure::Figure;
use crate::error::nearest;

/// A condition on a ratio that makes a comparison fail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// As it was written.
    pub text: String,
    /// The figure whose ratio is looked at.
    pub figure: Figure,
    #[serde(skip)]
    is_below: bool,
    #[serde(skip)]
    threshold: f64,
}

impl Gate {
    /// Whether a ratio is beyond the threshold.
    pub(super) fn catches(&self, ratio: f64) -> bool {
        if self.is_below { ratio < self.threshold } else { ratio > self.threshold }
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Gate, String> {
        let known: Vec<String> = Figure::ALL.iter().map(|figure| figure.name().to_owned()).collect();
        let grammar = format!("a condition is FIGURE<RATIO or FIGURE>RATIO; figures: {}", known.join(", "));
        let place = text.find(['<', '>']).ok_or_else(|| grammar.clone())?;
        let (name, rest) = (text[..place].trim(), text[place + 1..].trim());
        let figure = Figure::ALL.into_iter().find(|figure| figure.name() == name).ok_or_else(|| {
            let hint =
                nearest(name, &known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            format!("no figure `{name}`{hint}; {grammar}")
        })?;
        let threshold = rest.parse().ok().filter(|ratio: &f64| ratio.is_finite() && *ratio > 0.0);
        let threshold =
            threshold.ok_or_else(|| format!("`{rest}` is not a ratio above 0, such as 0.95; {grammar}"))?;
        Ok(Gate { text: text.to_owned(), figure, is_below: &text[place..=place] == "<", threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_as_people_write_them() {
        let gate: Gate = "throughput<0.95".parse().unwrap();
        assert!(gate.catches(0.94) && !gate.catches(0.95));
        let gate: Gate = " p99.9 > 1.2".parse().unwrap();
        assert_eq!(gate.figure, Figure::P999);
        assert!(gate.catches(1.3) && !gate.catches(1.1));
    }

    #[test]
    fn a_bad_condition_says_how_to_write_one() {
        let error = |text: &str| text.parse::<Gate>().unwrap_err();
        assert!(error("troughput<0.95").contains("did you mean `throughput`?"));
        for (text, word) in [
            ("throughput", "FIGURE<RATIO"),
            ("cpu>much", "`much`"),
            ("cpu>-1", "above 0"),
            ("cpu>NaN", "NaN"),
        ] {
            assert!(error(text).contains(word), "{}", error(text));
        }
    }
}
