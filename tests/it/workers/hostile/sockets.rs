//! Attempts to learn the secret name of the sibling's folder from the machine's list of Unix sockets.

use std::{fs, io, os::unix::ffi::OsStrExt as _};

use super::{Attempts, Targets};

pub(super) fn attempts(targets: &Targets, all: &mut Attempts) {
    let name = targets.sibling_folder.file_name().expect("a random name").as_bytes();
    // The folder in `/proc` of the worker's first process is the one that its sandbox knows.
    let parent = std::os::unix::process::parent_id();
    for (attempt, path) in [
        ("find the sibling's socket by /proc", format!("/proc/{parent}/net/unix")),
        ("find the sibling's socket by /proc of a thread", format!("/proc/{parent}/task/{parent}/net/unix")),
    ] {
        all.push((attempt.to_owned(), fs::read(path).and_then(|list| find(&list, name))));
    }
    all.push((
        "find the sibling's socket by a diagnosis".to_owned(),
        diagnosis().and_then(|l| find(&l, name)),
    ));
    // A ring creates such a socket without the system call.
    let mut parameters = [0_u8; 120];
    // SAFETY: the buffer has the length of the parameters and outlives the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    all.push(("make a ring of operations".to_owned(), super::outcome(ring)));
}

fn find(list: &[u8], name: &[u8]) -> io::Result<String> {
    let is_found = list.windows(name.len()).any(|part| part == name);
    if is_found { Ok("its folder".to_owned()) } else { Err(io::Error::other("it is not in the list")) }
}

/// Asks the kernel for all Unix sockets with their names (`sock_diag(7)`).
fn diagnosis() -> io::Result<Vec<u8>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST_DUMP: u16 = 0x301;
    const SHOW_NAME: u32 = 1;
    let mut request = Vec::new();
    request.extend(40_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(SHOW_NAME.to_ne_bytes());
    request.extend([0; 8]);
    let mut all = Vec::new();
    // SAFETY: plain numbers, and buffers of the given length.
    unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_DGRAM, libc::NETLINK_SOCK_DIAG);
        if socket < 0 || libc::send(socket, request.as_ptr().cast(), request.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut buffer = vec![0_u8; 65_536];
        loop {
            let length = libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT);
            let Ok(length @ 1..) = usize::try_from(length) else { break };
            all.extend_from_slice(&buffer[..length]);
        }
        libc::close(socket);
    }
    Ok(all)
}
