//! The Unix sockets through which an agent could leave its sandbox.
//!
//! Before Linux 7.1 Landlock does not stop a process from connecting to a socket with a path. Only
//! the socket's own permissions do, and for them an agent is threadkey's user. The servers of some
//! sockets start programs for every client, outside any sandbox.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::percent_decode_str;
use tokio::net::UnixStream;

use super::finding::{Finding, Verdict};
use crate::{
    agent::{AgentSettings, Isolation},
    sys::{sandbox, user},
};

/// Sockets in a user's runtime folder: the session bus, the user's systemd, and containers without
/// root.
const USER_SOCKETS: &[&str] = &["bus", "systemd/private", "docker.sock", "podman/podman.sock"];
/// Sockets of the machine, for users with access to them.
const MACHINE_SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/incus/unix.socket",
];
/// The time that a server gets to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns a warning if agents can connect to such a socket.
///
/// There is none if the sandbox stops all connections. Without a sandbox another finding warns
/// already.
pub(super) async fn check(agent: &AgentSettings) -> Option<Finding> {
    if agent.isolation == Isolation::None || sandbox::governs_unix_sockets() {
        return None;
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for path in candidates(|name| std::env::var_os(name)) {
        let real = sandbox::resolve(&path).unwrap_or(path);
        if !found.contains(&real) && accepts_connections(&real).await {
            found.push(real);
        }
    }
    if found.is_empty() {
        return None;
    }
    let names: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
    let text = format!(
        "agents can connect to {}, where they can start programs outside their sandbox (Landlock stops such connections from \
         Linux 7.1 on). Run threadkey as a user of its own, without a desktop session, lingering, or the group docker",
        names.join(", ")
    );
    Some(Finding::new("agent sockets", Verdict::Warn, text))
}

/// Whether a server accepts connections on a socket.
pub(super) async fn accepts_connections(path: &Path) -> bool {
    matches!(tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await, Ok(Ok(_)))
}

fn candidates(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let text = |name| variable(name).and_then(|value: OsString| value.into_string().ok()).unwrap_or_default();
    let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let default_runtime = PathBuf::from(format!("/run/user/{}", user::effective()));
    let mut paths = bus_paths(&text("DBUS_SESSION_BUS_ADDRESS"));
    paths.extend(text("DOCKER_HOST").strip_prefix("unix://").map(PathBuf::from));
    for folder in runtime.into_iter().chain([default_runtime]) {
        paths.extend(USER_SOCKETS.iter().map(|name| folder.join(name)));
    }
    paths.extend(MACHINE_SOCKETS.iter().map(PathBuf::from));
    paths.retain(|path| path.is_absolute());
    paths
}

/// Returns the paths in a list of D-Bus addresses (D-Bus specification, "Server Addresses"). The
/// sandbox stops connections to abstract sockets, so they are left out.
fn bus_paths(addresses: &str) -> Vec<PathBuf> {
    let unix_addresses = addresses.split(';').filter_map(|address| address.strip_prefix("unix:"));
    let paths =
        unix_addresses.flat_map(|pairs| pairs.split(',')).filter_map(|pair| pair.strip_prefix("path="));
    paths.map(|path| percent_decode_str(path).decode_utf8_lossy().into_owned().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_paths_of_a_bus_come_from_its_addresses() {
        let none: [PathBuf; 0] = [];
        assert_eq!(bus_paths("unix:path=/run/user/1000/bus,guid=1"), [PathBuf::from("/run/user/1000/bus")]);
        assert_eq!(
            bus_paths("unix:abstract=/tmp/x;unix:guid=1,path=/a%20b;tcp:host=localhost"),
            [PathBuf::from("/a b")]
        );
        assert_eq!(bus_paths(""), none);
    }

    #[test]
    fn sockets_from_variables_and_at_default_paths_are_checked() {
        let variable = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some("/run/mine".into()),
            "DOCKER_HOST" => Some("unix:///home/mine/docker.sock".into()),
            "DBUS_SESSION_BUS_ADDRESS" => Some("unix:path=relative".into()),
            _ => None,
        };
        let all = candidates(variable);
        for path in ["/run/mine/bus", "/home/mine/docker.sock", "/run/docker.sock"] {
            assert!(all.contains(&path.into()), "{path}: {all:?}");
        }
        assert!(all.iter().all(|path| path.is_absolute()));
    }
}
