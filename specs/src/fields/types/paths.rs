//! Paths, and what is said with them.

use super::{Told, one_of};
use crate::diagnostic::{Code, plain};
use crate::parse::faults::Fault;
use crate::parse::tree::Scalar;

/// Longest path the kernel takes, without its end (`path_resolution(7)`, `PATH_MAX`).
const PATH_BYTES_MAX: usize = 4095;

pub(super) fn path(scalar: &Scalar<'_>, code: Code) -> Told {
    let text = &*scalar.text;
    let wrong = if !text.starts_with('/') {
        "is not absolute"
    } else if text == "/" {
        "is the root itself"
    } else if text.len() > PATH_BYTES_MAX {
        "is longer than the kernel takes"
    } else if text.ends_with('/') {
        "has a slash at its end"
    } else if text.split('/').any(|part| part == "..") {
        "has a part `..`"
    } else if text
        .split('/')
        .skip(1)
        .any(|part| part.is_empty() || part == ".")
    {
        "has an empty part or a part `.`"
    } else if text.split('/').any(|part| part.len() > 255) {
        "has a part longer than 255 bytes"
    } else if text.chars().any(char::is_control) {
        "has a control character"
    } else {
        return Ok(());
    };
    let message = format!("the path `{}` {wrong}", plain(text));
    Err(Fault::new(code, message).help(instead(text)))
}

/// What was probably meant, if that is the same path in another spelling.
fn instead(text: &str) -> String {
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let normal = format!("/{}", parts.join("/"));
    let same = !parts.is_empty() && !parts.contains(&"..");
    if same && normal.len() <= 80 && plain(&normal) == normal {
        format!("write `{normal}`")
    } else {
        "write an absolute path such as `/srv/app`".to_owned()
    }
}

pub(super) fn path_or_root(scalar: &Scalar<'_>) -> Told {
    if scalar.text == "/" {
        Ok(())
    } else {
        path(scalar, Code::Path)
    }
}

/// Says whether the path is one of these or lies below one.
pub(crate) fn is_below(path: &str, roots: &[&str]) -> bool {
    roots.iter().any(|root| {
        let rest = path.strip_prefix(root);
        *root == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

pub(super) fn mount_path(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    if text == "/" {
        let message = "nothing may be mounted on the root itself";
        return Err(Fault::new(Code::MountPath, message).help("use `rootfs`"));
    }
    path(scalar, Code::Path)?;
    if is_below(text, &["/proc", "/sys", "/dev"]) && text != "/dev/shm" {
        let message = format!("nothing may be mounted on `{}`", plain(text));
        let help = "choose a path outside of /proc, /sys and /dev";
        return Err(Fault::new(Code::MountPath, message).help(help));
    }
    Ok(())
}

pub(super) fn file_path(scalar: &Scalar<'_>) -> Told {
    path(scalar, Code::Path)?;
    if is_below(&scalar.text, &["/proc", "/sys", "/dev"]) {
        let message = format!("no file may be placed at `{}`", plain(&scalar.text));
        let help = "choose a path outside of /proc, /sys and /dev";
        return Err(Fault::new(Code::FilePath, message).help(help));
    }
    Ok(())
}

pub(super) fn device_path(scalar: &Scalar<'_>) -> Told {
    path(scalar, Code::Path)?;
    let taken = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd"];
    if is_below(&scalar.text, &["/dev"]) && scalar.text != "/dev" && !is_below(&scalar.text, &taken)
    {
        return Ok(());
    }
    let message = format!("`{}` is not the path of a device", plain(&scalar.text));
    Err(Fault::new(Code::Device, message).help("write a path below /dev, such as `/dev/fuse`"))
}

pub(super) fn access(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let known = !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let once = "rwm"
        .chars()
        .all(|letter| text.matches(letter).count() <= 1);
    if known && once {
        return Ok(());
    }
    let message = format!("`{}` is not an access to a device", plain(text));
    Err(Fault::new(Code::Device, message).help("write `r`, `rw` or `rwm`"))
}

pub(super) fn seccomp(scalar: &Scalar<'_>) -> Told {
    match &*scalar.text {
        "default" | "unconfined" => Ok(()),
        text if text.starts_with('/') => path(scalar, Code::Path),
        _ => one_of(scalar, &["default", "unconfined"])
            .map_err(|fault| fault.note("or the absolute path of a profile")),
    }
}
