//! The socket: who comes in, how many, how slowly.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::{Gid, chown};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::auth::{Access, Peer, Right};
use super::routes::{self, App};

/// Connections at once; more are closed at once and told nothing.
pub(crate) const CONNECTIONS_MAX: usize = 128;
/// Of these, open to others than root: root always gets in.
pub(crate) const CONNECTIONS_OTHERS_MAX: usize = 96;
/// Time for the head of a request, and for the next one on an open connection.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of a request's head at most.
const HEAD_BYTES: usize = 16 << 10;
/// A full table of descriptors is waited out, not spun on.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Somebody answers there.
    #[error("another daemon answers on {}", .0.display())]
    InUse(PathBuf),
    /// There is something else.
    #[error("{} is there and is no socket; nothing was removed", .0.display())]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("{what} {}", .path.display())]
    System {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Makes what is missing of the directories on the way to the socket, such that those who may
/// use it get there; what is there stays as it is.
///
/// # Errors
/// When the system refuses.
pub(crate) fn make_way(path: &Path, access: &Access) -> Result<(), ListenError> {
    let made = |directory: &Path| {
        let (socket, _) = access.socket_mode();
        let mode = if socket == 0o600 { 0o700 } else { 0o755 };
        match std::fs::create_dir(directory) {
            Ok(()) => std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)),
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(err) => Err(err),
        }
    };
    let above = path.ancestors().skip(1);
    let missing: Vec<&Path> = above
        .take_while(|directory| !directory.as_os_str().is_empty() && !directory.exists())
        .collect();
    for directory in missing.into_iter().rev() {
        made(directory).map_err(|source| ListenError::System {
            what: "make the directory of",
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Makes the socket. What an earlier daemon left is replaced when nobody answers there.
///
/// *Guarantees:* the path either holds a socket with its final owner and permissions, or
/// what it held before. Must be called inside the runtime.
///
/// # Errors
/// When something answers or lies there, or the system refuses.
pub(crate) fn listen(path: &Path, access: &Access) -> Result<UnixListener, ListenError> {
    let system = |what| {
        let path = path.to_owned();
        move |source| ListenError::System { what, path, source }
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NoSocket(path.to_owned()));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(ListenError::InUse(path.to_owned()));
        }
        Ok(_) | Err(_) => {}
    }
    make_way(path, access)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // Left by a process of the same number that was killed in between.
    drop(std::fs::remove_file(&temporary));
    let made = make(&temporary, access).and_then(|listener| {
        std::fs::rename(&temporary, path)?;
        Ok(listener)
    });
    if made.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    made.map_err(system("make the socket"))
}

fn make(temporary: &Path, access: &Access) -> std::io::Result<UnixListener> {
    let (mode, group) = access.socket_mode();
    let listener = UnixListener::bind(temporary)?;
    // Nobody knows the name yet: it gets its owner, then its permissions, then its place.
    if let Some(group) = group {
        chown(temporary, None, Some(Gid::from_raw(group)))?;
    }
    std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves until told to stop; then finishes nothing: every answer can be asked for again.
pub(crate) async fn serve(listener: UnixListener, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let all = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let others = Arc::new(Semaphore::new(CONNECTIONS_OTHERS_MAX));
    let mut connections = JoinSet::new();
    while !*stop.borrow_and_update() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!(err = %err, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(credentials) = stream.peer_cred() else {
            continue;
        };
        let peer = Peer {
            uid: credentials.uid(),
            gid: credentials.gid(),
        };
        let Ok(place) = Arc::clone(&all).try_acquire_owned() else {
            tracing::warn!(uid = peer.uid, "too many connections");
            continue;
        };
        let other = match peer.uid {
            0 => None,
            uid => match Arc::clone(&others).try_acquire_owned() {
                Ok(other) => Some(other),
                Err(_) => {
                    tracing::warn!(uid, "too many connections of others than root");
                    continue;
                }
            },
        };
        let app = Arc::clone(&app);
        connections.spawn(async move {
            connection(stream, peer, app).await;
            drop((place, other));
        });
    }
    connections.shutdown().await;
}

async fn connection(stream: UnixStream, peer: Peer, app: Arc<App>) {
    let access = app.access.clone();
    // The look-up may ask the network (LDAP); it must not hold up the runtime.
    let right = tokio::task::spawn_blocking(move || access.right(peer));
    let right = match tokio::time::timeout(HEAD, right).await {
        Ok(Ok(right)) => right,
        Ok(Err(_)) | Err(_) => Right::Nothing,
    };
    let service = routes::router(app)
        .layer(Extension(peer))
        .layer(Extension(right));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades()
        .await;
    if let Err(err) = served {
        tracing::debug!(uid = peer.uid, err = %err, "connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_use_the_socket_gets_there() {
        let place = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let facts = std::fs::metadata(place.path().join(name)).unwrap();
            facts.permissions().mode() & 0o777
        };
        let group = Access {
            read: vec![60_101],
            write: Vec::new(),
        };
        make_way(&place.path().join("a/b/sock"), &group).unwrap();
        assert_eq!((mode("a"), mode("a/b")), (0o755, 0o755));
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(place.path().join("a"), closed).unwrap();
        make_way(&place.path().join("a/b/sock"), &group).unwrap();
        assert_eq!(mode("a"), 0o700, "what is there stays as it is");
        make_way(&place.path().join("c/sock"), &Access::default()).unwrap();
        assert_eq!(mode("c"), 0o700);
    }
}
