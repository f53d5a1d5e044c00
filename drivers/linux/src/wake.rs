//! Hints to look again: one thread that waits for processes, shims, cgroup files, mount tables
//! and the network. Losing any of it costs no more than waiting for the next resync.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::{Mark, ProcessId, Wake, WakeReason};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use rustix::event::{EventfdFlags, epoll, eventfd};
use specs::id::{Instance, Key};

use crate::cgroup::Group;
use crate::process;

mod connection;
mod network;

use network::Network;

/// Most descriptors and most watched files; what is beyond is seen at the next resync.
const WATCHED_MAX: usize = 65_536;
/// Events taken in one turn.
const EVENTS_MAX: usize = 128;
/// The descriptor that ends the thread.
const TOKEN_END: u64 = 0;
/// The inotify descriptor.
const TOKEN_FILES: u64 = 1;
/// A connection on which an answer is waited for.
const TOKEN_NOBODY: u64 = 2;
/// Changes of devices, addresses and routes.
const TOKEN_LINKS: u64 = 3;
/// Changes of the packet filter.
const TOKEN_FILTER: u64 = 4;
/// The first that is given out.
const TOKEN_FIRST: u64 = 5;

/// Files of a group whose change is worth a look: limits that somebody else may write.
const FILES: [&str; 14] = [
    "cgroup.events",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.events",
    "cpu.max",
    "cpu.weight",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
    "cpuset.cpus",
    "pids.max",
];

/// What is watched for one life.
#[derive(Debug, Default)]
struct Watched {
    shim: Option<(ProcessId, OwnedFd)>,
    init: Option<(ProcessId, OwnedFd)>,
    mounts: Option<(ProcessId, File)>,
    /// Directories whose files are watched, by path and inode: one that was made again under
    /// its name is another.
    groups: BTreeMap<(PathBuf, u64), Vec<WatchDescriptor>>,
    tokens: Vec<u64>,
}

#[derive(Debug, Default)]
struct Table {
    lives: BTreeMap<Mark, Watched>,
    tokens: BTreeMap<u64, (Mark, WakeReason)>,
    files: BTreeMap<WatchDescriptor, Mark>,
    /// Host ends of the lives, by name.
    devices: BTreeMap<String, Key>,
    next: u64,
}

struct Shared {
    table: Mutex<Table>,
    poll: OwnedFd,
    end: OwnedFd,
    inotify: Inotify,
    is_ending: AtomicBool,
    wake: Arc<dyn Fn(Wake) + Send + Sync>,
}

/// The thread and what it waits for.
pub(crate) struct Wakes {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self, key: Option<Key>, reason: WakeReason) {
        (self.wake)(Wake { key, reason });
    }
}

