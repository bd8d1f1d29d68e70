//! Counts by strace(1): the server's whole life.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether there is a strace that may trace.
pub(super) fn is_usable() -> bool {
    let attempt = Command::new("strace")
        .args(["-I", "waiting", "-f", "-c", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    attempt.is_ok_and(|status| status.success())
}

/// What is put before the server's command. By default a strace that writes to a file holds back the signal that ends the server.
pub(super) fn prefix(table: &Path) -> Vec<String> {
    let words = ["strace", "-I", "waiting", "-f", "-qq", "-c", "-o"].map(str::to_owned);
    words.into_iter().chain([table.display().to_string()]).collect()
}

/// Calls by name, from the table that `strace -c` writes.
pub(super) fn parse(table: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // % time, seconds, usecs/call, calls, errors if there are any, name
        let (first, name) = (words.first()?, words.last()?);
        first.parse::<f64>().ok()?;
        let calls = words.get(3)?.parse().ok()?;
        (matches!(words.len(), 5 | 6) && *name != "total").then(|| ((*name).to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_understood() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     61.90    0.000013          13         1           execve\n \
                     38.10    0.000008           2      1004        23 recvfrom\n  \
                     0.00    0.000000           0         7           sendto\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.000021           3      1012        23 total\n";
        let expected = [("execve".to_owned(), 1), ("recvfrom".to_owned(), 1004), ("sendto".to_owned(), 7)];
        assert_eq!(parse(table), expected.into());
        assert_eq!(parse("strace: nothing"), BTreeMap::new());
    }
}
