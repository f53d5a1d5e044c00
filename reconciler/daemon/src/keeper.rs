//! The keeper: one thread that owns intent and everything that is written.
//!
//! All commits go through it, so a removal, an edit, an order and a record of the core never
//! overtake one another. It may block on the disk; nobody waits for it but those who asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use reconciler_core::io::{NewEvent, Record, Ticket};
use specs::config::Config;
use specs::event::Severity;
use specs::id::{Generation, Incarnation, Key};
use store::model::{Change, EventDraft};
use store::{CommitError, Store};
use tokio::sync::{mpsc, oneshot, watch};

mod config;
mod desk;
mod leave;
mod orders;
mod past;
mod publish;
mod records;
mod round;
mod texts;
mod write;

pub(crate) use desk::Desk;
pub(crate) use past::Past;
pub(crate) use publish::{EntryView, NOTHING, View};
pub(crate) use texts::{Applied, Effect, Preview, Texts};

use crate::clock;
use crate::ledger::Ledger;
use crate::options::Reread;
use crate::overrides::Order;
use crate::profiles::Profiles;
use crate::reading::{Contents, Refusal, Survey};
use crate::recover::Found;
use crate::removal::Removals;
use crate::shell::Message;
use crate::source::directory::Identity;
use crate::watch::Hint;

/// Notes taken into one commit at most.
const BATCH_MAX: usize = 256;
/// How often ages and silent sources are looked at.
const TICK: Duration = Duration::from_secs(1);
/// A person's word about held-back removals holds for so long.
const ALLOWED_MS: u64 = 10_000;
/// Who waits for every directory to be read again is answered after so long in any case.
const READ_MS: u64 = 5_000;
/// A source whose listing has not come for so long says nothing any more.
const SILENT_MS: u64 = 90_000;

/// What the keeper is told.
pub(crate) enum Note {
    /// A directory was listed.
    Survey(Box<Survey>),
    /// The core wants a record made durable.
    Append(Ticket, Record),
    /// The core tells people something.
    Events(Vec<NewEvent>),
    /// A person orders.
    Order(Key, Order, Reply<String>),
    /// A person wants everything read again now, and perhaps lets removals go on.
    Sync(Option<u64>, Reply<String>),
    /// The config was read again, or could not be.
    Config(Result<Reread, String>),
    /// A person wants to know what texts would mean.
    Preview(Texts, oneshot::Sender<Preview>),
    /// A person applies texts.
    Apply(Texts, Reply<Applied>),
    /// A person wants to see what was accepted over time.
    Past(Key, Reply<Vec<Past>>),
    /// A person wants an earlier generation back.
    RollBack(Key, Option<Generation>, u32, Reply<String>),
    /// A person deletes what was applied.
    Delete(Key, u32, Reply<String>),
    /// Nothing more comes.
    Close,
}

/// Where an answer goes: what was done, or why not.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Denied>>;

/// An order or wish that is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// There is no such container.
    Unknown(String),
    /// It cannot be: why, and what to do.
    Conflict(String),
    /// Not now: why.
    Unavailable(String),
}

/// What the keeper begins with.
pub(crate) struct Beginning {
    /// Pools, defaults, policy.
    pub(crate) config: Arc<Config>,
    /// Where those who read texts hear of a new config.
    pub(crate) readers: watch::Sender<Arc<Config>>,
    /// The store.
    pub(crate) store: Arc<Store>,
    /// What it held.
    pub(crate) ledger: Ledger,
    /// Kept seccomp profiles.
    pub(crate) profiles: Profiles,
    /// Where what must outlive us beside the store is kept.
    pub(crate) state: PathBuf,
    /// Watched directories, in order of precedence, and how to hint at each.
    pub(crate) sources: Vec<(PathBuf, Hint)>,
    /// Why nothing may be destroyed until all was compared, if so.
    pub(crate) doubt: Option<String>,
    /// What running containers have that the store may not know.
    pub(crate) found: Found,
    /// Generations seen on the host.
    pub(crate) found_generations: BTreeMap<Key, Generation>,
    /// Nothing on the host escaped the look that found these.
    pub(crate) found_all: bool,
    /// Highest incarnation given out.
    pub(crate) incarnation: Incarnation,
    /// To the pump.
    pub(crate) out: mpsc::Sender<Message>,
}

