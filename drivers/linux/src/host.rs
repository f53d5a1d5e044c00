//! The host: the driver put together from its parts.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use driver_api::{Deadline, Driver, Mark, Observed, Outcome, Scope, Step, StepError, Wake};
use rustix::fs::{MemfdFlags, SealFlags};
use shim_proto::launch::Assembly;
use specs::id::{Instance, Key};

use crate::cgroup::devices::Devices;
use crate::cgroup::layout::{Layout, LayoutError};
use crate::clients::Clients;
use crate::doctor::{self, Check};
use crate::links::Links;
use crate::listings::Listings;
use crate::nft::Firewall;
use crate::observe::shims::Roll;
use crate::places::Places;
use crate::ports::Ports;
use crate::seccomp::Filters;
use crate::wake::Wakes;
use crate::{bundle, clock};

/// What a host is opened with.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Name of this daemon; part of every mark.
    pub instance: Instance,
    /// Runtime directory, gone after a reboot, for example `/run/reconciler`.
    pub runtime_dir: PathBuf,
    /// State directory: upper layers and volumes.
    pub state_dir: PathBuf,
    /// Directory of the log files.
    pub log_dir: PathBuf,
    /// Where in each cgroup hierarchy ours are made; none: below the daemon's own group, so
    /// that its limits hold for the containers too.
    pub cgroup_parent: Option<String>,
    /// The shim's binary, read once.
    pub shim_exe: PathBuf,
    /// How roots are put together.
    pub assembly: Assembly,
}

