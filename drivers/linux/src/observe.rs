//! What the host says is there.

mod network;
pub(crate) mod peek;
mod report;
pub(crate) mod shims;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use driver_api::{
    Cgroup, ContainerObserved, Deadline, Fact, Gap, Init, Life, Mark, MountObserved,
    NetworkObserved, Observed, ProcessId, Scope, Shim, ShimState,
};
use specs::id::Key;

use crate::bundle::Record;
use crate::cgroup::devices::Filter;
use crate::cgroup::layout::Hierarchy;
use crate::cgroup::{self, Group};
use crate::clock::boot_ms;
use crate::error::gap;
use crate::host::LinuxHost;
use crate::{bundle, covers, disk, launch, mounts, process, rootdirs, text};

use network::Table;
use peek::{Peek, peek};
use report::{observe_files, observe_processes};
use shims::Shims;

/// Observes everything in a scope.
pub(crate) fn observe(host: &LinuxHost, scope: &Scope, deadline: Deadline) -> Observed {
    let mut gaps = Vec::new();
    let mut marks = BTreeSet::new();
    let shims = match scope {
        Scope::Host => shims::everywhere(&host.places.instance),
        Scope::Container(key) => shims::of_container(host, key),
    };
    let shims = shims.unwrap_or_else(|gap| {
        gaps.push(gap);
        Shims::new()
    });
    marks.extend(shims.keys().cloned());
    let table = Table::new(host, deadline);
    if matches!(scope, Scope::Host) {
        list_network(host, &table, deadline, &mut marks, &mut gaps);
    }
    list(host, scope, &mut marks, &mut gaps);
    let mut containers: BTreeMap<Key, ContainerObserved> = BTreeMap::new();
    for mark in marks {
        if !is_in(scope, &mark) {
            continue;
        }
        let found = shims.get(&mark).map(Vec::as_slice).unwrap_or_default();
        let life = if boot_ms() > deadline.at_ms {
            too_late(&mark)
        } else {
            observe_life(host, &mark, found, &table, deadline)
        };
        if let Some(life) = life {
            let container = containers.entry(mark.key).or_default();
            container.lives.insert(mark.incarnation, life);
        }
    }
    Observed {
        complete: gaps.is_empty(),
        gaps,
        containers,
    }
}

/// Lists lives by their rules and devices. Of one container neither outlives all else: they
/// are taken away before its runtime directory is.
fn list_network(
    host: &LinuxHost,
    table: &Table<'_>,
    deadline: Deadline,
    marks: &mut BTreeSet<Mark>,
    gaps: &mut Vec<Gap>,
) {
    let instance = &host.places.instance;
    match table.get() {
        Ok(table) => {
            let leaves = table.lives.keys();
            marks.extend(leaves.filter_map(|leaf| Mark::from_leaf(instance, leaf).ok()));
        }
        Err(gap) => gaps.push(gap.clone()),
    }
    match host.links.devices(instance, deadline) {
        Ok(found) => marks.extend(found),
        Err(err) => gaps.push(gap("list the devices of the network", &err)),
    }
}

fn is_in(scope: &Scope, mark: &Mark) -> bool {
    match scope {
        Scope::Host => true,
        Scope::Container(key) => *key == mark.key,
    }
}

/// Lists every place that a mark of the scope can stand in.
fn list(host: &LinuxHost, scope: &Scope, marks: &mut BTreeSet<Mark>, gaps: &mut Vec<Gap>) {
    let key = match scope {
        Scope::Host => None,
        Scope::Container(key) => Some(key),
    };
    for place in [&host.places.runtime, &host.places.ephemeral] {
        let listed = place.check();
        match listed.and_then(|()| host.listings.marks(&place.path, key)) {
            Ok(listed) => marks.extend(listed),
            Err(err) => gaps.push(gap(format!("list {}", place.path.display()), &err)),
        }
    }
    let mut directories = BTreeSet::new();
    for hierarchy in host.layout.used() {
        if let Err(err) = check_mounted(hierarchy) {
            gaps.push(gap(format!("list {}", hierarchy.instance.display()), &err));
            continue;
        }
        directories.insert(hierarchy.instance.clone());
    }
    // Lives of an earlier daemon may stand below another parent than ours: its own group was
    // another one. Their records say where.
    let own = Mark::cgroup_directory(&host.places.instance);
    for mark in marks.iter().filter(|mark| is_in(scope, mark)) {
        if let Record::Known(launch) = bundle::read(&host.places.bundle(mark), &mark.leaf()) {
            let parents = launch
                .cgroups
                .iter()
                .filter_map(|at| Path::new(&at.path).parent());
            let ours = parents.filter(|up| up.file_name().is_some_and(|name| name == own.as_str()));
            directories.extend(ours.map(Path::to_path_buf));
        }
    }
    for directory in directories {
        match host.listings.marks(&directory, key) {
            Ok(listed) => marks.extend(listed),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => gaps.push(gap(format!("list {}", directory.display()), &err)),
        }
    }
}

