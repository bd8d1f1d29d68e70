use std::process::ExitCode;

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Args {}
#[derive(clap::Args)]
pub(crate) struct ReportArgs {}

pub(crate) fn run(_: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(1, ""))
}
pub(crate) fn report(_: &ReportArgs) -> Result<ExitCode, Failure> {
    Err(Failure::new(1, ""))
}
