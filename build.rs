//! How the program is linked: so that it starts quickly, for `threadkey token` is started for each token (adr/0015).
//!
//! Both settings are for glibc, and each is left out where the machine that builds does not have what it takes.
#![expect(clippy::disallowed_methods, reason = "a build script asks the compiler where it keeps its files")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The first glibc that starts programs with packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|set| set == value);
    let gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    // Where it was tried: the archive of another architecture may want more of GCC's library.
    let tried = is("CARGO_CFG_TARGET_ARCH", "x86_64");
    let native = env::var("HOST").ok() == env::var("TARGET").ok();
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if gnu && tried && native && !features.split(',').any(|feature| feature == "crt-static") {
        unwinder_inside();
        relocations_packed();
    }
}

/// Rust takes the unwinder from libgcc_s.so.1, and to find, map and bind one more shared library is an eighth of what it takes to start a
/// small program. GCC brings the same code as an archive. Named here, it comes before the shared one on the linker's command
/// line, which then is not needed and left out.
fn unwinder_inside() {
    if let Some(archive) = archive()
        && let Some(folder) = archive.parent()
    {
        println!("cargo::rustc-link-search=native={}", folder.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Where the compiler that links has the archive. It repeats the bare name of what it does not have.
fn archive() -> Option<PathBuf> {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let told = said(Command::new(linker).arg("-print-file-name=libgcc_eh.a"))?;
    let path = Path::new(told.trim()).to_owned();
    path.is_absolute().then_some(path)
}

/// A program that may lie anywhere in memory has its addresses put right at each start: 30,000 of ours. Their list takes 24 bytes for
/// each, all of which is read; packed (DT_RELR) it takes about one bit.
fn relocations_packed() {
    let told = said(Command::new("getconf").arg("GNU_LIBC_VERSION"));
    if told.as_deref().and_then(version).is_some_and(|version| version >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version in `glibc 2.36`.
fn version(told: &str) -> Option<(u32, u32)> {
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn said(command: &mut Command) -> Option<String> {
    String::from_utf8(command.output().ok()?.stdout).ok()
}