/// A hierarchy that was unmounted looks like one without groups of ours.
fn check_mounted(hierarchy: &Hierarchy) -> io::Result<()> {
    const MAGIC_V1: u64 = 0x27_e0eb;
    const MAGIC_V2: u64 = 0x6367_7270;
    let magic = rustix::fs::statfs(&hierarchy.mount)?.f_type;
    let wanted = if hierarchy.unified {
        MAGIC_V2
    } else {
        MAGIC_V1
    };
    if u64::try_from(magic).is_ok_and(|magic| magic == wanted) {
        return Ok(());
    }
    Err(io::Error::other(
        "the cgroup hierarchy is not mounted any more",
    ))
}

/// A life that could not be looked at in time.
fn too_late(mark: &Mark) -> Option<Life> {
    fn unknown<T>(mark: &Mark) -> Fact<T> {
        let what = format!("observe {}", mark.leaf());
        Fact::Unknown(Gap {
            what,
            why: "the deadline passed".to_owned(),
        })
    }
    Some(Life {
        bundle: unknown(mark),
        cgroup: unknown(mark),
        root: unknown(mark),
        disk: unknown(mark),
        shim: unknown(mark),
        init: unknown(mark),
        mounts: unknown(mark),
        exposed: unknown(mark),
        loopback_up: unknown(mark),
        network: NetworkObserved {
            link: unknown(mark),
            rules: unknown(mark),
            forwarding: unknown(mark),
        },
        processes: unknown(mark),
        files: unknown(mark),
    })
}

fn observe_life(
    host: &LinuxHost,
    mark: &Mark,
    found: &[ProcessId],
    table: &Table<'_>,
    deadline: Deadline,
) -> Option<Life> {
    let leaf = mark.leaf();
    let directory = host.places.bundle(mark);
    let peek = peek(host, mark, found, deadline);
    let launch = peek.record.launch();
    let layers = launch.and_then(|launch| launch.root.as_ref());
    let layers = layers.map_or_else(|| host.places.root(mark), launch::layers_of);
    let init = observe_init(&peek);
    let (mount_table, is_in_cgroup) = match &init {
        Fact::Known((id, _)) => (
            observe_mounts(*id, &leaf),
            in_cgroup(*id, &peek.group, &leaf),
        ),
        Fact::Absent => (Fact::Absent, Ok(false)),
        Fact::Unknown(gap) => (Fact::Unknown(gap.clone()), Ok(false)),
    };
    let loopback_up = match (&init, launch) {
        (Fact::Known((id, _)), Some(launch)) if !launch.host_network => {
            host.links.loopback_up(*id, &leaf, deadline)
        }
        (Fact::Unknown(gap), _) => Fact::Unknown(gap.clone()),
        _ => Fact::Absent,
    };
    let connection = match launch {
        // Neither devices nor rules were ever made for it.
        Some(launch) if !launch.isolated => NetworkObserved::ABSENT,
        launch => {
            let id = init.known().map(|(id, _)| *id);
            network::observe(host, (mark, id), launch.is_some(), table, deadline)
        }
    };
    let exposed = match (&init, launch, &mount_table) {
        (Fact::Known((id, _)), Some(launch), Fact::Known(mounts)) => {
            covers::exposed(launch, *id, mounts, &leaf)
        }
        (_, _, Fact::Unknown(gap)) => Fact::Unknown(gap.clone()),
        _ => Fact::Absent,
    };
    let init = finish_init(init, is_in_cgroup, &mount_table);
    let life = Life {
        bundle: peek.record.fact(&directory, mark, &host.boot_id),
        cgroup: observe_cgroup(host, &peek, &directory, &leaf),
        root: rootdirs::observe(&host.places, mark, &layers),
        disk: disk::observe(&layers, &leaf),
        shim: peek.shim.clone().map(|id| Shim {
            id,
            state: match &peek.report {
                None => ShimState::Silent,
                Some(report) if report.init.is_none() => ShimState::Idle,
                Some(_) => ShimState::Working,
            },
        }),
        mounts: mount_table,
        exposed,
        loopback_up,
        network: connection,
        processes: observe_processes(&peek, &directory, &leaf),
        files: observe_files(&peek, &leaf),
        init,
    };
    let live_init = peek.init.known().copied();
    host.wakes
        .watch(mark, peek.shim.known().copied(), live_init, &peek.group);
    let nothing = life.bundle.is_absent()
        && life.cgroup.is_absent()
        && life.root.is_absent()
        && life.shim.is_absent()
        && life.init.is_absent()
        && life.network.rules.is_absent()
        && life.network.link.is_absent();
    (!nothing).then_some(life)
}

