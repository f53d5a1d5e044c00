//! The files of the life's directory that the shim reads and writes for itself.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use shim_proto::launch::{Launch, read};
use shim_proto::message::{Failure, Report};

use super::Shim;
use crate::fail::tolerate;
use crate::life::{Arguments, Life};
use crate::{fail, host};

impl Shim {
    pub(super) fn write_files(&self) {
        let report = Report {
            files: self.files.clone(),
            ..Report::default()
        };
        let bytes = prost::Message::encode_to_vec(&report);
        // If it is lost, the daemon sees files it does not know and writes them again.
        tolerate(host::write_whole(&self.life.directory, "files", &bytes));
    }

    pub(super) fn read_files(&mut self) {
        let bytes = std::fs::read(self.life.directory.join("files")).unwrap_or_default();
        let report: Result<Report, _> = prost::Message::decode(bytes.as_slice());
        self.files = report.map(|report| report.files).unwrap_or_default();
    }
}

/// Reads the launch description, and makes sure that it is this life's.
pub(super) fn read_launch(life: &Life) -> Result<Launch, Failure> {
    let what = "read the launch description";
    let path = life.directory.join("launch");
    let length = std::fs::metadata(&path)
        .map_err(|error| fail::terminal(what, error.to_string()))?
        .len();
    if length > shim_proto::launch::LAUNCH_BYTES_MAX as u64 {
        return Err(fail::terminal(what, "it is too long"));
    }
    let bytes = std::fs::read(path).map_err(|error| fail::retry(what, error.to_string()))?;
    let launch = read(&bytes).map_err(|error| fail::terminal(what, error.to_string()))?;
    let me = &life.me;
    if (&launch.instance, &launch.key, launch.incarnation)
        != (&me.instance, &me.key, me.incarnation)
    {
        let cause = format!(
            "it is of {}/{}.{}",
            launch.instance, launch.key, launch.incarnation
        );
        return Err(fail::terminal(what, cause));
    }
    Ok(launch)
}

/// Opens the version 2 cgroup that the shim of a life is to begin in: being made there costs
/// nothing, being moved there some ten milliseconds. None where there is none, or no launch
/// description that says so: then it is moved.
pub(crate) fn birthplace(arguments: &Arguments) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = rustix::fs::open(&arguments.directory, flags, Mode::empty()).ok()?;
    let facts = rustix::fs::fstat(&directory).ok()?;
    if facts.st_uid != 0 || facts.st_mode & 0o077 != 0 {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(&directory, "launch", flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    let most = shim_proto::launch::LAUNCH_BYTES_MAX as u64;
    File::from(file).take(most).read_to_end(&mut bytes).ok()?;
    let launch = read(&bytes).ok()?;
    let is_ours = (&launch.instance, &launch.key, launch.incarnation)
        == (&arguments.instance, &arguments.key, arguments.incarnation);
    let mut all = launch.shim_cgroups.iter();
    let unified = all.find(|at| at.unified && is_ours)?;
    crate::launch::open_cgroup(unified).ok()
}

/// Joins the cgroups of shims; that of version 2 only if it was not `born` there.
pub(super) fn join_own_cgroups(launch: &Launch, born: bool) -> Result<(), Failure> {
    let mut others = launch
        .shim_cgroups
        .iter()
        .filter(|at| !(born && at.unified));
    others.try_for_each(|directory| {
        host::join_cgroup(directory, 0).map_err(|errno| {
            fail::kernel(format!("join the shims' cgroup {}", directory.path), errno)
        })
    })
}

pub(super) fn log_directory(launch: &Launch) -> PathBuf {
    PathBuf::from(&launch.log_directory)
}

/// Lets go of what only the making of the container took.
pub(super) fn without_what_was_used(mut launch: Launch) -> Launch {
    launch.files = Vec::new();
    launch.seccomp = Vec::new();
    launch.mounts = Vec::new();
    launch.sysctls = Vec::new();
    launch.masked_paths = Vec::new();
    launch.read_only_paths = Vec::new();
    launch.devices = Vec::new();
    launch
}
