//! Netlink's messages and attributes: written, walked, compared.
//!
//! Layout after `include/uapi/linux/netlink.h`: a message and an attribute begin with their
//! length, header included and padding not; both are padded to four bytes.

use std::ops::Range;

/// Set in the type of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that name it.
const KIND: u16 = 0x3fff;
/// Bytes before an attribute's payload.
const ATTRIBUTE_HEADER: usize = 4;
/// Bytes before a message's payload.
pub(crate) const MESSAGE_HEADER: usize = 16;
/// Bytes of netfilter's own header (`struct nfgenmsg`), which begins each payload.
pub(crate) const FAMILY_HEADER: usize = 4;

/// What begins a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heading {
    /// Subsystem and message of netfilter.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// Comes back in the answer.
    pub(crate) sequence: u32,
    /// Protocol family (`NFPROTO_*`, `AF_*`).
    pub(crate) family: u8,
    /// Subsystem a batch is for; else zero.
    pub(crate) resource: u16,
}

/// Bytes under construction.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Returns what was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Writes one message.
    pub(crate) fn message(&mut self, heading: Heading, body: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(heading.kind.to_ne_bytes());
        self.bytes.extend(heading.flags.to_ne_bytes());
        self.bytes.extend(heading.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([heading.family, 0]);
        self.bytes.extend(heading.resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - at).expect("BUG: a message of 4 GiB");
        self.patch(at..at + 4, &length.to_ne_bytes());
    }

    /// Writes one attribute.
    pub(crate) fn attr(&mut self, kind: u16, payload: &[u8]) {
        let length = Self::length(ATTRIBUTE_HEADER + payload.len());
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(payload);
        self.pad();
    }

    /// Writes a text and the zero that ends it.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    /// Writes a number in the network's order, as nearly all of nf_tables has them.
    pub(crate) fn number(&mut self, kind: u16, number: u32) {
        self.attr(kind, &number.to_be_bytes());
    }

    /// Writes an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        body(self);
        let length = Self::length(self.bytes.len() - at);
        self.patch(at..at + 2, &length.to_ne_bytes());
    }

    /// Writes attributes that were made before.
    pub(crate) fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend(attributes);
        self.pad();
    }

    fn length(bytes: usize) -> u16 {
        u16::try_from(bytes).expect("BUG: an attribute of 64 KiB")
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, place: Range<usize>, with: &[u8]) {
        if let Some(hole) = self.bytes.get_mut(place) {
            hole.copy_from_slice(with);
        }
    }
}

/// One attribute as read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    /// Its type, without the flags.
    pub(crate) kind: u16,
    /// Marked as holding attributes; the kernel does not always mark.
    pub(crate) nested: bool,
    /// What it holds.
    pub(crate) payload: &'a [u8],
}

/// Attributes one after the other; ends early where the bytes are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let kind = u16::from_ne_bytes(*kind);
        let length = usize::from(u16::from_ne_bytes(*length));
        let payload = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Attribute {
            kind: kind & KIND,
            nested: kind & NESTED != 0,
            payload,
        })
    }
}

/// Returns the payload of the first attribute of a type.
pub(crate) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(attributes)
        .find(|one| one.kind == kind)
        .map(|one| one.payload)
}

/// Returns what stands at the end of a path of attributes.
pub(crate) fn dig<'a>(attributes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(attributes, |at, kind| find(at, *kind))
}

/// Returns a number in the network's order.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// Returns the number of the first attribute of a type.
pub(crate) fn number_of(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, kind).and_then(number)
}

/// Returns the text that ends at the first zero.
pub(crate) fn text(payload: &[u8]) -> Option<&str> {
    let end = payload.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(payload.get(..end)?).ok()
}

/// Returns the text of the first attribute of a type.
pub(crate) fn text_of(attributes: &[u8], kind: u16) -> Option<&str> {
    find(attributes, kind).and_then(text)
}

/// Returns whether all that is wanted stands in what was found, and nothing else does but
/// attributes of zeroes, which the kernel writes for what was left out.
pub(crate) fn contains(found: &[u8], wanted: &[u8]) -> bool {
    let is_there = Attributes(wanted).all(|one| {
        let mut same = Attributes(found).filter(|other| other.kind == one.kind);
        let (Some(other), None) = (same.next(), same.next()) else {
            return false;
        };
        if one.nested {
            contains(other.payload, one.payload)
        } else {
            other.payload == one.payload
        }
    });
    let is_known = |other: Attribute<'_>| {
        let is_wanted = Attributes(wanted).any(|one| one.kind == other.kind);
        is_wanted || other.payload.iter().all(|byte| *byte == 0)
    };
    is_there && Attributes(found).all(is_known)
}

/// One message as read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// Of the question.
    pub(crate) sequence: u32,
    /// All after the header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns the attributes after netfilter's own header.
    pub(crate) fn attributes(&self) -> &'a [u8] {
        self.payload.get(FAMILY_HEADER..).unwrap_or(&[])
    }

    /// Returns the number that begins an acknowledgement or ends a dump: zero, or a negated
    /// `errno`.
    pub(crate) fn verdict(&self) -> i32 {
        let first = self.payload.first_chunk::<4>();
        first.map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    }
}

/// Messages one after the other; ends early where the bytes are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (flags, rest) = rest.split_first_chunk::<2>()?;
        let (sequence, _) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let payload = self.0.get(MESSAGE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message {
            kind: u16::from_ne_bytes(*kind),
            flags: u16::from_ne_bytes(*flags),
            sequence: u32::from_ne_bytes(*sequence),
            payload,
        })
    }
}
