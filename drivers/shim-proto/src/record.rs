//! The file `exits` of a life: what its processes did, kept where it outlives both the shim
//! and the init.
//!
//! ```text
//! unit 0      Header
//! unit 1      Journal    (written by the shim alone)
//! unit 2n+2   Record of place n, even sequence numbers   (written by the init alone,
//! unit 2n+3   Record of place n, odd sequence numbers     by the shim once it is dead)
//! ```
//!
//! Units have [`UNIT_BYTES`] and end in a CRC-32. A record is replaced by writing its other
//! half, so a write cut short costs nothing: the half before it still stands. The file is
//! set aside in whole pages before a process starts, so no exit is lost to a full disk.

use alloc::string::String;
use alloc::vec::Vec;

use crate::init::NAME_BYTES_MAX;
use crate::launch::Logs;
use crate::message::Exit;

/// Bytes of one unit.
pub const UNIT_BYTES: usize = 256;
/// Version of this form.
pub const FORM: u32 = 1;

const SUM_AT: usize = UNIT_BYTES - 4;
const HEADER: u32 = u32::from_le_bytes(*b"RXH1");
const JOURNAL: u32 = u32::from_le_bytes(*b"RXJ1");
const RECORD: u32 = u32::from_le_bytes(*b"RXP1");
/// Length of a digest as the messages carry it.
pub const DIGEST_BYTES: usize = 16;

/// One unit of the file.
pub type Unit = [u8; UNIT_BYTES];

/// What is known of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Grows with every change; its lowest bit picks the half.
    pub sequence: u64,
    /// Which process.
    pub name: String,
    /// As given at the last start.
    pub digest: Vec<u8>,
    /// As given at the last start or signal.
    pub files: Vec<u8>,
    /// As given at the last start.
    pub restart_epoch: u64,
    /// Starts so far in this life.
    pub starts: u64,
    /// Its pid as the init sees it, while it lives, else 0.
    pub pid: u32,
    /// When the present or last run began, `CLOCK_BOOTTIME` milliseconds.
    pub started_ms: u64,
    /// When it was asked to end, `CLOCK_BOOTTIME` milliseconds; 0 if it was not.
    pub stopping_ms: u64,
    /// When it is killed for good, `CLOCK_BOOTTIME` milliseconds; 0: never.
    pub kill_ms: u64,
    /// How the last run that is over ended.
    pub last_exit: Option<Exit>,
    /// What becomes of its output.
    pub logs: Logs,
}

/// Where the shim stands in moving output from pipes to files; see `docs/formats/shim.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// How far it came.
    pub phase: Phase,
    /// Place of the process whose output is held.
    pub slot: u32,
    /// 1 or 2.
    pub stream: u32,
    /// Bytes in the holding pipe before any of this piece was taken out.
    pub held: u64,
    /// Bytes of them that the piece covers.
    pub piece: u64,
    /// Length of the log before the piece was written.
    pub log_bytes: u64,
}

/// How far a piece of output came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// What the holding pipe has is not in the log.
    #[default]
    Held,
    /// The piece may be in the log in part: cut the log back to `log_bytes`.
    Writing,
    /// The piece is in the log: take out of the pipe what is left of it.
    Written,
}

/// Returns the CRC-32 (IEEE 802.3) of the bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ 0xEDB8_8320
            } else {
                sum >> 1
            };
        }
    }
    !sum
}

struct Writer {
    unit: Unit,
    at: usize,
}

impl Writer {
    fn new(kind: u32) -> Self {
        let mut writer = Self {
            unit: [0; UNIT_BYTES],
            at: 0,
        };
        writer.put(&kind.to_le_bytes());
        writer
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = self.unit.get_mut(self.at..SUM_AT).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.at += bytes.len();
    }

    /// Puts a length and a run of at most `room` bytes.
    fn put_run(&mut self, bytes: &[u8], room: usize) {
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.put(&[u8::try_from(bytes.len()).unwrap_or(0)]);
        self.put(bytes);
        self.at += room - bytes.len();
    }

    fn finish(mut self) -> Unit {
        let (body, sum) = self.unit.split_at_mut(SUM_AT);
        sum.copy_from_slice(&checksum(body).to_le_bytes());
        self.unit
    }
}

struct Reader<'a> {
    body: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Returns a reader behind the kind, if the unit is whole and of that kind.
    fn new(unit: &'a [u8], kind: u32) -> Option<Self> {
        let unit = unit.first_chunk::<UNIT_BYTES>()?;
        let (body, sum) = unit.split_last_chunk::<4>()?;
        let mut reader = Self { body };
        (u32::from_le_bytes(*sum) == checksum(body) && reader.u32()? == kind).then_some(reader)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.body.split_first_chunk::<N>()?;
        self.body = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn run(&mut self, room: usize) -> Option<&'a [u8]> {
        let [length] = self.take::<1>()?;
        let (run, rest) = self.body.split_at_checked(room)?;
        self.body = rest;
        run.get(..usize::from(length))
    }
}

