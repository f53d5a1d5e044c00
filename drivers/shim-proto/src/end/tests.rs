use super::*;
use crate::launch::{File, Mount, Process, Tmpfs};
use crate::message::{Done, End, Forget, Report, ReportAsk, Signal, Stop};
use proptest::prelude::*;

fn me() -> Hello {
    hello("main", "web", 3)
}

/// Carries bytes in pieces of at most `step`, both ways, until nothing moves.
fn cross(daemon: &mut DaemonEnd, shim: &mut ShimEnd, step: usize) -> Vec<Heard> {
    let mut heard = Vec::new();
    loop {
        let there = daemon.pending()[..step.min(daemon.pending().len())].to_vec();
        daemon.sent(there.len());
        shim.receive(&there);
        let mut served = false;
        while let Some(ask) = shim.poll_request() {
            served = true;
            shim.reply(match ask {
                Ask::Report(_) => Answer::Report(Report {
                    shim_pid: 7,
                    ..Report::default()
                }),
                _ => Answer::Done(Done {}),
            });
        }
        let back = shim.pending()[..step.min(shim.pending().len())].to_vec();
        shim.sent(back.len());
        daemon.receive(&back).unwrap();
        while let Some(word) = daemon.poll_heard().unwrap() {
            heard.push(word);
        }
        if there.is_empty() && back.is_empty() && !served {
            return heard;
        }
    }
}

fn dialogue(step: usize) {
    let mut daemon = DaemonEnd::new(me()).unwrap();
    let mut shim = ShimEnd::new(me());
    let report = daemon.ask(Ask::Report(ReportAsk {})).unwrap();
    let forget = daemon
        .ask(Ask::Forget(Forget { name: "a".into() }))
        .unwrap();
    let heard = cross(&mut daemon, &mut shim, step);
    assert_eq!(heard.len(), 3, "step {step}: {heard:?}");
    assert_eq!(heard[0], Heard::Greeted);
    let told = Report {
        shim_pid: 7,
        ..Report::default()
    };
    assert_eq!(heard[1], Heard::Answer(report, Answer::Report(told)));
    assert_eq!(heard[2], Heard::Answer(forget, Answer::Done(Done {})));
}

#[test]
fn the_ends_understand_each_other_however_the_bytes_are_cut() {
    for step in 1..200 {
        dialogue(step);
    }
    dialogue(usize::MAX);
}

#[test]
fn a_request_torn_at_any_offset_is_no_request() {
    let mut daemon = DaemonEnd::new(me()).unwrap();
    let greeting = daemon.pending().len();
    daemon
        .ask(Ask::Forget(Forget { name: "abc".into() }))
        .unwrap();
    let bytes = daemon.pending().to_vec();
    for torn in 0..bytes.len() {
        let mut shim = ShimEnd::new(me());
        shim.receive(&bytes[..torn]);
        assert_eq!(shim.poll_request(), None, "torn at {torn}");
        assert_eq!(shim.pending().is_empty(), torn < greeting);
        assert!(!shim.is_closing());
    }
}

#[test]
fn changed_is_said_once_until_the_next_report() {
    let mut daemon = DaemonEnd::new(me()).unwrap();
    let mut shim = ShimEnd::new(me());
    shim.changed();
    assert!(shim.pending().is_empty(), "nobody greeted yet");
    cross(&mut daemon, &mut shim, usize::MAX);
    shim.changed();
    shim.changed();
    assert_eq!(cross(&mut daemon, &mut shim, 3), [Heard::Changed]);
    daemon.ask(Ask::Report(ReportAsk {})).unwrap();
    cross(&mut daemon, &mut shim, usize::MAX);
    shim.changed();
    assert_eq!(cross(&mut daemon, &mut shim, 3), [Heard::Changed]);
}

#[test]
fn requests_before_the_greeting_are_refused() {
    let mut out = Vec::new();
    let request = Request {
        id: 5,
        ask: Some(Ask::Report(ReportAsk {})),
        aim: None,
    };
    crate::frame::encode(&request, &mut out).unwrap();
    let mut shim = ShimEnd::new(me());
    shim.receive(&out);
    assert_eq!(shim.poll_request(), None);
    assert!(shim.is_closing() && !shim.pending().is_empty());
}

#[test]
fn another_life_is_told_that_its_picture_is_old() {
    let mut daemon = DaemonEnd::new(hello("main", "web", 2)).unwrap();
    let mut shim = ShimEnd::new(me());
    shim.receive(daemon.pending());
    assert_eq!(shim.poll_request(), None);
    daemon.receive(shim.pending()).unwrap();
    let Err(EndError::Refused(failure)) = daemon.poll_heard() else {
        panic!("greeted")
    };
    assert_eq!(failure.kind(), FailureKind::Stale);
}

#[test]
fn versions_that_do_not_overlap_refuse_each_other() {
    let spoken = |oldest: u32, newest: u32| {
        let other = Hello {
            protocol: newest,
            protocol_min: oldest,
            ..me()
        };
        let mut daemon = DaemonEnd::new(other).unwrap();
        let mut shim = ShimEnd::new(me());
        shim.receive(daemon.pending());
        assert_eq!(shim.poll_request(), None);
        daemon.receive(shim.pending()).unwrap();
        let heard = daemon.poll_heard();
        assert_eq!(shim.is_closing(), heard.is_err());
        heard.is_ok()
    };
    assert!(!spoken(0, PROTOCOL_MIN - 1) && !spoken(PROTOCOL + 1, PROTOCOL + 2));
    assert!(spoken(0, PROTOCOL_MIN) && spoken(PROTOCOL, PROTOCOL + 2));
}

