//! The task of one worker: it launches the process, runs the connection, cleans up, and reports the
//! end.

use std::{convert::Infallible, process::ExitStatus, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Conversation, Ending, PromptError, Update,
    connection::{self, ConnectionSettings, EndReason},
    launch::{Launched, launch},
    stderr::Stderr,
    table::TableEntry,
    tool_files::ToolFiles,
    turn::{CurrentTurn, Prompt},
    worker_deps::WorkerDeps,
};
use crate::sys::process::Child;

/// The time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(3);
/// How long an agent that closed its output may take to exit, so that its own exit status is
/// reported.
const EXIT_WITHIN: Duration = Duration::from_secs(1);
/// How long the output of an exited agent is read.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// Removes the entry from the table however the task ends, even by a panic or the end of its
/// runtime.
struct RemoveOnDrop(TableEntry);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// Runs a worker from its first prompt to the end of its process.
pub(super) async fn run(
    deps: Arc<WorkerDeps>,
    entry: TableEntry,
    conversation: Conversation,
    mut prompts: mpsc::Receiver<Prompt>,
    stop: CancellationToken,
) {
    let remove_on_drop = RemoveOnDrop(entry.clone());
    let id = conversation.id;
    let settings = match deps.settings(&conversation) {
        Ok(settings) => settings,
        Err(error) => {
            drop(remove_on_drop);
            entry.report_start(Err(error));
            return;
        }
    };
    let launched = tokio::select! {
        biased;
        () = stop.cancelled() => Err(PromptError::Stopped),
        launched = launch(&deps, &conversation) => launched,
    };
    let Launched { mut child, pipes, secrets, work, mcp, mut files, in_use } = match launched {
        Ok(launched) => launched,
        Err(error) => {
            drop(remove_on_drop);
            entry.report_start(Err(error));
            return;
        }
    };
    tracing::info!(conversation = %id.0, "an agent was started");

    let stderr = Stderr::read(pipes.stderr, id, secrets.clone());
    let current = CurrentTurn::default();
    let connection_settings = ConnectionSettings {
        work,
        mcp,
        start_within: settings.start_within,
        idle: settings.idle,
        max_turn: settings.max_turn,
        max_silence: settings.max_silence,
        secrets,
    };
    let end = {
        let streams = (pipes.stdin, pipes.stdout);
        let conversing = connection::converse(streams, connection_settings, &mut prompts, &current, &entry);
        let mut conversing = std::pin::pin!(conversing);
        tokio::select! {
            biased;
            () = stop.cancelled() => EndReason::Stopped,
            end = &mut conversing => end,
            never = keep_fresh(files.as_mut()) => match never {},
            _ = child.wait() => {
                // Other processes of its group may still hold the pipe, and would keep it open.
                let _ = child.kill().await;
                timeout(DRAIN_WITHIN, conversing).await.unwrap_or(EndReason::Closed(None))
            }
        }
    };
    entry.mark_ending();
    // The worker has no right to a token any more, so its files go before it does.
    if let Some(files) = &files {
        files.close().await;
    }
    let ending = finish(&mut child, &end, stderr).await;
    drop(files);
    drop(in_use);
    if let Err(error) = deps.folders.refill().await {
        tracing::warn!(%error, "folders for new agents cannot be created in advance");
    }
    drop(remove_on_drop);

    if matches!(end, EndReason::Closed(_)) {
        let Ending { how, wrote } = &ending;
        tracing::warn!(conversation = %id.0, how, agent_wrote = wrote, "an agent ended by itself");
    } else {
        tracing::info!(conversation = %id.0, ?end, "an agent was ended");
    }
    let program = settings.command.first().cloned().unwrap_or_default();
    if entry.report_start(Err(not_started(&end, program, &ending, settings.start_within))) {
        return;
    }
    let turn = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let mut readers: Vec<_> = turn.map(|turn| turn.updates).into_iter().collect();
    prompts.close();
    while let Ok(prompt) = prompts.try_recv() {
        readers.push(prompt.updates);
    }
    for updates in readers {
        let _ = updates.send(last_update(&end, &ending)).await;
    }
}

/// Keeps the files of the worker's tools fresh, if it has any. Never ends.
async fn keep_fresh(files: Option<&mut ToolFiles>) -> Infallible {
    match files {
        Some(files) => files.keep_fresh().await,
        None => std::future::pending().await,
    }
}

/// Ends the process group. Returns how the process ended.
async fn finish(child: &mut Child, end: &EndReason, stderr: Stderr) -> Ending {
    let status = match end {
        EndReason::Closed(None) => match timeout(EXIT_WITHIN, child.wait()).await {
            Ok(status) => {
                let _ = child.kill().await;
                status.ok()
            }
            Err(_) => {
                let _ = child.stop(GRACE).await;
                None
            }
        },
        _ => child.stop(GRACE).await.ok(),
    };
    let wrote = stderr.finish().await;
    let how = match (end, status) {
        (EndReason::Closed(Some(fault)), _) => fault.clone(),
        (_, Some(status)) => exit_text(status),
        (_, None) => "it closed its output and was ended".to_owned(),
    };
    Ending { how, wrote }
}

fn exit_text(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => format!("{status}"),
    }
}

/// The error of a prompt whose worker ended before the handshake was done.
fn not_started(end: &EndReason, program: String, ending: &Ending, within: Duration) -> PromptError {
    match end {
        EndReason::Silent => PromptError::Silent { program, within },
        EndReason::Refused(message) => PromptError::Refused { program, wrote: message.clone() },
        EndReason::Stopped | EndReason::Idle | EndReason::Unresponsive => PromptError::Stopped,
        EndReason::Closed(_) => PromptError::DiedAtOnce { program, ending: ending.clone() },
    }
}

fn last_update(end: &EndReason, ending: &Ending) -> Update {
    match end {
        EndReason::Closed(_) => Update::Crashed(ending.clone()),
        _ => Update::Done("cancelled".to_owned()),
    }
}
