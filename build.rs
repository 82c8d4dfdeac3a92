//! Link options that make the program start faster: `threadkey token` starts for each token
//! (adr/0015).

#![expect(clippy::disallowed_methods, reason = "a build script asks the machine for its C library")]

use std::{env, process::Command};

/// The first version of glibc that starts programs with packed relocations.
const FIRST_GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if packs_relocations() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the program is linked with packed relocations.
///
/// A program that can be loaded at any address has its own addresses corrected at each start: about
/// 30,000 in threadkey. The relocation list takes 24 bytes for each, and the loader reads all
/// of it. Packed (DT_RELR), a relocation takes about one bit.
///
/// The option depends on the C library, and only the building machine's can be asked. So this needs
/// a native build for Linux with a shared glibc. It was tested on x86-64 only, so other
/// architectures do without it.
fn packs_relocations() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|actual| actual == value);
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    is_native
        && !is_static
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && glibc_version().is_some_and(|version| version >= FIRST_GLIBC)
}

/// Returns the version of this machine's glibc: `getconf` prints `glibc 2.36`.
fn glibc_version() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let output = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = output.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
