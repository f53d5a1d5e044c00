//! What a process writes, byte by byte, as its log gets it.
//!
//! The form of the files is that of `api/logs.rs`. A reader that is slow reads files that were
//! rotated meanwhile; only what rotation removed before it was read is lost, and that is told.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use specs::id::ProcessName;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Most bytes of the newest file that are searched for lines to begin with.
const TAIL_BYTES: u64 = 1 << 20;
/// Most rotated files that are looked through.
const FILES_MAX: u32 = 10_000;

/// A piece of what was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// On standard output.
    Output(Vec<u8>),
    /// On standard error.
    Errors(Vec<u8>),
    /// Something is missing here.
    Gap,
}

/// Follows the log of one process.
#[derive(Debug)]
pub(super) struct Follower {
    directory: PathBuf,
    process: ProcessName,
    file: Option<File>,
    at: u64,
    /// A record of which the end was not read yet.
    carry: Vec<u8>,
}

impl Follower {
    /// Stands at the end of what was written, or so many lines before it.
    ///
    /// # Errors
    /// When the log cannot be read; one that is not there yet is empty.
    pub(super) fn open(directory: PathBuf, process: ProcessName, lines: u32) -> io::Result<Self> {
        let mut follower = Self {
            directory,
            process,
            file: None,
            at: 0,
            carry: Vec::new(),
        };
        if let Some(mut file) = follower.open_file(0)? {
            let length = file.metadata()?.len();
            let from = length.saturating_sub(TAIL_BYTES);
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(from))?;
            (&mut file).take(length - from).read_to_end(&mut bytes)?;
            follower.at = from + begin(&bytes, from == 0, lines);
            follower.file = Some(file);
        }
        Ok(follower)
    }

    /// Returns what was written since; nothing if that is nothing.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn read(&mut self) -> io::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        loop {
            let Some(file) = &self.file else {
                self.file = self.open_file(0)?;
                if self.file.is_none() {
                    return Ok(pieces);
                }
                continue;
            };
            if file.metadata()?.len() < self.at {
                // With one file only, it began anew.
                self.at = 0;
                self.carry.clear();
                pieces.push(Piece::Gap);
            }
            // Looked at before the end is read: what is not the newest is written no more.
            let is_newest = self.is_newest()?;
            let mut bytes = vec![0; CHUNK_BYTES];
            let count = self
                .file
                .as_ref()
                .map_or(Ok(0), |file| file.read_at(&mut bytes, self.at))?;
            if count > 0 {
                self.at += count as u64;
                self.carry
                    .extend_from_slice(bytes.get(..count).unwrap_or_default());
                self.take_records(&mut pieces);
                return Ok(pieces);
            }
            if is_newest {
                return Ok(pieces);
            }
            self.go_on(&mut pieces)?;
        }
    }

    /// Goes on to the file that was begun after this one.
    fn go_on(&mut self, pieces: &mut Vec<Piece>) -> io::Result<()> {
        let own = self.file.as_ref().map(File::metadata).transpose()?;
        let own = own.map(|facts| (facts.dev(), facts.ino()));
        let mut next = None;
        for number in 0..FILES_MAX {
            let Some(file) = self.open_file(number)? else {
                // A number is free for a moment while they are renamed.
                if number > 0 {
                    break;
                }
                continue;
            };
            let facts = file.metadata()?;
            if Some((facts.dev(), facts.ino())) == own {
                (self.file, self.at) = (next, 0);
                return Ok(());
            }
            next = Some(file);
        }
        // Ours is gone, and perhaps some that came after it.
        self.carry.clear();
        (self.file, self.at) = (next, 0);
        pieces.push(Piece::Gap);
        Ok(())
    }

    fn is_newest(&self) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let facts = file.metadata()?;
        match std::fs::metadata(self.path(0)) {
            Ok(newest) => Ok((newest.dev(), newest.ino()) == (facts.dev(), facts.ino())),
            // It is made when there is something to write.
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(err) => Err(err),
        }
    }

    fn take_records(&mut self, pieces: &mut Vec<Piece>) {
        let whole = self.carry.iter().rposition(|byte| *byte == b'\n');
        let rest = self.carry.split_off(whole.map_or(0, |at| at + 1));
        for record in
            std::mem::replace(&mut self.carry, rest).split_inclusive(|byte| *byte == b'\n')
        {
            // What is no record was not written by a supervisor.
            if let Some((is_output, text)) = parse(record) {
                match (is_output, pieces.last_mut()) {
                    (true, Some(Piece::Output(last))) | (false, Some(Piece::Errors(last))) => {
                        last.extend_from_slice(text);
                    }
                    (true, _) => pieces.push(Piece::Output(text.to_vec())),
                    (false, _) => pieces.push(Piece::Errors(text.to_vec())),
                }
            }
        }
    }

    fn open_file(&self, number: u32) -> io::Result<Option<File>> {
        let mut options = File::options();
        options.read(true).custom_flags(NOFOLLOW);
        match options.open(self.path(number)) {
            Ok(file) => Ok(Some(file)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    fn path(&self, number: u32) -> PathBuf {
        let name = &self.process;
        self.directory.join(match number {
            0 => format!("{name}.log"),
            number => format!("{name}.log.{number}"),
        })
    }
}

/// The number of `O_NOFOLLOW`.
#[expect(clippy::cast_possible_wrap, reason = "flags are bits")]
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// Returns where the last so many lines of a log begin; `is_whole` says that nothing is before.
fn begin(bytes: &[u8], is_whole: bool, lines: u32) -> u64 {
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let (mut at, mut begin, mut left) = (end, end, lines);
    while at > 0 {
        let before = bytes.get(..at - 1).unwrap_or_default();
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1);
        let Some(start) = start.or(is_whole.then_some(0)) else {
            break;
        };
        let record = bytes.get(start..at).unwrap_or_default();
        if is_end_of_line(record) {
            if left == 0 {
                break;
            }
            left -= 1;
        } else if begin == end && left == 0 {
            break;
        }
        (at, begin) = (start, start);
    }
    begin as u64
}

fn is_end_of_line(record: &[u8]) -> bool {
    record.splitn(4, |byte| *byte == b' ').nth(2) == Some(b"F")
}

/// Returns of which stream a record is, and the bytes that were written.
fn parse(record: &[u8]) -> Option<(bool, &[u8])> {
    let mut words = record.splitn(4, |byte| *byte == b' ').skip(1);
    let is_output = match words.next()? {
        b"stdout" => true,
        b"stderr" => false,
        _ => return None,
    };
    let is_whole = words.next()? == b"F";
    let text = words.next()?;
    Some((
        is_output,
        if is_whole {
            text
        } else {
            text.strip_suffix(b"\n")?
        },
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(stream: &str, tag: &str, text: &str) -> String {
        format!("2026-01-31T12:00:00.000000000Z {stream} {tag} {text}\n")
    }

    fn output(text: &str) -> Piece {
        Piece::Output(text.into())
    }

    #[test]
    fn what_was_written_comes_as_it_was_and_through_rotation() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("p.log");
        let old = |number: u32| place.path().join(format!("p.log.{number}"));
        let name = ProcessName::new("p").unwrap();
        let open = |lines| Follower::open(place.path().to_owned(), name.clone(), lines).unwrap();
        let mut early = open(0);
        assert_eq!(early.read().unwrap(), []);
        let first = line("stdout", "F", "one") + &line("stderr", "F", "bad ");
        fs::write(&log, &first).unwrap();
        let bad = || Piece::Errors(b"bad \n".to_vec());
        assert_eq!(early.read().unwrap(), [output("one\n"), bad()]);
        assert_eq!(open(0).read().unwrap(), []);
        assert_eq!(open(1).read().unwrap(), [bad()]);
        assert_eq!(open(9).read().unwrap(), [output("one\n"), bad()]);
        // A record that is not whole yet, a line that is not, and another file.
        let piece = line("stdout", "P", "who? ");
        let (half, rest) = piece.split_at(40);
        fs::write(&log, first.clone() + half).unwrap();
        assert_eq!(early.read().unwrap(), []);
        fs::write(&log, first.clone() + half + rest).unwrap();
        let mut slow = open(0);
        fs::rename(&log, old(1)).unwrap();
        assert_eq!(early.read().unwrap(), [output("who? ")]);
        assert_eq!(early.read().unwrap(), []);
        fs::write(&log, line("stdout", "F", "me")).unwrap();
        assert_eq!(early.read().unwrap(), [output("me\n")]);
        // Two files on, it reads the one between.
        fs::rename(old(1), old(2)).unwrap();
        fs::rename(&log, old(1)).unwrap();
        fs::write(&log, line("stdout", "F", "you")).unwrap();
        assert_eq!(slow.read().unwrap(), [output("me\n")]);
        assert_eq!(slow.read().unwrap(), [output("you\n")]);
        // What was removed before it was read is told.
        let mut late = open(0);
        fs::remove_file(&log).unwrap();
        fs::remove_file(old(2)).unwrap();
        fs::write(old(1), line("stdout", "F", "after")).unwrap();
        fs::write(&log, line("stdout", "F", "now")).unwrap();
        assert_eq!(late.read().unwrap(), [Piece::Gap, output("after\n")]);
        assert_eq!(late.read().unwrap(), [output("now\n")]);
        // One file only, begun anew.
        fs::write(&log, line("stdout", "F", "")).unwrap();
        assert_eq!(late.read().unwrap(), [Piece::Gap, output("\n")]);
    }
}
