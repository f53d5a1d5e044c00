//! Values of arguments that are more than a word: a selector, a process of a container, a
//! moment, a length of time.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use specs::id::{Key, ProcessName};

/// Labels a container must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<(String, String)>);

/// A container, or one process of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogTarget {
    /// The container.
    pub(crate) key: Key,
    /// One of its processes; none for all.
    pub(crate) process: Option<ProcessName>,
}

/// A point in time, absolute or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At this time, milliseconds since the epoch.
    At(u64),
    /// So long before now.
    Ago(Duration),
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl Selector {
    /// Whether the labels satisfy every part.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Returns the form that the daemon reads.
    pub(crate) fn to_query(&self) -> Option<String> {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        (!parts.is_empty()).then(|| parts.join(","))
    }
}

impl FromStr for Selector {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|part| match part.split_once('=') {
                Some((key, value)) if !key.is_empty() && !value.contains('=') => {
                    Ok((key.to_owned(), value.to_owned()))
                }
                _ => Err(format!("`{part}` is not KEY=VALUE")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for LogTarget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, process) = match text.split_once('/') {
            Some((key, process)) => (key, Some(process)),
            None => (text, None),
        };
        let process = process
            .map(ProcessName::new)
            .transpose()
            .map_err(|err| err.to_string())?;
        Ok(Self {
            key: Key::new(key).map_err(|err| err.to_string())?,
            process,
        })
    }
}

impl Moment {
    /// Returns the point in milliseconds since the epoch.
    pub(crate) fn to_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(span) => {
                now_ms.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
}

impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(Span(span)) = text.parse() {
            return Ok(Self::Ago(span));
        }
        let stamp = Timestamp::from_str(text).map_err(|_| {
            "give a length of time like 10m or 2h30m, or a time like 2026-01-31T12:00:00Z"
                .to_owned()
        })?;
        u64::try_from(stamp.as_millisecond())
            .map(Self::At)
            .map_err(|_| "a time before 1970 is before any output".to_owned())
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        SignedDuration::from_str(text)
            .ok()
            .and_then(|span| Duration::try_from(span).ok())
            .map(Self)
            .ok_or_else(|| "give a length of time like 30s, 5m or 1h30m".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_wants_every_label() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".into(), "d".into())]);
        let check = |text: &str| text.parse::<Selector>().map(|s| s.matches(&labels));
        assert_eq!(check("a=b"), Ok(true));
        assert_eq!(check("a=b,c=d"), Ok(true));
        assert_eq!(check("a=b,c=x"), Ok(false));
        assert_eq!(check("x="), Ok(false));
        for bad in ["", "a", "=b", "a=b,", "a=b=c"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_log_target_is_a_container_or_one_process_of_it() {
        let target: LogTarget = "web/server".parse().unwrap();
        assert_eq!(target.key.as_str(), "web");
        assert_eq!(target.process.unwrap().as_str(), "server");
        assert_eq!("web".parse::<LogTarget>().unwrap().process, None);
        for bad in ["", "web/", "/x", "web/a/b", "../x"] {
            assert!(bad.parse::<LogTarget>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn moments_are_absolute_or_ago() {
        let now = 1_000_000;
        let at = |text: &str| text.parse::<Moment>().map(|moment| moment.to_ms(now));
        assert_eq!(at("10m"), Ok(400_000));
        assert_eq!(at("2h"), Ok(0));
        assert_eq!(at("1970-01-01T00:00:05Z"), Ok(5000));
        assert!(at("-5m").is_err());
        assert!(at("yesterday").is_err());
        assert!(at("1960-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn spans_have_units() {
        assert_eq!("90s".parse(), Ok(Span(Duration::from_secs(90))));
        assert_eq!("1h30m".parse(), Ok(Span(Duration::from_secs(5400))));
        for bad in ["", "5", "-1s", "x"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }
}
