//! Reads what a container's processes printed.
//!
//! The supervisor writes records of the form `TIME STREAM TAG TEXT` (the container runtime
//! interface's log format; tag `P` says that the line goes on in the next record of the
//! stream). A process' files are `NAME.log` and rotated ones that begin with `NAME.log.`;
//! which came first is told by the first record's time, never by the suffix.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use jiff::Timestamp;
use specs::id::ProcessName;

use super::wire::LogLine;

/// Longest joined line, in bytes; what is longer comes in pieces that say so.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;
/// Most lines that can be asked for from the end.
pub(crate) const TAIL_MAX: usize = 100_000;
/// Read at once from one file, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Only this process.
    pub(crate) process: Option<ProcessName>,
    /// Only lines from then on, milliseconds since the epoch.
    pub(crate) since_ms: Option<u64>,
    /// Only so many of the newest; at most [`TAIL_MAX`].
    pub(crate) tail: Option<usize>,
}

/// A line and when it was ended, nanoseconds since the epoch.
type Timed = (i128, LogLine);

/// Reads the files of one directory, from then on what is added to them.
///
/// *Guarantees:* holds a chunk of each process and no more, however much there is to read;
/// with `tail`, that many lines of each process.
#[derive(Debug)]
pub(crate) struct Reader {
    directory: PathBuf,
    ask: Ask,
    since: i128,
    tails: BTreeMap<ProcessName, Tail>,
}

#[derive(Debug)]
struct Tail {
    process: ProcessName,
    open: Option<(u64, File)>,
    carry: Vec<u8>,
    joins: BTreeMap<String, Join>,
    newest: i128,
    ready: VecDeque<Timed>,
    at_end: bool,
}

#[derive(Debug)]
struct Join {
    at: String,
    text: Vec<u8>,
}

impl Reader {
    /// Returns a reader that stands before the oldest record.
    pub(crate) fn new(directory: PathBuf, ask: Ask) -> Self {
        let since = ask
            .since_ms
            .map_or(i128::MIN, |ms| i128::from(ms) * 1_000_000);
        Self {
            directory,
            ask,
            since,
            tails: BTreeMap::new(),
        }
    }

    /// Hands out everything that was added since the last call, in order of time, until
    /// `give` says that it has enough.
    ///
    /// With `tail`, the first call hands out only the newest lines.
    ///
    /// # Errors
    /// When the directory or a file cannot be read. A directory that is not there yet holds
    /// nothing.
    pub(crate) fn read(&mut self, mut give: impl FnMut(LogLine) -> bool) -> io::Result<()> {
        let keep = self.ask.tail.take();
        self.find_processes()?;
        for tail in self.tails.values_mut() {
            tail.at_end = false;
        }
        if let Some(keep) = keep {
            self.skip_to_newest(keep)?;
        }
        loop {
            for tail in self.tails.values_mut() {
                while tail.ready.is_empty() && !tail.at_end {
                    tail.fill(&self.directory, self.since)?;
                }
            }
            // Whoever has more to read may still bring lines as old as its newest ready one.
            let reading = self.tails.values().filter(|tail| !tail.at_end);
            let until = reading
                .filter_map(|tail| tail.ready.back().map(|line| line.0))
                .min();
            if !self.hand_out(until.unwrap_or(i128::MAX), &mut give) {
                return Ok(());
            }
            if until.is_none() {
                return Ok(());
            }
        }
    }

    /// Hands out ready lines up to a time, the oldest first.
    fn hand_out(&mut self, until: i128, give: &mut impl FnMut(LogLine) -> bool) -> bool {
        loop {
            let firsts = self.tails.values_mut().filter_map(|tail| {
                let at = tail.ready.front()?.0;
                (at <= until).then_some((at, tail))
            });
            let Some((_, tail)) = firsts.min_by_key(|(at, _)| *at) else {
                return true;
            };
            if let Some((_, line)) = tail.ready.pop_front()
                && !give(line)
            {
                return false;
            }
        }
    }

    /// Reads to the end and keeps the newest lines over all processes.
    fn skip_to_newest(&mut self, keep: usize) -> io::Result<()> {
        for tail in self.tails.values_mut() {
            while !tail.at_end {
                tail.fill(&self.directory, self.since)?;
                let surplus = tail.ready.len().saturating_sub(keep);
                tail.ready.drain(..surplus);
            }
        }
        let mut surplus = self
            .tails
            .values()
            .map(|tail| tail.ready.len())
            .sum::<usize>();
        surplus = surplus.saturating_sub(keep);
        if surplus > 0 {
            self.hand_out(i128::MAX, &mut |_| {
                surplus -= 1;
                surplus > 0
            });
        }
        Ok(())
    }