impl Wakes {
    /// Starts the thread; the network it listens to is that of the calling thread.
    pub(crate) fn start(
        instance: &Instance,
        wake: Arc<dyn Fn(Wake) + Send + Sync>,
    ) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&poll, &end, epoll::EventData::new_u64(TOKEN_END), flags)?;
        let files = epoll::EventData::new_u64(TOKEN_FILES);
        epoll::add(&poll, inotify.as_fd(), files, flags)?;
        let mut network = Network::open(instance);
        network.listen(&poll);
        let table = Mutex::new(Table {
            next: TOKEN_FIRST,
            ..Table::default()
        });
        let is_ending = AtomicBool::new(false);
        let shared = Arc::new(Shared {
            table,
            poll,
            end,
            inotify,
            is_ending,
            wake,
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wake".to_owned())
            .spawn(move || run(&of_thread, &mut network))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Watches what was just observed of a life; what is watched already stays.
    pub(crate) fn watch(
        &self,
        mark: &Mark,
        shim: Option<ProcessId>,
        init: Option<ProcessId>,
        group: &Group,
    ) {
        let mut table = self.shared.table();
        let mut life = table.lives.remove(mark).unwrap_or_default();
        let table_ref = &mut *table;
        if life.shim.as_ref().map(|(id, _)| *id) != shim {
            life.shim = shim.and_then(|id| {
                self.process(table_ref, &mut life.tokens, mark, id, WakeReason::ShimGone)
            });
        }
        if life.init.as_ref().map(|(id, _)| *id) != init {
            life.init = init.and_then(|id| {
                self.process(table_ref, &mut life.tokens, mark, id, WakeReason::InitGone)
            });
            life.mounts = init.and_then(|id| self.mounts(table_ref, &mut life.tokens, mark, id));
        }
        let mut present = Vec::new();
        for dir in &group.dirs {
            let Some(inode) = inode(&dir.path) else {
                continue;
            };
            let at = (dir.path.clone(), inode);
            if !life.groups.contains_key(&at) {
                let watches = self.files(table_ref, mark, &dir.path);
                life.groups.insert(at.clone(), watches);
            }
            present.push(at);
            // Told twice is told once, so this costs a call and needs no memory. A removed
            // group says nothing itself, its parent does.
            if let Some(up) = dir.path.parent() {
                let _resync = self.shared.inotify.add_watch(up, AddWatchFlags::IN_DELETE);
            }
        }
        life.groups.retain(|at, _| present.contains(at));
        if life.shim.is_some() || life.init.is_some() || !life.groups.is_empty() {
            table.lives.insert(mark.clone(), life);
            table.devices.insert(mark.device(), mark.key.clone());
        } else {
            forget_tokens(&mut table, &life.tokens);
            table.devices.remove(&mark.device());
        }
    }

    /// Forgets a life that is over.
    pub(crate) fn forget(&self, mark: &Mark) {
        let mut table = self.shared.table();
        table.devices.remove(&mark.device());
        if let Some(life) = table.lives.remove(mark) {
            forget_tokens(&mut table, &life.tokens);
            for watch in life.groups.into_values().flatten() {
                // Gone with its file, most likely.
                let _gone = self.shared.inotify.rm_watch(watch);
            }
            table.files.retain(|_, of| of != mark);
        }
    }

    fn process(
        &self,
        table: &mut Table,
        tokens: &mut Vec<u64>,
        mark: &Mark,
        id: ProcessId,
        reason: WakeReason,
    ) -> Option<(ProcessId, OwnedFd)> {
        let fd = process::open(id).ok()??;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let token = take_token(table, mark, reason)?;
        epoll::add(
            &self.shared.poll,
            &fd,
            epoll::EventData::new_u64(token),
            flags,
        )
        .ok()?;
        tokens.push(token);
        Some((id, fd))
    }

    /// A mount table says so when it changes (`proc_pid_mountinfo(5)`, `POLLPRI`).
    fn mounts(
        &self,
        table: &mut Table,
        tokens: &mut Vec<u64>,
        mark: &Mark,
        id: ProcessId,
    ) -> Option<(ProcessId, File)> {
        let file = File::open(process::proc_path(id.pid, "mountinfo")).ok()?;
        let flags = epoll::EventFlags::PRI | epoll::EventFlags::ET;
        let token = take_token(table, mark, WakeReason::Mount)?;
        epoll::add(
            &self.shared.poll,
            &file,
            epoll::EventData::new_u64(token),
            flags,
        )
        .ok()?;
        tokens.push(token);
        Some((id, file))
    }

    fn files(&self, table: &mut Table, mark: &Mark, directory: &Path) -> Vec<WatchDescriptor> {
        let mut watches = Vec::new();
        let files = FILES
            .iter()
            .map(|name| directory.join(name))
            .filter(|path| path.exists());
        for path in files {
            if table.files.len() >= WATCHED_MAX {
                break;
            }
            if let Ok(watch) = self
                .shared
                .inotify
                .add_watch(&path, AddWatchFlags::IN_MODIFY)
            {
                table.files.insert(watch, mark.clone());
                watches.push(watch);
            }
        }
        watches
    }
}

impl std::fmt::Debug for Wakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wakes").finish_non_exhaustive()
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        // The counter cannot be full: it is written once.
        let _woken = rustix::io::write(&self.shared.end, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path)
        .ok()
        .filter(|meta| meta.is_dir())
        .map(|meta| meta.ino())
}

fn take_token(table: &mut Table, mark: &Mark, reason: WakeReason) -> Option<u64> {
    if table.tokens.len() >= WATCHED_MAX {
        return None;
    }
    let token = table.next;
    table.next += 1;
    table.tokens.insert(token, (mark.clone(), reason));
    Some(token)
}

fn forget_tokens(table: &mut Table, tokens: &[u64]) {
    for token in tokens {
        table.tokens.remove(token);
    }
}

fn run(shared: &Shared, network: &mut Network) {
    let mut events = Vec::with_capacity(EVENTS_MAX);
    while !shared.is_ending.load(Ordering::Acquire) {
        events.clear();
        let waited = epoll::wait(
            &shared.poll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        );
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Nothing else can happen with a descriptor of ours; without hints the resync
            // still looks.
            Err(_) => return,
        }
        let mut hints: Vec<(Option<Key>, WakeReason)> = Vec::new();
        for event in &events {
            match event.data.u64() {
                TOKEN_END => return,
                TOKEN_FILES => files(shared, &mut hints),
                TOKEN_LINKS => network.links(shared, &mut hints),
                TOKEN_FILTER => network.filter(&mut hints),
                token => {
                    let found = shared.table().tokens.get(&token).cloned();
                    hints.extend(found.map(|(mark, reason)| (Some(mark.key), reason)));
                }
            }
        }
        hints.sort();
        hints.dedup();
        for (key, reason) in hints {
            shared.hint(key, reason);
        }
    }
}

fn files(shared: &Shared, hints: &mut Vec<(Option<Key>, WakeReason)>) {
    // Non-blocking; EAGAIN when another turn took them.
    let Ok(events) = shared.inotify.read_events() else {
        return;
    };
    let mut table = shared.table();
    for event in events {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            hints.push((None, WakeReason::Overflow));
            continue;
        }
        let watch = event.wd;
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            table.files.remove(&watch);
            continue;
        }
        if event.mask.contains(AddWatchFlags::IN_DELETE) {
            let name = event.name.as_ref().and_then(|name| name.to_str());
            let key = name.and_then(|name| Key::new(name.split_once('.')?.0).ok());
            hints.extend(key.map(|key| (Some(key), WakeReason::Cgroup)));
            continue;
        }
        if let Some(mark) = table.files.get(&watch) {
            hints.push((Some(mark.key.clone()), WakeReason::Cgroup));
        }
    }
}
