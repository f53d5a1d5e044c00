//! Filters to classic BPF: a balanced tree over the numbers, argument tests at its leaves.

use libc::sock_filter;

use super::{Action, Arm, Condition, Filter, Test};

/// Most instructions of one program (`BPF_MAXINSNS`).
pub(crate) const INSTRUCTIONS_MAX: usize = 4096;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// From here on x86-64 numbers mean the x32 interface, which we do not offer.
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_IS: u16 = 0x15;
const IF_ABOVE: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_ARGUMENTS: u32 = 16;

/// A filter that cannot be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CompileError {
    /// Too long for the kernel.
    #[error("the filter needs {0} instructions, the kernel takes {INSTRUCTIONS_MAX}")]
    TooLong(usize),
    /// One call has more tests than a jump can skip.
    #[error("one call has too many argument tests")]
    TooFar,
}

/// Where a conditional jump goes: so many instructions on, or out of the arm.
#[derive(Clone, Copy)]
enum To {
    Skip(u8),
    Out,
}

struct Draft {
    code: u16,
    yes: To,
    no: To,
    k: u32,
}

fn plain(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn draft(code: u16, k: u32) -> Draft {
    Draft {
        code,
        yes: To::Skip(0),
        no: To::Skip(0),
        k,
    }
}

/// Compiles a filter.
pub(crate) fn compile(filter: &Filter) -> Result<Vec<sock_filter>, CompileError> {
    let default = plain(RETURN, filter.default.value());
    let mut program = vec![
        plain(LOAD, AT_ARCHITECTURE),
        sock_filter {
            code: IF_IS,
            jt: 1,
            jf: 0,
            k: ARCHITECTURE,
        },
        default,
        plain(LOAD, AT_NUMBER),
        sock_filter {
            code: IF_AT_LEAST,
            jt: 0,
            jf: 1,
            k: X32,
        },
        default,
    ];
    program.append(&mut tree(&leaves(filter)?));
    if program.len() > INSTRUCTIONS_MAX {
        return Err(CompileError::TooLong(program.len()));
    }
    Ok(program)
}

/// Returns a program as the bytes of its instructions in this machine's order.
pub(crate) fn bytes(program: &[sock_filter]) -> Vec<u8> {
    let mut out = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        out.extend_from_slice(&instruction.code.to_ne_bytes());
        out.extend_from_slice(&[instruction.jt, instruction.jf]);
        out.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    out
}

/// Returns the code for each run of numbers that share it, by the first of them.
fn leaves(filter: &Filter) -> Result<Vec<(u32, Vec<sock_filter>)>, CompileError> {
    let default = vec![plain(RETURN, filter.default.value())];
    let mut leaves = vec![(0, default.clone())];
    let mut next = 0;
    let mut add = |from: u32, code: &[sock_filter]| match leaves.last_mut() {
        Some((_, last)) if same(last, code) => {}
        Some((at, last)) if *at == from => *last = code.to_vec(),
        _ => leaves.push((from, code.to_vec())),
    };
    for (number, arms) in &filter.calls {
        if *number > next {
            add(next, &default);
        }
        add(*number, &leaf(arms, filter.default)?);
        next = number.saturating_add(1);
    }
    add(next, &default);
    Ok(leaves)
}

fn same(a: &[sock_filter], b: &[sock_filter]) -> bool {
    bytes(a) == bytes(b)
}

fn tree(leaves: &[(u32, Vec<sock_filter>)]) -> Vec<sock_filter> {
    let half = leaves.len() / 2;
    let (low, high) = leaves.split_at(half);
    let (Some((middle, _)), false) = (high.first(), low.is_empty()) else {
        return leaves
            .first()
            .map(|(_, code)| code.clone())
            .unwrap_or_default();
    };
    let mut left = tree(low);
    let mut right = tree(high);
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    match u8::try_from(left.len()) {
        Ok(skip) => code.push(sock_filter {
            code: IF_AT_LEAST,
            jt: skip,
            jf: 0,
            k: *middle,
        }),
        Err(_) => {
            code.push(sock_filter {
                code: IF_AT_LEAST,
                jt: 0,
                jf: 1,
                k: *middle,
            });
            code.push(plain(JUMP, u32::try_from(left.len()).unwrap_or(u32::MAX)));
        }
    }
    code.append(&mut left);
    code.append(&mut right);
    code
}

fn leaf(arms: &[Arm], default: Action) -> Result<Vec<sock_filter>, CompileError> {
    let mut code = Vec::new();
    for arm in arms {
        let mut drafts: Vec<Draft> = arm.conditions.iter().flat_map(test).collect();
        drafts.push(draft(RETURN, arm.action.value()));
        let length = drafts.len();
        for (at, draft) in drafts.iter().enumerate() {
            let offset = |to: To| match to {
                To::Skip(by) => Ok(by),
                To::Out => u8::try_from(length - at - 1).map_err(|_| CompileError::TooFar),
            };
            let (jt, jf) = (offset(draft.yes)?, offset(draft.no)?);
            code.push(sock_filter {
                code: draft.code,
                jt,
                jf,
                k: draft.k,
            });
        }
        if arm.conditions.is_empty() {
            return Ok(code);
        }
    }
    code.push(plain(RETURN, default.value()));
    Ok(code)
}

/// Goes on if it holds, out of the arm if not.
fn must(code: u16, k: u32) -> Draft {
    Draft {
        no: To::Out,
        ..draft(code, k)
    }
}

/// Out of the arm if it holds, goes on if not.
fn must_not(code: u16, k: u32) -> Draft {
    Draft {
        yes: To::Out,
        ..draft(code, k)
    }
}

/// Settles a test of five by the upper half alone: on to its end.
fn settled(code: u16, k: u32) -> Draft {
    Draft {
        yes: To::Skip(3),
        ..draft(code, k)
    }
}

/// Settles a test by the upper half unless that is equal: over the last two.
fn settled_unless(k: u32) -> Draft {
    Draft {
        no: To::Skip(2),
        ..draft(IF_IS, k)
    }
}

/// Returns the upper and the lower half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

/// Tests one argument, the upper half first; out of the arm when it does not hold.
fn test(condition: &Condition) -> Vec<Draft> {
    let low_at = AT_ARGUMENTS + 8 * u32::from(condition.argument);
    let (low_at, high_at) = if cfg!(target_endian = "little") {
        (low_at, low_at + 4)
    } else {
        (low_at + 4, low_at)
    };
    let (low, high) = (draft(LOAD, low_at), draft(LOAD, high_at));
    match condition.test {
        Test::Is(value) => {
            let (up, down) = halves(value);
            vec![high, must(IF_IS, up), low, must(IF_IS, down)]
        }
        Test::Masked { mask, is } => {
            let ((mask_up, mask_down), (up, down)) = (halves(mask), halves(is));
            vec![
                high,
                draft(AND, mask_up),
                must(IF_IS, up),
                low,
                draft(AND, mask_down),
                must(IF_IS, down),
            ]
        }
        Test::IsNot(value) => {
            let (up, down) = halves(value);
            vec![high, settled_unless(up), low, must_not(IF_IS, down)]
        }
        Test::AtLeast(value) | Test::Above(value) => {
            let (up, down) = halves(value);
            let last = if condition.test == Test::Above(value) {
                IF_ABOVE
            } else {
                IF_AT_LEAST
            };
            vec![
                high,
                settled(IF_ABOVE, up),
                must(IF_IS, up),
                low,
                must(last, down),
            ]
        }
        Test::Below(value) | Test::AtMost(value) => {
            let (up, down) = halves(value);
            let last = if condition.test == Test::Below(value) {
                IF_AT_LEAST
            } else {
                IF_ABOVE
            };
            vec![
                high,
                must_not(IF_ABOVE, up),
                settled_unless(up),
                low,
                must_not(last, down),
            ]
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    pub(crate) const ARCH: u32 = ARCHITECTURE;

    /// Runs a program as the kernel would.
    pub(crate) fn decide(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&number.to_ne_bytes());
        data.extend_from_slice(&arch.to_ne_bytes());
        data.extend_from_slice(&0_u64.to_ne_bytes());
        for arg in args {
            data.extend_from_slice(&arg.to_ne_bytes());
        }
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let i = program[at];
            let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            at += 1;
            match i.code {
                LOAD => {
                    let k = usize::try_from(i.k).unwrap();
                    a = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
                }
                AND => a &= i.k,
                JUMP => at += usize::try_from(i.k).unwrap(),
                IF_IS => at += jump(a == i.k),
                IF_ABOVE => at += jump(a > i.k),
                IF_AT_LEAST => at += jump(a >= i.k),
                RETURN => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn holds(condition: &Condition, args: [u64; 6]) -> bool {
        let arg = args[usize::from(condition.argument)];
        match condition.test {
            Test::Is(v) => arg == v,
            Test::IsNot(v) => arg != v,
            Test::Below(v) => arg < v,
            Test::AtMost(v) => arg <= v,
            Test::Above(v) => arg > v,
            Test::AtLeast(v) => arg >= v,
            Test::Masked { mask, is } => arg & mask == is,
        }
    }

    fn meant(filter: &Filter, number: u32, args: [u64; 6]) -> u32 {
        let arms = filter
            .calls
            .get(&number)
            .map(Vec::as_slice)
            .unwrap_or_default();
        arms.iter()
            .find(|arm| {
                arm.conditions
                    .iter()
                    .all(|condition| holds(condition, args))
            })
            .map_or(filter.default, |arm| arm.action)
            .value()
    }

    fn value() -> impl Strategy<Value = u64> {
        // Few values with shared halves, so that every comparison meets every case.
        (0_u64..3, 0_u64..3).prop_map(|(up, down)| up << 32 | down)
    }

    fn tests() -> impl Strategy<Value = Test> {
        prop_oneof![
            value().prop_map(Test::Is),
            value().prop_map(Test::IsNot),
            value().prop_map(Test::Below),
            value().prop_map(Test::AtMost),
            value().prop_map(Test::Above),
            value().prop_map(Test::AtLeast),
            (value(), value()).prop_map(|(mask, is)| Test::Masked { mask, is }),
        ]
    }

    fn arms() -> impl Strategy<Value = Vec<Arm>> {
        let conditions = prop::collection::vec(
            (0_u8..6, tests()).prop_map(|(argument, test)| Condition { argument, test }),
            0..3,
        );
        let action = prop_oneof![
            Just(Action::Allow),
            (1_u16..99).prop_map(Action::Errno),
            Just(Action::KillProcess)
        ];
        let arm = (conditions, action).prop_map(|(conditions, action)| Arm { conditions, action });
        prop::collection::vec(arm, 0..4)
    }

    proptest! {
        #[test]
        fn a_compiled_filter_decides_as_it_was_meant(
            calls in prop::collection::btree_map(0_u32..500, arms(), 0..120),
            number in 0_u32..510,
            args in prop::array::uniform6(value()),
        ) {
            let filter = Filter { default: Action::Errno(38), calls };
            let program = compile(&filter).unwrap();
            for near in [number, number.saturating_sub(1), 0, 499] {
                prop_assert_eq!(decide(&program, ARCH, near, args), meant(&filter, near, args));
            }
        }
    }

    #[test]
    fn foreign_calls_get_the_default() {
        let allow = vec![Arm {
            conditions: vec![],
            action: Action::Allow,
        }];
        let calls = BTreeMap::from([(1, allow)]);
        let program = compile(&Filter {
            default: Action::Errno(38),
            calls,
        })
        .unwrap();
        let denied = Action::Errno(38).value();
        assert_eq!(decide(&program, 0x4000_0003, 1, [0; 6]), denied, "i386");
        assert_eq!(decide(&program, ARCH, X32 | 1, [0; 6]), denied, "x32");
        assert_eq!(decide(&program, ARCH, u32::MAX, [0; 6]), denied);
        assert_eq!(decide(&program, ARCH, 1, [0; 6]), Action::Allow.value());
    }
}