    fn find_processes(&mut self) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(process_of) else {
                continue;
            };
            if self
                .ask
                .process
                .as_ref()
                .is_none_or(|only| *only == process)
            {
                let tail = || Tail::new(process.clone());
                self.tails.entry(process.clone()).or_insert_with(tail);
            }
        }
        Ok(())
    }
}

fn process_of(file: &str) -> Option<ProcessName> {
    let (name, rest) = file.split_once('.')?;
    let is_log = rest == "log" || rest.starts_with("log.");
    is_log.then(|| ProcessName::new(name).ok())?
}

impl Tail {
    fn new(process: ProcessName) -> Self {
        Self {
            process,
            open: None,
            carry: Vec::new(),
            joins: BTreeMap::new(),
            newest: i128::MIN,
            ready: VecDeque::new(),
            at_end: false,
        }
    }

    /// Makes the next chunk's lines ready, or finds that there is no more.
    fn fill(&mut self, directory: &Path, since: i128) -> io::Result<()> {
        if self.chunk(since)? {
            return Ok(());
        }
        let Some((inode, file)) = self.next_file(directory)? else {
            self.at_end = true;
            return Ok(());
        };
        // The old file gets its last bytes before its successor gets its first: nobody writes
        // to it once the successor is there.
        while self.chunk(since)? {}
        self.carry.clear();
        self.open = Some((inode, file));
        Ok(())
    }

    fn next_file(&self, directory: &Path) -> io::Result<Option<(u64, File)>> {
        let mut files = self.files(directory)?.into_iter();
        let next = match &self.open {
            None => files.next(),
            Some((at, _)) => match files.by_ref().find(|(_, inode, _)| inode == at) {
                Some(_) => files.next(),
                // The file we stood in was rotated away for good: go on behind its last record.
                None => {
                    let newest = self.newest;
                    self.files(directory)?
                        .into_iter()
                        .find(|(first, _, _)| *first > newest)
                }
            },
        };
        Ok(next.map(|(_, inode, file)| (inode, file)))
    }

    /// Returns the files of the process, oldest first; an empty one is the newest.
    fn files(&self, directory: &Path) -> io::Result<Vec<(i128, u64, File)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            if name.to_str().and_then(process_of).as_ref() != Some(&self.process) {
                continue;
            }
            let mut options = File::options();
            options.read(true);
            let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            options.custom_flags(i32::try_from(no_follow.bits()).unwrap_or(0));
            let mut file = match options.open(directory.join(&name)) {
                // Rotated away between the listing and the opening.
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let inode = file.metadata()?.ino();
            let mut head = [0; 64];
            let read = file.read(&mut head)?;
            file.seek(SeekFrom::Start(0))?;
            let first = head.get(..read).and_then(first_time).unwrap_or(i128::MAX);
            files.push((first, inode, file));
        }
        files.sort_by_key(|(first, inode, _)| (*first, *inode));
        Ok(files)
    }

    /// Reads one chunk; says whether there was any.
    fn chunk(&mut self, since: i128) -> io::Result<bool> {
        let Some((_, file)) = &mut self.open else {
            return Ok(false);
        };
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
            self.carry.clear();
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk)?;
        self.carry
            .extend_from_slice(chunk.get(..read).unwrap_or_default());
        let carry = std::mem::take(&mut self.carry);
        let mut rest = carry.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (record, after) = rest.split_at(end);
            if let Some(line) = self.record(record).filter(|line| line.0 >= since) {
                self.ready.push_back(line);
            }
            rest = after.get(1..).unwrap_or_default();
        }
        // A record is far shorter; what grows beyond is not ours and is dropped.
        if rest.len() <= 4 * LINE_BYTES_MAX {
            self.carry = rest.to_vec();
        }
        Ok(read > 0)
    }

    fn record(&mut self, record: &[u8]) -> Option<Timed> {
        let (at, nanos, stream, goes_on, text) = split(record)?;
        self.newest = self.newest.max(nanos);
        let join = self.joins.entry(stream.to_owned()).or_insert_with(|| Join {
            at: at.to_owned(),
            text: Vec::new(),
        });
        join.text.extend_from_slice(text);
        if goes_on && join.text.len() < LINE_BYTES_MAX {
            return None;
        }
        let join = self.joins.remove(stream)?;
        let line = LogLine {
            process: self.process.to_string(),
            stream: stream.to_owned(),
            at: join.at,
            text: String::from_utf8_lossy(&join.text).into_owned(),
            partial: goes_on,
        };
        // In the order in which lines were ended, and never back, whatever the clock did.
        Some((self.newest, line))
    }
}

