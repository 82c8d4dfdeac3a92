//! A DNS server that knows no name, and records each one that is asked for.

use std::{
    collections::BTreeSet,
    net::UdpSocket,
    sync::{Arc, Mutex, PoisonError},
};

/// The names that processes of this machine have asked for. It is a machine without a network, whose
/// resolver asks this server.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    /// Starts the server on its well-known port.
    pub(crate) fn record() -> Self {
        let names = Self::default();
        let socket = UdpSocket::bind("127.0.0.1:53").expect("port 53 is free: start this by tests/tools/run");
        let recorded = names.clone();
        std::thread::spawn(move || recorded.serve(&socket));
        names
    }

    /// Returns the names since the last call.
    pub(crate) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn serve(&self, socket: &UdpSocket) {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let Some((name, end)) = question(&packet[..length]) else { continue };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
            // RFC 1035 section 4.1.1: a response, recursion available, NXDOMAIN, and the question alone.
            packet[2] = 0x80 | (packet[2] & 0x79);
            packet[3] = 0x83;
            packet[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
            let _ = socket.send_to(&packet[..end], from);
        }
    }
}

/// Returns the name that a packet asks for, and the end of its question.
fn question(packet: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).into_owned());
        at += length;
    }
    (at + 4 <= packet.len()).then(|| (labels.join(".").to_lowercase(), at + 4))
}