/// Puts together what is known of the init. Without a shim to ask, a root of its own is what
/// tells one that was finished.
fn finish_init(
    init: Fact<(ProcessId, Option<bool>)>,
    is_in_cgroup: Result<bool, Gap>,
    mounts: &Fact<BTreeMap<String, MountObserved>>,
) -> Fact<Init> {
    let root = mounts.known().and_then(|table| table.get("/"));
    let has_root = root.is_some_and(|root| root.fs_type == "overlay");
    match (init, is_in_cgroup) {
        (Fact::Known((id, ready)), Ok(in_cgroup)) => Fact::Known(Init {
            id,
            ready: ready.unwrap_or(has_root),
            in_cgroup,
        }),
        (Fact::Known(_), Err(gap)) | (Fact::Unknown(gap), _) => Fact::Unknown(gap),
        (Fact::Absent, _) => Fact::Absent,
    }
}

/// The init and, if its shim told, whether it is ready.
fn observe_init(peek: &Peek) -> Fact<(ProcessId, Option<bool>)> {
    let told = peek.report.as_ref().and_then(|report| report.init);
    peek.init
        .clone()
        .map(|id| (id, told.map(|init| init.ready)))
}

fn in_cgroup(id: ProcessId, group: &Group, leaf: &str) -> Result<bool, Gap> {
    let what = || format!("read the cgroups of the init of {leaf}");
    let found = text::read(&process::proc_path(id.pid, "cgroup"));
    let found = found.map_err(|err| gap(what(), &err))?.unwrap_or_default();
    cgroup::observe::holds(group, &found).map_err(|err| gap(what(), &err))
}

fn observe_mounts(id: ProcessId, leaf: &str) -> Fact<BTreeMap<String, MountObserved>> {
    let what = || format!("read the mounts of {leaf}");
    let table = match text::read(&process::proc_path(id.pid, "mountinfo")) {
        Ok(Some(table)) => table,
        Ok(None) => return Fact::Absent,
        // What the kernel says for a process that just ended.
        Err(err) if err.raw_os_error() == Some(libc::EINVAL) => return Fact::Absent,
        Err(err) => return Fact::Unknown(gap(what(), &err)),
    };
    match mounts::parse(&table) {
        Ok(lines) => Fact::Known(mounts::by_path(lines)),
        Err(why) => Fact::Unknown(Gap { what: what(), why }),
    }
}

fn observe_cgroup(host: &LinuxHost, peek: &Peek, directory: &Path, leaf: &str) -> Fact<Cgroup> {
    let recorded = cgroup::record::read(directory);
    let is_filtered = match (&peek.record, Filter::read(directory)) {
        (Record::Absent, _) => Ok(true),
        (_, Ok(Some(filter))) => host.devices.is_applied(&peek.group, leaf, &filter),
        (_, Ok(None)) => Err(Gap {
            what: format!("read which devices {leaf} may use"),
            why: "the record is gone from its runtime directory".to_owned(),
        }),
        (_, Err(err)) => Err(gap(format!("read which devices {leaf} may use"), &err)),
    };
    cgroup::observe::observe(&peek.group, leaf, recorded.as_ref(), is_filtered)
}
