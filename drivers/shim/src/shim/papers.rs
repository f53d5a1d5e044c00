//! The files of the life's directory that the shim reads and writes for itself.

use std::path::PathBuf;

use shim_proto::launch::{Launch, read};
use shim_proto::message::{Failure, Report};

use super::Shim;
use crate::fail::tolerate;
use crate::life::Life;
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

pub(super) fn join_own_cgroups(launch: &Launch) -> Result<(), Failure> {
    launch.shim_cgroups.iter().try_for_each(|directory| {
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
