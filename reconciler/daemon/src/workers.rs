//! Bounded threads for calls that block: the driver's two verbs.
//!
//! A call that does not come back (a dead network file system, a task in state D) costs one
//! thread and one container. When its time is up it is answered in its place as a gap or a
//! failure, a fresh thread takes the lost one's work, and the container it belongs to gets
//! no second call until the first has returned.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use driver_api::Deadline;
use reconciler_core::io::Ticket;
use specs::id::Key;

/// Threads that work at once; calls wait on the kernel far more than on a processor.
pub(crate) const THREADS: usize = 8;
/// Threads at most, those lost in calls that do not return included.
pub(crate) const THREADS_MAX: usize = 64;
/// A call that has not returned so long after its deadline is answered in its place.
pub(crate) const GRACE_MS: u64 = 2_000;
/// A call that found no free thread for so long is answered in its place.
pub(crate) const QUEUE_MS_MAX: u64 = 60_000;

/// What a call is about: one call at a time for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// The whole host.
    Host,
    /// One container.
    Container(Key),
}

/// How a call ended.
pub(crate) type Ended<T> = Result<T, String>;

type Work<T> = Box<dyn FnOnce(Deadline) -> T + Send>;
type Answer<T> = Arc<dyn Fn(Ticket, Ended<T>) + Send + Sync>;
type Clock = fn() -> u64;

/// One call.
pub(crate) struct Call<T> {
    /// Given back with the answer.
    pub(crate) ticket: Ticket,
    /// What it is about.
    pub(crate) slot: Slot,
    /// Time it may take once it has begun, in milliseconds.
    pub(crate) allowance_ms: u64,
    /// The call.
    pub(crate) work: Work<T>,
}

struct Running {
    slot: Slot,
    since_ms: u64,
    deadline_ms: u64,
    given_up: bool,
}

struct Inner<T> {
    queue: VecDeque<(Call<T>, u64)>,
    running: BTreeMap<Ticket, Running>,
    threads: usize,
    lost: usize,
    closed: bool,
}

struct Shared<T> {
    inner: Mutex<Inner<T>>,
    more: Condvar,
    answer: Answer<T>,
    clock: Clock,
}

/// The threads. Dropping it lets idle threads end; lost ones end when their call returns.
pub(crate) struct Workers<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> Workers<T> {
    /// Returns a pool without threads; they start when there is work.
    pub(crate) fn new(clock: Clock, answer: Answer<T>) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            threads: 0,
            lost: 0,
            closed: false,
        };
        let shared = Shared {
            inner: Mutex::new(inner),
            more: Condvar::new(),
            answer,
            clock,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Queues a call; its answer comes from another thread.
    ///
    /// The queue needs no bound of its own: the core has one call in flight for a container.
    pub(crate) fn submit(&self, call: Call<T>) {
        let now = (self.shared.clock)();
        let mut inner = self.shared.lock();
        let held = inner
            .running
            .values()
            .find(|run| run.slot == call.slot && run.given_up);
        if let Some(run) = held {
            let for_s = now.saturating_sub(run.since_ms) / 1000;
            let ticket = call.ticket;
            drop(inner);
            let why = format!("an earlier call for it has not returned for {for_s} s");
            (self.shared.answer)(ticket, Err(why));
            return;
        }
        inner.queue.push_back((call, now));
        self.shared.grow(&mut inner);
        drop(inner);
        self.shared.more.notify_one();
    }

    /// Answers calls whose time is up in their place; call it about once a second.
    pub(crate) fn reap(&self) {
        let now = (self.shared.clock)();
        let mut overdue: Vec<(Ticket, String)> = Vec::new();
        let mut inner = self.shared.lock();
        for (ticket, run) in &mut inner.running {
            if !run.given_up && now > run.deadline_ms.saturating_add(GRACE_MS) {
                run.given_up = true;
                let for_s = now.saturating_sub(run.since_ms) / 1000;
                overdue.push((*ticket, format!("no answer from the kernel for {for_s} s")));
            }
        }
        inner.lost += overdue.len();
        while inner
            .queue
            .front()
            .is_some_and(|(_, at)| now > at.saturating_add(QUEUE_MS_MAX))
        {
            if let Some((call, _)) = inner.queue.pop_front() {
                overdue.push((
                    call.ticket,
                    "every worker is lost in an earlier call".into(),
                ));
            }
        }
        self.shared.grow(&mut inner);
        drop(inner);
        self.shared.more.notify_all();
        for (ticket, why) in overdue {
            (self.shared.answer)(ticket, Err(why));
        }
    }

    /// Returns how many calls are queued or running.
    pub(crate) fn in_flight(&self) -> usize {
        let inner = self.shared.lock();
        inner.queue.len() + inner.running.len() - inner.lost.min(inner.running.len())
    }
}

impl<T: Send + 'static> Drop for Workers<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.more.notify_all();
    }
}

