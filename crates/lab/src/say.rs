//! What a run says beside its results, on stderr. A line that cannot be written is lost, and the run goes on.

use std::fmt::Display;

use crate::text;

/// Writes a line, or several. Text of others in it cannot steer the terminal.
pub(crate) fn say(words: impl Display) {
    let words = words.to_string();
    switchboard_console::log!("{}", text::lines(&words));
}
