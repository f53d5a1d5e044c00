use super::*;

const WANTED: launch::Logs = launch::Logs {
    max_bytes: 64 << 20,
    max_files: 2,
    drop: false,
    discard: false,
};

/// What a killed shim leaves: a holding pipe, a journal, a log.
struct Left {
    place: tempfile::TempDir,
    exits: Exits,
    hold: Hold,
    data: String,
}

impl Left {
    /// Output that does not become one piece: its lines are longer than itself.
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let exits = Exits::create(place.path()).unwrap();
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let data: String = (0..8000).map(|number| format!("{number}\n")).collect();
        rustix::io::write(&writer, data.as_bytes()).unwrap();
        Self {
            place,
            exits,
            hold: Hold { reader, writer },
            data,
        }
    }

    fn held(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.hold.reader).unwrap()
    }

    fn write_log(&self, text: &[u8]) {
        std::fs::write(self.place.path().join("p.log"), text).unwrap();
    }

    fn take(&self, count: usize) {
        let mut bytes = vec![0; count];
        assert_eq!(rustix::io::read(&self.hold.reader, &mut bytes), Ok(count));
    }

    /// Lets the next shim deal with it, and returns what the log says then.
    fn settled(self) -> (String, String) {
        let mut logs = Logs::new(self.place.path().into(), self.hold, &self.exits).unwrap();
        assert!(logs.is_stuck(), "nothing moves before");
        let mut file = LogFile::default();
        let mut dropped = 0;
        let owner = Owner {
            slot: 0,
            name: "p",
            logs: WANTED,
            file: &mut file,
            dropped: &mut dropped,
        };
        logs.settle(owner, &self.exits);
        assert!(!logs.is_stuck() && logs.held() == 0 && dropped == 0);
        let log = std::fs::read_to_string(self.place.path().join("p.log")).unwrap();
        let text = |line: &str| line.rsplit(' ').next().unwrap().to_owned() + "\n";
        (log.lines().map(text).collect(), self.data)
    }
}

#[test]
fn what_was_held_is_written() {
    let left = Left::new();
    let (log, data) = left.settled();
    assert_eq!(log, data);
}

#[test]
fn a_piece_cut_short_in_the_log_is_written_once() {
    for torn in [0, 1, 500, 70_000] {
        let left = Left::new();
        let before = b"T stdout F before\n";
        let mut piece = Vec::new();
        let used = line::write_lines(1, "T", left.data.as_bytes(), &mut piece);
        let torn = torn.min(piece.len());
        left.write_log(&[&before[..], &piece[..torn]].concat());
        let journal = Journal {
            phase: Phase::Writing,
            stream: 1,
            held: left.held(),
            piece: used as u64,
            log_bytes: before.len() as u64,
            ..Journal::default()
        };
        left.exits.write_journal(&journal).unwrap();
        let (log, data) = left.settled();
        assert_eq!(log, format!("before\n{data}"), "torn at {torn}");
    }
}

#[test]
fn a_piece_in_the_log_is_taken_out_once() {
    let mut piece = Vec::new();
    let used = line::write_lines(1, "T", Left::new().data.as_bytes(), &mut piece);
    for taken in [0, 1, used / 2, used - 1, used] {
        let left = Left::new();
        assert!(used < left.data.len(), "there is more than one piece");
        left.write_log(&piece);
        let journal = Journal {
            phase: Phase::Written,
            stream: 1,
            held: left.held(),
            piece: used as u64,
            ..Journal::default()
        };
        left.exits.write_journal(&journal).unwrap();
        if taken > 0 {
            left.take(taken);
        }
        let (log, data) = left.settled();
        assert_eq!(log, data, "{taken} of {used} were taken");
    }
}
