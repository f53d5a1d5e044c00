//! Arguments of the commands about what lies in the store.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use specs::id::Key;

use super::{Format, WaitArgs};

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Files, directories, or `-`: all of them are taken, or none
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Only show what would be done
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Which containers
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Key>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Only this container
    pub(crate) name: Option<Key>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Which container
    pub(crate) name: Key,
    /// Which generations, as @3..@5 [default: the newest and the one before]
    #[arg(value_name = "@FROM..@TO")]
    pub(crate) between: Option<Between>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Which container
    pub(crate) name: Key,
    /// Which generation [default: the newest that differs from what stands]
    #[arg(long, value_name = "GENERATION")]
    pub(crate) to: Option<u64>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// Two generations, as `@3..@5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Between {
    /// From which.
    pub(crate) from: u64,
    /// To which.
    pub(crate) to: u64,
}

impl FromStr for Between {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.strip_prefix('@')?.parse().ok();
        let both = text.split_once("..");
        let both = both.and_then(|(from, to)| Some((number(from)?, number(to)?)));
        let (from, to) = both.ok_or("two generations read @3..@5")?;
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generations_are_read_strictly() {
        assert_eq!("@3..@5".parse(), Ok(Between { from: 3, to: 5 }));
        assert_eq!("@5..@3".parse(), Ok(Between { from: 5, to: 3 }));
        for bad in [
            "", "3..5", "@3", "@3..", "@3..@", "@3...@5", "@-1..@2", "@3..@5 ",
        ] {
            assert!(bad.parse::<Between>().is_err(), "{bad}");
        }
    }
}