/// Returns the first unit of a file.
#[must_use]
pub fn header() -> Unit {
    let mut writer = Writer::new(HEADER);
    writer.put(&FORM.to_le_bytes());
    writer.finish()
}

/// Returns whether a unit is the first one of a file in this form.
#[must_use]
pub fn is_header(unit: &[u8]) -> bool {
    Reader::new(unit, HEADER).and_then(|mut reader| reader.u32()) == Some(FORM)
}

impl Journal {
    /// Returns the journal as a unit.
    #[must_use]
    pub fn encode(&self) -> Unit {
        let mut writer = Writer::new(JOURNAL);
        let phase: u32 = match self.phase {
            Phase::Held => 0,
            Phase::Writing => 1,
            Phase::Written => 2,
        };
        for word in [phase, self.slot, self.stream] {
            writer.put(&word.to_le_bytes());
        }
        for word in [self.held, self.piece, self.log_bytes] {
            writer.put(&word.to_le_bytes());
        }
        writer.finish()
    }

    /// Returns the journal that a unit holds, if it is whole.
    #[must_use]
    pub fn decode(unit: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(unit, JOURNAL)?;
        let phase = match reader.u32()? {
            0 => Phase::Held,
            1 => Phase::Writing,
            2 => Phase::Written,
            _ => return None,
        };
        Some(Self {
            phase,
            slot: reader.u32()?,
            stream: reader.u32()?,
            held: reader.u64()?,
            piece: reader.u64()?,
            log_bytes: reader.u64()?,
        })
    }
}

impl Record {
    /// Returns the record as a unit.
    #[must_use]
    pub fn encode(&self) -> Unit {
        let mut writer = Writer::new(RECORD);
        writer.put_run(self.name.as_bytes(), NAME_BYTES_MAX);
        writer.put_run(&self.digest, DIGEST_BYTES);
        writer.put_run(&self.files, DIGEST_BYTES);
        writer.put(&self.pid.to_le_bytes());
        let exit = self.last_exit.unwrap_or_default();
        for word in [
            self.sequence,
            self.restart_epoch,
            self.starts,
            self.started_ms,
            self.stopping_ms,
            self.kill_ms,
            exit.started_ms,
            exit.ended_ms,
            self.logs.max_bytes,
        ] {
            writer.put(&word.to_le_bytes());
        }
        writer.put(&exit.kind.to_le_bytes());
        writer.put(&exit.value.to_le_bytes());
        writer.put(&self.logs.max_files.to_le_bytes());
        let flags = [
            self.last_exit.is_some(),
            exit.asked,
            self.logs.drop,
            self.logs.discard,
        ];
        writer.put(&flags.map(u8::from));
        writer.put(&exit.oom_kills.unwrap_or(0).to_le_bytes());
        writer.put(&[exit.oom_kills.is_some(), exit.oom_killed].map(u8::from));
        writer.finish()
    }

    /// Returns the record that a unit holds, if it is whole.
    #[must_use]
    pub fn decode(unit: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(unit, RECORD)?;
        let name = core::str::from_utf8(reader.run(NAME_BYTES_MAX)?).ok()?;
        let mut record = Self {
            name: String::from(name),
            digest: reader.run(DIGEST_BYTES)?.to_vec(),
            files: reader.run(DIGEST_BYTES)?.to_vec(),
            pid: reader.u32()?,
            sequence: reader.u64()?,
            restart_epoch: reader.u64()?,
            starts: reader.u64()?,
            started_ms: reader.u64()?,
            stopping_ms: reader.u64()?,
            kill_ms: reader.u64()?,
            ..Self::default()
        };
        let mut exit = Exit {
            started_ms: reader.u64()?,
            ended_ms: reader.u64()?,
            ..Exit::default()
        };
        record.logs.max_bytes = reader.u64()?;
        exit.kind = reader.take().map(i32::from_le_bytes)?;
        exit.value = reader.take().map(i32::from_le_bytes)?;
        record.logs.max_files = reader.u32()?;
        let [has_exit, asked, drop, discard] = reader.take::<4>()?.map(|flag| flag != 0);
        exit.asked = asked;
        let oom_kills = reader.u64()?;
        let [is_counted, oom_killed] = reader.take::<2>()?.map(|flag| flag != 0);
        exit.oom_kills = is_counted.then_some(oom_kills);
        exit.oom_killed = oom_killed;
        record.last_exit = has_exit.then_some(exit);
        record.logs.drop = drop;
        record.logs.discard = discard;
        Some(record)
    }

