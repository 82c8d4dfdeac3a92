//! Commands of the operator that run after events of logins (adr/0057).
//!
//! The process that commits a change runs its hook, so each event runs one hook, however many processes
//! share a store.
//!
//! Invariants:
//!
//! - No refresh, sign-in or commit waits for a hook. The broker publishes its events into a channel that
//!   drops the oldest ones; this module only listens.
//! - At most four hooks run, and at most 64 wait. Each further one is dropped and logged.
//! - A hook gets public facts alone (`hooks::notice`). It has no secret, and none of this process's
//!   variables but three.
//! - A hook ends within its limits, with all processes of its group (`hooks::run`). At the end of this process
//!   the waiting ones still run, for at most 30 s.

mod hook;
mod notice;
mod run;

pub use hook::Hook;

use std::{collections::BTreeMap, ffi::OsStr, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{
        Semaphore,
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
        mpsc,
    },
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::{Broker, Event},
    sys::{clock::Clock, process::find_program},
};
use notice::Notice;

/// How many hooks run at once.
const AT_ONCE: usize = 4;
/// How many hooks wait for their turn.
const WAITING: usize = 64;
/// How long the hooks of the last events may take at the end of the process.
const FINISH_WITHIN: Duration = Duration::from_secs(30);

/// The commands: a program and its arguments for each event that has a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookSettings(pub BTreeMap<Hook, Vec<String>>);

impl HookSettings {
    /// Finds the program of each hook, as it is found when the hook runs: in the folders of `path`.
    pub fn programs<'a>(
        &'a self,
        path: &'a OsStr,
    ) -> impl Iterator<Item = (Hook, &'a str, io::Result<PathBuf>)> {
        self.0.iter().map(move |(hook, command)| {
            let program = command.first().map(String::as_str).unwrap_or_default();
            (*hook, program, find_program(program.as_ref(), path))
        })
    }
}

/// The hooks of this process.
#[derive(Debug)]
pub struct Hooks {
    /// Ends the listening; `None` without hooks.
    listening: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Hooks {
    /// Runs the hooks of all events of the broker from now on. Must be called within a Tokio runtime.
    pub fn start(settings: HookSettings, broker: &Broker) -> Self {
        if settings.0.is_empty() {
            return Self { listening: None };
        }
        let stop = CancellationToken::new();
        let listener = Listener { settings, broker: broker.clone(), events: broker.events() };
        let task = tokio::spawn(listener.run(stop.clone()));
        Self { listening: Some((stop, task)) }
    }

    /// Runs the hooks of the events so far to their end, for at most 30 s.
    pub async fn finish(self) {
        let Some((stop, mut task)) = self.listening else { return };
        stop.cancel();
        if tokio::time::timeout(FINISH_WITHIN, &mut task).await.is_err() {
            task.abort();
            tracing::error!("the hooks of the last events were ended, because they took too long");
        }
    }
}

struct Listener {
    settings: HookSettings,
    broker: Broker,
    events: Receiver<Event>,
}

impl Listener {
    async fn run(mut self, stop: CancellationToken) {
        let (queue, jobs) = mpsc::channel(WAITING);
        let mut running = tokio::task::JoinSet::new();
        running.spawn(run_all(jobs, self.broker.clock().clone()));
        loop {
            let event = tokio::select! {
                biased;
                event = self.events.recv() => event,
                () = stop.cancelled() => break,
            };
            match event {
                Ok(event) => self.on_event(event, &queue).await,
                Err(RecvError::Lagged(missed)) => report_missed(missed),
                Err(RecvError::Closed) => break,
            }
        }
        loop {
            match self.events.try_recv() {
                Ok(event) => self.on_event(event, &queue).await,
                Err(TryRecvError::Lagged(missed)) => report_missed(missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        drop(queue);
        running.join_all().await;
    }

    async fn on_event(&self, event: Event, queue: &mpsc::Sender<Job>) {
        for notice in notice::of(&self.broker, event).await {
            let Some(command) = self.settings.0.get(&notice.event) else { continue };
            let (event, tenant) = (notice.event, notice.tenant.clone());
            if queue.try_send(Job { command: command.clone(), notice }).is_err() {
                tracing::error!(%event, %tenant, "a hook was not run, because too many are waiting");
            }
        }
    }
}

fn report_missed(missed: u64) {
    tracing::error!(missed, "the hooks of some events were not run, because too many events came at once");
}

/// A hook that is due.
struct Job {
    command: Vec<String>,
    notice: Notice,
}

/// Runs the jobs, some of them at once, until no more can come.
async fn run_all(mut jobs: mpsc::Receiver<Job>, clock: Clock) {
    let (places, running) = (Arc::new(Semaphore::new(AT_ONCE)), TaskTracker::new());
    // The place comes first, so that a job waits in the channel, whose length is limited.
    while let Ok(place) = places.clone().acquire_owned().await {
        let Some(Job { command, notice }) = jobs.recv().await else { break };
        let clock = clock.clone();
        running.spawn(async move {
            run::run(&command, &notice, &clock).await;
            drop(place);
        });
    }
    running.close();
    running.wait().await;
}