impl<T: Send + 'static> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // No code that can panic runs under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(self: &Arc<Self>, inner: &mut Inner<T>) {
        let able = inner.threads - inner.lost.min(inner.threads);
        let wanted = (inner.queue.len() + inner.running.len() - inner.lost).min(THREADS);
        if inner.queue.is_empty() || able >= wanted || inner.threads >= THREADS_MAX {
            return;
        }
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("driver".into())
            .spawn(move || shared.work());
        match spawned {
            Ok(_detached) => inner.threads += 1,
            // The queued call waits for another thread, or for `reap`.
            Err(err) => tracing::warn!(err = %err, "no thread for a driver call"),
        }
    }

    fn work(self: Arc<Self>) {
        while let Some((call, deadline)) = self.next() {
            let ticket = call.ticket;
            let work = call.work;
            let ended = catch_unwind(AssertUnwindSafe(|| work(deadline)))
                .map_err(|panic| format!("BUG: the driver panicked: {}", panic_text(&*panic)));
            let mut inner = self.lock();
            let given_up = inner
                .running
                .remove(&ticket)
                .is_some_and(|run| run.given_up);
            let mut surplus = false;
            if given_up {
                inner.lost = inner.lost.saturating_sub(1);
                surplus = inner.threads - inner.lost.min(inner.threads) > THREADS;
                inner.threads -= usize::from(surplus);
            }
            drop(inner);
            if !given_up {
                (self.answer)(ticket, ended);
            }
            if surplus {
                return;
            }
        }
    }

    fn next(&self) -> Option<(Call<T>, Deadline)> {
        let mut inner = self.lock();
        loop {
            if inner.closed {
                inner.threads -= 1;
                return None;
            }
            if let Some((call, _)) = inner.queue.pop_front() {
                let since_ms = (self.clock)();
                let deadline_ms = since_ms.saturating_add(call.allowance_ms);
                let run = Running {
                    slot: call.slot.clone(),
                    since_ms,
                    deadline_ms,
                    given_up: false,
                };
                inner.running.insert(call.ticket, run);
                return Some((call, Deadline { at_ms: deadline_ms }));
            }
            inner = self
                .more
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Returns what a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);
    type Answers = Receiver<(Ticket, Ended<u32>)>;

    fn pool(clock: Clock) -> (Workers<u32>, Answers) {
        let (send, receive) = channel();
        let send = Mutex::new(send);
        let answer: Answer<u32> = Arc::new(move |ticket, ended| {
            send.lock().unwrap().send((ticket, ended)).unwrap();
        });
        (Workers::new(clock, answer), receive)
    }

    fn call(
        ticket: u64,
        name: &str,
        work: impl FnOnce(Deadline) -> u32 + Send + 'static,
    ) -> Call<u32> {
        Call {
            ticket: Ticket(ticket),
            slot: Slot::Container(Key::new(name).unwrap()),
            allowance_ms: 1_000,
            work: Box::new(work),
        }
    }

    #[test]
    fn a_panic_in_one_call_is_that_calls_answer_and_nobody_elses() {
        let (pool, answers) = pool(crate::clock::boot_ms);
        pool.submit(call(1, "a", |_| panic!("poisoned")));
        pool.submit(call(2, "b", |_| 7));
        let mut got = [
            answers.recv_timeout(BOUND).unwrap(),
            answers.recv_timeout(BOUND).unwrap(),
        ];
        got.sort_by_key(|(ticket, _)| *ticket);
        assert!(
            got[0].1.as_ref().is_err_and(|why| why.contains("poisoned")),
            "{got:?}"
        );
        assert_eq!(got[1], (Ticket(2), Ok(7)));
    }

    #[test]
    fn calls_that_never_return_delay_no_other_container() {
        static NOW: AtomicU64 = AtomicU64::new(1_000);
        let (pool, answers) = pool(|| NOW.load(Ordering::SeqCst));
        let (release, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (begun, began) = channel();
        for ticket in 0..THREADS as u64 {
            let held = Arc::clone(&held);
            let begun = begun.clone();
            pool.submit(call(ticket, &format!("stuck{ticket}"), move |_| {
                begun.send(()).unwrap();
                let waiting = held.lock().unwrap_or_else(PoisonError::into_inner);
                let ended = waiting.recv_timeout(BOUND * 3);
                drop(waiting);
                u32::from(ended.is_ok())
            }));
        }
        for _ in 0..THREADS {
            began.recv_timeout(BOUND).unwrap();
        }
        pool.submit(call(100, "healthy", |_| 1));
        NOW.store(1_000 + 1_000 + GRACE_MS + 1, Ordering::SeqCst);
        pool.reap();
        let mut lost = 0;
        let mut healthy = false;
        for _ in 0..=THREADS {
            match answers.recv_timeout(BOUND).unwrap() {
                (Ticket(100), Ok(1)) => healthy = true,
                (_, Err(why)) if why.contains("no answer from the kernel") => lost += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(healthy);
        assert_eq!(lost, THREADS);
        // The stuck container gets no second call beside the first.
        pool.submit(call(200, "stuck0", |_| {
            panic!("two calls for one container")
        }));
        let (ticket, ended) = answers.recv_timeout(BOUND).unwrap();
        assert_eq!(ticket, Ticket(200));
        assert!(ended.is_err_and(|why| why.contains("has not returned")));
        drop(release);
    }

    #[test]
    fn a_late_answer_is_not_given_twice() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let (pool, answers) = pool(|| NOW.load(Ordering::SeqCst));
        let (release, held) = channel::<()>();
        let (begun, began) = channel();
        pool.submit(call(1, "a", move |_| {
            begun.send(()).unwrap();
            u32::from(held.recv_timeout(BOUND).is_ok())
        }));
        began.recv_timeout(BOUND).unwrap();
        NOW.store(60_000, Ordering::SeqCst);
        pool.reap();
        assert!(answers.recv_timeout(BOUND).unwrap().1.is_err());
        release.send(()).unwrap();
        // The container is free again once its call came back, and only then.
        loop {
            pool.submit(call(2, "a", |_| 5));
            match answers.recv_timeout(BOUND).unwrap() {
                (Ticket(2), Ok(5)) => break,
                (Ticket(2), Err(_)) => std::thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
    }
}
