//! The configuration file that is used, and whether others can have written it.
//!
//! The configuration names the programs that run and the servers that get secrets. So it comes only
//! from a place that the user or the system chose: never from the current folder, which may be a
//! cloned repository. A file that other users can have written is refused, unless `--config` names
//! it: then the user has looked at it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    error::ConfigError,
    variables::{Variables, path_variable, xdg_folder},
};
use crate::sys::{
    files::{self, TextFile},
    user,
};

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "THREADKEY_CONFIG";

/// The name of the file in each default place.
const NAME: &str = "threadkey.toml";

/// The system's configuration.
const SYSTEM: &str = "/etc/threadkey/threadkey.toml";

/// A configuration file.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// A file of this name in the current folder that is not this one.
    pub(super) unused: Option<PathBuf>,
}

/// Finds and reads the file. `folder` is the current folder.
pub(super) fn find(
    explicit: Option<&Path>,
    folder: &Path,
    variables: &Variables,
) -> Result<Origin, ConfigError> {
    if let Some(explicit) = explicit {
        let path = folder.join(explicit);
        let text = read(&path, "--config")?.text;
        return Ok(Origin { path, text, unused: None });
    }
    if let Some(named) = path_variable(variables, CONFIG_VARIABLE) {
        let path = folder.join(named);
        let file = read(&path, CONFIG_VARIABLE)?;
        return checked(path, file, folder);
    }
    let searched = default_places(variables);
    for path in &searched {
        match files::read_text_file(path) {
            Ok(file) => return checked(path.clone(), file, folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(ConfigError::Unreadable { path: path.clone(), source }),
        }
    }
    Err(ConfigError::NotFound { searched, unused: unused(folder, None) })
}

/// Returns the named file, or else the user's own place.
pub(super) fn place(explicit: Option<&Path>, folder: &Path, variables: &Variables) -> Option<PathBuf> {
    let named = explicit.map(Path::to_owned).or_else(|| path_variable(variables, CONFIG_VARIABLE));
    let own = || default_places(variables).into_iter().next().filter(|path| path != Path::new(SYSTEM));
    named.map(|named| folder.join(named)).or_else(own)
}

fn default_places(variables: &Variables) -> Vec<PathBuf> {
    let own =
        xdg_folder(variables, "XDG_CONFIG_HOME", ".config").map(|base| base.join("threadkey").join(NAME));
    own.into_iter().chain([SYSTEM.into()]).collect()
}

/// Reads the file that an option or a variable names.
fn read(path: &Path, by: &'static str) -> Result<TextFile, ConfigError> {
    files::read_text_file(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Missing { path: path.into(), by },
        _ => ConfigError::Unreadable { path: path.into(), source },
    })
}

fn checked(path: PathBuf, file: TextFile, folder: &Path) -> Result<Origin, ConfigError> {
    if let Err(distrust) = check(&file, user::effective(), Groups::of_system) {
        let problem = distrust.with_remedy(&path);
        return Err(ConfigError::Untrusted { path, problem });
    }
    let unused = unused(folder, Some(&path));
    Ok(Origin { path, text: file.text, unused })
}

/// Checks that programs which get the path by [`CONFIG_VARIABLE`] use this file, although `--config` names it
/// here.
pub(super) fn check_for_programs(path: &Path) -> Result<(), ConfigError> {
    match check(&read(path, "--config")?, user::effective(), Groups::of_system) {
        Ok(()) => Ok(()),
        Err(distrust) => {
            Err(ConfigError::Untrusted { path: path.to_owned(), problem: distrust.for_programs(path) })
        }
    }
}

/// Returns the file of this name in the current folder, unless it is `used`.
fn unused(folder: &Path, used: Option<&Path>) -> Option<PathBuf> {
    let path = folder.join(NAME);
    let is_used = used.is_some_and(|used| files::is_same(used, &path));
    (files::exists(&path) && !is_used).then_some(path)
}

/// Checks that no other user than the caller and root can have written the file. A file on a
/// read-only mount was put there by the administrator of the mount, for example that of a container.
fn check(file: &TextFile, caller: u32, groups: impl FnOnce() -> Groups) -> Result<(), Distrust> {
    if file.is_on_read_only_mount {
        return Ok(());
    }
    if ![user::ROOT, caller].contains(&file.owner) {
        return Err(Distrust::Foreign { owner: file.owner });
    }
    let by_others = file.mode & 0o002 != 0;
    let by_group = file.mode & 0o020 != 0 && !groups().is_private(file.group, file.owner);
    if by_others || by_group {
        return Err(Distrust::Writable { mode: file.mode });
    }
    Ok(())
}

/// The reason why another user can have written the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distrust {
    /// It is another user's.
    Foreign { owner: u32 },
    /// Another user can write it.
    Writable { mode: u32 },
}

