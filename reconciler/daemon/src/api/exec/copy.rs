//! Copying files out of a container, and into it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use specs::desired::{NameOrId, User};

use super::{joined, life, upgrade};
use crate::api::auth::Peer;
use crate::api::problem::Refused;
use crate::api::routes::{App, body, key};
use crate::api::wire::{CopyAsk, CopyWay as Way};
use crate::host::{CopyWay, Copying, Task};

/// Longest path, in bytes (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

/// `POST /containers/NAME/copy`.
pub(in crate::api) async fn copy(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, Refused> {
    let key = key(&name)?;
    let upgrade = upgrade(&mut request)?;
    let ask: CopyAsk = body(request.into_body()).await?;
    let is_path = !ask.path.is_empty() && ask.path.len() <= PATH_BYTES_MAX;
    if !is_path || ask.path.contains('\0') {
        return Err(Refused::bad("there is no path in the container".to_owned()));
    }
    let way = match ask.way {
        Some(Way::Out) => CopyWay::Out { follow: ask.follow },
        Some(Way::In) => CopyWay::In { inside: ask.inside },
        None => return Err(Refused::bad("which way to copy is not said".to_owned())),
    };
    let user = match &ask.user {
        Some(user) => {
            let parsed: Result<User, _> = user.parse();
            parsed.map_err(|err| Refused::bad(format!("the user: {err}")))?
        }
        None => User {
            user: NameOrId::Id(0),
            group: None,
        },
    };
    if !app.seen().entries.contains_key(&key) {
        return Err(Refused::unknown(key.as_str()));
    }
    let place = app.execs.place()?;
    let copying = Copying {
        key: key.clone(),
        incarnation: life(&app, &key).await?,
        user,
        path: ask.path.clone(),
        way,
    };
    let running = app.execs.run(Task::Copying(copying)).await?;
    let pid = running.handle.pid;
    tracing::info!(%key, uid = peer.uid, pid, path = ask.path, way = ?ask.way, "copy");
    Ok(joined(upgrade, running, place))
}
