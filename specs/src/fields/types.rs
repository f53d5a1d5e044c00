//! What single values may be. Each check says in one sentence what is wrong and what to
//! write instead.

mod names;
mod network;
mod paths;

use std::str::FromStr;

use super::Type;
use crate::desired::{NameOrId, OnChange, User};
use crate::diagnostic::{Code, closest, plain};
use crate::parse::faults::Fault;
use crate::parse::tree::Scalar;
use crate::units::{
    Bytes, Count, CpuSet, Inodes, Micros, MilliCpu, Millis, Mode, Seconds, Signal, SoftHard,
    UnitError,
};

use names::*;
use network::*;
pub(crate) use paths::is_below;
use paths::*;

type Told = Result<(), Fault>;

pub(super) const NAME: Type = Type::Read("name", name);
pub(super) const LABEL_KEY: Type = Type::Read("label key", label_key);
pub(super) const LABEL_VALUE: Type = Type::Read("label value", label_value);
pub(super) const TEXT: Type = Type::Read("text", text);
pub(super) const CONTENT: Type = Type::Read("text", |_| Ok(()));
pub(super) const HOSTNAME: Type = Type::Read("host name", hostname);
pub(super) const PATH: Type = Type::Read("path", |scalar| path(scalar, Code::Path));
pub(super) const PATH_OR_ROOT: Type = Type::Read("path", path_or_root);
pub(super) const MOUNT_PATH: Type = Type::Read("path", mount_path);
pub(super) const FILE_PATH: Type = Type::Read("path", file_path);
pub(super) const DEVICE_PATH: Type = Type::Read("path below /dev", device_path);
pub(super) const ACCESS: Type = Type::Read("access", access);
pub(super) const ENV_NAME: Type = Type::Read("variable", env_name);
pub(super) const ENV_VALUE: Type = Type::Read("text", text);
pub(super) const SYSCTL_NAME: Type = Type::Read("kernel setting", sysctl_name);
pub(super) const SYSCTL_VALUE: Type = Type::Read("text", sysctl_value);
pub(super) const CAPABILITY: Type = Type::Read("capability", |scalar| capabilities(scalar, false));
pub(super) const CAPABILITY_OR_ALL: Type =
    Type::Read("capability or ALL", |scalar| capabilities(scalar, true));
pub(super) const SECCOMP: Type = Type::Read("default, unconfined or a path", seccomp);
pub(super) const SIZE: Type = Type::Read("size", quantity::<Bytes>);
pub(super) const MEMORY: Type = Type::Read("size", |scalar| size_from(scalar, Bytes(1 << 20)));
pub(super) const TMPFS_SIZE: Type = Type::Read("size", |scalar| size_from(scalar, Bytes(4096)));
/// Less does not hold a file system with a journal.
pub(super) const DISK_SIZE: Type = Type::Read("size", |scalar| size_from(scalar, Bytes(16 << 20)));
pub(super) const INODES: Type = Type::Read("number of files", inodes);
pub(super) const LOG_SIZE: Type = Type::Read("size", |scalar| size_from(scalar, Bytes(4096)));
pub(super) const CPU: Type = Type::Read("processors", cpu);
pub(super) const CPU_SET: Type = Type::Read("list of processors", cpu_set);
pub(super) const SOME_TIME: Type = Type::Read("duration", |scalar| time(scalar, 1, u64::MAX));
pub(super) const BACKOFF_TIME: Type = Type::Read("duration", |scalar| time(scalar, 10, 86_400_000));
pub(super) const GRACE: Type = Type::Read("duration", |scalar| time(scalar, 0, 3_600_000));
pub(super) const RESYNC: Type = Type::Read("duration", |scalar| time(scalar, 100, 3_600_000));
pub(super) const GROUP: Type = Type::Read("group", group);
pub(super) const SYSCTL_PATTERN: Type =
    Type::Read("kernel setting, perhaps with *", sysctl_pattern);
