//! From what is desired to what the shim is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driver_api::{Mark, StepError, files_mark};
use rustix::process::{Resource, getrlimit};
use shim_proto::launch::{
    self, Assembly, Bind, CgroupDirectory, Launch, MountSource as Source, Pair, Root, Tmpfs,
};
use shim_proto::message::PROTOCOL;
use specs::desired::{
    Desired, File, LogMode, Mount, MountSource, NameOrId, Network, Propagation, User,
    UserNamespace, Writable,
};
use specs::id::ProcessName;

use crate::cgroup::Dir;
use crate::error::{During as _, terminal};
use crate::exec::Program;
use crate::places::Places;
use crate::seccomp::Filters;
use crate::{caps, disk};

/// What a launch description is made from, beside the desired container.
pub(crate) struct Sources<'a> {
    pub(crate) places: &'a Places,
    pub(crate) filters: &'a Filters,
    pub(crate) assembly: Assembly,
    pub(crate) boot_id: &'a str,
    pub(crate) now_ms: u64,
    pub(crate) cgroups: Vec<CgroupDirectory>,
    pub(crate) shim_cgroups: Vec<CgroupDirectory>,
}

/// `RLIMIT_*` by lower-case name (`getrlimit(2)`).
const RLIMITS: [(&str, Resource, u32); 16] = [
    ("cpu", Resource::Cpu, libc::RLIMIT_CPU),
    ("fsize", Resource::Fsize, libc::RLIMIT_FSIZE),
    ("data", Resource::Data, libc::RLIMIT_DATA),
    ("stack", Resource::Stack, libc::RLIMIT_STACK),
    ("core", Resource::Core, libc::RLIMIT_CORE),
    ("rss", Resource::Rss, libc::RLIMIT_RSS),
    ("nproc", Resource::Nproc, libc::RLIMIT_NPROC),
    ("nofile", Resource::Nofile, libc::RLIMIT_NOFILE),
    ("memlock", Resource::Memlock, libc::RLIMIT_MEMLOCK),
    ("as", Resource::As, libc::RLIMIT_AS),
    ("locks", Resource::Locks, libc::RLIMIT_LOCKS),
    ("sigpending", Resource::Sigpending, libc::RLIMIT_SIGPENDING),
    ("msgqueue", Resource::Msgqueue, libc::RLIMIT_MSGQUEUE),
    ("nice", Resource::Nice, libc::RLIMIT_NICE),
    ("rtprio", Resource::Rtprio, libc::RLIMIT_RTPRIO),
    ("rttime", Resource::Rttime, libc::RLIMIT_RTTIME),
];

