//! What rules are made of, as the kernel writes them back.
//!
//! Numbers after `include/uapi/linux/netfilter/nf_tables.h`.

use std::net::Ipv4Addr;

use super::wire::Writer;

/// `NFTA_LIST_ELEM`
pub(super) const LIST_ELEM: u16 = 1;
/// `NFTA_DATA_VALUE`
pub(super) const DATA_VALUE: u16 = 1;
/// `NFTA_DATA_VERDICT`
pub(super) const DATA_VERDICT: u16 = 2;
/// `NFTA_VERDICT_CODE`
pub(super) const VERDICT_CODE: u16 = 1;
/// `NFTA_VERDICT_CHAIN`
pub(super) const VERDICT_CHAIN: u16 = 2;
/// `NFTA_EXPR_NAME`
pub(super) const EXPR_NAME: u16 = 1;
/// `NFTA_EXPR_DATA`
pub(super) const EXPR_DATA: u16 = 2;

/// `NFPROTO_IPV4`
pub(super) const IPV4: u8 = 2;
/// `NFPROTO_IPV6`
pub(super) const IPV6: u8 = 10;
/// `RTN_LOCAL`, `rtnetlink.h`
const LOCAL: u32 = 2;
/// Bytes of a device's name as a register holds it (`IFNAMSIZ`).
pub(super) const DEVICE_BYTES: usize = 16;

/// A place for values between the expressions of one rule. Each holds 4 bytes; a longer value
/// goes on into those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// The verdict.
    Verdict = 0,
    /// `NFT_REG_1`, 16 bytes from the first one.
    First = 1,
    /// `NFT_REG_2`, 16 bytes from the fifth one.
    Fifth = 2,
    /// `NFT_REG32_01`, 4 bytes.
    Second = 9,
    /// `NFT_REG32_02`, 4 bytes.
    Third = 10,
}

/// `enum nft_meta_keys`
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    /// Name of the device that a packet came from.
    From = 6,
    /// Name of the device that it goes to.
    To = 7,
    /// `NFPROTO_*`, one byte.
    Family = 15,
    /// `IPPROTO_*`, one byte.
    Transport = 16,
}

/// `enum nft_cmp_ops`
#[derive(Clone, Copy, Debug)]
pub(super) enum Is {
    /// Equal.
    Equal = 0,
    /// Not equal.
    Other = 1,
    /// Not above.
    AtMost = 3,
    /// Not below.
    AtLeast = 5,
}

/// `enum nft_ct_keys`
#[derive(Clone, Copy, Debug)]
pub(super) enum Tracked {
    /// Bits of `nf_conntrack_common.h`, host order.
    State = 0,
    /// `enum ip_conntrack_dir`, one byte.
    Direction = 1,
    /// `enum ip_conntrack_status`, host order.
    Status = 2,
    /// Destination's port as it was dialled.
    OriginalPort = 12,
    /// Destination's address as it was dialled.
    OriginalAddress = 20,
}

/// `NF_CT_STATE_INVALID_BIT`
pub(super) const INVALID: u32 = 1;
/// `NF_CT_STATE_BIT` of a connection that was answered.
pub(super) const ESTABLISHED: u32 = 2;
/// `NF_CT_STATE_BIT` of what speaks of another connection.
pub(super) const RELATED: u32 = 4;
/// `NF_CT_STATE_BIT` of a connection's first packets.
pub(super) const NEW: u32 = 8;
/// `IPS_DST_NAT`
pub(super) const PUBLISHED: u32 = 1 << 5;

/// A piece of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    base: u32,
    offset: u32,
    length: u32,
}

impl Field {
    /// Source's address.
    pub(super) const SOURCE: Self = Self::network(12, 4);
    /// First byte of the source's address.
    pub(super) const SOURCE_NET: Self = Self::network(12, 1);
    /// Destination's address.
    pub(super) const TARGET: Self = Self::network(16, 4);
    /// First byte of the destination's address.
    pub(super) const TARGET_NET: Self = Self::network(16, 1);
    /// Destination's port.
    pub(super) const TARGET_PORT: Self = Self::transport(2, 2);
    /// Type of an ICMP message.
    pub(super) const ICMP_TYPE: Self = Self::transport(0, 1);
    /// Code of an ICMP message.
    pub(super) const ICMP_CODE: Self = Self::transport(1, 1);
    /// Type and code of an ICMP message.
    pub(super) const ICMP_BOTH: Self = Self::transport(0, 2);

