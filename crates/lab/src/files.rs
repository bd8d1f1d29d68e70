//! Opening, reading and writing the files of a results folder, which may have come from a stranger.
//!
//! A results folder holds regular files and nothing else. A pipe in place of a file would hang the reader, a device would never end, and a link
//! would lead out of the folder: the folder's owner could make us read or write a file that he may not access himself. This module refuses all of
//! them, and any file that is larger than a run can make it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};

/// The largest file that is read as a whole; the largest possible plan has half of that.
const MOST_BYTES: u64 = 64 << 20;
/// The largest file that is read line by line, or only to compute its checksum.
const MOST_BYTES_OF_LINES: u64 = 1 << 30;
/// The longest line; a point has a few kilobytes, its histograms have some tens of kilobytes.
const MOST_BYTES_OF_LINE: u64 = 8 << 20;
/// The largest file with a user's definition.
const MOST_BYTES_OF_DEFINITION: u64 = 1 << 20;

/// The flags with which a pipe does not block, a terminal is not taken over and a link is not followed.
const CAREFUL: i32 = O_NONBLOCK | O_NOCTTY | O_NOFOLLOW;

/// Opens a regular file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Opening some devices has an effect, so the type is checked first, and again on the open file.
    is_regular(&fs::symlink_metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(CAREFUL).open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file as a whole.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    bounded(open(path)?, MOST_BYTES)
}

/// The same as text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    text(read(path)?)
}

/// Reads a definition that the user has named. It may be a pipe; its length is limited.
pub(crate) fn read_definition(path: &Path) -> io::Result<String> {
    text(bounded(File::open(path)?, MOST_BYTES_OF_DEFINITION)?)
}

/// Opens a regular file of any size that a run can make, for reading from beginning to end.
pub(crate) fn open_large(path: &Path) -> io::Result<impl Read + use<>> {
    let file = open(path)?;
    is_at_most(file.metadata()?.len(), MOST_BYTES_OF_LINES)?;
    // It may grow while it is read.
    Ok(file.take(MOST_BYTES_OF_LINES))
}

