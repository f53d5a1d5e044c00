//! Names of all kinds, and texts that go with them.

use super::Told;
use crate::diagnostic::{Code, closest, plain};
use crate::id::Key;
use crate::parse::faults::Fault;
use crate::parse::tree::Scalar;
use crate::resolve::capability;

pub(super) fn name(scalar: &Scalar<'_>) -> Told {
    Key::new(&*scalar.text).map(|_| ()).map_err(|err| {
        let message = format!("`{}`: {err}", plain(&scalar.text));
        Fault::new(Code::Name, message).help("write for example `web` or `web-1`")
    })
}

fn label_word(text: &str, most: usize, extra: &[u8]) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= most
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
}

pub(super) fn label_key(scalar: &Scalar<'_>) -> Told {
    if label_word(&scalar.text, 128, b"._/-") {
        return Ok(());
    }
    let message = format!("`{}` cannot be the key of a label", plain(&scalar.text));
    Err(Fault::new(Code::Label, message).help("write for example `app` or `example.org/team`"))
}

pub(super) fn label_value(scalar: &Scalar<'_>) -> Told {
    if scalar.text.is_empty() || label_word(&scalar.text, 63, b"._-") {
        return Ok(());
    }
    let message = format!("`{}` cannot be the value of a label", plain(&scalar.text));
    Err(Fault::new(Code::Label, message).help("put free text into `annotations`"))
}

pub(super) fn hostname(scalar: &Scalar<'_>) -> Told {
    let fits = scalar.text.len() <= 64;
    if fits && scalar.text.split('.').all(|label| Key::new(label).is_ok()) {
        return Ok(());
    }
    let message = format!("`{}` is not a host name", plain(&scalar.text));
    Err(Fault::new(Code::HostName, message).help("write for example `web` or `web.example.org`"))
}

pub(super) fn env_name(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = text.starts_with(|c: char| !c.is_ascii_digit());
    if first && text.len() <= 256 && text.bytes().all(sane) {
        return Ok(());
    }
    let message = format!("`{}` cannot be the name of a variable", plain(text));
    Err(Fault::new(Code::EnvName, message).help("write for example `LOG_LEVEL`"))
}

pub(super) fn sysctl_name(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let part = |part: &str| {
        let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        !part.is_empty() && part.bytes().all(sane)
    };
    let well_formed = text.len() <= 256 && text.split('.').all(part);
    let own = text == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue.", "net."]
            .iter()
            .any(|own| text.starts_with(own));
    if well_formed && own {
        return Ok(());
    }
    let message = format!(
        "`{}` is not a kernel setting of the container's own",
        plain(text)
    );
    let help = if text.contains('/') {
        "write dots between the parts"
    } else {
        "kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* and net.* can be set"
    };
    Err(Fault::new(Code::Sysctl, message).help(help))
}

pub(super) fn sysctl_pattern(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let stem = text.strip_suffix('*').unwrap_or(text);
    if !text.is_empty() && text.len() <= 256 && stem.bytes().all(sane) {
        return Ok(());
    }
    let message = format!("`{}` is not a kernel setting", plain(text));
    Err(Fault::new(Code::Sysctl, message).help("write for example `net.core.*`, in quotes"))
}

pub(super) fn sysctl_value(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let shown = |c: char| c == '\t' || (' '..='~').contains(&c);
    if !text.is_empty() && text.len() <= 256 && text.chars().all(shown) {
        return Ok(());
    }
    let message = format!("`{}` cannot be the value of a kernel setting", plain(text));
    Err(Fault::new(Code::TextShape, message)
        .help("write 1 to 256 printable characters on one line"))
}

pub(super) fn capabilities(scalar: &Scalar<'_>, all: bool) -> Told {
    if (all && scalar.text == "ALL") || capability::canonical(&scalar.text).is_some() {
        return Ok(());
    }
    let upper = scalar.text.to_ascii_uppercase();
    let upper = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let help = match closest(upper, capability::NAMES.iter().copied()) {
        _ if upper == "ALL" => "`ALL` can only be dropped; name each one that is needed".to_owned(),
        Some(name) => format!("did you mean `{name}`?"),
        None => "write a name as in capabilities(7), such as `NET_ADMIN`".to_owned(),
    };
    let message = format!("`{}` is not a capability", plain(&scalar.text));
    Err(Fault::new(Code::Capability, message).help(help))
}
