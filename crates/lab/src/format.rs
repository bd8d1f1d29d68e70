//! Numbers as people read them.

use indicatif::HumanCount;

/// `12,345`
pub(crate) fn count(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

/// `12,345` for a figure of that size, with one decimal where it is small.
pub(crate) fn grouped(figure: f64) -> String {
    if figure.abs() < 10.0 { format!("{figure:.1}") } else { count(figure.round() as usize) }
}

/// `4:05` for minutes and seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    format!("{}:{:02}", whole / 60, whole % 60)
}

/// `850 ns`, `12.3 µs`, `1.5 ms`, `2.0 s`.
pub(crate) fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.1} s", ns / 1e9),
    }
}

/// `150k`, `1.2M`
pub(crate) fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

/// `512 B`, `1.5 KiB`, `2 MiB`
pub(crate) fn bytes(value: f64) -> String {
    let rounded = |value: f64| (value * 10.0).round() / 10.0;
    match value.abs() {
        size if size < 1024.0 => format!("{value:.0} B"),
        size if size < 1_048_576.0 => format!("{} KiB", rounded(value / 1024.0)),
        _ => format!("{} MiB", rounded(value / 1_048_576.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_durations_have_a_fitting_unit() {
        assert_eq!([1, 999, 1000, 16384, 1234567].map(count), ["1", "999", "1,000", "16,384", "1,234,567"]);
        assert_eq!([1.25, 1234.6].map(grouped), ["1.2", "1,235"]);
        assert_eq!([5.0, 61.4, 600.0].map(seconds), ["0:05", "1:01", "10:00"]);
        assert_eq!([850.0, 12_340.0, 1.5e6, 2e9].map(nanoseconds), ["850 ns", "12.3 µs", "1.5 ms", "2.0 s"]);
    }
}
