//! One conversation with netfilter over netlink.

use std::io;
use std::time::Duration;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force,
    set_socket_timeout,
};
use rustix::net::{RecvFlags, recv};

use super::wire::{Heading, Message, Messages, Writer};

/// Bytes of the largest piece of an answer; the kernel makes pieces of 32 KiB at most
/// (`netlink_dump` in `af_netlink.c`).
const PIECE_BYTES: usize = 1 << 17;
/// Bytes that may wait in either direction. One batch must fit, about 200 bytes for each
/// element and rule.
const QUEUE_BYTES: usize = 1 << 25;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Shortest wait that a socket takes; none at all would be for ever.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// Subsystem and message of netfilter.
    pub(crate) kind: u16,
    /// Protocol family.
    pub(crate) family: u8,
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dump {
    /// All of it belongs to one moment.
    Whole,
    /// Something changed while it was made.
    Torn,
}

/// A socket that belongs to the network namespace of the thread that opened it.
pub(crate) struct Conversation {
    socket: Socket,
    sequence: u32,
    piece: Vec<u8>,
}

impl Conversation {
    /// Opens it; no wait for an answer is longer than `patience`.
    pub(crate) fn open(patience: Duration) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // Errors come without the message they are about.
        socket.set_cap_ack(true)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(patience.max(WAIT_MIN)))?;
        set_socket_send_buffer_size_force(&socket, QUEUE_BYTES)?;
        set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES)?;
        Ok(Self {
            socket,
            sequence: 0,
            piece: vec![0; PIECE_BYTES],
        })
    }

    /// Asks for one thing and returns its attributes.
    ///
    /// # Errors
    /// Also when it is not there (`ENOENT`).
    pub(crate) fn get(
        &mut self,
        question: Question,
        body: impl FnOnce(&mut Writer),
    ) -> io::Result<Vec<u8>> {
        let sequence = self.ask(question, 0, body)?;
        let mut answer = None;
        self.listen(sequence, |message| {
            if message.kind == NLMSG_ERROR {
                return refused(message).map(|()| true);
            }
            answer = Some(message.attributes().to_vec());
            Ok(true)
        })?;
        answer.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Asks for all of a kind and gives the attributes of each to `each`.
    pub(crate) fn dump(
        &mut self,
        question: Question,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Dump> {
        let sequence = self.ask(question, NLM_F_DUMP, body)?;
        let mut how = Dump::Whole;
        self.listen(sequence, |message| {
            if message.flags & NLM_F_DUMP_INTR != 0 {
                how = Dump::Torn;
            }
            match message.kind {
                NLMSG_ERROR | NLMSG_DONE => refused(message).map(|()| true),
                _ => {
                    each(message.attributes());
                    Ok(false)
                }
            }
        })?;
        Ok(how)
    }

    /// Has one thing done and waits until it is.
    pub(crate) fn act(
        &mut self,
        question: Question,
        body: impl FnOnce(&mut Writer),
    ) -> io::Result<()> {
        let sequence = self.ask(question, NLM_F_ACK, body)?;
        self.listen(sequence, |message| match message.kind {
            NLMSG_ERROR => refused(message).map(|()| true),
            _ => Ok(false),
        })
    }

    /// Sends messages that stand or fall together; the one numbered `last` asks for an
    /// acknowledgement.
    pub(crate) fn transact(&mut self, batch: &[u8], last: u32) -> io::Result<()> {
        self.send(batch)?;
        self.sequence = last;
        // The kernel answers while it is sent to, an error before the acknowledgement.
        loop {
            let length = self.receive()?;
            for message in Messages(self.piece.get(..length).unwrap_or(&[])) {
                if message.kind == NLMSG_ERROR {
                    refused(message)?;
                    if message.sequence == last {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn ask(
        &mut self,
        question: Question,
        flags: u16,
        body: impl FnOnce(&mut Writer),
    ) -> io::Result<u32> {
        self.sequence += 1;
        let mut writer = Writer::default();
        let heading = Heading {
            kind: question.kind,
            flags: NLM_F_REQUEST | flags,
            sequence: self.sequence,
            family: question.family,
            resource: 0,
        };
        writer.message(heading, body);
        self.send(&writer.finish())?;
        Ok(self.sequence)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::WriteZero))
        }
    }

    /// Gives what answers a question to `each` until that says that it was the last.
    fn listen(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(Message<'_>) -> io::Result<bool>,
    ) -> io::Result<()> {
        loop {
            let length = self.receive()?;
            for message in Messages(self.piece.get(..length).unwrap_or(&[])) {
                if message.sequence == sequence && each(message)? {
                    return Ok(());
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let piece = self.piece.as_mut_slice();
        match retry_on_intr(|| recv(&self.socket, &mut *piece, RecvFlags::TRUNC)) {
            Ok((_, length)) if length > self.piece.len() => {
                Err(io::Error::from(io::ErrorKind::FileTooLarge))
            }
            Ok((_, 0)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok((_, length)) => Ok(length),
            Err(rustix::io::Errno::AGAIN) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            Err(err) => Err(err.into()),
        }
    }
}

/// Returns the error that a message speaks of.
fn refused(message: Message<'_>) -> io::Result<()> {
    match message.verdict() {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}
