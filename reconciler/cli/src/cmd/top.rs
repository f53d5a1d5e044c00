//! `reconciler top`: what containers use, from one sample to the next.

use std::time::{Duration, Instant};

use specs::usage::UsageSample;

use super::{Exit, Failure, Session};
use crate::args::{Format, SortBy, TopArgs};
use crate::client::Client;
use crate::render::top::{self, Row, Top};

/// Shortest time between two samples: below it the figures are noise.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How often a wait looks whether its reader is still there.
const TICK: Duration = Duration::from_millis(100);
/// Home, and erases to the end of the screen (ECMA-48, CUP and ED).
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// Shows what containers use, once or until the reader leaves.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn top(session: &mut Session, args: &TopArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    let interval = args.interval.0.max(INTERVAL_MIN);
    let ends = args.once || args.output != Format::Text;
    let draws_in_place = !ends && session.draws_in_place();
    let mut before = sample(&client)?;
    let mut is_first = true;
    loop {
        if !wait(session, interval)? {
            return Ok(Exit::Done);
        }
        let after = sample(&client)?;
        let mut shown = Top::between(&before, &after);
        sort(&mut shown.containers, args.sort);
        shown.containers.truncate(args.count.unwrap_or(usize::MAX));
        if draws_in_place {
            session.out.raw(CLEAR)?;
        } else if !is_first {
            session.out.line("")?;
        }
        session.print(args.output, &shown, |shown, look| {
            top::table(shown, look.paint)
        })?;
        session.out.flush()?;
        if ends {
            return Ok(Exit::Done);
        }
        (before, is_first) = (after, false);
    }
}

fn sample(client: &Client) -> Result<UsageSample, Failure> {
    Ok(client.get("/usage")?)
}

/// Waits; false if the reader has left meanwhile.
fn wait(session: &mut Session, span: Duration) -> Result<bool, Failure> {
    let begin = Instant::now();
    session.out.flush()?;
    loop {
        session.out.look_for_reader();
        let left = span.saturating_sub(begin.elapsed());
        if session.out.is_closed() || left.is_zero() {
            return Ok(!session.out.is_closed());
        }
        std::thread::sleep(left.min(TICK));
    }
}

/// Puts the most first; those of which it is not known last, equals by name.
fn sort(rows: &mut [Row], by: SortBy) {
    let figure = |row: &Row| match by {
        SortBy::Cpu => row.cpu_permille,
        SortBy::Memory => row.working_set_bytes,
        SortBy::Pids => row.pids,
        SortBy::Net => {
            let both = row.received_bytes_per_s.zip(row.sent_bytes_per_s);
            both.map(|(received, sent)| received.saturating_add(sent))
        }
    };
    rows.sort_by(|a, b| {
        let (more, less) = (figure(b), figure(a));
        more.cmp(&less).then_with(|| a.name.cmp(&b.name))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(by: SortBy) -> Vec<String> {
        let row = |name: &str, cpu, memory| Row {
            name: name.to_owned(),
            cpu_permille: cpu,
            working_set_bytes: memory,
            ..Row::default()
        };
        let mut rows = [
            row("c", Some(5), Some(1)),
            row("a", Some(5), None),
            row("b", None, Some(9)),
        ];
        sort(&mut rows, by);
        rows.into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn the_busiest_come_first_and_the_unknown_last() {
        assert_eq!(names(SortBy::Cpu), ["a", "c", "b"]);
        assert_eq!(names(SortBy::Memory), ["b", "c", "a"]);
        assert_eq!(names(SortBy::Net), ["a", "b", "c"]);
    }
}