pub(super) const HOST_ADDRESS: Type = Type::Read("IPv4 address", host_address);
pub(super) const BIND_ADDRESS: Type = Type::Read("IPv4 address", bind_address);
pub(super) const ANY_ADDRESS: Type = Type::Read("address", any_address);
pub(super) const TARGET: Type = Type::Read("address, network or range", target);
pub(super) const SUBNET: Type = Type::Read("IPv4 network", subnet);
pub(super) const PORTS: Type = Type::Read("port or range of ports", ports);
pub(super) const ICMP: Type = Type::Read("number from 0 to 255, or any", icmp);
pub(super) const RESOLVER_OPTION: Type = Type::Read("option of resolv.conf", resolver_option);
pub(super) const SIGNAL: Type = Type::Read("signal", quantity::<Signal>);
pub(super) const MODE: Type = Type::Read("mode", mode);
pub(super) const USER: Type = Type::Read("user", user);
pub(super) const ON_CHANGE: Type = Type::Read("restart, none or signal:NAME", on_change);
pub(super) const COUNT_LIMIT: Type = Type::Read("count", quantity::<SoftHard<Count>>);
pub(super) const NICE_LIMIT: Type = Type::Read("count", |scalar| small_limit(scalar, 40));
pub(super) const PRIORITY_LIMIT: Type = Type::Read("count", |scalar| small_limit(scalar, 99));
pub(super) const SIZE_LIMIT: Type = Type::Read("size", quantity::<SoftHard<Bytes>>);
pub(super) const SECONDS_LIMIT: Type = Type::Read("duration", quantity::<SoftHard<Seconds>>);
pub(super) const MICROS_LIMIT: Type = Type::Read("duration", quantity::<SoftHard<Micros>>);

/// Longest argument or environment variable the kernel takes, with its end
/// (`execve(2)`, `MAX_ARG_STRLEN`).
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

impl Type {
    /// Returns its name for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Words(words) => words.join(" | "),
            Self::Integer(least, most) => format!("number from {least} to {most}"),
            Self::Boolean => "true | false".to_owned(),
            Self::Read(name, _) => (*name).to_owned(),
        }
    }

    /// Says what is wrong with a value that is not null.
    pub(crate) fn check(&self, scalar: &Scalar<'_>) -> Told {
        match self {
            Self::Words(words) => one_of(scalar, words),
            Self::Integer(least, most) => integer(scalar, *least, *most),
            Self::Boolean => boolean(scalar),
            Self::Read(_, read) => read(scalar),
        }
    }
}

fn one_of(scalar: &Scalar<'_>, words: &[&str]) -> Told {
    if words.contains(&&*scalar.text) {
        return Ok(());
    }
    let known: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    let known = known.join(" or ");
    let message = format!("`{}` is not {known}", plain(&scalar.text));
    Err(Fault::new(Code::NotOneOf, message).help(
        match closest(&scalar.text, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("write {known}"),
        },
    ))
}

fn integer(scalar: &Scalar<'_>, least: u64, most: u64) -> Told {
    let text = &*scalar.text;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    let range = format!("write a whole number from {least} to {most}");
    let value = text.parse::<u64>().ok().filter(|_| canonical);
    match value.filter(|value| (least..=most).contains(value)) {
        Some(_) if scalar.plain => Ok(()),
        Some(_) => {
            let message = format!("\"{text}\" is a text, a number is expected");
            Err(Fault::new(Code::Number, message).help("remove the quotes"))
        }
        None => {
            let message = format!("`{}` is not a number from {least} to {most}", plain(text));
            Err(Fault::new(Code::Number, message).help(range))
        }
    }
}

fn boolean(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let message = format!("`{}` is neither true nor false", plain(text));
    let help = match (text.to_ascii_lowercase().as_str(), scalar.plain) {
        ("true" | "false", true) if matches!(text, "true" | "false") => return Ok(()),
        ("true" | "false", false) => "remove the quotes",
        ("true" | "yes" | "on" | "y" | "1", _) => "write `true`",
        ("false" | "no" | "off" | "n" | "0", _) => "write `false`",
        _ => "write `true` or `false`",
    };
    Err(Fault::new(Code::Boolean, message).help(help))
}

fn quantity<T: FromStr<Err = UnitError>>(scalar: &Scalar<'_>) -> Told {
    unit::<T>(scalar, Code::Quantity).map(|_| ())
}

fn unit<T: FromStr<Err = UnitError>>(scalar: &Scalar<'_>, code: Code) -> Result<T, Fault> {
    scalar.text.parse::<T>().map_err(|err| {
        let fault = Fault::new(code, format!("`{}`: {err}", plain(&scalar.text)));
        match err.help() {
            Some(help) => fault.help(plain_help(help)),
            None => fault,
        }
    })
}

