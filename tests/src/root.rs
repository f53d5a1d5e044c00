//! A small real root file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Commands that the root's busybox answers to.
const APPLETS: &[&str] = &[
    "sh", "sleep", "echo", "cat", "ls", "httpd", "wget", "id", "env", "touch", "mount", "umount",
    "hostname", "kill", "ps", "seq", "yes", "true", "false", "dd", "date", "grep", "mkdir", "rm",
    "chmod", "chown", "stat", "head", "tail", "wc", "test", "printf", "trap", "ip", "mknod",
    "find", "nc", "ping", "timeout",
];

/// Makes a small real root from the static busybox that Debian ships.
///
/// # Panics
/// When busybox is not installed or the directory can't be filled.
pub(crate) fn make_root(root: &Path) {
    for name in [
        "bin", "etc", "proc", "sys", "dev", "tmp", "run", "var/lib", "root", "data", "www",
    ] {
        fs::create_dir_all(root.join(name)).expect("make a directory of the root");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("copy /bin/busybox; install the package busybox-static");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("link an applet");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("write passwd");
    fs::write(
        root.join("etc/group"),
        "root:x:0:\napp:x:1000:\nextra:x:2000:app\n",
    )
    .expect("write group");
    fs::write(root.join("www/index.html"), "hello from a container\n").expect("write a page");
}
