//! The `threadkey` binary.

fn main() -> std::process::ExitCode {
    threadkey::entry::main()
}
