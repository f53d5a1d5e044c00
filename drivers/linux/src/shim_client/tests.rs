use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use driver_api::{Deadline, Mark, Wake};
use shim_proto::end::ShimEnd;
use shim_proto::message::{Done, End, Exit, ExitKind, FailureKind, Forget, Report, ReportAsk};
use shim_proto::record::{Record, UNIT_BYTES, header};
use specs::id::{Incarnation, Instance, Key};

use super::start::{StartError, nap};
use super::*;
use crate::clients::{Clients, Told};
use crate::wake::Wakes;

fn mark() -> Mark {
    Mark {
        instance: Instance::new("main").unwrap(),
        key: Key::new("web").unwrap(),
        incarnation: Incarnation(3),
    }
}

fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1000 + u64::try_from(now.tv_nsec).unwrap() / 1_000_000
}

fn soon() -> u64 {
    now_ms() + 10_000
}

/// A directory whose lock is held, as by a shim.
struct Held {
    place: tempfile::TempDir,
    _lock: File,
}

impl Held {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let lock = File::create(place.path().join("shim.lock")).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        Self { place, _lock: lock }
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    /// Serves one connection with `serve`.
    fn serve(&self, serve: impl FnOnce(UnixStream) + Send + 'static) {
        let listener = UnixListener::bind(self.path().join("shim.sock")).unwrap();
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
    }
}

#[test]
fn absent_is_only_what_nobody_locks() {
    let place = tempfile::tempdir().unwrap();
    let check = |path: &Path| ShimClient::connect(path, &mark(), soon()).unwrap_err();
    assert!(matches!(
        check(&place.path().join("none")),
        ConnectError::Absent
    ));
    assert!(matches!(check(place.path()), ConnectError::Absent));
    File::create(place.path().join("shim.lock")).unwrap();
    drop(UnixListener::bind(place.path().join("shim.sock")).unwrap());
    assert!(
        matches!(check(place.path()), ConnectError::Absent),
        "a stale socket is no shim"
    );
    let held = Held::new();
    assert!(
        matches!(check(held.path()), ConnectError::Unknown { .. }),
        "no socket yet"
    );
    drop(UnixListener::bind(held.path().join("shim.sock")).unwrap());
    assert!(
        matches!(check(held.path()), ConnectError::Unknown { .. }),
        "refused while locked"
    );
}

#[test]
fn a_shim_that_hangs_costs_the_deadline_only() {
    let held = Held::new();
    let _listener = UnixListener::bind(held.path().join("shim.sock")).unwrap();
    let before = now_ms();
    let error = ShimClient::connect(held.path(), &mark(), before + 150).unwrap_err();
    assert!(matches!(error, ConnectError::Unknown { .. }));
    assert!((150..2000).contains(&(now_ms() - before)));
}

#[test]
fn hostile_answers_are_unknown() {
    let answers: [&[u8]; 5] = [
        b"",
        &[0xff; 64],
        &[0; 4],
        &[1, 0, 0, 0, 0xff],
        b"HTTP/1.0 400",
    ];
    for answer in answers {
        let held = Held::new();
        held.serve(move |mut socket| socket.write_all(answer).unwrap());
        let error = ShimClient::connect(held.path(), &mark(), soon()).unwrap_err();
        assert!(matches!(error, ConnectError::Unknown { .. }), "{answer:?}");
    }
    let held = Held::new();
    held.serve(|mut socket| while socket.write_all(&[0, 0, 16, 0, 1, 2, 3]).is_ok() {});
    let error = ShimClient::connect(held.path(), &mark(), soon()).unwrap_err();
    assert!(matches!(error, ConnectError::Unknown { .. }), "a flood");
}