#[test]
fn an_unknown_request_is_answered_and_the_connection_goes_on() {
    let mut daemon = DaemonEnd::new(me()).unwrap();
    let mut shim = ShimEnd::new(me());
    cross(&mut daemon, &mut shim, usize::MAX);
    let id = daemon.ask(Ask::Report(ReportAsk {})).unwrap();
    daemon.sent(daemon.pending().len());
    let mut out = Vec::new();
    crate::frame::encode(
        &Request {
            id,
            ask: None,
            aim: None,
        },
        &mut out,
    )
    .unwrap();
    shim.receive(&out);
    let heard = cross(&mut daemon, &mut shim, usize::MAX);
    let [Heard::Answer(_, Answer::Failure(failure))] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(failure.kind(), FailureKind::Unknown);
    assert!(!shim.is_closing());
}

/// A shim that was greeted.
fn greeted() -> ShimEnd {
    let mut shim = ShimEnd::new(me());
    shim.receive(DaemonEnd::new(me()).unwrap().pending());
    assert_eq!(shim.poll_request(), None);
    shim.sent(shim.pending().len());
    shim
}

fn frame(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::frame::encode(request, &mut bytes).unwrap();
    bytes
}

/// What a daemon sends for a request, without the greeting before it.
fn sent(ask: Ask) -> Vec<u8> {
    let mut daemon = DaemonEnd::new(me()).unwrap();
    daemon.sent(daemon.pending().len());
    daemon.ask(ask).unwrap();
    daemon.pending().to_vec()
}

fn orders() -> [Ask; 4] {
    let name = || "web".into();
    [
        Ask::Stop(Stop {
            name: name(),
            signal: 15,
            grace_ms: 3000,
            starts: 1,
        }),
        Ask::Signal(Signal {
            name: name(),
            signal: 15,
            starts: 1,
            files: Vec::new(),
        }),
        Ask::Forget(Forget { name: name() }),
        Ask::End(End {}),
    ]
}

/// Every request that there is, in the forms that are easily mistaken for another.
fn requests() -> Vec<Ask> {
    let mut all = Vec::from(orders());
    all.extend([
        Ask::Hello(me()),
        Ask::Report(ReportAsk {}),
        Ask::Start(Process::default()),
        Ask::Start(Process {
            name: "web".into(),
            ..Process::default()
        }),
        Ask::WriteFile(File {
            path: "web".into(),
            ..File::default()
        }),
        Ask::Mount(Mount {
            path: "web".into(),
            read_only: true,
            source: Some(crate::launch::MountSource::Tmpfs(Tmpfs {
                bytes: 1,
                mode: 3,
            })),
        }),
    ]);
    all
}

#[test]
fn one_byte_that_changed_makes_no_other_order_of_a_message() {
    for ask in requests() {
        let whole = sent(ask.clone());
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let mut shim = greeted();
                shim.receive(&bytes);
                while let Some(heard) = shim.poll_request() {
                    let same = heard.act() == Act::None || heard.act() == ask.act();
                    assert!(same, "byte {at} of {ask:?} as {byte:#x} is {heard:?}");
                    shim.reply(Answer::Done(Done {}));
                }
            }
        }
    }
}

#[test]
fn an_order_that_ends_something_is_for_the_life_it_names_only() {
    let refusal = |ask: Ask, aim: Option<Aim>| {
        let mut shim = greeted();
        shim.receive(&frame(&Request {
            id: 7,
            ask: Some(ask),
            aim,
        }));
        assert_eq!(shim.poll_request(), None);
        assert!(!shim.is_closing());
        let mut frames = Frames::default();
        frames.push(shim.pending());
        match frames.take::<Reply>().unwrap().unwrap() {
            Reply {
                id: 7,
                answer: Some(Answer::Failure(failure)),
            } => failure.kind(),
            other => panic!("{other:?}"),
        }
    };
    for ask in orders() {
        let act = ask.act();
        let aim = |key: &str, incarnation, act: Act| {
            let act = act as i32;
            let key = key.into();
            Some(Aim {
                key,
                incarnation,
                act,
            })
        };
        let stale = FailureKind::Stale;
        let unknown = FailureKind::Unknown;
        assert_eq!(refusal(ask.clone(), aim("web", 2, act)), stale);
        assert_eq!(refusal(ask.clone(), aim("wea", 3, act)), stale);
        assert_eq!(refusal(ask.clone(), aim("web", 3, Act::None)), unknown);
        assert_eq!(refusal(ask.clone(), None), unknown, "as version 1 sends it");
        let mut shim = greeted();
        shim.receive(&sent(ask.clone()));
        assert_eq!(shim.poll_request(), Some(ask));
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_reach_the_container(
        bytes in prop::collection::vec(any::<u8>(), 0..2048),
        cut in 0usize..2048,
    ) {
        let mut shim = ShimEnd::new(me());
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        for piece in [one, two] {
            shim.receive(piece);
            prop_assert_eq!(shim.poll_request(), None, "not greeted, so no request");
        }
    }

    #[test]
    fn a_hostile_shim_never_panics_a_daemon(
        bytes in prop::collection::vec(any::<u8>(), 0..2048),
    ) {
        let mut daemon = DaemonEnd::new(me()).unwrap();
        daemon.receive(&bytes).unwrap();
        for _ in 0..=bytes.len() {
            if !matches!(daemon.poll_heard(), Ok(Some(_))) {
                break;
            }
        }
    }
}