/// Builds the launch description of a life.
///
/// # Errors
/// `Terminal` when what is desired cannot be had on this host.
pub(crate) fn build(
    sources: Sources<'_>,
    mark: &Mark,
    desired: &Desired,
) -> Result<Launch, StepError> {
    let container = &desired.container;
    let security = &container.security;
    let capabilities = caps::resolve(security, caps::own()?)?;
    let user_namespace = match security.user_namespace {
        UserNamespace::Own(range) => Some(launch::IdRange {
            base: range.base,
            count: range.count,
        }),
        UserNamespace::Host => None,
    };
    let is_mapped = user_namespace.is_some();
    let mounts = container
        .mounts
        .iter()
        .map(|wanted| mount(sources.places, wanted, is_mapped))
        .collect::<Result<_, _>>()?;
    Ok(Launch {
        protocol: PROTOCOL,
        instance: mark.instance.to_string(),
        key: mark.key.to_string(),
        incarnation: mark.incarnation.0,
        generation: desired.generation.0,
        container_digest: container.digest().0.to_vec(),
        boot_id: sources.boot_id.to_owned(),
        created_ms: sources.now_ms,
        hostname: container.hostname.clone(),
        user_namespace,
        host_network: container.network == Network::Host,
        root: Some(root(sources.places, mark, desired)?),
        mounts,
        devices: security
            .devices
            .iter()
            .map(|device| device.path.clone())
            .collect(),
        read_only_paths: security.read_only_paths.clone(),
        masked_paths: security.masked_paths.clone(),
        sysctls: security
            .sysctls
            .iter()
            .map(|(name, value)| Pair {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        capabilities,
        seccomp: sources.filters.programs(security, capabilities)?,
        no_new_privileges: security.no_new_privileges,
        privileged: security.privileged,
        cgroups: sources.cgroups,
        shim_cgroups: sources.shim_cgroups,
        files: desired.files.iter().map(file).collect(),
        log_directory: text(&sources.places.logs(&mark.key), "the log directory")?,
        // Whatever the daemon runs under is not meant for containers.
        oom_score_adj: Some(0),
        assembly: sources.assembly.into(),
        isolated: container.network.isolated().is_some(),
        complete: true,
    })
}

/// Returns cgroup directories in the form of the description, version 2 first.
pub(crate) fn directories<'a>(
    dirs: impl Iterator<Item = &'a Dir>,
) -> Result<Vec<CgroupDirectory>, StepError> {
    dirs.map(|dir| {
        Ok(CgroupDirectory {
            path: text(&dir.path, "a cgroup")?,
            unified: dir.unified,
        })
    })
    .collect()
}

/// Builds the description of one process.
///
/// # Errors
/// `Terminal` when a limit is asked for that the daemon may not set.
///
/// `open_files` is what holds where the spec says nothing: what the daemon was started with,
/// which it raised for itself alone.
pub(crate) fn process(
    name: &ProcessName,
    desired: &Desired,
    open_files: Option<(u64, u64)>,
) -> Result<launch::Process, StepError> {
    let Some(process) = desired.processes.get(name) else {
        return Err(StepError::Stale(format!(
            "{} has no process {name}",
            desired.key
        )));
    };
    Ok(launch::Process {
        digest: process.digest().0.to_vec(),
        files: files_mark(desired).0.to_vec(),
        restart_epoch: desired.restart_epoch,
        input: process.has_open_stdin,
        logs: Some(launch::Logs {
            max_bytes: process.logs.max_bytes.0,
            max_files: process.logs.max_files,
            drop: process.logs.mode == LogMode::Drop,
            discard: process.logs.discard,
        }),
        ..command(name.as_str(), &Program::from(process), open_files)?
    })
}

/// Builds the description of what is to be run, whatever becomes of it.
pub(crate) fn command(
    name: &str,
    program: &Program,
    open_files: Option<(u64, u64)>,
) -> Result<launch::Process, StepError> {
    Ok(launch::Process {
        name: name.to_owned(),
        command: program.command.clone(),
        env: program
            .env
            .iter()
            .map(|(name, value)| format!("{name}={}", value.0))
            .collect(),
        user: user(&program.user),
        work_dir: program.work_dir.clone(),
        rlimits: rlimits(name, &program.rlimits, open_files)?,
        ..launch::Process::default()
    })
}

/// Builds the description of one placed file.
pub(crate) fn file(file: &File) -> launch::File {
    launch::File {
        path: file.path.clone(),
        content: file.content.0.clone().into_bytes(),
        mode: file.mode,
        user: user(&file.user),
        digest: file.digest().0.to_vec(),
    }
}

/// Builds the description of one mount.
pub(crate) fn mount(
    places: &Places,
    mount: &Mount,
    id_mapped: bool,
) -> Result<launch::Mount, StepError> {
    let source = match &mount.source {
        MountSource::Bind {
            source,
            recursive,
            propagation,
            beneath,
        } => Source::Bind(Bind {
            source: source.clone(),
            recursive: *recursive,
            slave: *propagation == Propagation::Slave,
            id_mapped,
            beneath: beneath.clone().ok_or_else(|| not_granted(source))?,
        }),
        MountSource::Tmpfs { bytes, mode } => Source::Tmpfs(Tmpfs {
            bytes: bytes.0,
            mode: *mode,
        }),
        MountSource::Volume(name) => Source::Bind(Bind {
            source: text(&places.volumes.join(name.as_str()), "the volume")?,
            recursive: false,
            slave: false,
            id_mapped,
            beneath: text(&places.volumes, "the volumes")?,
        }),
    };
    Ok(launch::Mount {
        path: mount.path.clone(),
        read_only: mount.read_only,
        source: Some(source),
    })
}

fn not_granted(source: &str) -> StepError {
    terminal(
        format!("bind {source}"),
        "the policy grants no directory above it",
        "list one in the policy's `bindRoots`, or remove the mount from the spec",
    )
}

fn root(places: &Places, mark: &Mark, desired: &Desired) -> Result<Root, StepError> {
    let rootfs = &desired.container.rootfs;
    let persistent = rootfs.writable == Writable::Persistent;
    let layers = layers(places, mark, desired);
    let root = Root {
        lower: rootfs.directory.clone(),
        upper: text(&layers.join("upper"), "the upper layer")?,
        work: text(&layers.join("work"), "the work directory")?,
        read_only: rootfs.writable == Writable::None,
        persistent,
        image: String::new(),
    };
    let has_image = disk::has_image(&layers);
    if !has_image.during(|| format!("look for the image of {}", mark.leaf()))? {
        return Ok(root);
    }
    Ok(Root {
        upper: "upper".to_owned(),
        work: "work".to_owned(),
        image: text(&disk::image(&layers), "the image")?,
        ..root
    })
}

/// Returns the directory that an upper layer is in.
pub(crate) fn layers(places: &Places, mark: &Mark, desired: &Desired) -> PathBuf {
    if desired.container.rootfs.writable == Writable::Persistent {
        places.persistent(&mark.key)
    } else {
        places.root(mark)
    }
}

/// Returns the directory that the upper layer of a life made before is in.
pub(crate) fn layers_of(root: &Root) -> PathBuf {
    let inside = if root.image.is_empty() {
        &root.upper
    } else {
        &root.image
    };
    Path::new(inside)
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

fn text(path: &Path, what: &str) -> Result<String, StepError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        terminal(
            format!("name {what}"),
            format!("the path {} is not UTF-8", path.display()),
            "choose another directory in config.yaml",
        )
    })
}

