//! Which device nodes a container may open: a BPF program on the version 2 tree, the
//! `devices` files where there is only version 1. Everything else is denied.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use driver_api::{Gap, StepError};
use specs::desired::Security;

use super::Group;
use crate::error::{During as _, gap, terminal};
use crate::sys::bpf::{self, Identity, Instruction};
use crate::text;

/// Name of our record in the runtime directory.
pub(crate) const FILE: &str = "devices";
/// Name of our programs.
const PROGRAM_NAME: [u8; 16] = *b"reconciler_dev\0\0";

/// Making nodes is harmless without opening them, so it is allowed for all, as everywhere.
const STANDARD: [&str; 12] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",   // null
    "c 1:5 rwm",   // zero
    "c 1:7 rwm",   // full
    "c 1:8 rwm",   // random
    "c 1:9 rwm",   // urandom
    "c 5:0 rwm",   // tty
    "c 5:1 rwm",   // console
    "c 5:2 rwm",   // ptmx
    "c 136:* rwm", // pts
    "c 10:200 r",  // tun: asking what it is; using it needs a capability
];

/// Character or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Block,
    Char,
}

/// One allowed device, in the form of `devices.allow` (`devices.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    /// `BPF_DEVCG_ACC_*`: 1 make, 2 read, 4 write.
    access: u8,
}

/// What a container may open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    /// Everything: a privileged one.
    All,
    /// Only these.
    Only(Vec<Rule>),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Block => "b ",
            Kind::Char => "c ",
        })?;
        for (number, after) in [(self.major, ":"), (self.minor, " ")] {
            match number {
                Some(number) => write!(f, "{number}{after}")?,
                None => write!(f, "*{after}")?,
            }
        }
        for (bit, letter) in [(2, 'r'), (4, 'w'), (1, 'm')] {
            if self.access & bit != 0 {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = match words.next()? {
            "b" => Kind::Block,
            "c" => Kind::Char,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |word: &str| match word {
            "*" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        let access = words
            .next()?
            .chars()
            .try_fold(0, |bits, letter| match letter {
                'r' => Some(bits | 2),
                'w' => Some(bits | 4),
                'm' => Some(bits | 1),
                _ => None,
            })?;
        Some(Self {
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access,
        })
    }
}

impl Filter {
    /// Returns what a container may open: the standard nodes and those it was given.
    pub(crate) fn of(security: &Security) -> Result<Self, StepError> {
        if security.privileged {
            return Ok(Self::All);
        }
        let mut rules: Vec<Rule> = STANDARD
            .iter()
            .filter_map(|line| Rule::parse(line))
            .collect();
        for device in &security.devices {
            let path = Path::new(&device.path);
            let what = || format!("look at the device {}", device.path);
            let meta = std::fs::metadata(path).during(what)?;
            let kind = match meta.file_type() {
                found if found.is_char_device() => Kind::Char,
                found if found.is_block_device() => Kind::Block,
                _ => {
                    return Err(terminal(
                        what(),
                        "it is no device node",
                        "name a device node",
                    ));
                }
            };
            let access = u8::from(device.mknod)
                | (u8::from(device.read) << 1)
                | (u8::from(device.write) << 2);
            let rdev = meta.rdev();
            let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
            rules.push(Rule {
                kind,
                major: Some(major),
                minor: Some(minor),
                access,
            });
        }
        Ok(Self::Only(rules))
    }

    /// Returns the text form.
    pub(crate) fn print(&self) -> String {
        match self {
            Self::All => "all\n".to_owned(),
            Self::Only(rules) => rules.iter().map(|rule| format!("{rule}\n")).collect(),
        }
    }

    /// Parses the text form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "all\n" {
            return Some(Self::All);
        }
        text.lines()
            .map(Rule::parse)
            .collect::<Option<Vec<Rule>>>()
            .map(Self::Only)
    }

    /// Reads our record of a life's filter, `None` when there is none.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let Some(found) = text::read(&directory.join(FILE))? else {
            return Ok(None);
        };
        Self::parse(&found)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a device filter"))
    }
}

const fn insn(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate,
    }
}

/// Compiles the rules. Registers: 1 the context (`struct bpf_cgroup_dev_ctx`), 2 the access
/// asked for, 3 the kind, 4 major, 5 minor, 6 scratch.
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        insn(0x61, 0x12, 0, 0),      // r2 = access_type
        insn(0xbf, 0x23, 0, 0),      // r3 = r2
        insn(0x57, 0x03, 0, 0xffff), // r3 &= 0xffff
        insn(0x77, 0x02, 0, 16),     // r2 >>= 16
        insn(0x61, 0x14, 4, 0),      // r4 = major
        insn(0x61, 0x15, 8, 0),      // r5 = minor
    ];
    for rule in rules {
        let mut block = Vec::new();
        let kind = match rule.kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        block.push(insn(0x55, 0x03, 0, kind)); // if r3 != kind: next
        block.push(insn(0xbf, 0x26, 0, 0)); // r6 = r2
        block.push(insn(0x57, 0x06, 0, i32::from(!rule.access & 7))); // r6 &= not allowed
        block.push(insn(0x55, 0x06, 0, 0)); // if r6 != 0: next
        if let Some(major) = rule.major {
            block.push(insn(0x55, 0x04, 0, major.cast_signed()));
        }
        if let Some(minor) = rule.minor {
            block.push(insn(0x55, 0x05, 0, minor.cast_signed()));
        }
        block.push(insn(0xb7, 0x00, 0, 1)); // r0 = 1
        block.push(insn(0x95, 0, 0, 0)); // exit
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            if instruction.code == 0x55 {
                instruction.offset = i16::try_from(length - at - 1).unwrap_or(0);
            }
        }
        program.append(&mut block);
    }
    program.push(insn(0xb7, 0x00, 0, 0)); // r0 = 0
    program.push(insn(0x95, 0, 0, 0)); // exit
    program
}

