use std::process::ExitCode;

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn load(_: &Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(1, ""))
}