    /// After the network's header began (`NFT_PAYLOAD_NETWORK_HEADER`).
    const fn network(offset: u32, length: u32) -> Self {
        Self {
            base: 1,
            offset,
            length,
        }
    }

    /// After the transport's header began (`NFT_PAYLOAD_TRANSPORT_HEADER`).
    const fn transport(offset: u32, length: u32) -> Self {
        Self {
            base: 2,
            offset,
            length,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is gone.
    Drop,
    /// Another chain decides, and this one where that does not.
    Jump(String),
    /// Another chain decides.
    Goto(String),
}

impl Verdict {
    /// Returns its code: `NF_*` or `NFT_*`, which are negative.
    pub(super) fn code(&self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => u32::MAX - 2,
            Self::Goto(_) => u32::MAX - 3,
        }
    }

    /// Returns the verdict that a code and a chain spell, where it is one of ours.
    pub(super) fn from_code(code: u32, chain: Option<&str>) -> Option<Self> {
        let all = [Self::Drop, Self::Accept];
        let named = chain.map(str::to_owned);
        let to = named.map(|chain| [Self::Jump(chain.clone()), Self::Goto(chain)]);
        let mut all = all.into_iter().chain(to.into_iter().flatten());
        all.find(|verdict| verdict.code() == code)
    }

    /// Writes it as data of an element or a rule.
    pub(super) fn write(&self, wire: &mut Writer) {
        wire.nest(DATA_VERDICT, |wire| {
            wire.number(VERDICT_CODE, self.code());
            if let Self::Jump(chain) | Self::Goto(chain) = self {
                wire.text(VERDICT_CHAIN, chain);
            }
        });
    }
}

/// The expressions of one rule, in order.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    wire: Writer,
}

impl Expressions {
    /// Returns them as the attributes of a list.
    pub(super) fn finish(self) -> Vec<u8> {
        self.wire.finish()
    }

    fn one(mut self, name: &str, body: impl FnOnce(&mut Writer)) -> Self {
        self.wire.nest(LIST_ELEM, |wire| {
            wire.text(EXPR_NAME, name);
            wire.nest(EXPR_DATA, body);
        });
        self
    }

    /// Loads what is known of a packet beside its bytes.
    pub(super) fn meta(self, key: Meta, into: Register) -> Self {
        self.one("meta", |wire| {
            wire.number(2, key as u32);
            wire.number(1, into as u32);
        })
    }

    /// Loads bytes of a packet.
    pub(super) fn payload(self, field: Field, into: Register) -> Self {
        self.one("payload", |wire| {
            wire.number(1, into as u32);
            wire.number(2, field.base);
            wire.number(3, field.offset);
            wire.number(4, field.length);
        })
    }

    /// Goes on only where the first register compares to a value like this.
    pub(super) fn compare(self, is: Is, value: &[u8]) -> Self {
        self.one("cmp", |wire| {
            wire.number(1, Register::First as u32);
            wire.number(2, is as u32);
            wire.nest(3, |wire| wire.attr(DATA_VALUE, value));
        })
    }

    /// Goes on only where a value loaded before lies between two, ends included.
    pub(super) fn between(self, first: &[u8], last: &[u8]) -> Self {
        if first == last {
            return self.compare(Is::Equal, first);
        }
        self.compare(Is::AtLeast, first).compare(Is::AtMost, last)
    }

    /// Goes on only with packets of a family (`NFPROTO_*`).
    pub(super) fn family(self, family: u8) -> Self {
        self.meta(Meta::Family, Register::First)
            .compare(Is::Equal, &[family])
    }

    /// Goes on only with packets of a protocol (`IPPROTO_*`).
    pub(super) fn protocol(self, protocol: u8) -> Self {
        self.meta(Meta::Transport, Register::First)
            .compare(Is::Equal, &[protocol])
    }