pub(crate) fn user(user: &User) -> String {
    let one = |one: &NameOrId| match one {
        NameOrId::Name(name) => name.clone(),
        NameOrId::Id(id) => id.to_string(),
    };
    match &user.group {
        Some(group) => format!("{}:{}", one(&user.user), one(group)),
        None => one(&user.user),
    }
}

fn rlimits(
    name: &str,
    wanted: &BTreeMap<String, (u64, u64)>,
    open_files: Option<(u64, u64)>,
) -> Result<Vec<launch::Rlimit>, StepError> {
    let can_raise = caps::own()?.effective & caps::bit("SYS_RESOURCE").unwrap_or(0) != 0;
    let mut out = Vec::new();
    for (limit, (soft, hard)) in wanted {
        let what = || format!("set rlimits.{limit} of process {name}");
        let known = RLIMITS.iter().find(|(known, _, _)| known == limit);
        let Some((_, resource, number)) = known else {
            return Err(terminal(
                what(),
                "there is no such limit",
                "see getrlimit(2)",
            ));
        };
        let most = getrlimit(*resource).maximum.unwrap_or(u64::MAX);
        if *hard > most && !can_raise {
            return Err(terminal(
                what(),
                format!("the daemon's own hard limit is {most} and it may not raise it"),
                "start the daemon with CAP_SYS_RESOURCE or a higher limit, or ask for less",
            ));
        }
        out.push(launch::Rlimit {
            resource: *number,
            soft: *soft,
            hard: *hard,
        });
    }
    let is_silent = !wanted.contains_key("nofile");
    let raised = open_files.filter(|_| is_silent);
    out.extend(raised.map(|(soft, hard)| launch::Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft,
        hard,
    }));
    Ok(out)
}

/// Returns whether a description was made from the same container.
pub(crate) fn is_of(launch: &Launch, desired: &Desired) -> bool {
    launch.container_digest == desired.container.digest().0
}

/// Looks at the lower layer: it must be a directory, whose mode the root takes over.
pub(crate) fn lower_mode(desired: &Desired) -> Result<u32, StepError> {
    use std::os::unix::fs::MetadataExt as _;
    let path = &desired.container.rootfs.directory;
    let what = || format!("look at the root file system {path}");
    let hint = "correct spec.rootfs.directory, or make the directory";
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(meta.mode() & 0o7777),
        Ok(_) => Err(terminal(what(), "it is no directory", hint)),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            Err(terminal(what(), "it does not exist", hint))
        }
        Err(err) => Err(err).during(what),
    }
}