/// Puts filters on groups and sees whether they are there.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// Tag the kernel gives to each program: a pure function of the rules, so it is kept.
    tags: Mutex<BTreeMap<Filter, [u8; 8]>>,
}

impl Devices {
    /// Brings a group's filter about.
    pub(crate) fn apply(
        &self,
        group: &Group,
        leaf: &str,
        filter: &Filter,
    ) -> Result<(), StepError> {
        let what = || format!("set the device filter of {leaf}");
        let Filter::Only(rules) = filter else {
            return Ok(());
        };
        let Some(dir) = group.unified() else {
            return apply_v1(group, leaf, rules);
        };
        let cgroup = open(&dir.path).during(what)?;
        let program = bpf::load(&compile(rules), PROGRAM_NAME).during(what)?;
        let wanted = bpf::identity(program.as_fd()).during(what)?;
        let mut is_there = false;
        let mut old = Vec::new();
        for found in bpf::attached(cgroup.as_fd()).during(what)? {
            match bpf::identity(found.as_fd()).during(what)? {
                identity if identity == wanted => is_there = true,
                Identity { name, .. } if name == PROGRAM_NAME => old.push(found),
                _ => {}
            }
        }
        if !is_there {
            bpf::attach(cgroup.as_fd(), program.as_fd()).during(what)?;
        }
        // Only once the new one holds: all programs on a group must agree to allow.
        for program in old {
            bpf::detach(cgroup.as_fd(), program.as_fd()).during(what)?;
        }
        Ok(())
    }

    /// Returns whether a group's filter is in place.
    pub(crate) fn is_applied(
        &self,
        group: &Group,
        leaf: &str,
        filter: &Filter,
    ) -> Result<bool, Gap> {
        let Filter::Only(rules) = filter else {
            return Ok(true);
        };
        let why = |err: io::Error| gap(format!("read the device filter of {leaf}"), &err);
        let Some(dir) = group.unified() else {
            return is_applied_v1(group, rules).map_err(why);
        };
        if !dir.exists().map_err(why)? {
            return Ok(false);
        }
        let tag = self.tag(filter, rules).map_err(why)?;
        let cgroup = open(&dir.path).map_err(why)?;
        for found in bpf::attached(cgroup.as_fd()).map_err(why)? {
            let identity = bpf::identity(found.as_fd()).map_err(why)?;
            if identity.tag == tag {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn tag(&self, filter: &Filter, rules: &[Rule]) -> io::Result<[u8; 8]> {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tag) = tags.get(filter) {
            return Ok(*tag);
        }
        let program = bpf::load(&compile(rules), PROGRAM_NAME)?;
        let tag = bpf::identity(program.as_fd())?.tag;
        if tags.len() >= TAGS_MAX {
            tags.clear();
        }
        tags.insert(filter.clone(), tag);
        Ok(tag)
    }
}

/// Most kept tags.
const TAGS_MAX: usize = 1024;

/// Returns whether this kernel filters devices on the version 2 tree.
pub(crate) fn can_filter() -> io::Result<()> {
    bpf::load(&compile(&[]), PROGRAM_NAME).map(drop)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn apply_v1(group: &Group, leaf: &str, rules: &[Rule]) -> Result<(), StepError> {
    let what = || format!("set the device filter of {leaf}");
    let Some(dir) = group.site("devices") else {
        return Err(terminal(
            what(),
            "this host has neither a version 2 cgroup tree nor the devices controller",
            "mount cgroup2, or set security.privileged if the policy allows it",
        ));
    };
    if is_applied_v1(group, rules).during(what)? {
        return Ok(());
    }
    std::fs::write(dir.path.join("devices.deny"), "a").during(what)?;
    for rule in rules {
        std::fs::write(dir.path.join("devices.allow"), rule.to_string()).during(what)?;
    }
    Ok(())
}

fn is_applied_v1(group: &Group, rules: &[Rule]) -> io::Result<bool> {
    let Some(dir) = group.site("devices") else {
        return Ok(false);
    };
    let list = text::read(&dir.path.join("devices.list"))?.unwrap_or_default();
    let mut found: Vec<&str> = list.lines().collect();
    let mut wanted: Vec<String> = rules.iter().map(Rule::to_string).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    wanted.dedup();
    Ok(found == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_survive_their_text() {
        for line in STANDARD {
            assert_eq!(Rule::parse(line).unwrap().to_string(), line);
        }
        for bad in ["", "c", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c -1:3 r"] {
            assert_eq!(Rule::parse(bad), None, "{bad:?}");
        }
        let rules = STANDARD
            .iter()
            .filter_map(|line| Rule::parse(line))
            .collect();
        for filter in [Filter::All, Filter::Only(rules)] {
            assert_eq!(Filter::parse(&filter.print()), Some(filter));
        }
    }

    #[test]
    fn a_jump_leads_to_the_next_rule() {
        let rule = Rule {
            kind: Kind::Char,
            major: Some(1),
            minor: None,
            access: 2,
        };
        let program = compile(&[rule, rule]);
        for (at, instruction) in program.iter().enumerate() {
            if instruction.code == 0x55 {
                let to = at + 1 + usize::try_from(instruction.offset).unwrap();
                let lands = program[to];
                assert!(
                    lands.code == 0x55 || lands == insn(0xb7, 0, 0, 0),
                    "{at} to {to}"
                );
            }
        }
    }
}
