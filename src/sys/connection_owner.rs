//! The user who owns the other end of a connection between two programs of this machine.
//!
//! Linux lists each socket of the network namespace with the user who made it, in `/proc/net/tcp` and
//! `/proc/net/tcp6`. Both ends of a connection over loopback are in that list. Other systems have no
//! such list, and the owner is unknown there.
//!
//! Any user can make the list long, and the kernel may skip a row while sockets come and go. So the list
//! has no longest length, and a connection without a row is looked for once more and then refused.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufReader},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::user;

/// The kernel's lists. A program may reach an IPv4 address by an IPv6 socket, so both are read.
const LISTS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The owner of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The user with this id.
    User(u32),
    /// No list has the socket, or one cannot be read.
    NotFound,
    /// This system has no lists.
    Unknown,
}

/// Whether the socket at `theirs`, whose other end is `ours`, belongs to this process's user or to root.
/// Also `true` on a system without lists. `false` for a socket that is closed already, to which no
/// answer can be sent.
pub fn is_own_users(ours: SocketAddr, theirs: SocketAddr) -> bool {
    let look = || {
        owner(&LISTS.map(Path::new), theirs, ours).unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel's list of connections cannot be read");
            Owner::NotFound
        })
    };
    is_allowed(look)
}

/// Decides by one look, or by a second one after a look that found nothing.
fn is_allowed(mut look: impl FnMut() -> Owner) -> bool {
    let found = match look() {
        Owner::NotFound => look(),
        found => found,
    };
    match found {
        Owner::User(owner) => owner == user::effective() || owner == user::ROOT,
        Owner::NotFound => false,
        Owner::Unknown => true,
    }
}

/// Finds the owner of the open socket at `local`, whose other end is `remote`.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn owner(lists: &[&Path], local: SocketAddr, remote: SocketAddr) -> io::Result<Owner> {
    let mut owner = Owner::Unknown;
    for list in lists {
        let list = match File::open(list) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            list => list?,
        };
        match owner_in(BufReader::new(list), local, remote)? {
            Some(user) => return Ok(Owner::User(user)),
            None => owner = Owner::NotFound,
        }
    }
    Ok(owner)
}

/// Finds the owner in one list.
fn owner_in(list: impl io::BufRead, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
    let forms = [written(local, false), written(local, true)];
    let ends = [written(remote, false), written(remote, true)];
    let owner_in = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (there, other) = (*fields.get(1)?, *fields.get(2)?);
        let is_it = forms.iter().zip(&ends).any(|(form, end)| form == there && end == other);
        // A socket that its program has closed has no inode, and is listed as root's.
        let is_open = *fields.get(9)? != "0";
        (is_it && is_open).then(|| fields[7].parse().ok()).flatten()
    };
    for line in list.lines().skip(1) {
        let owner = owner_in(&line?);
        if owner.is_some() {
            return Ok(owner);
        }
    }
    Ok(None)
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
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (accepted, theirs, ours, peer) = connection(address);
            let find = || owner(&LISTS.map(Path::new), peer, ours).expect("the list of the kernel");
            assert_eq!(find(), Owner::User(user::effective()), "{address}");
            assert!(is_own_users(ours, peer));
            drop(theirs);
            assert_eq!(find(), Owner::NotFound, "{address}");
            assert!(!is_own_users(ours, peer), "{address}");
            drop(accepted);
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_list_names_the_owner_of_the_exact_socket() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                    0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1001        0 71 1\n   \
                    1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 72 1\n   \
                    2: 0100007F:C351 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 1\n";
        let owner_of =
            |theirs| owner_in(list.as_bytes(), at(theirs), at("127.0.0.1:8080")).expect("a readable list");
        if cfg!(target_endian = "little") {
            assert_eq!(owner_of("127.0.0.1:50000"), Some(1002));
            assert_eq!(owner_of("127.0.0.1:50001"), None, "it is closed");
            assert_eq!(owner_of("127.0.0.1:50002"), None);
        }
        assert_eq!(written(at("127.0.0.1:80"), true), written(at("[::ffff:127.0.0.1]:80"), false));
    }

    #[test]
    fn the_owner_is_found_in_a_list_of_any_length() {
        let (theirs, ours) = (at("127.0.0.1:50000"), at("127.0.0.1:8080"));
        let row = |local, inode| {
            format!("0: {local} {} 01 0:0 00:0 0 1002 0 {inode} 1{:70}\n", written(ours, false), "")
        };
        let mut list = "the names of the columns\n".to_owned();
        list.extend((0..50_000).map(|_| row(written(at("127.0.0.1:9"), false), 7)));
        assert!(list.len() as u64 > crate::sys::files::MAX_TEXT);
        list += &row(written(theirs, false), 8);
        let folder = tempfile::tempdir().expect("a folder");
        let (path, missing) = (folder.path().join("tcp"), folder.path().join("missing"));
        crate::sys::files::create_private(&path, list.as_bytes()).expect("a list");
        let find = |lists: &[&Path], theirs| owner(lists, theirs, ours);
        assert_eq!(find(&[&path, &missing], theirs).expect("a list"), Owner::User(1002));
        assert_eq!(find(&[&missing, &path], at("127.0.0.1:50001")).expect("a list"), Owner::NotFound);
        assert_eq!(find(&[&missing], theirs).expect("no list"), Owner::Unknown);
        find(&[folder.path()], theirs).expect_err("a folder has no lines");
    }

    #[test]
    fn a_connection_without_a_row_is_refused_after_a_second_look() {
        let decide = |looks: &[Owner]| {
            let mut looks = looks.iter();
            let is_allowed = is_allowed(|| *looks.next().expect("at most two looks"));
            (is_allowed, looks.len())
        };
        let own = Owner::User(user::effective());
        let anothers = Owner::User(user::effective() + 1);
        assert_eq!(decide(&[own]), (true, 0));
        assert_eq!(decide(&[Owner::User(user::ROOT)]), (true, 0));
        assert_eq!(decide(&[anothers]), (false, 0));
        assert_eq!(decide(&[Owner::Unknown]), (true, 0));
        assert_eq!(decide(&[Owner::NotFound, own]), (true, 0));
        assert_eq!(decide(&[Owner::NotFound, anothers]), (false, 0));
        assert_eq!(decide(&[Owner::NotFound, Owner::NotFound]), (false, 0));
    }
}