    /// Returns which unit of the file this state of the record of a place belongs into.
    #[must_use]
    pub fn unit_index(slot: usize, sequence: u64) -> usize {
        2 + slot * 2 + usize::from(sequence & 1 == 1)
    }
}

/// Returns the newest whole record of each place; none where the place is free.
#[must_use]
pub fn read(file: &[u8]) -> Vec<Option<Record>> {
    let half = |unit: Option<&[u8]>| unit.and_then(Record::decode);
    file.get(2 * UNIT_BYTES..)
        .unwrap_or_default()
        .chunks(2 * UNIT_BYTES)
        .take(crate::init::PROCESSES_MAX)
        .map(|pair| {
            let halves = [half(pair.get(..UNIT_BYTES)), half(pair.get(UNIT_BYTES..))];
            let newest = halves
                .into_iter()
                .flatten()
                .max_by_key(|record| record.sequence);
            newest.filter(|record| !record.name.is_empty())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn record(sequence: u64) -> Record {
        Record {
            sequence,
            name: "x".repeat(NAME_BYTES_MAX),
            digest: vec![1; 16],
            files: vec![2; 3],
            restart_epoch: 3,
            starts: u64::MAX,
            pid: 5,
            started_ms: 6,
            stopping_ms: 7,
            kill_ms: 8,
            last_exit: Some(Exit {
                started_ms: 9,
                ended_ms: 10,
                kind: 2,
                value: -9,
                asked: true,
                oom_kills: Some(u64::MAX),
                oom_killed: true,
            }),
            logs: Logs {
                max_bytes: 11,
                max_files: 12,
                drop: true,
                discard: true,
            },
        }
    }

    fn journal() -> Journal {
        Journal {
            phase: Phase::Written,
            slot: 1,
            stream: 2,
            held: 3,
            piece: 4,
            log_bytes: 5,
        }
    }

    #[test]
    fn units_survive_their_own_bytes() {
        assert_eq!(Record::decode(&record(9).encode()), Some(record(9)));
        let plain = Record {
            name: "a".into(),
            ..Record::default()
        };
        assert_eq!(Record::decode(&plain.encode()), Some(plain));
        assert_eq!(Journal::decode(&journal().encode()), Some(journal()));
        assert!(is_header(&header()));
        assert_eq!(
            checksum(b"123456789"),
            0xCBF4_3926,
            "the check value of CRC-32"
        );
    }

    /// What an init wrote that knew nothing of kills for memory: zeros to the end.
    #[test]
    fn a_record_of_an_older_init_says_nothing_of_kills_for_memory() {
        const KILLS_AT: usize = 4 + 64 + 2 * 17 + 4 + 9 * 8 + 3 * 4 + 4;
        let mut unit = record(4).encode();
        unit[KILLS_AT..SUM_AT].fill(0);
        let sum = checksum(&unit[..SUM_AT]);
        unit[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        let mut older = record(4);
        let exit = older.last_exit.as_mut().unwrap();
        (exit.oom_kills, exit.oom_killed) = (None, false);
        assert_eq!(Record::decode(&unit), Some(older));
    }

    #[test]
    fn a_record_has_room_in_its_unit() {
        let full = record(u64::MAX).encode();
        assert_eq!(
            full[SUM_AT - 4..SUM_AT],
            [0; 4],
            "the last field ends before the sum"
        );
    }

    #[test]
    fn a_flipped_bit_is_never_a_record() {
        for unit in [record(4).encode(), journal().encode(), header()] {
            for bit in 0..UNIT_BYTES * 8 {
                let mut bad = unit;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::decode(&bad), None);
                assert_eq!(Journal::decode(&bad), None);
                assert!(!is_header(&bad));
            }
        }
    }

    #[test]
    fn a_torn_write_leaves_the_record_before_it() {
        let (old, new) = (record(6), record(7));
        let mut file = vec![0; 4 * UNIT_BYTES];
        let old_at = Record::unit_index(0, 6) * UNIT_BYTES;
        let new_at = Record::unit_index(0, 7) * UNIT_BYTES;
        file[old_at..old_at + UNIT_BYTES].copy_from_slice(&old.encode());
        for torn in 0..UNIT_BYTES {
            file[new_at..new_at + torn].copy_from_slice(&new.encode()[..torn]);
            let sound = &file[..];
            assert_eq!(read(sound), [Some(old.clone())], "torn at {torn}");
        }
        file[new_at..new_at + UNIT_BYTES].copy_from_slice(&new.encode());
        assert_eq!(read(&file), [Some(new)]);
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert!(read(&bytes).iter().all(Option::is_none));
            prop_assert_eq!(Journal::decode(&bytes), None);
        }
    }
}
