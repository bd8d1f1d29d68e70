//! What tests have in common that are programs of Node: `tests/clients` and `tests/browser` at the root of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of such programs.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name)
}

/// What they need that is not there.
pub(crate) fn missing(folder: &Path) -> Option<&'static str> {
    let output = Command::new("node").arg("--version").output();
    let version = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let major =
        version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        None => Some("there is no Node"),
        Some(..20) => Some("Node is too old for their packages"),
        Some(_) if !folder.join("node_modules").is_dir() => Some("their packages are not installed"),
        Some(_) => None,
    }
}

/// Runs a program against models, with the binary under test. What it said is the error, if it failed.
pub(crate) fn run(program: &Path, models: &[&str]) -> Result<(), String> {
    let output = Command::new("node")
        .arg(program)
        .args(models)
        .env("SWITCHBOARD", env!("CARGO_BIN_EXE_switchboard"))
        .output()
        .map_err(|error| format!("{}: node: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}
