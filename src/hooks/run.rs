//! One run of a hook, within its limits.

use std::{ffi::OsString, path::PathBuf, process::ExitStatus, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::notice::Notice;
use crate::sys::{
    clock::Clock,
    process::{self, Child, Limits, Pipes, Spec, find_program},
};

/// The longest time of a hook.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The longest output of a hook on each of its two outputs, in bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// The beginning of the output of a failed hook that is logged, in characters.
const SHOWN: usize = 300;
/// How long the outputs of a hook that has ended are read. A process that it has left may hold them.
const READ_ON: Duration = Duration::from_millis(500);
/// The variables that a hook gets from this process.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// The end of a hook.
enum End {
    Exited(ExitStatus),
    TooLate,
    TooLong,
    Unknown(std::io::Error),
}

/// Runs a command with the notice on its standard input, and logs a failure.
pub(super) async fn run(command: &[String], notice: &Notice, clock: &Clock) {
    let (event, tenant) = (notice.event, &notice.tenant);
    let (child, pipes) = match start(command).await {
        Ok(started) => started,
        Err(error) => {
            let program = command.first().map(String::as_str).unwrap_or_default();
            return tracing::error!(%event, %tenant, "the hook {program:?} cannot be started: {error}. Correct hooks.{event}");
        }
    };
    let (end, output) = converse(child, pipes, &notice.to_json(), clock).await;
    let problem = match end {
        End::Exited(status) if status.success() => {
            return tracing::debug!(%event, %tenant, "a hook has run");
        }
        End::Exited(status) => format!("it ended with {status}"),
        End::TooLate => format!("it took longer than {} s and was ended", TIME_LIMIT.as_secs()),
        End::TooLong => format!("it wrote more than {} KiB and was ended", MAX_OUTPUT / 1024),
        End::Unknown(error) => format!("its end is unknown: {error}"),
    };
    let wrote: String = String::from_utf8_lossy(&output).trim().chars().take(SHOWN).collect();
    tracing::warn!(%event, %tenant, ?wrote, "a hook failed: {problem}");
}

async fn start(command: &[String]) -> std::io::Result<(Child, Pipes)> {
    let variable = |name: &str| Some((OsString::from(name), std::env::var_os(name)?));
    let env: Vec<_> = PASSED_ON.into_iter().filter_map(variable).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (program, args) = command.split_first().ok_or(std::io::ErrorKind::NotFound)?;
    process::spawn(Spec {
        program: find_program(program.as_ref(), &path)?,
        args: args.iter().map(OsString::from).collect(),
        env,
        folder: PathBuf::from("/"),
        sandbox: None,
        limits: Limits::default(),
        cgroup: None,
    })
    .await
}

/// Writes the notice, and reads both outputs until the end. Then no process of the group is left.
async fn converse(mut child: Child, pipes: Pipes, notice: &[u8], clock: &Clock) -> (End, Vec<u8>) {
    let Pipes { mut stdin, mut stdout, mut stderr } = pipes;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = {
        let talking = async {
            // The hook may read nothing.
            let write = async {
                let _ = stdin.write_all(notice).await;
                drop(stdin);
                Ok(())
            };
            let read = (read(&mut stdout, &mut out), read(&mut stderr, &mut err));
            if tokio::try_join!(read.0, read.1, write).is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(talking);
        let late = clock.sleep(TIME_LIMIT);
        tokio::pin!(late);
        tokio::select! {
            status = child.wait() => {
                // The rest of its output is in the pipes.
                let _ = tokio::time::timeout(READ_ON, &mut talking).await;
                status.map_or_else(End::Unknown, End::Exited)
            }
            () = &mut talking => End::TooLong,
            () = &mut late => End::TooLate,
        }
    };
    let _ = child.kill().await;
    if err.is_empty() { (end, out) } else { (end, err) }
}

/// The output of a hook is longer than its limit.
struct TooLong;

/// Reads an output to its end.
async fn read(from: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>) -> Result<(), TooLong> {
    let mut part = [0; 4096];
    loop {
        match from.read(&mut part).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) if into.len() + count > MAX_OUTPUT => return Err(TooLong),
            Ok(count) => into.extend_from_slice(&part[..count]),
        }
    }
}
