//! The one place that names the Linux driver.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use driver_api::{Deadline, Driver, Wake};
pub(crate) use driver_linux::{
    Attached, Attaching, Command, CopyWay, Copying, Ended, Ends, ExecError, Handle, Program, Room,
    Running, Window, boot_ms, resize,
};
use driver_linux::{CheckResult, HostOptions, LinuxHost, OpenError};
use specs::id::Key;
use specs::usage::ContainerUsage;

use crate::api::wire::Check;
use crate::options::{Assembly, Settings};

/// Runs something in a container; blocks until it runs.
pub(crate) type Exec = Arc<dyn Fn(&Task, Deadline) -> Result<Running, ExecError> + Send + Sync>;

/// Takes part in a process of a container; blocks until it does.
pub(crate) type Attach =
    Arc<dyn Fn(&Attaching, Deadline) -> Result<Attached, ExecError> + Send + Sync>;

/// What is to run in a container, beside its processes.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// A command.
    Command(Command),
    /// A copy of a tree of files.
    Copying(Copying),
}

impl Task {
    /// Returns in which container.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Command(command) => &command.key,
            Self::Copying(copying) => &copying.key,
        }
    }
}

/// Reads what containers use.
pub(crate) type Use = dyn Fn(Option<&Key>) -> io::Result<Vec<ContainerUsage>> + Send + Sync;

/// The host as the shell needs it.
pub(crate) struct Host {
    /// The two verbs.
    pub(crate) driver: Arc<dyn Driver>,
    /// What it can do; blocks.
    pub(crate) doctor: Arc<dyn Fn() -> Vec<Check> + Send + Sync>,
    /// What containers use: one, or all; blocks.
    pub(crate) usage: Arc<Use>,
    /// What it has for containers; blocks.
    pub(crate) room: Arc<dyn Fn() -> Room + Send + Sync>,
    /// Where a container's logs are.
    pub(crate) log_directory: Arc<dyn Fn(&Key) -> PathBuf + Send + Sync>,
    /// Runs commands.
    pub(crate) exec: Exec,
    /// Takes part in processes.
    pub(crate) attach: Attach,
}

/// Opens the host.
///
/// # Errors
/// When the kernel or a directory refuses.
pub(crate) fn open(
    settings: &Settings,
    wake: Arc<dyn Fn(Wake) + Send + Sync>,
) -> Result<Host, OpenError> {
    // The driver's word for it is the number that goes over the wire to the supervisor.
    let assembly: i32 = match settings.assembly {
        Assembly::Auto => 0,
        Assembly::Detached => 1,
        Assembly::Classic => 2,
    };
    let options = HostOptions {
        instance: settings.instance.clone(),
        runtime_dir: settings.runtime.clone(),
        state_dir: settings.state.clone(),
        log_dir: settings.logs.clone(),
        cgroup_parent: settings.cgroup_parent.clone(),
        shim_exe: settings.shim.clone(),
        assembly: assembly.try_into().unwrap_or_default(),
    };
    let host = Arc::new(LinuxHost::open(options, wake)?);
    let (doctor, logs) = (Arc::clone(&host), Arc::clone(&host));
    let (usage, room, exec) = (Arc::clone(&host), Arc::clone(&host), Arc::clone(&host));
    let attach = Arc::clone(&host);
    Ok(Host {
        driver: host,
        doctor: Arc::new(move || doctor.doctor().into_iter().map(check).collect()),
        usage: Arc::new(move |only| usage.usage(only)),
        room: Arc::new(move || room.room()),
        log_directory: Arc::new(move |key| logs.log_directory(key)),
        exec: Arc::new(move |task, deadline| match task {
            Task::Command(command) => exec.exec(command, deadline),
            Task::Copying(copying) => exec.copy(copying, deadline),
        }),
        attach: Arc::new(move |asked, deadline| attach.attach(asked, deadline)),
    })
}

fn check(check: driver_linux::Check) -> Check {
    let result = match check.result {
        CheckResult::Ok => "ok",
        CheckResult::Fallback => "fallback",
        CheckResult::Missing => "missing",
    };
    Check {
        name: check.name,
        result: result.into(),
        detail: check.detail,
        remedy: check.remedy,
    }
}