    /// Loads what is known of a packet's connection.
    pub(super) fn tracked(self, key: Tracked) -> Self {
        self.one("ct", |wire| {
            wire.number(2, key as u32);
            wire.number(1, Register::First as u32);
            if matches!(key, Tracked::OriginalPort | Tracked::OriginalAddress) {
                // `IP_CT_DIR_ORIGINAL`
                wire.attr(3, &[0]);
            }
        })
    }

    /// Goes on only where the packet's connection has one of these bits.
    pub(super) fn any_of(self, key: Tracked, bits: u32) -> Self {
        self.tracked(key)
            .one("bitwise", |wire| {
                wire.number(1, Register::First as u32);
                wire.number(2, Register::First as u32);
                wire.number(3, 4);
                wire.nest(4, |wire| wire.attr(DATA_VALUE, &bits.to_ne_bytes()));
                wire.nest(5, |wire| wire.attr(DATA_VALUE, &[0; 4]));
            })
            .compare(Is::Other, &[0; 4])
    }

    /// Goes on only with packets to who began the connection.
    pub(super) fn answering(self) -> Self {
        // `IP_CT_DIR_REPLY`
        self.tracked(Tracked::Direction).compare(Is::Equal, &[1])
    }

    /// Goes on only where a set holds what the registers hold.
    pub(super) fn lookup(self, set: &str) -> Self {
        self.one("lookup", |wire| {
            wire.text(1, set);
            wire.number(2, Register::First as u32);
        })
    }

    /// Loads what a map holds for what the registers hold; goes on only where it does.
    pub(super) fn map(self, map: &str, into: Register) -> Self {
        self.one("lookup", |wire| {
            wire.text(1, map);
            wire.number(2, Register::First as u32);
            wire.number(3, into as u32);
        })
    }

    /// Goes on only with packets to an address of the host's own.
    pub(super) fn dialling_host(self) -> Self {
        self.one("fib", |wire| {
            wire.number(1, Register::First as u32);
            // `NFT_FIB_RESULT_ADDRTYPE` of `NFTA_FIB_F_DADDR`
            wire.number(2, 3);
            wire.number(3, 2);
        })
        .compare(Is::Equal, &LOCAL.to_ne_bytes())
    }

    /// Ends with a verdict.
    pub(super) fn verdict(self, verdict: &Verdict) -> Self {
        self.one("immediate", |wire| {
            wire.number(1, Register::Verdict as u32);
            wire.nest(2, |wire| verdict.write(wire));
        })
    }

    /// Leads the connection to the address and port in the first two registers.
    pub(super) fn publish(self) -> Self {
        self.one("nat", |wire| {
            // `NFT_NAT_DNAT`
            wire.number(1, 1);
            wire.number(2, u32::from(IPV4));
            wire.number(3, Register::First as u32);
            wire.number(4, Register::First as u32);
            wire.number(5, Register::Second as u32);
            wire.number(6, Register::Second as u32);
            // `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`
            wire.number(7, 3);
        })
    }

    /// Gives the connection the source of the device that it leaves by.
    pub(super) fn masquerade(self) -> Self {
        self.one("masq", |_| ())
    }

    /// Writes the packet to the kernel's log.
    pub(super) fn log(self, prefix: &str) -> Self {
        self.one("log", |wire| {
            wire.text(2, prefix);
            // `LOGLEVEL_WARNING`, as where nothing is said.
            wire.number(5, 4);
        })
    }

    /// Ends with an answer that says that an administrator forbade it.
    pub(super) fn reject(self) -> Self {
        self.one("reject", |wire| {
            // `NFT_REJECT_ICMPX_UNREACH` with `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`
            wire.number(1, 2);
            wire.attr(2, &[3]);
        })
    }

    /// Loads a packet's device and source into registers that lie one after the other.
    pub(super) fn speaker(self) -> Self {
        self.meta(Meta::From, Register::First)
            .payload(Field::SOURCE, Register::Fifth)
    }

    /// Goes on only with connections that were dialled to this address or above, and to that
    /// one or below.
    pub(super) fn dialled(self, first: Ipv4Addr, last: Ipv4Addr) -> Self {
        self.tracked(Tracked::OriginalAddress)
            .between(&first.octets(), &last.octets())
    }
}
