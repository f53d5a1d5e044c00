//! Users and groups, and what a changed file does, as one text each.

use std::fmt;
use std::str::FromStr;

use schemars::json_schema;

use super::{UnitError, as_text};
use crate::desired::{NameOrId, OnChange, User};

/// Highest user or group id: some programs keep ids in a signed number.
pub(crate) const ID_MAX: u32 = i32::MAX.unsigned_abs();

const EXAMPLE: &str = "write a name or a number, perhaps with a group: `app`, `1000`, `1000:100`";

impl FromStr for NameOrId {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let numeric = text.starts_with(|c: char| c.is_ascii_digit());
        if numeric {
            let plain = text.bytes().all(|b| b.is_ascii_digit());
            let canonical = text == "0" || !text.starts_with('0');
            let id = text
                .parse()
                .ok()
                .filter(|id| plain && canonical && *id <= ID_MAX);
            let message = format!("an id is a decimal number of at most {ID_MAX}");
            return id
                .map(Self::Id)
                .ok_or_else(|| UnitError::new(message, EXAMPLE));
        }
        let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let rest = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if first && rest && text.len() <= 32 {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(UnitError::new("not a user or group", EXAMPLE))
    }
}

impl fmt::Display for NameOrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl FromStr for User {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            user: user.parse()?,
            group,
        })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => self.user.fmt(f),
        }
    }
}

as_text!(
    User,
    "User",
    json_schema!({
        "anyOf": [
            {"type": "string",
             "pattern": "^([A-Za-z_][A-Za-z0-9_.-]*|[0-9]+)(:([A-Za-z_][A-Za-z0-9_.-]*|[0-9]+))?$"},
            {"type": "integer", "minimum": 0, "maximum": 2_147_483_647}
        ]
    })
);

impl FromStr for OnChange {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "restart" => Ok(Self::Restart),
            "none" => Ok(Self::Nothing),
            _ => match text.strip_prefix("signal:") {
                Some(signal) => signal.parse().map(Self::Signal),
                None => Err(UnitError::new(
                    "not a reaction to a changed file",
                    "write `restart`, `none` or a signal such as `signal:HUP`",
                )),
            },
        }
    }
}

impl fmt::Display for OnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart => f.write_str("restart"),
            Self::Nothing => f.write_str("none"),
            Self::Signal(signal) => write!(f, "signal:{signal}"),
        }
    }
}

as_text!(
    OnChange,
    "Reaction",
    json_schema!({"type": "string", "pattern": "^(restart|none|signal:[A-Z0-9+-]+)$"})
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_wrap_or_mislead_are_no_users() {
        for good in [
            "app",
            "0",
            "1000",
            "1000:100",
            "app:adm",
            "_x",
            "2147483647",
        ] {
            assert_eq!(good.parse::<User>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            ":",
            "0:",
            ":0",
            "-1",
            "2147483648",
            "4294967295",
            "4294967296",
            "0x0",
            "00",
            "1e3",
            "a b",
            "a:b:c",
            "é",
            "a/b",
            "a\n",
            "99999999999999999999",
            "1000a",
        ] {
            assert!(bad.parse::<User>().is_err(), "{bad}");
        }
    }
}