/// Answers as a shim does, one byte at a time.
fn shim_of(incarnation: u64) -> impl FnOnce(UnixStream) + Send + 'static {
    move |mut socket| {
        let mut end = ShimEnd::new(hello("main", "web", incarnation));
        let mut byte = [0];
        while let Ok(1) = socket.read(&mut byte) {
            end.receive(&byte);
            while let Some(ask) = end.poll_request() {
                let report = Report {
                    shim_pid: 7,
                    ..Report::default()
                };
                end.reply(match ask {
                    Ask::Report(_) => Answer::Report(report),
                    Ask::End(_) => return,
                    _ => Answer::Done(Done {}),
                });
                end.changed();
            }
            for byte in end.pending().to_vec() {
                socket.write_all(&[byte]).unwrap();
                end.sent(1);
            }
        }
    }
}

#[test]
fn answers_are_told_apart_from_changes() {
    let held = Held::new();
    held.serve(shim_of(3));
    let mut client = ShimClient::connect(held.path(), &mark(), soon()).unwrap();
    let ask = Ask::Report(ReportAsk {});
    let Answer::Report(report) = client.ask(ask.clone(), soon()).unwrap() else {
        panic!()
    };
    assert_eq!(report.shim_pid, 7);
    let mut watched = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN)];
    assert_eq!(
        poll(&mut watched, Some(&timespec(5000))),
        Ok(1),
        "the change is to be read"
    );
    let forget = Ask::Forget(Forget { name: "a".into() });
    assert_eq!(client.ask(forget, soon()).unwrap(), Answer::Done(Done {}));
    assert!(client.ask(ask.clone(), soon()).is_ok());
    assert!(matches!(
        client.ask(Ask::End(End {}), soon()),
        Err(AskError::Broken(_))
    ));
    let long = Ask::Forget(Forget {
        name: "x".repeat(2 << 20),
    });
    assert!(matches!(
        client.ask(long, soon()),
        Err(AskError::Nonsense(EndError::TooLong))
    ));
    assert!(client.ask(ask, now_ms()).is_err());
}

#[test]
fn an_answer_that_is_waited_for_is_no_hint_and_a_change_is_one() {
    let held = Held::new();
    held.serve(|mut socket| {
        let mut end = ShimEnd::new(hello("main", "web", 3));
        let mut bytes = [0; 4096];
        let mut asked = 0;
        while asked < 5 {
            let count = socket.read(&mut bytes).unwrap();
            end.receive(&bytes[..count]);
            while let Some(_ask) = end.poll_request() {
                asked += 1;
                // Whoever listens beside the one that waits has the time to notice.
                std::thread::sleep(Duration::from_millis(5));
                end.reply(Answer::Report(Report::default()));
            }
            socket.write_all(end.pending()).unwrap();
            end.sent(end.pending().len());
        }
        std::thread::sleep(Duration::from_millis(50));
        end.changed();
        socket.write_all(end.pending()).unwrap();
        std::thread::sleep(Duration::from_millis(5_000));
    });
    let (hints, hinted) = std::sync::mpsc::channel();
    let hints = std::sync::Mutex::new(hints);
    let wake = move |wake| drop(hints.lock().unwrap().send(wake));
    let wakes = Wakes::start(&mark().instance, std::sync::Arc::new(wake)).unwrap();
    let clients = Clients::default();
    for _ in 0..5 {
        let deadline = Deadline { at_ms: soon() };
        let told = clients.report(&mark(), held.path(), deadline, &wakes);
        assert!(matches!(told, Told::Report(_)), "{told:?}");
        assert!(hinted.try_recv().is_err(), "its own answer woke it");
    }
    let hint: Wake = hinted.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(hint.key, Some(mark().key));
}

#[test]
fn the_shim_of_another_life_is_not_this_ones() {
    let held = Held::new();
    held.serve(shim_of(2));
    let error = ShimClient::connect(held.path(), &mark(), soon()).unwrap_err();
    let ConnectError::Unknown { why, .. } = error else {
        panic!("absent")
    };
    assert!(why.contains("main/web.2"), "{why}");
}

