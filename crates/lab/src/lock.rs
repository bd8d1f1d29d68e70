//! The lock on a results folder: one process at a time writes into it.
//!
//! The lock is flock(2) on a file in the folder, so it ends with the process that holds it, even after a kill. The file names that process, which
//! removes the file when it is done.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::files;
use crate::say::say;

/// The lock file of a results folder. It is not part of the results.
pub(crate) const LOCK: &str = "run.lock";

/// Number of attempts to take the lock: a process that only checks for it holds it for a moment.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// While it exists, no other process writes into the folder.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

/// The holder of a lock, as written in the file.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    since: String,
}

impl Lock {
    /// Takes the lock of a folder that exists.
    pub(crate) fn take(dir: &Path) -> Result<Lock, LabError> {
        let path = dir.join(LOCK);
        let failed = |source| LabError::file(&path)(source);
        for _ in 0..TRIES {
            let mut file = open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(BETWEEN_TRIES);
                    continue;
                }
                Err(TryLockError::Error(error)) => {
                    say(format_args!(
                        "{} cannot be locked: {error}; start no second run in it",
                        dir.display()
                    ));
                }
            }
            // The former holder may have removed the file in between; then no other process would see this lock.
            if !is_still_there(&path, &file).map_err(failed)? {
                continue;
            }
            let holder = Holder { pid: std::process::id(), since: crate::now() };
            let text = serde_json::to_vec(&holder).expect("a number and a text can be written");
            // On a full disk this fails; the lock holds nevertheless.
            let _ = file.set_len(0).and_then(|()| file.write_all(&text));
            return Ok(Lock { path, _file: file });
        }
        Err(LabError::InUse {
            dir: dir.to_owned(),
            holder: holder(dir).unwrap_or_else(|| "another process".to_owned()),
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The process that is writing into a folder, in words; `None` if there is none.
pub(crate) fn holder(dir: &Path) -> Option<String> {
    let mut file = files::open(&dir.join(LOCK)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        // The file is left from a process that was killed.
        return None;
    }
    let mut text = Vec::new();
    let read = file.rewind().and_then(|()| file.take(1000).read_to_end(&mut text));
    let holder = read.ok().and_then(|_| serde_json::from_slice::<Holder>(&text).ok());
    Some(match holder {
        // The holder has only just taken the lock and has not written the file yet.
        None => "another process".to_owned(),
        Some(Holder { pid, since }) => format!("process {pid}, since {}", crate::text::line(&since)),
    })
}

/// An error if a process is writing into the folder.
pub(crate) fn is_free(dir: &Path) -> Result<(), LabError> {
    holder(dir).map_or(Ok(()), |holder| Err(LabError::InUse { dir: dir.to_owned(), holder }))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is no regular file; remove it")),
    }
}

fn is_still_there(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is_and_what_a_dead_one_left_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err();
        assert_eq!(error.exit_status(), 1);
        let pid = format!("process {}, since 20", std::process::id());
        assert!(error.to_string().contains(&pid), "{error}");
        assert!(holder(dir.path()).unwrap().starts_with(&pid));
        assert!(is_free(dir.path()).unwrap_err().to_string().contains(&pid));
        drop(first);
        assert_eq!(holder(dir.path()), None);
        assert!(!dir.path().join(LOCK).exists(), "nothing is left behind");
        fs::write(dir.path().join(LOCK), "{\"pid\":1,\"since\":\"long ago\"}").unwrap();
        assert_eq!(holder(dir.path()), None, "its process is dead");
        drop(Lock::take(dir.path()).unwrap());
    }

    #[test]
    fn many_at_once_have_it_one_after_the_other() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        if let Ok(_lock) = Lock::take(dir.path()) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("precious"), "mine").unwrap();
        std::os::unix::fs::symlink(dir.path().join("precious"), dir.path().join(LOCK)).unwrap();
        Lock::take(dir.path()).unwrap_err();
        assert_eq!(fs::read_to_string(dir.path().join("precious")).unwrap(), "mine");
    }
}
