//! System calls by name, counted in short runs of their own: counting them costs what is being measured.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::record::{Damaged, read_lines};

/// The file of a results folder.
pub(crate) const SYSCALLS: &str = "syscalls.jsonl";

/// The system calls of one model at one number of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CensusLine {
    /// [`SCHEMA`](crate::record::SCHEMA).
    pub schema: u32,
    /// The model's name.
    pub model: String,
    /// Connections open.
    pub connections: usize,
    /// How they were counted: `tracepoints`, `strace` or `not permitted`.
    pub how: String,
    /// What a reader should know, such as what would permit it.
    pub note: Option<String>,
    /// Messages that they are divided by.
    pub messages: u64,
    /// Calls per message, by name; empty if nothing could be counted.
    pub calls: BTreeMap<String, f64>,
}

/// Reads a folder's counts; none if it has none.
pub(crate) fn read(dir: &Path) -> io::Result<(Vec<CensusLine>, Vec<Damaged>)> {
    match read_lines(&dir.join(SYSCALLS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), Vec::new())),
        outcome => outcome,
    }
}
