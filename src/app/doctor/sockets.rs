//! The Unix sockets by which an agent could leave its sandbox.
//!
//! Before Linux 7.1 Landlock does not keep a process from connecting to a socket that has a path: only that socket's own permissions
//! do, and to them an agent is threadkey's user. What listens on some of them starts programs for whoever asks, outside any sandbox.

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
    sys::{sandbox, socket::own_uid},
};

/// Beneath a user's runtime folder: the session bus, the user's systemd, and containers without root.
const OF_THE_USER: &[&str] = &["bus", "systemd/private", "docker.sock", "podman/podman.sock"];
/// The machine's own, for those whom it lets in.
const OF_THE_MACHINE: &[&str] = &[
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/incus/unix.socket",
];
/// How long a socket gets to take a connection.
const WITHIN: Duration = Duration::from_secs(1);

/// A warning if agents can reach one; nothing where the sandbox keeps them from all, or where there is none and that is said anyway.
pub(super) async fn reachable(agent: &AgentSettings) -> Option<Finding> {
    if agent.isolation == Isolation::None || sandbox::governs_unix_sockets() {
        return None;
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for path in candidates(|name| std::env::var_os(name)) {
        let real = sandbox::resolve(&path).unwrap_or(path);
        if !found.contains(&real) && takes_connections(&real).await {
            found.push(real);
        }
    }
    if found.is_empty() {
        return None;
    }
    let names: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
    let text = format!(
        "agents can connect to {}, and what listens there starts programs outside their sandbox (Landlock keeps them from sockets \
         from Linux 7.1 on). Run threadkey as a user of its own, without a desktop session, lingering, or the group docker",
        names.join(", ")
    );
    Some(Finding::new("agent sockets", Verdict::Warn, text))
}

/// Whether somebody listens there.
pub(super) async fn takes_connections(path: &Path) -> bool {
    matches!(tokio::time::timeout(WITHIN, UnixStream::connect(path)).await, Ok(Ok(_)))
}

fn candidates(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let text = |name| variable(name).and_then(|value: OsString| value.into_string().ok()).unwrap_or_default();
    let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = PathBuf::from(format!("/run/user/{}", own_uid()));
    let mut all = bus_paths(&text("DBUS_SESSION_BUS_ADDRESS"));
    all.extend(text("DOCKER_HOST").strip_prefix("unix://").map(PathBuf::from));
    for folder in runtime.into_iter().chain([usual]) {
        all.extend(OF_THE_USER.iter().map(|name| folder.join(name)));
    }
    all.extend(OF_THE_MACHINE.iter().map(PathBuf::from));
    all.retain(|path| path.is_absolute());
    all
}

/// The paths in a list of D-Bus addresses (D-Bus specification, "Server Addresses"). Abstract ones the sandbox keeps away.
fn bus_paths(addresses: &str) -> Vec<PathBuf> {
    let of_unix = addresses.split(';').filter_map(|address| address.strip_prefix("unix:"));
    let paths = of_unix.flat_map(|pairs| pairs.split(',')).filter_map(|pair| pair.strip_prefix("path="));
    paths.map(|path| percent_decode_str(path).decode_utf8_lossy().into_owned().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_a_bus_are_read_out_of_its_addresses() {
        let none: [PathBuf; 0] = [];
        assert_eq!(bus_paths("unix:path=/run/user/1000/bus,guid=1"), [PathBuf::from("/run/user/1000/bus")]);
        assert_eq!(
            bus_paths("unix:abstract=/tmp/x;unix:guid=1,path=/a%20b;tcp:host=localhost"),
            [PathBuf::from("/a b")]
        );
        assert_eq!(bus_paths(""), none);
    }

    #[test]
    fn the_variables_and_the_usual_places_are_looked_at() {
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
