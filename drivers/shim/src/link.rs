//! The socket between shim and init: frames, some with descriptors.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use shim_proto::frame::{Frames, TooLong, encode};
use shim_proto::message::FRAME_BYTES_MAX;

/// Most descriptors one frame carries.
pub(crate) const DESCRIPTORS_MAX: usize = 16;
/// Most descriptors that wait for their frame.
const WAITING_MAX: usize = 4 * DESCRIPTORS_MAX;
/// Bytes taken from the socket at once.
const READ_BYTES: usize = 4096;

/// Why a link cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The other end is gone.
    Gone,
    /// The other end sent what is no message.
    Garbage,
}

/// One end of the link.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    frames: Frames,
    arrived: VecDeque<OwnedFd>,
    out: VecDeque<Outgoing>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

impl Link {
    /// Makes the end of a connected, non-blocking stream socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let (arrived, out) = (VecDeque::new(), VecDeque::new());
        Self {
            socket,
            frames: Frames::default(),
            arrived,
            out,
        }
    }

    /// Returns whether something waits to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        !self.out.is_empty()
    }

    /// Returns the descriptors that wait to be sent.
    pub(crate) fn sending(&self) -> impl Iterator<Item = &OwnedFd> {
        self.out.iter().flat_map(|outgoing| &outgoing.descriptors)
    }

    /// Queues a message; its descriptors arrive with it.
    pub(crate) fn push<M: prost::Message>(
        &mut self,
        message: &M,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), TooLong> {
        let mut bytes = Vec::new();
        encode(message, &mut bytes)?;
        self.out.push_back(Outgoing {
            bytes,
            sent: 0,
            descriptors,
        });
        Ok(())
    }

    /// Sends what the socket takes now.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        while let Some(first) = self.out.front_mut() {
            match first.send(&self.socket) {
                Ok(true) => {
                    self.out.pop_front();
                }
                Ok(false) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Broken::Gone),
            }
        }
        Ok(())
    }

    /// Takes in what has arrived. Call [`Link::next`] until it has nothing before the next.
    pub(crate) fn receive(&mut self) -> Result<(), Broken> {
        let mut bytes = [0; READ_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
        let got = match recvmsg(&self.socket, &mut slices, &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(Broken::Gone),
            Ok(got) => got,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.arrived.extend(descriptors);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) || self.arrived.len() > WAITING_MAX {
            return Err(Broken::Garbage);
        }
        if got.bytes == 0 {
            return Err(Broken::Gone);
        }
        self.frames.push(bytes.get(..got.bytes).unwrap_or_default());
        if self.frames.len() > FRAME_BYTES_MAX as usize + 2 * READ_BYTES {
            return Err(Broken::Garbage);
        }
        Ok(())
    }

    /// Takes the next message, if all of it is here.
    pub(crate) fn next<M: prost::Message + Default>(&mut self) -> Result<Option<M>, Broken> {
        self.frames.take().map_err(|_| Broken::Garbage)
    }

    /// Takes the descriptors that came with the message just taken.
    pub(crate) fn take_descriptors(&mut self, count: u32) -> Result<Vec<OwnedFd>, Broken> {
        let count = count as usize;
        if count > self.arrived.len() {
            return Err(Broken::Garbage);
        }
        Ok(self.arrived.drain(..count).collect())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Outgoing {
    /// Sends a part; true once all is sent. Descriptors go with the first byte.
    fn send(&mut self, socket: &OwnedFd) -> Result<bool, Errno> {
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        let count = send_with(socket, rest, &self.descriptors)?;
        self.descriptors.clear();
        self.sent += count;
        Ok(self.sent >= self.bytes.len())
    }
}

/// Sends what the socket takes now, descriptors with the first byte.
pub(crate) fn send_with(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptors: &[OwnedFd],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::TOOBIG);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}