impl Distrust {
    /// Returns the problem, and the ways to mend it.
    fn with_remedy(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Foreign { .. } => format!("{self}. If you trust it, name it with `--config {path}`"),
            Self::Writable { .. } => {
                format!("{self}. Run `chmod go-w {path}`, or name it with `--config {path}`")
            }
        }
    }

    /// The same for a file that other programs get by its path: none of them is started with `--config`.
    fn for_programs(self, path: &Path) -> String {
        let passed_on = "exec passes its path on to the command, in which threadkey does not use such a file";
        match self {
            Self::Foreign { .. } => format!("{self}. {passed_on}: use a copy of your own"),
            Self::Writable { .. } => format!("{self}. {passed_on}: run `chmod go-w {}`", path.display()),
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { owner } => write!(f, "it belongs to {}, and not to you or root", named(*owner)),
            Self::Writable { mode } => write!(f, "other users can write it (mode {mode:04o})"),
        }
    }
}

fn named(id: u32) -> String {
    user::name(id).unwrap_or_else(|| format!("the user {id}"))
}

/// The users and groups of the system's files. Users of a directory service are not in them; their
/// groups count as shared.
#[derive(Default)]
struct Groups {
    passwd: String,
    group: String,
}

impl Groups {
    fn of_system() -> Self {
        let read = |path: &str| files::read_text(path.as_ref()).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// Whether `owner` is the only member of a group that has the owner's name.
    fn is_private(&self, group: u32, owner: u32) -> bool {
        let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let is = |field: Option<&String>, id: u32| field.is_some_and(|field| *field == id.to_string());
        let users: Vec<_> = self.passwd.lines().map(fields).collect();
        let Some(name) = users.iter().find(|user| is(user.get(2), owner)).and_then(|user| user.first())
        else {
            return false;
        };
        let is_others = |user: &Vec<String>| is(user.get(3), group) && !is(user.get(2), owner);
        let is_own = |entry: &Vec<String>| {
            let members = entry.get(3).map_or("", String::as_str);
            entry.first() == Some(name)
                && members.split(',').all(|member| member.is_empty() || member == name)
        };
        !users.iter().any(is_others)
            && self
                .group
                .lines()
                .map(fields)
                .find(|entry| is(entry.get(2), group))
                .is_some_and(|e| is_own(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: u32 = 1000;

    fn groups() -> Groups {
        Groups {
            passwd: "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                     bob:x:1001:100::/home/bob:/bin/sh\n"
                .to_owned(),
            group: "root:x:0:\nusers:x:100:alice\nalice:x:1000:\n".to_owned(),
        }
    }

    fn file(owner: u32, group: u32, mode: u32) -> TextFile {
        TextFile { text: String::new(), owner, group, mode, is_on_read_only_mount: false }
    }

    fn verdict(file: &TextFile) -> Result<(), String> {
        check(file, ALICE, groups).map_err(|distrust| distrust.with_remedy(Path::new("/x/threadkey.toml")))
    }

    #[test]
    fn a_file_of_the_caller_or_root_that_others_cannot_write_is_used() {
        for fine in [
            file(ALICE, 1000, 0o644),
            file(ALICE, 100, 0o640),
            file(0, 0, 0o644),
            // A private group, as many distributions give each user.
            file(ALICE, 1000, 0o664),
        ] {
            assert_eq!(verdict(&fine), Ok(()), "{fine:?}");
        }
    }

    #[test]
    fn a_file_that_other_users_can_have_written_is_refused_with_the_remedy() {
        for bad in
            [file(ALICE, 1000, 0o666), file(ALICE, 100, 0o664), file(0, 100, 0o664), file(0, 100, 0o660)]
        {
            let problem = verdict(&bad).expect_err("it is refused");
            assert!(
                problem.contains("chmod go-w /x/threadkey.toml") && problem.contains("--config"),
                "{problem}"
            );
        }
        let problem = verdict(&file(1001, 1001, 0o600)).expect_err("it is another user's");
        assert!(problem.contains("belongs to") && problem.contains("--config"), "{problem}");
    }

    #[test]
    fn a_file_on_a_read_only_mount_is_used_whoever_owns_it() {
        let mounted = TextFile { is_on_read_only_mount: true, ..file(1001, 1001, 0o666) };
        assert_eq!(verdict(&mounted), Ok(()));
    }

    #[test]
    fn a_group_with_another_member_is_not_private() {
        let mut shared = groups();
        assert!(shared.is_private(1000, ALICE));
        shared.group = shared.group.replace("alice:x:1000:", "alice:x:1000:bob");
        assert!(!shared.is_private(1000, ALICE));
        let mut primary = groups();
        primary.passwd = primary.passwd.replace("bob:x:1001:100:", "bob:x:1001:1000:");
        assert!(!primary.is_private(1000, ALICE), "it is bob's primary group too");
        assert!(!groups().is_private(1000, 4242), "an unknown user has none");
        assert!(!groups().is_private(100, ALICE), "its name is another");
    }
}
