//! What the virtual machine boots: Debian's kernel, a RAM disk that finds the disk, and the
//! disk with the two programs. Nothing of it is installed on this machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::packages::{BUSYBOX, E2FSPROGS};
use crate::say;
use crate::vm::sources;

/// The package that names the newest kernel of this Debian.
const KERNEL: &str = "linux-image-cloud-amd64";
/// In the order they are loaded in: see `tests/vm/init`.
const MODULES: [&str; 7] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "overlay",
];
/// What the packet filter and the pairs of devices are made of; what these need comes along.
const NET_MODULES: [&str; 11] = [
    "veth",
    "nf_tables",
    "nft_ct",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_fib_inet",
    "nft_reject_inet",
    "nft_log",
    "nf_log_syslog",
    "nf_conntrack_netlink",
];
/// What images are mounted with.
const DISK_MODULES: [&str; 1] = ["loop"];
const DISK_BYTES: u64 = 512 << 20;
const APPLETS: [&str; 6] = ["sh", "sleep", "echo", "cat", "true", "sync"];

/// An unpacked kernel.
pub(crate) struct Kernel {
    /// The kernel itself.
    pub(crate) image: PathBuf,
    modules: PathBuf,
}

/// Fetches the kernel's package and unpacks it, once.
pub(crate) fn kernel(place: &Path) -> Result<Kernel> {
    let depends = said(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("{KERNEL} names no kernel"))?
        .to_owned();
    let version = package.trim_start_matches("linux-image-").to_owned();
    let unpacked = place.join(&package);
    let image = unpacked.join("boot").join(format!("vmlinuz-{version}"));
    if !image.exists() {
        say(&format!(
            "fetching Debian package {package} (the kernel; not installed)"
        ));
        let fetched = place.join("fetched");
        again(&fetched)?;
        run(Command::new("apt-get")
            .args(["download", "-q", &package])
            .current_dir(&fetched))?;
        let archive = fs::read_dir(&fetched).context("find the package")?;
        let archive = archive
            .flatten()
            .next()
            .context("nothing was fetched")?
            .path();
        run(Command::new("dpkg").arg("-x").arg(archive).arg(&unpacked))?;
    }
    let modules = unpacked.join("lib/modules").join(version).join("kernel");
    Ok(Kernel { image, modules })
}

/// Makes the RAM disk.
pub(crate) fn ram_disk(place: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let tree = place.join("ram-disk");
    again(&tree)?;
    for name in ["bin", "proc", "dev", "disk", "modules"] {
        make(&tree.join(name))?;
    }
    copy(Path::new(BUSYBOX.file), &tree.join("bin/busybox"))?;
    copy(&sources().join("init"), &tree.join("init"))?;
    for name in MODULES {
        let file = format!("{name}.ko");
        let found = find(&kernel.modules, &file).with_context(|| format!("no module {name}"))?;
        copy(&found, &tree.join("modules").join(file))?;
    }
    let image = place.join("ram-disk.img");
    let names = said(Command::new("find").arg(".").current_dir(&tree))?;
    let list = place.join("ram-disk.list");
    fs::write(&list, names).context("list the RAM disk")?;
    let input = fs::File::open(&list).context("read the list")?;
    let output = fs::File::create(&image).context("make the RAM disk")?;
    let mut archive = Command::new(BUSYBOX.file);
    archive
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(&tree);
    run(archive.stdin(input).stdout(output).stderr(Stdio::null()))?;
    Ok(image)
}

/// Returns modules with all that they need, each after what it needs itself.
fn with_needs(kernel: &Kernel, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    fn add(kernel: &Kernel, name: &str, found: &mut Vec<PathBuf>) -> Result<()> {
        let file = format!("{}.ko", name.replace('-', "_"));
        // The kernel takes both for one; file names do not.
        let other = file.replace('_', "-");
        let path = find(&kernel.modules, &file).or_else(|| find(&kernel.modules, &other));
        let path = path.with_context(|| format!("no module {name}"))?;
        if found.contains(&path) {
            return Ok(());
        }
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        for needed in needs(&bytes) {
            add(kernel, &needed, found)?;
        }
        found.push(path);
        Ok(())
    }
    let mut found = Vec::new();
    for name in wanted {
        add(kernel, name, &mut found)?;
    }
    Ok(found)
}

