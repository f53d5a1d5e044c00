//! What is asked of `POST /containers/NAME/exec`.

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
