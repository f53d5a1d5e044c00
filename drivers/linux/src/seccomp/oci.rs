//! Profiles in the form of the OCI runtime-spec (`config-linux.md`, seccomp), with the
//! `includes` and `excludes` that engines write into theirs.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Action, Arm, Condition, Filter, Test, table};
use crate::caps;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// Not JSON, or not of the documented form.
    #[error("it is no OCI seccomp profile")]
    Form(#[source] serde_json::Error),
    /// Something that has no effect here, so that leaving it out would be silent.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// An argument that no call has.
    #[error("a rule of {0} tests argument {1}; calls have 0 to 5")]
    Argument(String, u32),
    /// Not made for this machine.
    #[error("it is not for this architecture")]
    Architecture,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    flags: Vec<String>,
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filterer>,
    #[serde(default)]
    excludes: Option<Filterer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filterer {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

#[cfg(target_arch = "x86_64")]
const ARCHES: [&str; 2] = ["SCMP_ARCH_X86_64", "amd64"];
#[cfg(target_arch = "aarch64")]
const ARCHES: [&str; 2] = ["SCMP_ARCH_AARCH64", "arm64"];

/// Parses a profile for a container with these capabilities. Names that are no calls of this
/// architecture are skipped: profiles list those of all.
pub(crate) fn parse(json: &str, capabilities: u64) -> Result<Filter, ProfileError> {
    let profile: Profile = serde_json::from_str(json).map_err(ProfileError::Form)?;
    let listed: Vec<&str> = profile
        .architectures
        .iter()
        .chain(profile.arch_map.iter().map(|map| &map.architecture))
        .map(String::as_str)
        .collect();
    if !listed.is_empty() && !listed.iter().any(|arch| ARCHES.contains(arch)) {
        return Err(ProfileError::Architecture);
    }
    if let Some(flag) = profile.flags.first() {
        return Err(ProfileError::Unsupported(format!("flag {flag}")));
    }
    if profile.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(ProfileError::Unsupported("listenerPath".to_owned()));
    }
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut calls: BTreeMap<u32, Vec<Arm>> = BTreeMap::new();
    for rule in &profile.syscalls {
        let decided = action(&rule.action, rule.errno_ret)?;
        if !applies(rule, capabilities)? {
            continue;
        }
        for name in &rule.names {
            let arms = arms(name, rule, decided)?;
            if let Some(number) = table::number(name) {
                calls.entry(number).or_default().extend(arms);
            }
        }
    }
    // A rule without conditions speaks for all calls that no rule with conditions takes.
    for arms in calls.values_mut() {
        arms.sort_by_key(|arm| arm.conditions.is_empty());
    }
    Ok(Filter { default, calls })
}

fn applies(rule: &Rule, capabilities: u64) -> Result<bool, ProfileError> {
    let has = |name: &String| {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        caps::bit(bare).is_some_and(|bit| capabilities & bit != 0)
    };
    let is_ours = |arch: &String| ARCHES.contains(&arch.as_str());
    if let Some(includes) = &rule.includes {
        let kernel = includes
            .min_kernel
            .as_deref()
            .map(is_kernel_at_least)
            .transpose()?;
        let holds = includes.caps.iter().all(has)
            && (includes.arches.is_empty() || includes.arches.iter().any(is_ours))
            && kernel.unwrap_or(true);
        if !holds {
            return Ok(false);
        }
    }
    if let Some(excludes) = &rule.excludes {
        let kernel = excludes
            .min_kernel
            .as_deref()
            .map(is_kernel_at_least)
            .transpose()?;
        let is_out = excludes.caps.iter().any(has)
            || excludes.arches.iter().any(is_ours)
            || kernel.unwrap_or(false);
        return Ok(!is_out);
    }
    Ok(true)
}

fn is_kernel_at_least(wanted: &str) -> Result<bool, ProfileError> {
    let parts = |text: &str| -> Option<(u32, u32)> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    match (parts(&release), parts(wanted)) {
        (Some(have), Some(want)) => Ok(have >= want),
        _ => Err(ProfileError::Unsupported(format!("minKernel {wanted}"))),
    }
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, ProfileError> {
    let eperm = u16::try_from(libc::EPERM).unwrap_or(1);
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(eperm).min(4095)),
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(eperm)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        other => return Err(ProfileError::Unsupported(format!("action {other}"))),
    })
}

/// Returns the arms of one rule. All arguments must hold together, but several tests of one
/// argument are alternatives, as the engines' runtimes take them.
fn arms(name: &str, rule: &Rule, action: Action) -> Result<Vec<Arm>, ProfileError> {
    let mut conditions = Vec::new();
    for argument in rule.args.iter().flatten() {
        let index = u8::try_from(argument.index).ok().filter(|index| *index < 6);
        let index = index.ok_or_else(|| ProfileError::Argument(name.to_owned(), argument.index))?;
        conditions.push(Condition {
            argument: index,
            test: test(argument)?,
        });
    }
    let mut indexes: Vec<u8> = conditions
        .iter()
        .map(|condition| condition.argument)
        .collect();
    indexes.sort_unstable();
    indexes.dedup();
    if indexes.len() == conditions.len() {
        return Ok(vec![Arm { conditions, action }]);
    }
    let alone = conditions.into_iter().map(|one| Arm {
        conditions: vec![one],
        action,
    });
    Ok(alone.collect())
}

fn test(argument: &Argument) -> Result<Test, ProfileError> {
    let value = argument.value;
    Ok(match argument.op.as_str() {
        "SCMP_CMP_EQ" => Test::Is(value),
        "SCMP_CMP_NE" => Test::IsNot(value),
        "SCMP_CMP_LT" => Test::Below(value),
        "SCMP_CMP_LE" => Test::AtMost(value),
        "SCMP_CMP_GT" => Test::Above(value),
        "SCMP_CMP_GE" => Test::AtLeast(value),
        "SCMP_CMP_MASKED_EQ" => Test::Masked {
            mask: value,
            is: argument.value_two,
        },
        other => return Err(ProfileError::Unsupported(format!("comparison {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::compile::compile;
    use super::super::compile::tests::{ARCH, decide};
    use super::*;

    fn check(json: &str, caps: u64, call: &str, args: [u64; 6], want: Action) {
        let program = compile(&parse(json, caps).unwrap()).unwrap();
        let got = decide(&program, ARCH, table::number(call).unwrap(), args);
        assert_eq!(got, want.value(), "{call} {args:?}");
    }

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                      {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS",
             "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}}
        ]}"#;

    #[test]
    fn rules_hold_as_written() {
        let admin = caps::bit("SYS_ADMIN").unwrap();
        check(PROFILE, 0, "read", [0; 6], Action::Allow);
        check(PROFILE, 0, "getpid", [0; 6], Action::Errno(38));
        check(PROFILE, 0, "personality", [8, 0, 0, 0, 0, 0], Action::Allow);
        check(
            PROFILE,
            0,
            "personality",
            [9, 0, 0, 0, 0, 0],
            Action::Errno(38),
        );
        check(PROFILE, 0, "socket", [2, 0, 0, 0, 0, 0], Action::Allow);
        check(PROFILE, 0, "socket", [3, 0, 0, 0, 0, 0], Action::Errno(13));
        check(PROFILE, 0, "mount", [0; 6], Action::KillProcess);
        check(PROFILE, admin, "mount", [0; 6], Action::Allow);
        check(PROFILE, 0, "write", [0; 6], Action::Errno(38));
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        for bad in [
            "{}",
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
                "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(parse(bad, 0).is_err(), "{bad}");
        }
    }
}
