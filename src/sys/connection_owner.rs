//! The user who owns the other end of a connection between two programs of this machine.
//!
//! Linux lists each socket of the network namespace with the user who made it, in `/proc/net/tcp` and
//! `/proc/net/tcp6`. Both ends of a connection over loopback are in that list. Other systems have no
//! such list, and the owner is unknown there.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::user;

/// Whether the socket at `theirs`, whose other end is `ours`, belongs to another user than this
/// process's and root. `false` if the owner is unknown: on other systems, and for a socket that is
/// closed already, to which no answer can be sent.
pub fn is_another_users(ours: SocketAddr, theirs: SocketAddr) -> bool {
    let lists = ["/proc/net/tcp", "/proc/net/tcp6"];
    let owner = lists.iter().find_map(|list| {
        let text = super::files::read_text(list.as_ref()).ok()?;
        owner_in(&text, theirs, ours)
    });
    owner.is_some_and(|owner| owner != user::effective() && owner != user::ROOT)
}

/// Finds the owner of the open socket at `local`, whose other end is `remote`.
fn owner_in(list: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let forms = [written(local, false), written(local, true)];
    let ends = [written(remote, false), written(remote, true)];
    list.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (there, other) = (*fields.get(1)?, *fields.get(2)?);
        let is_it = forms.iter().zip(&ends).any(|(form, end)| form == there && end == other);
        // A socket that its program has closed has no inode, and is listed as root's.
        let is_open = *fields.get(9)? != "0";
        (is_it && is_open).then(|| fields[7].parse().ok()).flatten()
    })
}

/// Writes an address as the lists do: words in the byte order of the machine. A program may reach an
/// IPv4 address by an IPv6 socket; then the list has the mapped form.
fn written(address: SocketAddr, mapped: bool) -> String {
    let mut text = String::new();
    let octets = match address.ip() {
        IpAddr::V4(ip) if mapped => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    for word in octets.chunks_exact(4) {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        let _ = write!(text, "{word:08X}");
    }
    let _ = write!(text, ":{:04X}", address.port());
    text
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connection(address: &str) -> (TcpStream, TcpStream, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind(address).expect("a port");
        let ours = listener.local_addr().expect("an address");
        let theirs = TcpStream::connect(ours).expect("a connection");
        let peer = theirs.local_addr().expect("an address");
        (listener.accept().expect("a connection").0, theirs, ours, peer)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_owner_of_a_connection_over_loopback_is_found_until_it_is_closed() {
        for (address, list) in [("127.0.0.1:0", "/proc/net/tcp"), ("[::1]:0", "/proc/net/tcp6")] {
            let (accepted, theirs, ours, peer) = connection(address);
            let read = || super::super::files::read_text(list.as_ref()).expect("the list of the kernel");
            assert_eq!(owner_in(&read(), peer, ours), Some(user::effective()), "{address}");
            assert!(!is_another_users(ours, peer));
            drop(theirs);
            assert_eq!(owner_in(&read(), peer, ours), None, "{address}");
            drop(accepted);
        }
    }

    #[test]
    fn a_list_names_the_owner_of_the_exact_socket() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                    0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1001        0 71 1\n   \
                    1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 72 1\n   \
                    2: 0100007F:C351 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 1\n";
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let ours = at("127.0.0.1:8080");
        if cfg!(target_endian = "little") {
            assert_eq!(owner_in(list, at("127.0.0.1:50000"), ours), Some(1002));
            assert_eq!(owner_in(list, at("127.0.0.1:50001"), ours), None, "it is closed");
            assert_eq!(owner_in(list, at("127.0.0.1:50002"), ours), None);
        }
        assert_eq!(written(at("127.0.0.1:80"), true), written(at("[::ffff:127.0.0.1]:80"), false));
    }
}
