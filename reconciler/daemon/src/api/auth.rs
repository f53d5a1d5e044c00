//! Who may ask what: the kernel says who the peer is, the config says what its group may do.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, User, getgrouplist};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// May see.
    pub(crate) read: Option<u32>,
    /// May give orders.
    pub(crate) write: Option<u32>,
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
        let is_in = |group: Option<u32>| group.is_some_and(|gid| groups.contains(&gid));
        if is_in(self.write) {
            Right::Write
        } else if is_in(self.read) {
            Right::Read
        } else {
            Right::Nothing
        }
    }

    /// Returns permission bits and group of the socket file.
    ///
    /// A file has one group. With two, the door stands open to every user and the check
    /// above is the only one: then as always it decides.
    pub(crate) fn socket_mode(&self) -> (u32, Option<u32>) {
        match (self.read, self.write) {
            (None, None) => (0o600, None),
            (Some(one), None) | (None, Some(one)) => (0o660, Some(one)),
            (Some(read), Some(write)) if read == write => (0o660, Some(read)),
            (Some(_), Some(_)) => (0o666, None),
        }
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

    const ACCESS: Access = Access {
        read: Some(60_001),
        write: Some(60_002),
    };

    fn right(uid: u32, gid: u32) -> Right {
        ACCESS.right(Peer { uid, gid })
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
        // `getgrouplist` of a user that every Debian has.
        let Ok(Some(user)) = User::from_name("nobody") else {
            return;
        };
        let access = Access {
            read: Some(user.gid.as_raw()),
            write: None,
        };
        let peer = Peer {
            uid: user.uid.as_raw(),
            gid: 60_009,
        };
        let member = groups_of(Peer {
            gid: user.gid.as_raw(),
            ..peer
        });
        assert!(member.contains(&user.gid.as_raw()));
        assert_eq!(
            access.right(Peer {
                gid: user.gid.as_raw(),
                ..peer
            }),
            Right::Read
        );
    }

    #[test]
    fn the_socket_file_is_roots_alone_unless_a_group_was_named() {
        assert_eq!(Access::default().socket_mode(), (0o600, None));
        let one = Access {
            read: Some(5),
            write: None,
        };
        assert_eq!(one.socket_mode(), (0o660, Some(5)));
        assert_eq!(ACCESS.socket_mode(), (0o666, None));
    }
}
