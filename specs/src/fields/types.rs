//! What single values may be. Each check says in one sentence what is wrong and what to
//! write instead.

use std::str::FromStr;

use super::Type;
use crate::desired::{NameOrId, OnChange, User};
use crate::diagnostic::{Code, closest, plain};
use crate::id::Key;
use crate::parse::faults::Fault;
use crate::parse::tree::Scalar;
use crate::resolve::capability;
use crate::units::{
    Bytes, Count, CpuSet, Micros, MilliCpu, Millis, Mode, Seconds, Signal, SoftHard, UnitError,
};

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
/// Longest path the kernel takes, without its end (`path_resolution(7)`, `PATH_MAX`).
const PATH_BYTES_MAX: usize = 4095;

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

fn name(scalar: &Scalar<'_>) -> Told {
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

fn label_key(scalar: &Scalar<'_>) -> Told {
    if label_word(&scalar.text, 128, b"._/-") {
        return Ok(());
    }
    let message = format!("`{}` cannot be the key of a label", plain(&scalar.text));
    Err(Fault::new(Code::Label, message).help("write for example `app` or `example.org/team`"))
}

fn label_value(scalar: &Scalar<'_>) -> Told {
    if scalar.text.is_empty() || label_word(&scalar.text, 63, b"._-") {
        return Ok(());
    }
    let message = format!("`{}` cannot be the value of a label", plain(&scalar.text));
    Err(Fault::new(Code::Label, message).help("put free text into `annotations`"))
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

fn hostname(scalar: &Scalar<'_>) -> Told {
    let fits = scalar.text.len() <= 64;
    if fits && scalar.text.split('.').all(|label| Key::new(label).is_ok()) {
        return Ok(());
    }
    let message = format!("`{}` is not a host name", plain(&scalar.text));
    Err(Fault::new(Code::HostName, message).help("write for example `web` or `web.example.org`"))
}

fn path(scalar: &Scalar<'_>, code: Code) -> Told {
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
    Err(Fault::new(code, message).help("write an absolute path such as `/srv/app`"))
}

fn path_or_root(scalar: &Scalar<'_>) -> Told {
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

fn mount_path(scalar: &Scalar<'_>) -> Told {
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

fn file_path(scalar: &Scalar<'_>) -> Told {
    path(scalar, Code::Path)?;
    if is_below(&scalar.text, &["/proc", "/sys", "/dev"]) {
        let message = format!("no file may be placed at `{}`", plain(&scalar.text));
        let help = "choose a path outside of /proc, /sys and /dev";
        return Err(Fault::new(Code::FilePath, message).help(help));
    }
    Ok(())
}

fn device_path(scalar: &Scalar<'_>) -> Told {
    path(scalar, Code::Path)?;
    let taken = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd"];
    if is_below(&scalar.text, &["/dev"]) && scalar.text != "/dev" && !is_below(&scalar.text, &taken)
    {
        return Ok(());
    }
    let message = format!("`{}` is not the path of a device", plain(&scalar.text));
    Err(Fault::new(Code::Device, message).help("write a path below /dev, such as `/dev/fuse`"))
}

fn access(scalar: &Scalar<'_>) -> Told {
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

fn env_name(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = text.starts_with(|c: char| !c.is_ascii_digit());
    if first && text.len() <= 256 && text.bytes().all(sane) {
        return Ok(());
    }
    let message = format!("`{}` cannot be the name of a variable", plain(text));
    Err(Fault::new(Code::EnvName, message).help("write for example `LOG_LEVEL`"))
}

fn sysctl_name(scalar: &Scalar<'_>) -> Told {
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

fn sysctl_pattern(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let stem = text.strip_suffix('*').unwrap_or(text);
    if !text.is_empty() && text.len() <= 256 && stem.bytes().all(sane) {
        return Ok(());
    }
    let message = format!("`{}` is not a kernel setting", plain(text));
    Err(Fault::new(Code::Sysctl, message).help("write for example `net.core.*`, in quotes"))
}

fn sysctl_value(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let shown = |c: char| c == '\t' || (' '..='~').contains(&c);
    if !text.is_empty() && text.len() <= 256 && text.chars().all(shown) {
        return Ok(());
    }
    let message = format!("`{}` cannot be the value of a kernel setting", plain(text));
    Err(Fault::new(Code::TextShape, message)
        .help("write 1 to 256 printable characters on one line"))
}

fn capabilities(scalar: &Scalar<'_>, all: bool) -> Told {
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

fn seccomp(scalar: &Scalar<'_>) -> Told {
    match &*scalar.text {
        "default" | "unconfined" => Ok(()),
        text if text.starts_with('/') => path(scalar, Code::Path),
        _ => one_of(scalar, &["default", "unconfined"])
            .map_err(|fault| fault.note("or the absolute path of a profile")),
    }
}
