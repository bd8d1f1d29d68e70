// COORDINATION (delete this comment at the end): by mistake two helpers may have this task. Run `mkdir /tmp/sb/claim-report`:
// if it succeeds, go on; if it fails, the other one has claimed it: stop now, answer "duplicate".
//! stub, the report helper replaces it
use std::path::{Path, PathBuf};

/// stub
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ReportError;

/// stub
pub fn write(_dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
    Ok(Vec::new())
}
