//! The web browser of the user who runs this program.

use std::{
    env, io,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

/// Whether this process has a desktop with a browser. A session over SSH has none: the browser of its
/// user is on another machine.
pub fn is_here() -> bool {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_remote = is_set("SSH_CONNECTION") || is_set("SSH_TTY");
    !is_remote && (cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"))
}

/// Opens a page in the browser, by the system's own opener and without a shell. The opener outlives
/// this process, and Ctrl-C does not reach it.
///
/// Other users of the machine can read `address` in the arguments of the opener and the browser. So it
/// must be of no use to them.
///
/// # Errors
/// The system's, for example without an opener.
#[expect(clippy::disallowed_methods, reason = "sys/ is where processes are started")]
pub fn open(address: &str) -> io::Result<()> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(opener);
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn()?;
    // A thread reaps the opener. It ends with this process if the opener is still there.
    std::thread::spawn(move || child.wait());
    Ok(())
}
