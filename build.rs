//! Link options that make the program start faster: `threadkey token` starts for each token
//! (adr/0015, adr/0019).

#![expect(clippy::disallowed_methods, reason = "a build script asks the machine for its C library")]

use std::{env, path::Path, process::Command};

/// The first version of glibc that starts programs with packed relocations.
const FIRST_GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    if !is_native_glibc() {
        return;
    }
    // A program that can be loaded at any address has its own addresses corrected at each start:
    // about 20,000 in threadkey. The relocation list takes 24 bytes for each, and the loader reads
    // all of it. Packed (DT_RELR), a relocation takes about one bit.
    if glibc_version().is_some_and(|version| version >= FIRST_GLIBC) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // Rust takes the unwinder from the shared libgcc_s.so.1. To find, map and bind that library is
    // an eighth of the start of a small program. GCC has the same code as an archive. The archive
    // comes before the shared library on the linker's command line, which then leaves that one out.
    if has_unwinder_archive() {
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Whether the program is for this machine and its shared glibc. Both options depend on the
/// machine's C library or compiler, and only the building machine's can be asked. They were tested
/// on x86-64 only, so other architectures do without them.
fn is_native_glibc() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|actual| actual == value);
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    is_native
        && !is_static
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
}

/// Whether the linking compiler has the archive. It prints the bare name of a file that it does not
/// have.
fn has_unwinder_archive() -> bool {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let path = output(Command::new(linker).arg("-print-file-name=libgcc_eh.a"));
    path.is_some_and(|path| Path::new(path.trim()).is_absolute())
}

/// Returns the version of this machine's glibc: `getconf` prints `glibc 2.36`.
fn glibc_version() -> Option<(u32, u32)> {
    let output = output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let (major, minor) = output.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn output(command: &mut Command) -> Option<String> {
    String::from_utf8(command.output().ok()?.stdout).ok()
}
