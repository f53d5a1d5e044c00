//! A thread that owns something which may never return, and is asked with a deadline.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::{EngineError, guarded};

const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// How often one that waits is given a nudge.
const NUDGE_EVERY: Duration = Duration::from_secs(1);

type Job<T> = Box<dyn FnOnce(&T) + Send>;

/// The thread's owner.
pub(super) struct Worker<T> {
    /// None only while it is dropped; then the thread ends.
    jobs: Option<Sender<Job<T>>>,
    /// Disconnected when the thread has ended.
    closed: Receiver<Infallible>,
    deadline: Duration,
    /// A job has missed its deadline; the thread is given up.
    is_stuck: Cell<bool>,
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("is_stuck", &self.is_stuck)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> Worker<T> {
    /// Starts a thread that makes its own `T`, and waits until it has.
    pub(super) fn start(
        what: &'static str,
        deadline: Duration,
        make: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<Self, EngineError> {
        let (answer, wait) = mpsc::sync_channel(1);
        // Bounded by its one user, who waits for each answer.
        let (jobs, work) = mpsc::channel();
        let (closing, closed) = mpsc::channel();
        thread::Builder::new()
            .name("store-engine".to_owned())
            .spawn(move || {
                match guarded(what, make) {
                    // When the deadline has passed, nobody listens and no job comes.
                    Ok(owned) => {
                        drop(answer.send(Ok(())));
                        serve(owned, &work);
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
                drop(closing);
            })
            .map_err(|source| EngineError::from_io(what, source))?;
        answered(what, deadline, wait.recv_timeout(deadline))?;
        Ok(Self {
            jobs: Some(jobs),
            closed,
            deadline,
            is_stuck: Cell::new(false),
        })
    }

    /// Has the thread do something and waits for it, up to the deadline; while it waits, it
    /// calls `nudge` every second.
    pub(super) fn ask<A: Send + 'static>(
        &self,
        what: &'static str,
        nudge: impl Fn(),
        call: impl FnOnce(&T) -> Result<A, EngineError> + Send + 'static,
    ) -> Result<A, EngineError> {
        if self.is_stuck.get() {
            return answered(what, self.deadline, Err(RecvTimeoutError::Timeout));
        }
        let (answer, wait) = mpsc::sync_channel(1);
        let job: Job<T> = Box::new(move |owned| drop(answer.send(guarded(what, || call(owned)))));
        let is_sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok());
        let mut left = if is_sent {
            self.deadline
        } else {
            Duration::ZERO
        };
        let result = loop {
            let patience = left.min(NUDGE_EVERY);
            left = left.saturating_sub(patience);
            match wait.recv_timeout(patience) {
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => nudge(),
                result => break result,
            }
        };
        if matches!(result, Err(RecvTimeoutError::Timeout)) {
            self.is_stuck.set(true);
        }
        answered(what, self.deadline, result)
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // One that does not end is left behind.
        if !self.is_stuck.get() {
            let Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) =
                self.closed.recv_timeout(CLOSE_DEADLINE);
        }
    }
}

/// Does what is asked until nobody asks any more.
fn serve<T>(owned: T, work: &Receiver<Job<T>>) {
    for job in work {
        job(&owned);
    }
    drop(guarded("the engine's close", || {
        drop(owned);
        Ok(())
    }));
}

fn answered<A>(
    what: &'static str,
    deadline: Duration,
    answer: Result<Result<A, EngineError>, RecvTimeoutError>,
) -> Result<A, EngineError> {
    match answer {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(EngineError::Late {
            what,
            seconds: deadline.as_secs(),
        }),
        Err(RecvTimeoutError::Disconnected) => Err(EngineError::Panicked {
            what,
            how: "its thread ended".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1500);

    #[test]
    fn what_never_answers_is_given_up_and_left_behind() {
        let worker = Worker::start("start", SHORT, || Ok(())).unwrap();
        let (_keep, never) = mpsc::channel::<()>();
        let stuck = worker.ask(
            "wait",
            || {},
            move |()| {
                assert!(never.recv().is_err(), "woken when the test ends");
                Ok(())
            },
        );
        assert!(
            matches!(stuck, Err(EngineError::Late { what: "wait", .. })),
            "{stuck:?}"
        );
        let next = worker.ask("next", || {}, |()| Ok(()));
        assert!(
            matches!(next, Err(EngineError::Late { what: "next", .. })),
            "{next:?}"
        );
    }

    #[test]
    fn what_waits_is_nudged() {
        let (nudge, nudged): (Sender<()>, _) = mpsc::channel();
        let worker = Worker::start("start", SHORT, || Ok(())).unwrap();
        let answer = worker.ask(
            "wait",
            || nudge.send(()).unwrap(),
            move |()| {
                nudged.recv().unwrap();
                Ok(7)
            },
        );
        assert_eq!(answer.unwrap(), 7);
    }

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        let made: Result<Worker<()>, _> = Worker::start("start", SHORT, || panic!("at birth"));
        assert!(matches!(made, Err(EngineError::Panicked { how, .. }) if how == "at birth"));
        let worker = Worker::start("start", SHORT, || Ok(1)).unwrap();
        let result: Result<(), _> = worker.ask("fall", || {}, |_| panic!("at work"));
        assert!(matches!(result, Err(EngineError::Panicked { how, .. }) if how == "at work"));
        assert_eq!(worker.ask("go on", || {}, |one| Ok(*one)).unwrap(), 1);
    }
}
