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
