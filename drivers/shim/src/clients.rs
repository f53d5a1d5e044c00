//! Those who talk to the shim: daemons, one after the other, and whoever looks over their
//! shoulder.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};
use shim_proto::end::ShimEnd;
use shim_proto::message::{Answer, Ask, Hello};

use crate::link::send_with;
use crate::{host, kernel};

/// Most clients at once; a further one takes the place of the one that was silent longest.
const CLIENTS_MAX: usize = 8;
/// Bytes taken from a client at once.
const READ_BYTES: usize = 4096;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Never given twice.
    pub(crate) serial: u64,
    socket: OwnedFd,
    end: ShimEnd,
    heard_ms: u64,
    parcel: Option<Parcel>,
}

/// Descriptors that go with the first byte of an answer.
#[derive(Debug)]
struct Parcel {
    /// Bytes to be sent before that one.
    before: usize,
    descriptors: Vec<OwnedFd>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    all: Vec<Client>,
    last_serial: u64,
}

impl Clients {
    /// Takes everybody who waits. Only the host's root is let in (`unix(7)`, `SO_PEERCRED`).
    pub(crate) fn accept(&mut self, listener: &OwnedFd, me: &Hello) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(listener, flags) {
            if kernel::peer(&socket).is_ok_and(|peer| peer.uid == 0) {
                self.add(socket, me);
            }
        }
    }

    fn add(&mut self, socket: OwnedFd, me: &Hello) {
        if self.all.len() >= CLIENTS_MAX {
            let silent = self
                .all
                .iter()
                .enumerate()
                .min_by_key(|(_, client)| client.heard_ms);
            if let Some(index) = silent.map(|(index, _)| index) {
                self.all.remove(index);
            }
        }
        self.last_serial += 1;
        self.all.push(Client {
            serial: self.last_serial,
            socket,
            end: ShimEnd::new(me.clone()),
            heard_ms: host::boot_ms(),
            parcel: None,
        });
    }

    /// Returns each client.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.all.iter()
    }

    /// Takes in what a client sent; drops it if it is gone.
    pub(crate) fn receive(&mut self, serial: u64) {
        let Some(client) = self.find(serial) else {
            return;
        };
        if !client.receive() {
            self.all.retain(|client| client.serial != serial);
        }
    }

    /// Returns the next request of any client, with the serial to answer it by.
    pub(crate) fn poll_request(&mut self) -> Option<(u64, Ask)> {
        let mut free = self.all.iter_mut().filter(|client| client.parcel.is_none());
        free.find_map(|client| client.end.poll_request().map(|ask| (client.serial, ask)))
    }

    /// Answers a client, if it is still there.
    pub(crate) fn reply(&mut self, serial: u64, answer: Answer) {
        if let Some(client) = self.find(serial) {
            client.end.reply(answer);
        }
    }

    /// Answers a client and hands it descriptors, if it is still there.
    pub(crate) fn reply_with(&mut self, serial: u64, answer: Answer, descriptors: Vec<OwnedFd>) {
        if let Some(client) = self.find(serial) {
            // One at a time: no request is taken from a client that has one coming.
            let before = client.end.pending().len();
            client.end.reply(answer);
            client.parcel = Some(Parcel {
                before,
                descriptors,
            });
        }
    }

    /// Tells everybody that something changed.
    pub(crate) fn changed(&mut self) {
        self.all.iter_mut().for_each(|client| client.end.changed());
    }

    /// Sends what the sockets take now, and drops who is gone or done with.
    pub(crate) fn flush(&mut self) {
        self.all.retain_mut(|client| {
            client.flush() && !(client.end.is_closing() && client.end.pending().is_empty())
        });
    }

    /// Returns whether anybody has something to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.all
            .iter()
            .any(|client| !client.end.pending().is_empty())
    }

    fn find(&mut self, serial: u64) -> Option<&mut Client> {
        self.all.iter_mut().find(|client| client.serial == serial)
    }
}

impl Client {
    /// Returns whether it is worth asking whether it sent something.
    pub(crate) fn wants_bytes(&self) -> bool {
        self.end.wants_bytes()
    }

    /// Returns whether something waits to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        !self.end.pending().is_empty()
    }

    /// Takes in what has arrived; false if it is gone.
    fn receive(&mut self) -> bool {
        let mut bytes = [0; READ_BYTES];
        match rustix::io::read(&self.socket, &mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.heard_ms = host::boot_ms();
                self.end.receive(bytes.get(..count).unwrap_or_default());
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Sends what the socket takes now; false if it is gone.
    fn flush(&mut self) -> bool {
        while !self.end.pending().is_empty() {
            match self.send() {
                Ok(count) => self.end.sent(count),
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn send(&mut self) -> Result<usize, Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let pending = self.end.pending();
        match &mut self.parcel {
            None => rustix::net::send(&self.socket, pending, flags),
            Some(parcel) if parcel.before > 0 => {
                let first = pending.get(..parcel.before).unwrap_or(pending);
                let count = rustix::net::send(&self.socket, first, flags)?;
                parcel.before -= count;
                Ok(count)
            }
            Some(parcel) => {
                let count = send_with(&self.socket, pending, &parcel.descriptors)?;
                self.parcel = None;
                Ok(count)
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
