//! Who may ask what: the kernel says who the peer is, the config says what its group may do.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use specs::config::Api;
use specs::desired::NameOrId;

/// What a peer may do. Ordered: each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    /// Nothing.
    Nothing,
    /// See everything but secrets.
    Read,
    /// Give orders too.
    Write,
}

/// Groups that may use the socket beside root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// May see.
    pub(crate) read: Vec<u32>,
    /// May give orders.
    pub(crate) write: Vec<u32>,
}

/// The process at the other end (`SO_PEERCRED`, `unix(7)`): as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Effective user.
    pub(crate) uid: u32,
    /// Effective group.
    pub(crate) gid: u32,
}

impl Access {
    /// Returns what the peer may do.
    ///
    /// Supplementary groups come from the user database, not from the peer's process: a pid
    /// may have become another process since. The look-up may block.
    pub(crate) fn right(&self, peer: Peer) -> Right {
        if peer.uid == 0 {
            return Right::Write;
        }
        let groups = groups_of(peer);
        let is_in = |allowed: &[u32]| allowed.iter().any(|gid| groups.contains(gid));
        if is_in(&self.write) {
            Right::Write
        } else if is_in(&self.read) {
            Right::Read
        } else {
            Right::Nothing
        }
    }

    /// Returns permission bits and group of the socket file.
    ///
    /// A file has one group. With several, the door stands open to every user and the check
    /// above is the only one: then as always it decides.
    pub(crate) fn socket_mode(&self) -> (u32, Option<u32>) {
        let mut groups: Vec<u32> = self.read.iter().chain(&self.write).copied().collect();
        groups.sort_unstable();
        groups.dedup();
        match groups.as_slice() {
            [] => (0o600, None),
            [one] => (0o660, Some(*one)),
            _ => (0o666, None),
        }
    }

    /// Returns the groups that the config names.
    ///
    /// # Errors
    /// When a group is not in the group database.
    pub(crate) fn from_config(api: &Api) -> Result<Self, String> {
        let ids = |groups: &[NameOrId]| {
            let ids: Result<Vec<u32>, String> = groups.iter().map(group_id).collect();
            ids
        };
        Ok(Self {
            read: ids(&api.read_groups)?,
            write: ids(&api.write_groups)?,
        })
    }
}

fn group_id(group: &NameOrId) -> Result<u32, String> {
    match group {
        NameOrId::Id(id) => Ok(*id),
        NameOrId::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => Err(format!("this host has no group {name}")),
            Err(err) => Err(format!("look up the group {name}: {err}")),
        },
    }
}

fn groups_of(peer: Peer) -> Vec<u32> {
    let mut groups = vec![peer.gid];
    if let Ok(Some(user)) = User::from_uid(Uid::from_raw(peer.uid))
        && let Ok(name) = CString::new(user.name)
        && let Ok(more) = getgrouplist(&name, Gid::from_raw(peer.gid))
    {
        groups.extend(more.into_iter().map(Gid::as_raw));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(read: &[u32], write: &[u32]) -> Access {
        Access {
            read: read.to_vec(),
            write: write.to_vec(),
        }
    }

    fn right(uid: u32, gid: u32) -> Right {
        access(&[60_001], &[60_002]).right(Peer { uid, gid })
    }

    #[test]
    fn root_may_do_everything_and_a_stranger_nothing() {
        assert_eq!(right(0, 0), Right::Write);
        assert_eq!(right(60_000, 60_000), Right::Nothing);
        assert_eq!(
            Access::default().right(Peer {
                uid: 60_000,
                gid: 0
            }),
            Right::Nothing
        );
    }

    #[test]
    fn a_group_has_what_it_was_given_and_no_more() {
        assert_eq!(right(60_000, 60_001), Right::Read);
        assert_eq!(right(60_000, 60_002), Right::Write);
        assert!(Right::Read < Right::Write);
    }

    #[test]
    fn groups_of_the_user_database_count() {
        // A member of a group by `/etc/group`, whatever its process says of its own.
        let user = User::from_name("nobody")
            .unwrap()
            .expect("every Debian has nobody");
        let peer = Peer {
            uid: user.uid.as_raw(),
            gid: 60_009,
        };
        let groups = groups_of(peer);
        assert!(groups.contains(&60_009));
        let stranger = Peer {
            uid: 60_000,
            gid: 60_009,
        };
        assert_eq!(groups_of(stranger), [60_009]);
    }

    #[test]
    fn the_socket_file_is_roots_alone_unless_a_group_was_named() {
        assert_eq!(Access::default().socket_mode(), (0o600, None));
        assert_eq!(access(&[5], &[]).socket_mode(), (0o660, Some(5)));
        assert_eq!(access(&[5], &[5]).socket_mode(), (0o660, Some(5)));
        assert_eq!(access(&[5], &[6]).socket_mode(), (0o666, None));
    }

    #[test]
    fn a_group_that_the_host_has_not_is_told() {
        let api = Api {
            read_groups: vec![NameOrId::Name("no-such-group-here".into())],
            ..Api::default()
        };
        assert!(Access::from_config(&api).is_err_and(|why| why.contains("no-such-group-here")));
    }
}