/// A host that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The boot id could not be read.
    #[error("read the boot id")]
    Boot(#[source] io::Error),
    /// A directory of ours could not be made.
    #[error("make the directories of instance {instance}")]
    Places {
        /// Whose.
        instance: Instance,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup hierarchies could not be made out.
    #[error("find the cgroup hierarchies")]
    Cgroups(#[source] CgroupsError),
    /// The shim's binary could not be taken in.
    #[error("read the shim {}", path.display())]
    Shim {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread that waits for hints, or the netlink runtime, could not be started.
    #[error("start waiting for events")]
    Events(#[source] io::Error),
}

/// Why the cgroup hierarchies could not be made out.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CgroupsError(#[from] LayoutError);

/// The real host.
///
/// *Guarantees:* no decision rests on what it remembers; what it keeps are open connections,
/// compiled filters, held ports and watches, each of which can be lost without harm.
pub struct LinuxHost {
    pub(crate) places: Places,
    pub(crate) layout: Layout,
    pub(crate) boot_id: String,
    pub(crate) assembly: Assembly,
    pub(crate) shim: OwnedFd,
    pub(crate) filters: Filters,
    pub(crate) devices: Devices,
    pub(crate) links: Links,
    pub(crate) firewall: Firewall,
    pub(crate) ports: Ports,
    pub(crate) clients: Clients,
    pub(crate) shims: Roll,
    pub(crate) listings: Listings,
    pub(crate) wakes: Wakes,
    /// Soft and hard limit of open files as they were before this process raised its own.
    pub(crate) open_files: Option<(u64, u64)>,
    /// Held for reading while groups are made and shims join theirs, for writing while empty
    /// directories of the instance are taken away.
    parents: RwLock<()>,
    /// Held by whoever takes those away: one that finds another at it waits, and then sees what
    /// the other could not yet.
    pruning: Mutex<()>,
    options: HostOptions,
}

impl fmt::Debug for LinuxHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxHost")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl LinuxHost {
    /// Opens the host: makes the instance's directories, finds the cgroups, reads the shim
    /// and starts waiting for events.
    ///
    /// # Errors
    /// When one of these can't be done.
    pub fn open(
        options: HostOptions,
        wake: Arc<dyn Fn(Wake) + Send + Sync>,
    ) -> Result<Self, OpenError> {
        let instance = options.instance.clone();
        let failed = |source| OpenError::Places {
            instance: options.instance.clone(),
            source,
        };
        let places = Places::prepare(
            &instance,
            &options.runtime_dir,
            &options.state_dir,
            &options.log_dir,
        )
        .map_err(failed)?;
        bundle::sweep(&places).map_err(failed)?;
        let layout = Layout::discover(&instance, options.cgroup_parent.as_deref())
            .map_err(|err| OpenError::Cgroups(CgroupsError(err)))?;
        let shim = seal(&options.shim_exe).map_err(|source| OpenError::Shim {
            path: options.shim_exe.clone(),
            source,
        })?;
        Ok(Self {
            boot_id: clock::boot_id().map_err(OpenError::Boot)?,
            assembly: options.assembly,
            shim,
            filters: Filters::default(),
            devices: Devices::default(),
            firewall: Firewall::new(&instance),
            ports: Ports::default(),
            links: Links::new().map_err(OpenError::Events)?,
            clients: Clients::default(),
            shims: Roll::default(),
            listings: Listings::new(&instance),
            wakes: Wakes::start(&instance, wake).map_err(OpenError::Events)?,
            open_files: raise_open_files(),
            parents: RwLock::new(()),
            pruning: Mutex::new(()),
            places,
            layout,
            options,
        })
    }

    /// Asks the host what it can do.
    pub fn doctor(&self) -> Vec<Check> {
        let state = &self.options.state_dir;
        doctor::checks(&self.layout, state, &self.places, &self.firewall)
    }

    /// Returns the directory of a key's log files.
    pub fn log_directory(&self, key: &Key) -> PathBuf {
        self.places.logs(key)
    }

    /// Returns the mark of a life.
    pub(crate) fn mark(&self, step: &Step) -> Mark {
        Mark {
            instance: self.places.instance.clone(),
            key: step.key.clone(),
            incarnation: step.incarnation,
        }
    }

    /// Does something that needs the instance's cgroup directories to stay.
    pub(crate) fn with_parents<T>(&self, act: impl FnOnce() -> T) -> T {
        let _held = self.parents.read().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    /// Takes away the instance's own cgroup directories if they are empty. While groups are made
    /// they stay: whoever removes such a group takes them away.
    pub(crate) fn prune_parents(&self) {
        let _alone = self.pruning.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(_held) = self.parents.try_write() else {
            return;
        };
        for hierarchy in self.layout.used() {
            // Not empty or not there: both are fine, the next removal tries again.
            let _shims = std::fs::remove_dir(hierarchy.shims());
            let _instance = std::fs::remove_dir(&hierarchy.instance);
        }
    }
}

impl Driver for LinuxHost {
    fn observe(&self, scope: &Scope, deadline: Deadline) -> Observed {
        crate::observe::observe(self, scope, deadline)
    }

    fn execute(&self, step: &Step, deadline: Deadline) -> Result<Outcome, StepError> {
        crate::execute::execute(self, step, deadline)
    }
}

/// Lets this process open as many files as it may: a container costs it a handful, and what it
/// was started with (1024 as a rule) would do for some two hundred. Returns what was before;
/// none if that could not be changed, or was no less.
fn raise_open_files() -> Option<(u64, u64)> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let hard = before.maximum.unwrap_or(u64::MAX);
    let soft = before.current.filter(|soft| *soft < hard)?;
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, raised).ok()?;
    Some((soft, hard))
}

/// Name of the memory file that shims are executed from.
pub(crate) const SHIM_NAME: &str = "reconciler-shim";

/// Copies the shim's binary into memory that nobody can change: an upgrade of the file on
/// disk then cannot mix two releases, and no shim can write to its own binary.
fn seal(path: &Path) -> io::Result<OwnedFd> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC is known since 6.3, and needed where vm.memfd_noexec is set.
    let memory = rustix::fs::memfd_create(SHIM_NAME, flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(SHIM_NAME, flags))?;
    let mut memory = File::from(memory);
    memory.write_all(&bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(memory.as_fd(), seals)?;
    Ok(memory.into())
}
