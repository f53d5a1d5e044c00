//! Stable codes, each with a page for `explain CODE`.

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $text:literal;)*) => {
        /// What kind of finding. The text form is stable over releases.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the stable text, for example `E0201`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// Returns what it means in one line.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }

        /// Returns the page of a code, for example of `E0201`.
        #[must_use]
        pub fn explain(code: &str) -> Option<&'static str> {
            match code {
                $($code => Some(concat!($code, ": ", $title, "\n\n", $text, "\n")),)*
                _ => None,
            }
        }
    };
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

// Ranges: 01 the text, 02 single fields, 03 fields together, 04 policy, 05 config,
// 06 resolving. A code is never given a second meaning; a retired one stays a gap.
codes! {
    TooLarge = "E0101", "the file is too large",
        "A file holds at most 1 MiB (1048576 bytes). Larger ones are refused before they are\n\
         read, so that no text can cost more than a moment. Put containers into files of\n\
         their own, and large contents into a volume or a bind mount instead of `files`.";
    NotUtf8 = "E0102", "the file is not UTF-8",
        "Specs are UTF-8 text. The place given is the first byte that is not. Save the file\n\
         again as UTF-8; binary content cannot be given in `files`.";
    Character = "E0103", "a character that may not be in a file",
        "NUL, other control characters, U+0085, U+2028, U+2029 and a byte order mark anywhere\n\
         but at the very beginning are refused: readers of YAML do not agree on what they\n\
         mean. Inside double quotes most of them can be written as an escape, for example\n\
         `\"\\u2028\"`; NUL cannot, because the kernel ends a text there.";
    Syntax = "E0104", "the text is not YAML",
        "The file could not be read as YAML 1.2. Usual causes: a tab in the indentation, a\n\
         key whose colon has no space after it, lines that do not line up, a quote or bracket\n\
         that is not closed. Nothing of the file is taken; containers that came from it stay\n\
         as they are.";
    TooDeep = "E0105", "nested too deeply",
        "A file nests at most 32 levels. No field of a spec needs more than nine.";
    TooManyNodes = "E0106", "too many values",
        "A file holds at most 50000 keys and values together, and a single text in quotes or a\n\
         single `[...]` or `{...}` at most 50000 separators. Put containers into files of\n\
         their own; write a large text as a block (`|`).";
    TooManyDocuments = "E0107", "too many documents",
        "A file holds at most 64 documents (parts set apart by `---`).";
    Anchor = "E0108", "anchors and aliases are not allowed",
        "`&name` and `*name` let a short text stand for a huge one, and let one edit change\n\
         several containers unseen. Write the value out where it is needed. A text that\n\
         begins with `&` or `*` is meant? Put it in quotes.";
    Tag = "E0109", "tags are not allowed",
        "`!name` and `!!type` change what a value means, and readers differ in what they make\n\
         of it. Remove the tag. A text that begins with `!` is meant? Put it in quotes.";
    MergeKey = "E0110", "merge keys are not allowed",
        "`<<` mixes one mapping into another, differently in each version of YAML. Write the\n\
         keys out.";
    DuplicateKey = "E0111", "a key is given twice",
        "A mapping has each key once. Most readers silently take the last one, so a limit or\n\
         a mount option can vanish by accident. Remove one of the two.";
    KeyShape = "E0112", "a key must be plain text on one line",
        "Keys are plain or quoted text on one line. Lists, mappings, block texts and texts\n\
         over several lines as keys are refused.";
    ReadersDisagree = "E0113", "the text can be read in more than one way",
        "Two independent readers look at every file, and a file counts only when they agree.\n\
         This one was taken by the first and refused by the second. Write the line in a\n\
         simpler form: usually quotes around a text settle it.";
    NoDocument = "E0114", "nothing here that could be a document",
        "A file holds one or more documents, each a mapping that begins with `apiVersion:`.\n\
         An empty file is refused and not taken as \"no containers wanted\", because an empty\n\
         file is also what a half-finished save looks like. To remove containers, remove the\n\
         file or the document.";
    TooMany = "E0199", "more faults than are shown",
        "At most 100 faults are shown for a file. Repair these and look again.";
    UnknownField = "E0201", "unknown field",
        "Every field that is accepted has an effect, so a field that nobody knows is an error\n\
         and not a comment. Often it is a slip of the fingers (the help names the nearest\n\
         field) or stands at the wrong level: compare the indentation with its neighbours.\n\
         `reconciler explain spec` lists all.";
    NotSupportedYet = "E0202", "not supported yet",
        "This field belongs to the format and is not built yet in this release. It is\n\
         refused, because accepting it without effect would promise something that does not\n\
         happen.";
    MissingField = "E0203", "a field is missing",
        "The field has no default and must be given.";
    NoValue = "E0204", "a key without a value",
        "A key with nothing after it (or `null`, or `~`) could mean \"the default\" or\n\
         \"nothing at all\". Give a value, or remove the key to get the default. An empty\n\
         text is written `\"\"`, an empty list `[]`, an empty mapping `{}`.";
    WrongKind = "E0205", "another kind of value is expected",
        "A mapping (`key: value` lines), a list (`- item` lines) or a single value stands\n\
         where one of the others belongs.";
    NotOneOf = "E0206", "not one of the words allowed here",
        "The field takes one of a few words, in exactly this spelling.";
    Quantity = "E0207", "not a quantity",
        "Sizes and times need a unit, for example `256Mi`, `500m`, `30s`, because a bare\n\
         number is easily misread: is `memory: 512` bytes or mebibytes? Sizes: B, Ki, Mi, Gi,\n\
         Ti, Pi (powers of 1024), k, M, G, T, P (powers of 1000). Processors: `500m` or\n\
         `0.5`. Times: ms, s, m, h, d. Only `0` needs no unit.";
    Number = "E0208", "not a whole number in the range allowed here",
        "The field takes a whole number in decimal digits, without quotes, sign, point or\n\
         exponent.";
    Boolean = "E0209", "neither true nor false",
        "The field takes `true` or `false`, without quotes. `yes`, `no`, `on` and `off` are\n\
         texts in YAML 1.2 and booleans in YAML 1.1, and are refused for that reason.";
    NeedsQuotes = "E0210", "must be in quotes",
        "Without quotes this value is a number to some readers of YAML, and a different one\n\
         to others (`0644` is octal, decimal or text). Put it in quotes.";
    Name = "E0211", "not a name",
        "Names of containers, processes and volumes are DNS labels: 1 to 63 lower-case\n\
         letters, digits and `-`, not beginning or ending with `-`.";
    Path = "E0212", "not a path that can be used here",
        "Paths are absolute and normalised: they begin with `/`, have no `.`, `..` or empty\n\
         part, no slash at the end, and at most 4095 bytes. What a path means can then be\n\
         seen from its text.";
    User = "E0213", "not a user",
        "A user is a name or a number from 0 to 2147483647, perhaps followed by `:` and a\n\
         group of the same form. Names are looked up inside the container's root.";
    EnvName = "E0214", "not a name of an environment variable",
        "Names of variables have letters, digits, `_`, `.` and `-`, do not begin with a\n\
         digit, and have at most 256 characters.";
    Capability = "E0215", "not a capability",
        "Capabilities are given as in capabilities(7), with or without `CAP_`, for example\n\
         `NET_ADMIN`. `drop` also takes `ALL`.";
    Sysctl = "E0216", "not a kernel setting of the container's own",
        "Only settings that the kernel keeps apart per namespace can be given: kernel.shm*,\n\
         kernel.msg*, kernel.sem, fs.mqueue.* and, with a network namespace of its own,\n\
         net.*. All others would change the whole host.";
    Device = "E0217", "not a device",
        "A device is a path below /dev; `access` has each of the letters r, w, m at most\n\
         once.";
    Label = "E0218", "not a label",
        "Keys of labels and annotations have 1 to 128 letters, digits and `.`, `_`, `/`, `-`,\n\
         beginning and ending with a letter or digit. Values of labels have at most 63\n\
         characters of the same kind but `/`.";
    TextShape = "E0219", "not a text that can be used here",
        "The text is too long, is empty where something is needed, or holds a character (NUL,\n\
         or a line end) that cannot be passed on.";
    HostName = "E0220", "not a host name",
        "A host name has at most 64 characters: DNS labels, joined by dots.";
    Group = "E0221", "not a group",
        "A group of the host is given by its name or its number.";
    Address = "E0222", "not an address that can be used here",
        "Containers have IPv4 addresses of single hosts: not 0.0.0.0, not a loopback, multicast\n\
         or broadcast address. In `network.hosts` an address of either version will do.";
    Target = "E0223", "not a destination",
        "A destination is an IPv4 address, a network such as `10.0.0.0/8` with nothing set\n\
         below its prefix, or a range such as `10.0.0.1-10.0.0.9`.";
    Ports = "E0224", "not a port",
        "Ports are numbers from 1 to 65535, or ranges such as `8000-9000`.";
    Repeated = "E0301", "the same name twice in one container",
        "Processes have distinct names, mounts distinct paths, files distinct paths, devices\n\
         distinct paths, published ports distinct ports of the host.";
    ExactlyOne = "E0302", "exactly one of several fields is needed",
        "The fields named exclude each other, and one of them must be there.";
    NoEffect = "E0303", "a field that would have no effect here",
        "Beside the other fields given, this one could do nothing. A field without effect is\n\
         an error and not a comment: someone wrote it because they expect something of it.";
    Order = "E0304", "two values contradict each other",
        "One of the two values must not be larger than the other.";
    MountPath = "E0305", "nothing may be mounted here",
        "`/`, `/proc`, `/sys`, `/dev` and what lies below them belong to the runtime: a mount\n\
         there would hide what keeps a container apart from the host. Only a tmpfs on\n\
         `/dev/shm` is allowed.";
    FilePath = "E0306", "no file may be placed here",
        "Files are written by the daemon, so they go into the container's own root only: not\n\
         below `/proc`, `/sys`, `/dev`, not onto a mount, and not below a bind mount, where\n\
         they would land on the host.";
    Conflict = "E0307", "two fields contradict each other",
        "The two fields named ask for opposite things.";
    DuplicateName = "E0308", "a container name is claimed twice",
        "`metadata.name` is unique over all files and sources. The container that already\n\
         runs under the name keeps running; the newcomer is refused until one of the two has\n\
         another name.";
    DuplicateVolume = "E0309", "a volume is claimed by two containers",
        "A named volume belongs to one container: its files carry the ids of that container's\n\
         range. Give the second container a volume of its own, or share a host directory with\n\
         a bind mount.";
    DuplicatePort = "E0310", "a port of the host is claimed twice",
        "A port of the host leads to one container. A port on every address of the host also\n\
         claims it on each of them. The container that has it keeps it; the newcomer is refused\n\
         until one of the two has another port.";
    DuplicateAddress = "E0311", "an address is claimed by two containers",
        "`network.address` belongs to one container. The one that has it keeps it.";
    Incomplete = "E0312", "a rule that does not say all of what it opens",
        "A rule of `egress.allow` for tcp or udp names its ports, one for icmp its type and code.\n\
         What is left out never means more: `1-65535` and `any` say so, `protocol: all` too.";
    UnknownDependency = "E0320", "a dependency on something that is not there",
        "`dependsOn` of a process names other processes of the same container, as they are\n\
         written under `processes`. To wait for another container, use `spec.dependsOn`.";
    DependencyCycle = "E0321", "things wait for each other in a circle",
        "Each of the circle would wait for the next, so none could ever start. Remove\n\
         `dependsOn` from one of them. Over containers, the specs that stand keep standing; the\n\
         one that closes the circle is refused.";
    NeverCompletes = "E0322", "a wait for an end that never comes",
        "`condition: completed` waits until the other has ended with code 0, and a process whose\n\
         `restart.policy` is `always` (the default) is started again each time it ends. Give it\n\
         the policy `onFailure` or `never`, or wait for `started` or `healthy`.";
    PolicyBind = "E0401", "the policy does not allow this bind mount",
        "A rule of `policy` in config.yaml lists in `bindRoots` which host directories may be\n\
         bound, and which of them with writing. Without a rule none may. Ask the\n\
         administrator of the host.";
    PolicyRootfs = "E0402", "the policy does not allow this root directory",
        "`rootfsRoots` of the policy lists below which host directories a root file system\n\
         may lie. Without the list any directory will do but those that hold the host's own\n\
         secrets and devices.";
    PolicyPrivileged = "E0403", "the policy does not allow privileged containers",
        "A privileged container can take over the host. `privileged: true` must be granted by\n\
         a rule of `policy` in config.yaml.";
    PolicyUserNamespace = "E0404", "the policy does not allow the host's user namespace",
        "With `namespace: host` root in the container is root on the host.\n\
         `hostUserNamespace: true` must be granted by a rule of `policy` in config.yaml.";
    PolicyNetwork = "E0405", "the policy does not allow the host's network",
        "With `mode: host` the container sees and uses every address of the host. The rule\n\
         that applies has `hostNetwork: false`.";
    PolicyDevice = "E0406", "the policy does not allow this device",
        "`devices` of the policy lists which host devices may be used, and how.";
    PolicyCapability = "E0407", "the policy does not allow this capability to be added",
        "`capabilities` of the policy lists which may be added to the base set.";
    PolicySeccomp = "E0408", "the policy does not allow this seccomp setting",
        "Running without a system call filter needs `seccompUnconfined: true` in the policy;\n\
         a profile of one's own must lie below one of its `seccompRoots`.";
    PolicySysctl = "E0409", "the policy does not allow this kernel setting",
        "`sysctls` of the policy lists which may be set; `*` at the end of an entry stands\n\
         for any rest.";
    PolicyLimit = "E0410", "the policy has a lower ceiling",
        "`limits` of the policy holds ceilings. A limit above its ceiling is refused, and so\n\
         is none at all, because that would be unlimited.";
    PolicyPort = "E0411", "the policy does not allow this port to be published",
        "`ports` of the policy lists which ports of the host may lead to containers. Without\n\
         the list any may that nobody else has.";
    ConfigPool = "E0501", "an id pool that cannot be used",
        "Pools are ranges of user and group ids that no one else on the host uses. They do\n\
         not overlap, hold at least one container's share, begin above 65535 and end at or\n\
         below 2147483647.";
    ConfigRule = "E0502", "a policy rule that can never apply",
        "The first rule that matches decides. A rule after one that matches everything it\n\
         could match is a mistake.";
    ConfigAddresses = "E0503", "an address pool that cannot be used",
        "Pools of addresses are IPv4 networks that nobody else on the host or beside it uses.\n\
         They do not overlap, and have a prefix from /8 to /30.";
    NoIdRange = "E0601", "no id range was chosen",
        "A container with its own user namespace needs a range of ids from the pools in\n\
         config.yaml, and none is free. Add a pool, or remove containers.";
    SeccompProfile = "E0602", "the seccomp profile could not be used",
        "The file named by `security.seccomp` was not read when the spec was accepted.";
    NoAddress = "E0603", "no address was chosen",
        "A container with an isolated network needs an address from `pools.addresses` in\n\
         config.yaml, and none is free. Add a pool, or remove containers.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_and_no_two_are_equal() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            let page = explain(code.as_str()).unwrap();
            assert!(page.starts_with(code.as_str()) && page.contains(code.title()));
        }
        assert_eq!(explain("E0000"), None);
    }
}
