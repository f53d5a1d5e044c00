//! One log file and the older ones beside it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, Result};
use shim_proto::launch::Logs;

/// Most older files that are looked at, whatever was asked for.
const FILES_MAX: u32 = 1000;

/// The current file of one process.
#[derive(Debug, Default)]
pub(crate) struct LogFile {
    file: Option<OwnedFd>,
}

impl LogFile {
    /// Makes the file ready for the next piece and returns its length: opened anew if
    /// somebody removed it, rotated if it is full.
    pub(crate) fn make_ready(&mut self, directory: &Path, name: &str, logs: Logs) -> Result<u64> {
        let length = self.open(directory, name)?;
        if logs.max_bytes == 0 || length < logs.max_bytes {
            return Ok(length);
        }
        if logs.max_files < 2 {
            self.cut(0)?;
            return Ok(0);
        }
        rotate(directory, name, logs.max_files.min(FILES_MAX))?;
        self.file = None;
        self.open(directory, name)
    }

    /// Appends all of it.
    pub(crate) fn append(&self, mut bytes: &[u8]) -> Result<()> {
        let file = self.file.as_ref().ok_or(Errno::BADF)?;
        while !bytes.is_empty() {
            match rustix::io::write(file, bytes) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cuts the file back to that length, if it is longer.
    pub(crate) fn cut(&self, length: u64) -> Result<()> {
        let file = self.file.as_ref().ok_or(Errno::BADF)?;
        let now = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
        if now > length {
            rustix::fs::ftruncate(file, length)
        } else {
            Ok(())
        }
    }

    /// Closes the file until it is needed again.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Opens the current file, if it is not open or not there any more, and returns its
    /// length.
    pub(crate) fn open(&mut self, directory: &Path, name: &str) -> Result<u64> {
        if let Some(file) = &self.file {
            let facts = rustix::fs::fstat(file)?;
            if facts.st_nlink > 0 {
                return Ok(u64::try_from(facts.st_size).unwrap_or(0));
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        // Whatever lies there, opening it neither waits nor leads elsewhere.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(current(directory, name), flags, Mode::RUSR | Mode::WUSR)?;
        let facts = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        self.file = Some(file);
        Ok(u64::try_from(facts.st_size).unwrap_or(0))
    }
}

fn current(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.log"))
}

fn older(directory: &Path, name: &str, number: u32) -> PathBuf {
    directory.join(format!("{name}.log.{number}"))
}

/// Moves each file one number up, as far as the first number that is free: begun again after
/// a kill it goes on where it stopped and pushes nothing out twice.
fn rotate(directory: &Path, name: &str, files: u32) -> Result<()> {
    let last = files - 1;
    let is_free = |number: &u32| rustix::fs::lstat(older(directory, name, *number)).is_err();
    let mut to = (1..last).find(is_free).unwrap_or(last);
    while to > 1 {
        rustix::fs::rename(older(directory, name, to - 1), older(directory, name, to))?;
        to -= 1;
    }
    rustix::fs::rename(current(directory, name), older(directory, name, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(directory: &Path, round: u32, files: u32) -> u64 {
        let logs = Logs {
            max_bytes: 4,
            max_files: files,
            ..Logs::default()
        };
        let mut file = LogFile::default();
        let length = file.make_ready(directory, "p", logs).unwrap();
        file.append(format!("r{round:03}").as_bytes()).unwrap();
        length
    }

    fn read(directory: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(directory.join(name)).ok()
    }

    #[test]
    fn the_newest_files_are_kept_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..9 {
            assert_eq!(check(directory.path(), round, 3), 0);
        }
        assert_eq!(read(directory.path(), "p.log").as_deref(), Some("r008"));
        assert_eq!(read(directory.path(), "p.log.1").as_deref(), Some("r007"));
        assert_eq!(read(directory.path(), "p.log.2").as_deref(), Some("r006"));
        assert_eq!(read(directory.path(), "p.log.3"), None);
    }

    #[test]
    fn a_rotation_cut_short_is_finished_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..4 {
            check(directory.path(), round, 5);
        }
        // Cut short: 3 was moved to 4, and 2 to 3, but 1 was not moved.
        let path = |name: &str| directory.path().join(name);
        std::fs::rename(path("p.log.3"), path("p.log.4")).unwrap();
        std::fs::rename(path("p.log.2"), path("p.log.3")).unwrap();
        check(directory.path(), 4, 5);
        let kept: Vec<_> = ["p.log", "p.log.1", "p.log.2", "p.log.3", "p.log.4"]
            .iter()
            .map(|name| read(directory.path(), name).unwrap())
            .collect();
        assert_eq!(kept, ["r004", "r003", "r002", "r001", "r000"]);
    }

    #[test]
    fn one_file_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..3 {
            check(directory.path(), round, 1);
        }
        assert_eq!(read(directory.path(), "p.log").as_deref(), Some("r002"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_removed_file_is_made_again_and_a_trap_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = LogFile::default();
        file.open(directory.path(), "p").unwrap();
        std::fs::remove_file(directory.path().join("p.log")).unwrap();
        assert_eq!(file.open(directory.path(), "p"), Ok(0));
        assert!(directory.path().join("p.log").exists());
        std::os::unix::fs::symlink("/dev/null", directory.path().join("q.log")).unwrap();
        assert_eq!(
            LogFile::default().open(directory.path(), "q"),
            Err(Errno::LOOP)
        );
    }
}
