//! Signals by name. Numbers differ between architectures and are refused.

use std::fmt;
use std::str::FromStr;

use super::{Signal, UnitError};

/// Names by number from 1, as on all architectures but alpha, mips, parisc and sparc
/// (`signal(7)`).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// First real-time signal that is free for programs: the C library keeps 32 and 33.
const RT_MIN: u8 = 34;
const RT_MAX: u8 = 64;

impl FromStr for Signal {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let name = text.strip_prefix("SIG").unwrap_or(text);
        if let Some(at) = NAMES.iter().position(|known| *known == name) {
            return Ok(Self(u8::try_from(at + 1).unwrap_or_default()));
        }
        let offset = |prefix: &str, sign: char| {
            let rest = name.strip_prefix(prefix)?;
            if rest.is_empty() {
                return Some(0);
            }
            let digits = rest.strip_prefix(sign)?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            digits
                .parse::<u8>()
                .ok()
                .filter(|at| plain && *at <= RT_MAX - RT_MIN)
        };
        if let Some(at) = offset("RTMIN", '+') {
            return Ok(Self(RT_MIN + at));
        }
        if let Some(at) = offset("RTMAX", '-') {
            return Ok(Self(RT_MAX - at));
        }
        Err(UnitError::new("not a signal", suggestion(text)))
    }
}

fn suggestion(text: &str) -> String {
    if let Ok(number) = text.parse::<u8>()
        && (1..=RT_MAX).contains(&number)
        && number != 32
        && number != 33
    {
        return format!("write the name: `{}`", Signal(number));
    }
    let upper = text.to_ascii_uppercase();
    let upper = upper.strip_prefix("SIG").unwrap_or(&upper);
    match crate::diagnostic::closest(upper, NAMES) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "write a name such as `TERM`, `HUP`, `USR1` or `RTMIN+3`".to_owned(),
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::from(self.0)
            .checked_sub(1)
            .and_then(|at| NAMES.get(at))
        {
            Some(name) => f.write_str(name),
            None if self.0 == RT_MIN => f.write_str("RTMIN"),
            None if self.0 > RT_MIN => write!(f, "RTMIN+{}", self.0 - RT_MIN),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_of_programs_survives_its_name() {
        for number in (1..=31).chain(RT_MIN..=RT_MAX) {
            let name = Signal(number).to_string();
            assert_eq!(name.parse(), Ok(Signal(number)), "{name}");
            assert_eq!(format!("SIG{name}").parse(), Ok(Signal(number)), "{name}");
        }
    }

    #[test]
    fn a_signal_is_a_name_and_a_number_suggests_it() {
        for (bad, hint) in [
            ("15", "TERM"),
            ("term", "TERM"),
            ("sighup", "HUP"),
            ("0", "name"),
            ("", "name"),
            ("RTMIN+31", "name"),
            ("RTMAX-99", "name"),
            ("RTMIN+-1", "name"),
            ("RTMIN++1", "name"),
        ] {
            let err = bad.parse::<Signal>().unwrap_err();
            assert!(
                err.help().unwrap().contains(hint),
                "{bad}: {:?}",
                err.help()
            );
        }
        assert_eq!("RTMAX".parse(), Ok(Signal(64)));
        assert_eq!("RTMAX-1".parse(), Ok(Signal(63)));
    }
}