/// A line of a file, without its end.
pub(crate) enum Line<'a> {
    /// A line that ends as it should.
    Whole(&'a [u8]),
    /// The last line without its end: its writer was killed, or the disk was full.
    Torn(&'a [u8]),
    /// A line longer than any that a run writes.
    TooLong,
}

/// Calls `each` with every nonempty line of a regular file and its number from 1, until `each` returns false.
pub(crate) fn each_line(path: &Path, mut each: impl FnMut(usize, Line<'_>) -> bool) -> io::Result<()> {
    let mut reader = BufReader::new(open_large(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.by_ref().take(MOST_BYTES_OF_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let is_whole = line.last() == Some(&b'\n');
        let line = if is_whole { &line[..line.len() - 1] } else { &line[..] };
        let is_too_long = !is_whole && line.len() as u64 == MOST_BYTES_OF_LINE;
        if is_too_long {
            reader.skip_until(b'\n')?;
        }
        let wants_more = match line {
            _ if is_too_long => each(number, Line::TooLong),
            line if line.trim_ascii().is_empty() => true,
            line if is_whole => each(number, Line::Whole(line)),
            line => each(number, Line::Torn(line)),
        };
        if !wants_more {
            break;
        }
    }
    Ok(())
}

/// Opens a regular file for appending lines; creates it if it is missing. Cuts off an incomplete last line, so that the
/// next line does not continue it.
pub(crate) fn open_lines(path: &Path) -> io::Result<File> {
    mend(path)?;
    let file = OpenOptions::new().append(true).create(true).custom_flags(CAREFUL).open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// Cuts off an incomplete last line and returns the number of bytes cut off. A complete line that only lacks its line end gets it.
pub(crate) fn mend(path: &Path) -> io::Result<u64> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        known => is_regular(&known?)?,
    }
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(CAREFUL).open(path)?;
    is_regular(&file.metadata()?)?;
    let length = file.metadata()?.len();
    let mut rest = Vec::new();
    let mut from = length;
    let whole = loop {
        if from == 0 {
            break 0;
        }
        let part = from.min(1 << 16);
        from -= part;
        let mut bytes = vec![0; part as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut bytes)?;
        if let Some(place) = bytes.iter().rposition(|byte| *byte == b'\n') {
            rest.splice(..0, bytes.drain(place + 1..));
            break from + place as u64 + 1;
        }
        // A line cannot be that long, so the rest need not be kept.
        if rest.len() as u64 <= MOST_BYTES_OF_LINE {
            rest.splice(..0, bytes);
        }
    };
    if whole == length {
        return Ok(0);
    }
    if rest.len() as u64 == length - whole && serde_json::from_slice::<serde::de::IgnoredAny>(&rest).is_ok() {
        file.seek(SeekFrom::Start(length))?;
        file.write_all(b"\n")?;
        return Ok(0);
    }
    file.set_len(whole)?;
    Ok(length - whole)
}

/// Writes each line by one write(2), so that a kill between two lines damages none. If only a part of the line fits, that part is removed.
pub(crate) fn append_line<T: serde::Serialize>(file: &mut File, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let before = file.metadata()?.len();
    let written = file.write_all(&line);
    if written.is_err() {
        // The user gets the error. If this fails too, the next run cuts the rest off.
        let _ = file.set_len(before);
    }
    written
}

/// Writes a file of a results folder so that it is there completely or not at all, even after a kill.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("part");
    // An old temporary file is removed, not written to: it may be a link to elsewhere.
    let written = fs::remove_file(&temporary).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let written = written.and_then(|()| {
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&temporary, path));
    if moved.is_err() {
        // The user gets the error; a leftover would only take up disk space.
        let _ = fs::remove_file(&temporary);
    }
    moved
}

fn is_regular(metadata: &fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => "a link",
        kind if kind.is_dir() => "a folder",
        _ => "a pipe, a socket or a device",
    };
    Err(io::Error::other(format!("is {what}; a results folder holds regular files only")))
}

fn is_at_most(bytes: u64, most: u64) -> io::Result<()> {
    if bytes <= most {
        return Ok(());
    }
    Err(io::Error::other(format!("is larger than {} MiB, which no run makes it", most >> 20)))
}

fn bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    is_at_most(file.metadata()?.len(), most)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    is_at_most(bytes.len() as u64, most)?;
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn pipes_devices_links_and_folders_are_named_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("file"), "{}\n").unwrap();
        symlink("/dev/zero", path("endless")).unwrap();
        symlink(path("file"), path("link")).unwrap();
        for (name, word) in
            [("pipe", "a pipe"), ("folder", "a folder"), ("endless", "a link"), ("link", "a link")]
        {
            for outcome in [
                read(&path(name)).map(drop),
                each_line(&path(name), |_, _| true),
                open_lines(&path(name)).map(drop),
                mend(&path(name)).map(drop),
            ] {
                let error = outcome.unwrap_err().to_string();
                assert!(error.contains(word) && error.contains("regular files only"), "{name}: {error}");
            }
        }
        assert_eq!(read(&path("file")).unwrap(), b"{}\n");
        assert_eq!(read(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_larger_than_any_run_makes_it_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        File::create(&path).unwrap().set_len(MOST_BYTES_OF_LINES + 1).unwrap();
        for error in [read(&path).unwrap_err(), each_line(&path, |_, _| true).unwrap_err()] {
            assert!(error.to_string().contains("which no run makes it"), "{error}");
        }
        let error = read_definition(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
    }

    #[test]
    fn a_line_without_its_end_and_one_without_end_are_told_from_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut bytes = b"one\n\n".to_vec();
        bytes.extend(vec![b'x'; MOST_BYTES_OF_LINE as usize + 10]);
        bytes.extend(b"\nthree\nfour");
        fs::write(&path, bytes).unwrap();
        let mut seen = Vec::new();
        each_line(&path, |number, line| {
            let shown = match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::Torn(line) => format!("torn {}", String::from_utf8_lossy(line)),
                Line::TooLong => "too long".to_owned(),
            };
            seen.push((number, shown));
            true
        })
        .unwrap();
        let seen: Vec<(usize, &str)> = seen.iter().map(|(number, line)| (*number, line.as_str())).collect();
        assert_eq!(seen, [(1, "one"), (3, "too long"), (4, "three"), (5, "torn four")]);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_a_whole_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let zeros = format!("{{}}\n{}", "\0".repeat(200_000));
        for (before, after, cut) in [
            ("", "", 0),
            ("{\"a\":1}\n", "{\"a\":1}\n", 0),
            ("{\"a\":1}\n{\"b\":", "{\"a\":1}\n", 5),
            ("{\"a\":1}\n{\"b\":2}", "{\"a\":1}\n{\"b\":2}\n", 0),
            ("{\"b\":", "", 5),
            (&*zeros, "{}\n", 200_000),
        ] {
            fs::write(&path, before).unwrap();
            assert_eq!(mend(&path).unwrap(), cut);
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn what_is_written_whole_replaces_a_link_and_does_not_follow_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("precious"), "mine").unwrap();
        for link in ["report.html", "report.part"] {
            symlink(path("precious"), path(link)).unwrap();
        }
        write_whole(&path("report.html"), b"new").unwrap();
        assert_eq!(fs::read_to_string(path("precious")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(path("report.html")).unwrap(), "new");
    }
}