fn first_time(head: &[u8]) -> Option<i128> {
    let end = head.iter().position(|byte| *byte == b' ')?;
    nanos(std::str::from_utf8(head.get(..end)?).ok()?)
}

fn nanos(at: &str) -> Option<i128> {
    Timestamp::from_str(at).ok().map(Timestamp::as_nanosecond)
}

type Split<'a> = (&'a str, i128, &'a str, bool, &'a [u8]);

/// Splits a record; `None` for what is no record, which is passed over.
fn split(record: &[u8]) -> Option<Split<'_>> {
    let mut parts = record.splitn(4, |byte| *byte == b' ');
    let at = std::str::from_utf8(parts.next()?).ok()?;
    let stream = match parts.next()? {
        b"stdout" => "stdout",
        b"stderr" => "stderr",
        _ => return None,
    };
    let tag = parts.next()?;
    let goes_on = match tag.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some((
        at,
        nanos(at)?,
        stream,
        goes_on,
        parts.next().unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::Builder::new()
                .prefix("rcd-logs-")
                .tempdir()
                .unwrap();
            Self { dir }
        }

        fn append(&self, file: &str, text: &str) {
            use std::io::Write as _;
            let path = self.dir.path().join(file);
            let mut file = fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn rename(&self, from: &str, to: &str) {
            fs::rename(self.dir.path().join(from), self.dir.path().join(to)).unwrap();
        }

        fn reader(&self, ask: Ask) -> Reader {
            Reader::new(self.dir.path().to_owned(), ask)
        }
    }

    fn record(second: u32, stream: &str, tag: &str, text: &str) -> String {
        format!("2026-01-02T03:04:{second:02}.000000001Z {stream} {tag} {text}\n")
    }

    fn texts(reader: &mut Reader) -> Vec<String> {
        let mut out = Vec::new();
        reader
            .read(|line| {
                out.push(line.text);
                true
            })
            .unwrap();
        out
    }

    #[test]
    fn rotated_files_come_first_whatever_their_suffix() {
        let place = Place::new();
        place.append("web.log", &record(30, "stdout", "F", "new"));
        place.append("web.log.1", &record(20, "stdout", "F", "middle"));
        place.append("web.log.20260102", &record(10, "stdout", "F", "old"));
        place.append("other.txt", &record(1, "stdout", "F", "foreign"));
        assert_eq!(
            texts(&mut place.reader(Ask::default())),
            ["old", "middle", "new"]
        );
    }

    #[test]
    fn pieces_of_a_line_are_joined_by_stream() {
        let place = Place::new();
        place.append("web.log", &record(1, "stdout", "P", "he"));
        place.append("web.log", &record(2, "stderr", "F", "oops"));
        place.append("web.log", &record(3, "stdout", "F", "llo "));
        let mut reader = place.reader(Ask::default());
        assert_eq!(texts(&mut reader), ["oops", "hello "]);
    }

    #[test]
    fn a_clock_that_was_set_back_stops_no_reading() {
        let place = Place::new();
        for file in ["web.log", "db.log"] {
            for second in [9, 1, 5] {
                place.append(file, &record(second, "stdout", "F", &second.to_string()));
            }
        }
        let web = texts(&mut place.reader(Ask {
            process: Some(ProcessName::new("web").unwrap()),
            ..Ask::default()
        }));
        assert_eq!(web, ["9", "1", "5"]);
        assert_eq!(texts(&mut place.reader(Ask::default())).len(), 6);
    }

    #[test]
    fn an_endless_line_comes_in_bounded_pieces_that_say_so() {
        let place = Place::new();
        let piece = "x".repeat(16 << 10);
        for second in 0..5 {
            place.append("web.log", &record(second, "stdout", "P", &piece));
        }
        place.append("web.log", &record(9, "stdout", "F", "end"));
        let mut lines = Vec::new();
        let mut reader = place.reader(Ask::default());
        reader
            .read(|line| {
                lines.push(line);
                true
            })
            .unwrap();
        assert_eq!(
            lines.iter().map(|line| line.partial).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(lines[0].text.len(), LINE_BYTES_MAX);
        assert!(lines[1].text.ends_with("xend"));
    }

    #[test]
    fn following_loses_nothing_over_a_rotation() {
        let place = Place::new();
        let mut reader = place.reader(Ask::default());
        assert!(texts(&mut reader).is_empty());
        place.append("web.log", &record(1, "stdout", "F", "one"));
        assert_eq!(texts(&mut reader), ["one"]);
        place.append("web.log", &record(2, "stdout", "F", "two"));
        place.rename("web.log", "web.log.1");
        place.append("web.log", &record(3, "stdout", "F", "three"));
        place.rename("web.log.1", "web.log.2");
        place.rename("web.log", "web.log.1");
        place.append("web.log", &record(4, "stdout", "F", "four"));
        assert_eq!(texts(&mut reader), ["two", "three", "four"]);
        fs::remove_file(place.dir.path().join("web.log.2")).unwrap();
        place.append("web.log", "2026-01-02T03:04:05.000000001Z stdout F fi");
        assert!(texts(&mut reader).is_empty());
        place.append("web.log", "ve\n");
        assert_eq!(texts(&mut reader), ["five"]);
    }

    #[test]
    fn following_goes_on_after_every_known_file_was_rotated_away() {
        let place = Place::new();
        let mut reader = place.reader(Ask::default());
        place.append("web.log", &record(1, "stdout", "F", "one"));
        assert_eq!(texts(&mut reader), ["one"]);
        fs::remove_file(place.dir.path().join("web.log")).unwrap();
        place.append("web.log.1", &record(2, "stdout", "F", "two"));
        place.append("web.log", &record(3, "stdout", "F", "three"));
        assert_eq!(texts(&mut reader), ["two", "three"]);
    }

    #[test]
    fn lines_of_many_processes_come_in_order_of_time_however_much_there_is() {
        let place = Place::new();
        let line = "x".repeat(300);
        let (mut one, mut two) = (String::new(), String::new());
        for second in 0..2_000u32 {
            let at = format!(
                "2026-01-02T{:02}:{:02}:{:02}",
                second / 3600,
                second / 60 % 60,
                second % 60
            );
            one.push_str(&format!("{at}.1Z stdout F {line}{second}\n"));
            two.push_str(&format!("{at}.2Z stdout F {line}{second}\n"));
        }
        place.append("one.log", &one);
        place.append("two.log", &two);
        let mut reader = place.reader(Ask::default());
        let (mut last, mut count) = (String::new(), 0);
        reader
            .read(|line| {
                assert!(last <= line.at, "{last} {}", line.at);
                last = line.at;
                count += 1;
                true
            })
            .unwrap();
        assert_eq!(count, 4_000);
        // Whoever has enough gets no more, and goes on from there.
        place.append("one.log", &record(1, "stdout", "F", "later"));
        reader.read(|line| line.text != "later").unwrap();
        assert!(texts(&mut reader).is_empty());
    }

    #[test]
    fn tail_and_since_and_process_choose() {
        let place = Place::new();
        for second in 0..10 {
            place.append(
                "web.log",
                &record(second, "stdout", "F", &format!("w{second}")),
            );
            place.append(
                "db.log",
                &record(second + 20, "stdout", "F", &format!("d{second}")),
            );
        }
        let tail = |tail| Ask {
            tail: Some(tail),
            ..Ask::default()
        };
        assert_eq!(texts(&mut place.reader(tail(2))), ["d8", "d9"]);
        assert_eq!(texts(&mut place.reader(tail(0))), [""; 0]);
        let web = Some(ProcessName::new("web").unwrap());
        let mut reader = place.reader(Ask {
            process: web.clone(),
            ..tail(1)
        });
        assert_eq!(texts(&mut reader), ["w9"]);
        let at = nanos("2026-01-02T03:04:08Z").unwrap() / 1_000_000;
        let since_ms = Some(u64::try_from(at).unwrap());
        let mut reader = place.reader(Ask {
            process: web,
            since_ms,
            tail: None,
        });
        assert_eq!(texts(&mut reader), ["w8", "w9"]);
        // What is added later is followed whatever `tail` said.
        place.append("web.log", &record(40, "stdout", "F", "later"));
        assert_eq!(texts(&mut reader), ["later"]);
    }

    #[test]
    fn hostile_bytes_are_replaced_and_broken_records_passed_over() {
        let place = Place::new();
        let path = place.dir.path().join("web.log");
        let mut bytes = b"no record\n\n2026-01-02T03:04:05Z stdin F x\n".to_vec();
        bytes.extend_from_slice(b"2026-01-02T03:04:05Z stdout F a\xff\x00b\n");
        bytes.extend_from_slice(b"2026-01-02T03:04:05Z stdout F\n");
        fs::write(path, bytes).unwrap();
        assert_eq!(
            texts(&mut place.reader(Ask::default())),
            ["a\u{fffd}\0b", ""]
        );
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_not_followed() {
        let place = Place::new();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), record(1, "stdout", "F", "secret")).unwrap();
        std::os::unix::fs::symlink(outside.path(), place.dir.path().join("web.log")).unwrap();
        assert!(
            place
                .reader(Ask::default())
                .read(|_| panic!("read"))
                .is_err()
        );
    }
}