/// One source as the keeper knows it.
#[derive(Debug)]
struct Known {
    hint: Hint,
    said: Result<Contents, String>,
    at_ms: u64,
    identity: Option<Identity>,
    removals: Removals,
    held: Vec<Key>,
    allowed: Option<(u64, u64)>,
    /// When the present row of whole listings began.
    whole_since_ms: Option<u64>,
    /// It was listed whole twice, with nothing left to settle, since the start.
    was_whole: bool,
    /// A listing came back, whatever it said.
    is_asked: bool,
}

impl Known {
    /// Whether a listing that began later than this has come, and left nothing unsettled.
    fn was_read_since(&self, since_ms: u64) -> bool {
        self.at_ms > since_ms && self.said.as_ref().map_or(true, Contents::is_settled)
    }
}

/// A person who waits until every directory was read again.
struct Waiting {
    /// Listings that began before do not count.
    since_ms: u64,
    message: String,
    reply: Reply<String>,
}

/// The keeper itself.
pub(crate) struct Keeper {
    config: Arc<Config>,
    readers: watch::Sender<Arc<Config>>,
    /// Why the newest config is not the one in force.
    config_error: Option<String>,
    store: Arc<Store>,
    ledger: Ledger,
    profiles: Profiles,
    state: PathBuf,
    sources: BTreeMap<PathBuf, Known>,
    doubt: Option<String>,
    /// A person let go what is on the host and in no spec.
    lets_go: bool,
    found: Found,
    found_generations: BTreeMap<Key, Generation>,
    found_all: bool,
    incarnation: Incarnation,
    refused: BTreeMap<String, Refusal>,
    told: BTreeMap<String, String>,
    store_error: Option<String>,
    again_at_ms: Option<u64>,
    waiting: Vec<Waiting>,
    mode: Option<reconciler_core::io::Mode>,
    out: mpsc::Sender<Message>,
    view: watch::Sender<Arc<View>>,
    commits: watch::Sender<u64>,
}

impl Keeper {
    /// Returns a keeper, what it shows, and the number of its newest commit.
    pub(crate) fn new(with: Beginning) -> (Self, watch::Receiver<Arc<View>>, watch::Receiver<u64>) {
        let (view, shown) = watch::channel(Arc::new(View::default()));
        let (commits, committed) = watch::channel(0);
        let identities = round::read_identities(&with.state);
        let sources = with.sources.into_iter().map(|(path, hint)| {
            let known = Known {
                hint,
                said: Err("it was not listed yet".into()),
                at_ms: clock::boot_ms(),
                identity: identities.get(&path).copied(),
                removals: Removals::default(),
                held: Vec::new(),
                allowed: None,
                whole_since_ms: None,
                was_whole: false,
                is_asked: false,
            };
            (path, known)
        });
        let keeper = Self {
            sources: sources.collect(),
            config: with.config,
            readers: with.readers,
            config_error: None,
            store: with.store,
            ledger: with.ledger,
            profiles: with.profiles,
            state: with.state,
            doubt: with.doubt,
            lets_go: false,
            found: with.found,
            found_generations: with.found_generations,
            found_all: with.found_all,
            incarnation: with.incarnation,
            refused: BTreeMap::new(),
            told: BTreeMap::new(),
            store_error: None,
            again_at_ms: None,
            waiting: Vec::new(),
            mode: None,
            out: with.out,
            view,
            commits,
        };
        (keeper, shown, committed)
    }

