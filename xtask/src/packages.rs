//! Debian packages that a task needs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A program and the package that brings it.
pub(crate) struct Package {
    /// A file that is there once the package is.
    pub(crate) file: &'static str,
    /// Name of the package.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
}

/// The small root file system of the examples and tests.
pub(crate) const BUSYBOX: Package = Package {
    file: "/bin/busybox",
    name: "busybox-static",
    purpose: "the containers' root",
};
/// Loop images for the power-cut tests of the store, and for `limits.disk`.
pub(crate) const E2FSPROGS: Package = Package {
    file: "/sbin/mkfs.ext4",
    name: "e2fsprogs",
    purpose: "the store's power-cut tests and limits.disk",
};
/// Checkouts under the watcher.
pub(crate) const GIT: Package = Package {
    file: "/usr/bin/git",
    name: "git",
    purpose: "tests of specs synced from Git",
};
/// The leak oracle's look at packet filters, and a second reader of ours.
pub(crate) const NFTABLES: Package = Package {
    file: "/usr/sbin/nft",
    name: "nftables",
    purpose: "the leak oracle's packet filters",
};
/// Networks of the tests' own, and hands that change what is ours.
pub(crate) const IPROUTE2: Package = Package {
    file: "/sbin/ip",
    name: "iproute2",
    purpose: "the tests' own networks",
};
/// A second reader of the connections that the kernel tracks.
pub(crate) const CONNTRACK: Package = Package {
    file: "/usr/sbin/conntrack",
    name: "conntrack",
    purpose: "a look at tracked connections",
};
/// A shell that is told how to complete.
pub(crate) const ZSH: Package = Package {
    file: "/usr/bin/zsh",
    name: "zsh",
    purpose: "the tests of its completion",
};
/// Another.
pub(crate) const FISH: Package = Package {
    file: "/usr/bin/fish",
    name: "fish",
    purpose: "the tests of its completion",
};
/// A second reader of manual pages.
pub(crate) const MANDOC: Package = Package {
    file: "/usr/bin/mandoc",
    name: "mandoc",
    purpose: "the tests of manual pages",
};

/// What users would pick instead, to be measured beside.
pub(crate) const CRUN: Package = Package {
    file: "/usr/bin/crun",
    name: "crun",
    purpose: "a runtime that the benchmark measures beside",
};
/// Another.
pub(crate) const RUNC: Package = Package {
    file: "/usr/sbin/runc",
    name: "runc",
    purpose: "a runtime that the benchmark measures beside",
};
/// The system call filter that both are given.
pub(crate) const FILTER: Package = Package {
    file: "/usr/share/containers/seccomp.json",
    name: "golang-github-containers-common",
    purpose: "the filter of the runtimes that are measured beside",
};

/// The virtual machine.
pub(crate) const QEMU: Package = Package {
    file: "/usr/bin/qemu-system-x86_64",
    name: "qemu-system-x86",
    purpose: "the virtual machine of vm-test",
};

/// A small Debian for the virtual machine.
pub(crate) const MMDEBSTRAP: Package = Package {
    file: "/usr/bin/mmdebstrap",
    name: "mmdebstrap",
    purpose: "the Debian in the virtual machine",
};

/// Installs what is missing, and says so.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages
        .iter()
        .filter(|package| !Path::new(package.file).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        crate::say(&format!(
            "installing Debian package {} ({})",
            package.name, package.purpose
        ));
    }
    let apt = |arguments: &[&str]| -> Result<()> {
        let output = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .context("run apt-get; install the packages named above by hand")?;
        ensure!(
            output.status.success(),
            "apt-get {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    };
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(missing.iter().map(|package| package.name));
    apt(&arguments)
}
