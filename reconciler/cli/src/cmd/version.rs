//! `reconciler version`.

use reconciler_daemon::api::wire::{PROTOCOL, Version};
use serde::Serialize;

use super::{Exit, Failure, Session};
use crate::args::VersionArgs;
use crate::client::AskError;
use crate::render::paint::Tone;
use crate::render::{Look, escape};

/// Both ends.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: Own,
    daemon: Option<Version>,
    /// Why there is no `daemon`.
    error: Option<String>,
}

/// This command.
#[derive(Debug, Serialize)]
struct Own {
    version: &'static str,
    protocol: u32,
}

/// Prints the version of this command and of the daemon.
///
/// # Errors
/// When standard output takes nothing; a daemon that does not answer is part of the answer.
pub(crate) fn version(session: &mut Session, args: &VersionArgs) -> Result<Exit, Failure> {
    let asked: Result<Version, AskError> = session.client()?.get("/version");
    let (daemon, error) = match asked {
        Ok(daemon) => (Some(daemon), None),
        Err(err) => (None, Some(err.to_string())),
    };
    let client = Own {
        version: env!("CARGO_PKG_VERSION"),
        protocol: PROTOCOL,
    };
    session.print(
        args.output,
        &Versions {
            client,
            daemon,
            error,
        },
        text,
    )?;
    Ok(Exit::Done)
}

fn text(versions: &Versions, look: &Look) -> String {
    let client = &versions.client;
    let mut out = format!("client  {}  protocol {}\n", client.version, client.protocol);
    if let Some(error) = &versions.error {
        out.push_str(&format!(
            "daemon  {}\n",
            look.paint.put(Tone::Dim, &escape::line(error))
        ));
    }
    let Some(daemon) = &versions.daemon else {
        return out;
    };
    let version = escape::line(&daemon.version);
    let instance = escape::line(&daemon.instance);
    let ready = if daemon.ready { "ready" } else { "starting" };
    let protocol = daemon.protocol;
    out.push_str(&format!(
        "daemon  {version}  protocol {protocol}  instance {instance}  {ready}\n"
    ));
    let (adopted, restarted) = (daemon.adopted, daemon.restarted);
    out.push_str(&format!(
        "        adopted {adopted}, restarted {restarted}\n"
    ));
    if daemon.protocol != client.protocol {
        let text = "daemon and command speak different protocols; update the older one";
        out.push_str(&format!("{}\n", look.paint.put(Tone::Warn, text)));
    }
    if let Some(why) = &daemon.safe_mode {
        let mark = look.paint.put(Tone::Warn, "notice:");
        out.push_str(&format!(
            "{mark} nothing is destroyed at present: {}\n",
            escape::line(why)
        ));
    }
    if let Some(held) = &daemon.held_deletes {
        let mark = look.paint.put(Tone::Warn, "notice:");
        let (count, source) = (held.names.len(), escape::line(&held.source));
        out.push_str(&format!(
            "{mark} {count} deletions from {source} are held back; \
             `reconciler sync --allow-deletes {count}` lets them go on\n"
        ));
    }
    out
}