/// Returns the names that a module says it depends on (`modinfo(8)`, `depends`).
fn needs(module: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"\0depends=";
    let at = module.windows(MARK.len()).position(|bytes| bytes == MARK);
    let rest = at
        .and_then(|at| module.get(at + MARK.len()..))
        .unwrap_or_default();
    let text: Vec<u8> = rest.iter().copied().take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Makes the disk: busybox, the two programs and `mkfs.ext4` with the libraries they need, a
/// small root, and the modules of the network and of images.
pub(crate) fn disk(place: &Path, programs: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let tree = place.join("disk");
    again(&tree)?;
    for name in [
        "bin", "sbin", "proc", "dev", "sys", "run", "tmp", "etc", "var/lib", "var/log",
    ] {
        make(&tree.join(name))?;
    }
    copy(Path::new(BUSYBOX.file), &tree.join("bin/busybox"))?;
    copy(&sources().join("checks"), &tree.join("sbin/checks"))?;
    for name in ["reconciler", "reconciler-shim"] {
        copy(&programs.join(name), &tree.join("bin").join(name))?;
    }
    make(&tree.join("usr/sbin"))?;
    copy(Path::new(E2FSPROGS.file), &tree.join("usr/sbin/mkfs.ext4"))?;
    let needed = said(
        Command::new("ldd")
            .arg(programs.join("reconciler"))
            .arg(E2FSPROGS.file),
    )?;
    for word in needed
        .split_whitespace()
        // With more than one program each has its own name before a colon.
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
    {
        let inside = tree.join(word.trim_start_matches('/'));
        make(inside.parent().context("a library has a folder")?)?;
        copy(Path::new(word), &inside)?;
    }
    net_modules(kernel, &tree.join("lib/net"))?;
    modules(kernel, &DISK_MODULES, &tree.join("lib/disk"))?;
    container_root(&tree.join("srv/rootfs"))?;
    let image = place.join("disk.img");
    format(&image, &tree, DISK_BYTES)?;
    Ok(image)
}

/// Puts the modules of the network into a directory, in the order they are loaded in.
pub(crate) fn net_modules(kernel: &Kernel, place: &Path) -> Result<()> {
    modules(kernel, &NET_MODULES, place)
}

fn modules(kernel: &Kernel, wanted: &[&str], place: &Path) -> Result<()> {
    make(place)?;
    for (at, module) in with_needs(kernel, wanted)?.iter().enumerate() {
        let name = module.file_name().context("a module has a name")?;
        let name = format!("{at:02}-{}", name.to_string_lossy());
        copy(module, &place.join(name))?;
    }
    Ok(())
}

/// Makes the root of the containers.
pub(crate) fn container_root(root: &Path) -> Result<()> {
    for name in ["bin", "dev", "proc", "sys", "etc", "tmp"] {
        make(&root.join(name))?;
    }
    copy(Path::new(BUSYBOX.file), &root.join("bin/busybox"))?;
    for name in APPLETS {
        symlink("busybox", root.join("bin").join(name)).context("link an applet")?;
    }
    Ok(())
}

/// Makes a disk that holds a tree.
pub(crate) fn format(image: &Path, tree: &Path, bytes: u64) -> Result<()> {
    let file = fs::File::create(image).context("make the disk")?;
    file.set_len(bytes).context("size the disk")?;
    run(Command::new(E2FSPROGS.file)
        .args(["-q", "-F", "-d"])
        .arg(tree)
        .arg(image))
}

/// Copies a file with its holes.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to))
}

pub(crate) fn again(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("clear {}", directory.display()))?;
    }
    make(directory)
}

pub(crate) fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name)
        } else {
            (path.file_name()? == name).then_some(path)
        }
    })
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed");
    String::from_utf8(output.stdout).context("it said something that is no text")
}
