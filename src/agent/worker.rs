//! One worker's life, in a task of its own: launch, converse, clean up, tell.

use std::{process::ExitStatus, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    AgentSettings, Capabilities, Conversation, Holder, PromptError, TokenSource, Update,
    connection::{self, End, Terms},
    launch::{Launched, launch},
    stderr::Stderr,
    table::Seat,
    turn::{CurrentTurn, Prompt},
};
use crate::sys::process::Child;

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(3);
/// How long an agent that closed its output may take to exit, so that its own exit status is told.
const EXIT_WITHIN: Duration = Duration::from_secs(1);
/// How long what an agent said before it exited may take to be read.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// What every worker is made with.
pub(super) struct Means {
    pub(super) settings: AgentSettings,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) tokens: Arc<dyn TokenSource>,
}

/// Clears the place in the table however the task ends, also when it panics or its runtime ends.
struct Occupied(Seat);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// From the first prompt to the end of the process.
pub(super) async fn run(
    means: Arc<Means>,
    seat: Seat,
    conversation: Conversation,
    mut prompts: mpsc::Receiver<Prompt>,
    stop: CancellationToken,
) {
    let occupied = Occupied(seat.clone());
    let id = conversation.id;
    let settings = &means.settings;
    let holder = Holder { conversation, providers: settings.providers.clone() };
    let launched = tokio::select! {
        biased;
        () = stop.cancelled() => Err(PromptError::Stopped),
        launched = launch(settings, &holder, &means.capabilities, &*means.tokens) => launched,
    };
    let Launched { mut child, pipes, scrubber, work } = match launched {
        Ok(launched) => launched,
        Err(error) => {
            drop(occupied);
            seat.tell_start(Err(error));
            return;
        }
    };
    tracing::info!(conversation = %id.0, "an agent was started");

    let stderr = Stderr::read(pipes.stderr, id, scrubber.clone());
    let current = CurrentTurn::default();
    let terms = Terms { work, start_within: settings.start_within, idle: settings.idle, scrubber };
    let end = {
        let host = seat.clone();
        let talking = connection::converse((pipes.stdin, pipes.stdout), terms, &mut prompts, &current, &host);
        let mut talking = std::pin::pin!(talking);
        tokio::select! {
            biased;
            () = stop.cancelled() => End::Stopped,
            end = &mut talking => end,
            _ = child.wait() => {
                // Whoever of its group still holds the pipe would keep it open.
                let _ = child.kill().await;
                timeout(DRAIN_WITHIN, talking).await.unwrap_or(End::Closed(None))
            }
        }
    };
    seat.leave();
    let detail = finish(&mut child, &end, stderr).await;
    drop(occupied);

    if matches!(end, End::Closed(_)) {
        tracing::warn!(conversation = %id.0, detail, "an agent ended by itself");
    } else {
        tracing::info!(conversation = %id.0, ?end, "an agent was ended");
    }
    let program = settings.command.first().cloned().unwrap_or_default();
    if seat.tell_start(Err(not_started(&end, program, &detail, settings.start_within))) {
        return;
    }
    let turn = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let mut told: Vec<_> = turn.map(|turn| turn.updates).into_iter().collect();
    prompts.close();
    while let Ok(prompt) = prompts.try_recv() {
        told.push(prompt.updates);
    }
    for updates in told {
        let _ = updates.send(last_update(&end, &detail)).await;
    }
}

/// Ends the process group and says how the process ended, with the end of its stderr.
async fn finish(child: &mut Child, end: &End, stderr: Stderr) -> String {
    let status = match end {
        End::Closed(None) => match timeout(EXIT_WITHIN, child.wait()).await {
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
    let words = stderr.finish().await;
    let how = match (end, status) {
        (End::Closed(Some(fault)), _) => fault.clone(),
        (_, Some(status)) => exit(status),
        (_, None) => "it closed its output, and was ended".to_owned(),
    };
    if words.is_empty() { how } else { format!("{how}; it wrote: {words}") }
}

fn exit(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => format!("{status}"),
    }
}

fn not_started(end: &End, program: String, detail: &str, within: Duration) -> PromptError {
    match end {
        End::Silent => PromptError::Silent { program, within },
        End::Refused(words) => PromptError::Refused { program, detail: words.clone() },
        End::Stopped | End::Idle | End::Unresponsive => PromptError::Stopped,
        End::Closed(_) => PromptError::DiedAtOnce { program, detail: detail.to_owned() },
    }
}

fn last_update(end: &End, detail: &str) -> Update {
    match end {
        End::Closed(_) => Update::Crashed { detail: detail.to_owned() },
        _ => Update::Done("cancelled".to_owned()),
    }
}
