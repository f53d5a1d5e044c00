//! The resolvers of the host, for containers that name none.

use std::net::Ipv4Addr;

/// Where the host's resolvers stand. The second file names those behind a local stub, whose
/// address of 127.0.0.53 means somebody else inside a container (`systemd-resolved(8)`).
const PLACES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// Most resolvers that a C library asks (`resolv.conf(5)`, `MAXNS`).
const RESOLVERS_MAX: usize = 3;

/// Returns the host's resolvers that a container can reach; none if there are none.
pub(crate) fn of_host() -> Vec<Ipv4Addr> {
    let texts = PLACES
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok());
    let found = texts.map(|text| reachable(&text));
    found
        .into_iter()
        .find(|all| !all.is_empty())
        .unwrap_or_default()
}

fn reachable(text: &str) -> Vec<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    });
    servers
        .filter(|server: &Ipv4Addr| !server.is_loopback() && !server.is_unspecified())
        .take(RESOLVERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_means_the_container_itself_is_none() {
        let text = "# made\nnameserver 127.0.0.53\nnameserver fd00::1\nnameserver 10.0.0.2\n\
                    nameserver\t10.0.0.3 # spare\noptions edns0\nnameserver\nnameserver 0.0.0.0\n";
        assert_eq!(
            reachable(text),
            [[10, 0, 0, 2], [10, 0, 0, 3]].map(Ipv4Addr::from)
        );
        assert_eq!(
            reachable("nameserver 127.0.0.1\n"),
            [0; 0].map(|_: u8| Ipv4Addr::LOCALHOST)
        );
    }
}
