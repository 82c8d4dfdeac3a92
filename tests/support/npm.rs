//! npm packages for the tests, put into the target folder once per lock file.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Names and contents.
pub type Files = &'static [(&'static str, &'static str)];

/// Installs the packages of `package.json` and `package-lock.json`, and puts the scripts where
/// Node.js finds them. Returns the folder of the package and that of the scripts, which lies in it.
/// Blocks: the first call runs npm.
pub fn install(package: Files, scripts: Files) -> (PathBuf, PathBuf) {
    let root = target_folder().join("tmp-node");
    fs::create_dir_all(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let package_folder = root.join(digest(package));
    let scripts_folder = package_folder.join(digest(scripts));

    // One lock for all test processes: the second one finds the work done. The lock is released
    // with the descriptor, even if this process dies.
    let lock_path = root.join("install.lock");
    let lock = fs::File::create(&lock_path)
        .and_then(|file| file.lock().map(|()| file))
        .unwrap_or_else(|error| panic!("{}: {error}", lock_path.display()));
    once(&package_folder, |folder| {
        write_all(folder, package);
        npm_ci(folder);
    });
    once(&scripts_folder, |folder| write_all(folder, scripts));
    drop(lock);
    (package_folder, scripts_folder)
}

/// The absolute path of `node` or `npm`, from `PATH`.
pub fn program(name: &str) -> PathBuf {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "Node.js is needed for the tests: there is no `{name}` on PATH. \
                 Install Node.js 20.12 or newer with npm (https://nodejs.org), then run `cargo test` again."
            )
        })
}

/// Runs `fill` on the empty `folder`, unless an earlier run has completed.
fn once(folder: &Path, fill: impl FnOnce(&Path)) {
    let done = folder.join(".done");
    if done.exists() {
        return;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
    fs::create_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    fill(folder);
    fs::write(&done, "").unwrap_or_else(|error| panic!("{}: {error}", done.display()));
}

fn write_all(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn npm_ci(folder: &Path) {
    program("node");
    let npm = program("npm");
    let output = Command::new(&npm)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .arg("--no-update-notifier")
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", npm.display()));
    assert!(
        output.status.success(),
        "`npm ci` failed in {} ({}). The tests need packages from the npm registry; is it reachable?\n{}{}",
        folder.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Cargo's target folder: the folder above this program that Cargo has tagged.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), Path::to_path_buf)
}

/// A hash of the files, as a folder's name.
fn digest(files: &[(&str, &str)]) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(format!("{name} {}\n", content.len()));
        hash.update(content);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
