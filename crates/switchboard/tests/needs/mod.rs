//! Trials that need more than the Rust toolchain.

use libtest_mimic::{Arguments, Trial};

/// A trial. Where something is missing that it needs it is `ignored`, with what is missing and how to get it before its name; who runs it all
/// the same, by `--ignored`, sees it fail for that reason.
pub(crate) fn trial(
    name: impl Into<String>,
    missing: Option<String>,
    run: impl FnOnce() + Send + 'static,
) -> Trial {
    match missing {
        None => Trial::test(name, || {
            run();
            Ok(())
        }),
        Some(missing) => {
            let kind = missing.clone();
            Trial::test(name, || Err(missing.into())).with_kind(kind).with_ignored_flag(true)
        }
    }
}

/// Runs them as `cargo test` runs tests.
pub(crate) fn run(trials: Vec<Trial>) -> ! {
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}
