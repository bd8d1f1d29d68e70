//! Checksums over a results folder, in the format of sha256sum(1): `sha256sum -c SHA256SUMS` checks them too.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::files;
use crate::lock::LOCK;
/// The file of a results folder.
pub(crate) const CHECKSUMS: &str = "SHA256SUMS";
/// More than the pictures of the largest experiment.
const MOST_FILES: usize = 10_000;

/// Writes the checksums of all files of a folder: what is there now is what was measured.
pub(crate) fn write(dir: &Path) -> io::Result<()> {
    let sums = of(dir)?;
    write_sums(dir, &sums)
}

/// Renews the checksums of `names` alone. Those of the raw data stay: whoever draws the pictures again does not vouch
/// for them.
pub(crate) fn renew(dir: &Path, names: &[String]) -> io::Result<()> {
    let Some(mut sums) = read(dir)? else { return Ok(()) };
    for name in names {
        sums.insert(name.clone(), sum_of(&dir.join(name))?);
    }
    write_sums(dir, &sums)
}

/// What is not as the checksums say, file by file. `None`: there are no checksums.
pub(crate) fn problems(dir: &Path) -> io::Result<Option<Vec<String>>> {
    let Some(recorded) = read(dir)? else { return Ok(None) };
    let found = of(dir)?;
    let mut problems = Vec::new();
    for (name, sum) in &recorded {
        match found.get(name) {
            None => problems.push(format!("{name}: missing")),
            Some(now) if now != sum => {
                problems.push(format!("{name}: changed since its checksum was written"))
            }
            Some(_) => {}
        }
    }
    let unknown = found.keys().filter(|name| !recorded.contains_key(*name));
    problems.extend(unknown.map(|name| format!("{name}: not in {CHECKSUMS}")));
    Ok(Some(problems))
}

/// The regular files of a folder; what else is in it was not put there by a run.
fn of(dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != CHECKSUMS && name != LOCK && entry.file_type()?.is_file() {
            sums.insert(name, sum_of(&entry.path())?);
        }
        if sums.len() > MOST_FILES {
            return Err(io::Error::other(format!("more than {MOST_FILES} files, which no run makes")));
        }
    }
    Ok(sums)
}

fn read(dir: &Path) -> io::Result<Option<BTreeMap<String, String>>> {
    let text = match files::read_text(&dir.join(CHECKSUMS)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let entry = |line: &str| line.split_once("  ").map(|(sum, name)| (name.to_owned(), sum.to_owned()));
    Ok(Some(text.lines().filter_map(entry).collect()))
}

fn write_sums(dir: &Path, sums: &BTreeMap<String, String>) -> io::Result<()> {
    let text: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    files::write_whole(&dir.join(CHECKSUMS), text.as_bytes())
}

fn sum_of(path: &Path) -> io::Result<String> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", name_of(path)));
    sum(files::open_large(path).map_err(named)?).map_err(named)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn sum(mut bytes: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 16];
    loop {
        match bytes.read(&mut part)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&part[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_missing_and_an_added_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        assert_eq!(problems(dir.path()).unwrap(), None);
        write(dir.path()).unwrap();
        assert_eq!(problems(dir.path()).unwrap(), Some(Vec::new()));
        fs::write(dir.path().join("a"), "A").unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("d"), "d").unwrap();
        let found = problems(dir.path()).unwrap().unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        for (problem, word) in found.iter().zip(["a: changed", "b: missing", "d: not in SHA256SUMS"]) {
            assert!(problem.starts_with(word), "{problem}");
        }
    }

    #[test]
    fn who_draws_again_does_not_vouch_for_the_data() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["points.jsonl", "report.html"] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        write(dir.path()).unwrap();
        for name in ["points.jsonl", "report.html"] {
            fs::write(dir.path().join(name), "new").unwrap();
        }
        renew(dir.path(), &["report.html".to_owned()]).unwrap();
        let found = problems(dir.path()).unwrap().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("points.jsonl: changed"), "{found:?}");
    }

    #[test]
    fn the_sum_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            sum(&b"abc"[..]).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