#[test]
fn what_is_no_shim_does_not_start() {
    let place = tempfile::tempdir().unwrap();
    let text = File::open("/etc/hostname")
        .or_else(|_| File::open("/etc/passwd"))
        .unwrap();
    let begin =
        |exe: BorrowedFd<'_>| start(exe, &mark(), place.path(), StartMode::Adopt, now_ms() + 200);
    assert!(matches!(begin(text.as_fd()), Err(StartError::Execute(_))));
    let fails = File::open("/bin/false").unwrap();
    assert!(matches!(begin(fails.as_fd()), Err(StartError::Ended(_))));
    let before = now_ms();
    let silent = File::open("/bin/true").unwrap();
    let late = begin(silent.as_fd());
    assert!(
        matches!(late, Err(StartError::Late(ConnectError::Absent))),
        "{late:?}"
    );
    assert!(now_ms() - before >= 200);
}

#[test]
fn records_are_read_when_nobody_lives() {
    let place = tempfile::tempdir().unwrap();
    assert!(read_exits(place.path()).unwrap().is_empty());
    let exits = place.path().join("exits");
    std::fs::write(&exits, b"torn").unwrap();
    assert!(read_exits(place.path()).is_err());
    let ended = Exit {
        kind: ExitKind::Code as i32,
        value: 3,
        ..Exit::default()
    };
    let record = |name: &str, pid| Record {
        name: name.into(),
        pid,
        starts: 2,
        last_exit: Some(ended),
        ..Record::default()
    };
    let mut bytes = vec![0; 6 * UNIT_BYTES];
    bytes[..UNIT_BYTES].copy_from_slice(&header());
    for (slot, (name, pid)) in [("b", 0), ("a", 9)].into_iter().enumerate() {
        let at = Record::unit_index(slot, 0) * UNIT_BYTES;
        bytes[at..at + UNIT_BYTES].copy_from_slice(&record(name, pid).encode());
    }
    std::fs::write(&exits, &bytes).unwrap();
    let reports = read_exits(place.path()).unwrap();
    let told: Vec<_> = reports
        .iter()
        .map(|report| {
            (
                report.name.as_str(),
                report.pid,
                report.last_exit.unwrap().kind(),
            )
        })
        .collect();
    assert_eq!(told, [("a", 0, ExitKind::Unseen), ("b", 0, ExitKind::Code)]);
}

/// The real shim, where it was built beside these tests.
fn real_shim() -> Option<File> {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let found = File::open(path.join("reconciler-shim")).ok();
    let found = found.filter(|_| rustix::process::geteuid().is_root());
    if found.is_none() {
        println!("skipped: takes root and a built reconciler-shim");
    }
    found
}

#[test]
fn the_real_shim_starts_answers_and_ends() {
    let Some(exe) = real_shim() else { return };
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    // Longer than an address can be.
    let directory = place.path().join("x".repeat(120)).join("run");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(directory.join("launch"), b"torn").unwrap();
    let launched = start(exe.as_fd(), &mark(), &directory, StartMode::Launch, soon());
    let Err(StartError::Refused(failure)) = launched else {
        panic!("{launched:?}")
    };
    assert_eq!(failure.kind(), FailureKind::Terminal);
    let connected = ShimClient::connect(&directory, &mark(), soon());
    assert!(connected.is_err());
    start(exe.as_fd(), &mark(), &directory, StartMode::Adopt, soon()).unwrap();
    let mut client = ShimClient::connect(&directory, &mark(), soon()).unwrap();
    let Answer::Report(report) = client.ask(Ask::Report(ReportAsk {}), soon()).unwrap() else {
        panic!("no report")
    };
    assert!(report.init.is_none() && report.shim_pid > 0 && report.launch_failure.is_some());
    assert_eq!(
        client.ask(Ask::End(End {}), soon()).unwrap(),
        Answer::Done(Done {})
    );
    let until = soon();
    while !matches!(
        ShimClient::connect(&directory, &mark(), soon()),
        Err(ConnectError::Absent)
    ) {
        assert!(nap(until), "the shim did not go");
    }
}