    /// Works until closed. The first thing it says is everything it holds.
    pub(crate) fn run(mut self, notes: &Receiver<Note>) {
        self.publish_mode();
        self.publish_intents(self.ledger.entries.keys().cloned().collect());
        self.publish_view();
        self.send(Message::Begin);
        let mut open = true;
        while open {
            let wait = self.again_at_ms.map_or(TICK, |at| {
                TICK.min(Duration::from_millis(at.saturating_sub(clock::boot_ms())))
            });
            let mut notes_now = Vec::new();
            match notes.recv_timeout(wait) {
                Ok(note) => notes_now.push(note),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while notes_now.len() < BATCH_MAX
                && let Ok(note) = notes.try_recv()
            {
                notes_now.push(note);
            }
            open = self.take(notes_now);
        }
    }

    /// Takes notes in their order; records and events next to each other share one commit.
    fn take(&mut self, notes: Vec<Note>) -> bool {
        let mut records: Vec<(Ticket, Record)> = Vec::new();
        let mut events: Vec<NewEvent> = Vec::new();
        let mut look = self.is_due();
        let mut open = true;
        for note in notes {
            match note {
                Note::Append(ticket, record) => records.push((ticket, record)),
                Note::Events(mut more) => events.append(&mut more),
                other => {
                    self.write_records(std::mem::take(&mut records), std::mem::take(&mut events));
                    match other {
                        Note::Survey(survey) => {
                            self.survey(*survey);
                            look = true;
                        }
                        Note::Order(key, order, reply) => self.order(&key, order, reply),
                        Note::Sync(allow, reply) => {
                            self.sync(allow, reply);
                            look = true;
                        }
                        Note::Config(read) => {
                            self.configure(read);
                            look = true;
                        }
                        Note::Preview(texts, reply) => self.preview(texts, reply),
                        Note::Past(key, reply) => drop(reply.send(self.past(&key))),
                        Note::RollBack(key, to, uid, reply) => {
                            drop(reply.send(self.roll_back(&key, to, uid)));
                        }
                        Note::Apply(texts, reply) => drop(reply.send(self.apply_texts(texts))),
                        Note::Delete(key, uid, reply) => {
                            drop(reply.send(self.delete_applied(&key, uid)));
                        }
                        Note::Close => open = false,
                        Note::Append(..) | Note::Events(_) => {}
                    }
                }
            }
        }
        self.write_records(records, events);
        if look {
            self.round();
        }
        self.answer_waiting();
        open
    }

    fn is_due(&self) -> bool {
        let now = clock::now();
        let silent = |known: &Known| {
            known.said.is_ok() && now.boot_ms.saturating_sub(known.at_ms) > SILENT_MS
        };
        self.again_at_ms.is_some_and(|at| at <= now.boot_ms)
            || self.sources.values().any(silent)
            || self.has_expired(now.wall_ms)
    }

    /// Commits; on success the newest number is told.
    fn commit(&mut self, changes: &[Change]) -> Result<(), String> {
        if changes.is_empty() {
            return Ok(());
        }
        match self.store.commit_durable(changes) {
            Ok(committed) => {
                self.store_error = None;
                self.commits.send_replace(committed.revision);
                Ok(())
            }
            Err(err) => {
                let why = crate::errors::chain(&err);
                if matches!(err, CommitError::ReadAgain) {
                    self.read_again();
                }
                tracing::error!(err = why, "the store was not written");
                self.store_error = Some(why.clone());
                self.again_at_ms = Some(clock::boot_ms().saturating_add(5_000));
                Err(why)
            }
        }
    }

    /// Adds a line to the history. What it says also shows in the status; a store that cannot
    /// be written is told of by the next thing that has to be.
    fn tell(&mut self, event: Change) {
        self.commit(&[event]).ok();
    }

    /// The store could be read again only now and holds more than we know.
    fn read_again(&mut self) {
        match self.store.contents() {
            Ok(contents) => {
                self.incarnation = self.incarnation.max(contents.incarnation);
                let found = &self.found;
                self.ledger = Ledger::load(contents, &self.config, &self.profiles, found);
                self.publish_intents(self.ledger.entries.keys().cloned().collect());
            }
            Err(err) => tracing::error!(err = crate::errors::chain(&err), "read the store again"),
        }
    }

    fn send(&self, message: Message) {
        // Closed only while the daemon ends.
        drop(self.out.blocking_send(message));
    }
}

/// Returns an event of the keeper's own.
fn event(
    key: Option<&Key>,
    generation: Generation,
    severity: Severity,
    said: (&str, String),
) -> Change {
    Change::Event(EventDraft {
        at_ms: clock::wall_ms(),
        key: key.cloned(),
        generation,
        severity,
        reason: said.0.to_owned(),
        message: said.1,
    })
}

#[cfg(test)]
#[path = "keeper/tests.rs"]
mod tests;
