//! What is asked of `POST /containers/NAME/exec`, `copy` and `attach`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What to run in a container. What is not said is as it is for one of its processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecAsk {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Like which process; the first by name if none is said.
    pub process: Option<String>,
    /// Variables beside that process' own.
    pub env: BTreeMap<String, String>,
    /// `user[:group]`, names or numbers, looked up inside the root.
    pub user: Option<String>,
    /// Working directory inside the root.
    pub work_dir: Option<String>,
    /// On a terminal.
    pub terminal: Option<TerminalAsk>,
    /// Its standard input can be written to.
    pub input: bool,
}

/// A terminal for a command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TerminalAsk {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Kind, as `TERM` names it.
    pub kind: Option<String>,
}

/// Which files to copy, and which way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CopyAsk {
    /// Out of the container, or into it.
    pub way: Option<CopyWay>,
    /// From where, or to where, inside.
    pub path: String,
    /// On the way out: if the path is a link, what it leads to.
    pub follow: bool,
    /// On the way in: whatever the archive holds, into a directory that is there.
    pub inside: bool,
    /// As whom: `user[:group]`; else as root.
    pub user: Option<String>,
}

/// Which way files are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CopyWay {
    /// Their archive comes as output.
    Out,
    /// Their archive goes as input.
    In,
}

/// Which process to take part in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachAsk {
    /// Its name; none if there is one only.
    pub process: Option<String>,
    /// Write what it reads, which has to be open (`stdin: open`).
    pub input: bool,
    /// So many of the lines that it wrote before come first.
    pub tail: u32,
}
