//! The load generator: plan, schedule, drive, verify.