/// A help may repeat what was written, which may be long or hostile.
fn plain_help(help: &str) -> String {
    if help.chars().count() > 200 || help.chars().any(char::is_control) {
        "write it with a unit".to_owned()
    } else {
        help.to_owned()
    }
}

fn size_from(scalar: &Scalar<'_>, least: Bytes) -> Told {
    let size: Bytes = unit(scalar, Code::Quantity)?;
    if size < least {
        let message = format!("`{}` is too little", plain(&scalar.text));
        return Err(Fault::new(Code::Quantity, message).help(format!("write at least `{least}`")));
    }
    Ok(())
}

fn inodes(scalar: &Scalar<'_>) -> Told {
    const LEAST: Inodes = Inodes(128);
    let count: Inodes = unit(scalar, Code::Quantity)?;
    if count < LEAST {
        let message = format!("`{}` is too little", plain(&scalar.text));
        return Err(Fault::new(Code::Quantity, message).help(format!("write at least `{LEAST}`")));
    }
    Ok(())
}

fn cpu(scalar: &Scalar<'_>) -> Told {
    let share: MilliCpu = unit(scalar, Code::Quantity)?;
    // The kernel's quota is at least 1 ms in a period of 100 ms (`cgroup-v2.rst`, cpu.max).
    if !(10..=8_192_000).contains(&share.0) {
        let message = format!(
            "`{}` is outside of what can be enforced",
            plain(&scalar.text)
        );
        return Err(Fault::new(Code::Quantity, message).help("write at least `10m`"));
    }
    Ok(())
}

fn cpu_set(scalar: &Scalar<'_>) -> Told {
    let set: CpuSet = unit(scalar, Code::Quantity)?;
    if scalar.plain && scalar.text.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!(
            "`{}` could be a number of processors or the name of one",
            scalar.text
        );
        let help = format!("write \"{set}\" in quotes for the processor of that number");
        return Err(Fault::new(Code::NeedsQuotes, message).help(help));
    }
    Ok(())
}

fn time(scalar: &Scalar<'_>, least: u64, most: u64) -> Told {
    let time: Millis = unit(scalar, Code::Quantity)?;
    if !(least..=most).contains(&time.0) {
        let message = format!("`{}` is out of range", plain(&scalar.text));
        let help = if most == u64::MAX {
            format!("write at least `{}`", Millis(least))
        } else {
            format!(
                "write a time from `{}` to `{}`",
                Millis(least),
                Millis(most)
            )
        };
        return Err(Fault::new(Code::Quantity, message).help(help));
    }
    Ok(())
}

fn mode(scalar: &Scalar<'_>) -> Told {
    let mode: Mode = unit(scalar, Code::Quantity)?;
    if scalar.plain {
        let message = format!(
            "`{}` is a different number to different readers",
            scalar.text
        );
        let help = format!("write it in quotes: \"{mode}\"");
        return Err(Fault::new(Code::NeedsQuotes, message).help(help));
    }
    Ok(())
}

fn user(scalar: &Scalar<'_>) -> Told {
    unit::<User>(scalar, Code::User).map(|_| ())
}

fn group(scalar: &Scalar<'_>) -> Told {
    unit::<NameOrId>(scalar, Code::Group).map(|_| ())
}

fn on_change(scalar: &Scalar<'_>) -> Told {
    unit::<OnChange>(scalar, Code::NotOneOf).map(|_| ())
}

fn small_limit(scalar: &Scalar<'_>, most: u64) -> Told {
    let limit: SoftHard<Count> = unit(scalar, Code::Quantity)?;
    if limit.hard.is_some_and(|hard| hard.0 > most) {
        let message = format!(
            "`{}` is above the kernel's own maximum",
            plain(&scalar.text)
        );
        let help = format!("write at most `{most}`, or `unlimited`");
        return Err(Fault::new(Code::Quantity, message).help(help));
    }
    Ok(())
}

fn text(scalar: &Scalar<'_>) -> Told {
    if scalar.text.len() <= ARGUMENT_BYTES_MAX - 257 {
        return Ok(());
    }
    let message = format!(
        "a text of {} bytes is longer than the kernel takes",
        scalar.text.len()
    );
    Err(Fault::new(Code::TextShape, message).help("put large texts into `files`"))
}
