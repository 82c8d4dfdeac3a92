//! The files that an agent's program needs to run, besides the system's.
//!
//! The operator installs the program where it suits, and beside it may lie anything. So the program
//! gets the tree of its own package, never the folder that holds all packages:
//!
//! * in `/opt` the package is the folder directly below, as `/opt/node`;
//! * in `/nix/store` a package needs many others, which only Nix can list. The whole store is granted,
//!   but only to programs from it. Nix itself makes the store readable for every user, and forbids
//!   secrets in it;
//! * elsewhere it is the folder of the file, unless that is a home, a top folder as `/srv`, or holds
//!   a path that is denied.
//!
//! The files of a program are the command itself, the arguments that are absolute paths, the
//! interpreter that its first line names, and the folders of `PATH`.

use std::{
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

use super::{
    AgentSettings,
    environment::{DEFAULT_PATH, inherited},
};
use crate::sys::{files, process, sandbox};

const NIX_STORE: &str = "/nix/store";

/// Returns the `PATH` of a worker.
pub(super) fn search_path(settings: &AgentSettings) -> OsString {
    match settings.env.get("PATH") {
        Some(path) => OsString::from(path),
        None => inherited("PATH", DEFAULT_PATH),
    }
}

/// Returns the files and folders of the program. Missing ones may be among them.
pub(super) fn of(settings: &AgentSettings, program: &Path, deny: &[PathBuf]) -> Vec<PathBuf> {
    let path = search_path(settings);
    let arguments = settings.command.iter().skip(1).map(PathBuf::from);
    let mut files: Vec<PathBuf> = arguments.filter(|path| path.is_absolute()).collect();
    files.push(program.to_owned());
    files.extend(interpreter(program, &path));

    let shared = [std::env::var_os("HOME").map(PathBuf::from), Some(std::env::temp_dir())];
    let not_below = shared.into_iter().flatten().chain(deny.iter().cloned());
    let not_below: Vec<PathBuf> = not_below.filter_map(|path| sandbox::resolve(&path).ok()).collect();

    let mut all = vec![program.to_owned()];
    for file in files {
        let Ok(real) = sandbox::resolve(&file) else { continue };
        all.push(package(&real, &not_below).unwrap_or(real));
    }
    // In these folders an agent finds its tools.
    let folders = std::env::split_paths(&path).filter_map(|folder| sandbox::resolve(&folder).ok());
    all.extend(folders.filter_map(|folder| {
        let is_installed = folder.starts_with("/opt") || folder.starts_with(NIX_STORE);
        if is_installed { package(&folder.join("program"), &not_below) } else { None }
    }));
    all
}

/// Returns the folder of the package of a file, or `None` if only the file itself can be granted.
fn package(file: &Path, not_below: &[PathBuf]) -> Option<PathBuf> {
    let folder = file.parent()?;
    let folder = if folder.starts_with(NIX_STORE) {
        PathBuf::from(NIX_STORE)
    } else if folder.starts_with("/opt") {
        folder.components().take(3).collect()
    } else {
        folder.to_owned()
    };
    let depth = folder.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let is_home = folder.parent() == Some(Path::new("/home")) || folder == Path::new("/root");
    let is_shared = depth < 2 || is_home || not_below.iter().any(|path| path.starts_with(&folder));
    (!is_shared).then_some(folder)
}

/// Returns the interpreter of a script: the program of its first line, or the argument of `env`.
fn interpreter(program: &Path, path: &OsStr) -> Option<PathBuf> {
    let line = files::first_line(program).ok()??;
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let first = PathBuf::from(words.next()?);
    if first.file_name().is_none_or(|name| name != "env") {
        return Some(first);
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    process::find_program(Path::new(name), path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_package_and_never_the_folder_of_all_packages() {
        let package_of = |file: &str| package(Path::new(file), &["/srv/store".into(), "/home/bot".into()]);
        for (file, folder) in [
            ("/opt/node/bin/node", Some("/opt/node")),
            ("/opt/agent/a/b/agent.js", Some("/opt/agent")),
            ("/opt/agent.sh", None),
            ("/nix/store/abc-node-22/bin/node", Some("/nix/store")),
            ("/srv/agent.sh", None),
            ("/srv/agents/agent.sh", Some("/srv/agents")),
            ("/agent.sh", None),
            ("/home/other/agent.sh", None),
            ("/home/other/agents/agent.sh", Some("/home/other/agents")),
            ("/home/bot/agent.sh", None),
            ("/root/agent.sh", None),
        ] {
            assert_eq!(package_of(file), folder.map(PathBuf::from), "{file}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
    fn the_interpreter_of_a_script_is_found_as_the_kernel_and_env_find_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("script");
        let found = |text: &str| {
            std::fs::write(&script, text).expect("written");
            interpreter(&script, OsStr::new("/bin:/usr/bin"))
        };
        assert_eq!(found("#!/opt/node/bin/node --flag\n"), Some("/opt/node/bin/node".into()));
        assert_eq!(found("#! /usr/bin/env -S A=b sh -e\nx"), Some("/bin/sh".into()));
        assert_eq!(found("\u{7f}ELF"), None);
        assert_eq!(found(""), None);
    }
}
