//! The interface to all workers: a prompt starts a worker if its conversation has none, and each
//! one is ended in order.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Agents, Capabilities, Conversation, FolderNames, Holder, InjectPorts, PromptError, TokenSource, Update,
    environment::required_providers,
    folders::WorkerFolders,
    table::{Admission, NewWorker, Places, Table},
    turn::Prompt,
    updates::MAX_PIECE,
    worker,
    worker_deps::WorkerDeps,
};
use crate::{
    ids::{ConversationId, ProviderId},
    sys::{cgroup::Cgroups, clock::Clock, folder_tree::Listing, process},
};

/// How many updates may wait for their reader. Each one is short (see [`MAX_PIECE`]), so that the
/// unread updates of a worker take at most 1 MiB.
const MAX_UPDATES: usize = (1 << 20) / MAX_PIECE;
/// How long [`Workers::shutdown`] takes at most: longer than one worker's end.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);
/// The time between two sweeps of unused folders.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// All workers. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Workers {
    deps: Arc<WorkerDeps>,
    table: Arc<Table>,
}

impl Workers {
    /// Takes the agents, and starts nothing. [`AgentSettings::check`](super::AgentSettings::check)
    /// tests whether the settings are safe.
    pub fn new(
        agents: impl Into<Agents>,
        capabilities: Arc<Capabilities>,
        tokens: Arc<dyn TokenSource>,
        names: Arc<dyn FolderNames>,
    ) -> Self {
        let agents = agents.into();
        let settings = agents.default_agent();
        let places = Places { all: settings.max_workers, of_one_owner: settings.max_workers_per_user };
        let table = Arc::new(Table::new(Arc::clone(&capabilities), places));
        let folders = WorkerFolders::new(settings.root.clone(), names);
        Self {
            deps: Arc::new(WorkerDeps {
                agents,
                capabilities,
                tokens,
                folders,
                ports: OnceLock::new(),
                cgroups: OnceLock::new(),
            }),
            table,
        }
    }

    /// Gives each later worker ports of the injecting proxy, which `ports` opens. Called once.
    pub fn open_ports_by(&self, ports: Arc<dyn InjectPorts>) {
        let _ = self.deps.ports.set(ports);
    }

    /// Prepares the folders of all workers. Called once, before the first prompt.
    ///
    /// # Errors
    /// The system's, about `agent.root` or the map of names.
    pub async fn prepare(&self) -> io::Result<()> {
        self.deps.folders.prepare().await
    }

    /// Makes this process the supervisor of all that its workers start: it takes over its cgroup, for
    /// the limits on memory and processes, and ends processes that outlive their worker. Only for a
    /// process that starts no other children. Returns the limits that are missing, with the reason.
    ///
    /// The result is also written to `agent.root` for `doctor`, which runs elsewhere.
    pub fn supervise(&self) -> Result<(), String> {
        let orphans = process::adopt_orphans().map_err(|error| format!("orphans cannot be ended ({error})"));
        let groups = Cgroups::take_over().map(|groups| {
            let missing = groups.missing();
            let _ = self.deps.cgroups.set(groups);
            missing
        });
        let limits = match groups {
            Ok(missing) if missing.is_empty() => Ok(()),
            Ok(missing) => Err(format!(
                "no limit on {}: the system does not offer this controller to its cgroup",
                missing.join(" and ")
            )),
            Err(reason) => Err(format!("no limit on memory and processes: {reason}")),
        };
        let result = limits.and(orphans);
        self.deps.folders.note_limits(result.as_ref().err().map_or("", String::as_str));
        result
    }

    /// Removes the folders that no worker has used for the time of [`AgentSettings::keep_files`](super::AgentSettings::keep_files),
    /// now and each hour. Never ends.
    pub async fn keep_folders(&self) {
        loop {
            match self.sweep_folders().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "removed agents' folders that were not used for long"),
                Err(error) => tracing::warn!(%error, "agents' unused folders cannot be removed"),
            }
            sleep(SWEEP_EVERY).await;
        }
    }

    /// Removes the unused folders now. Returns how many there were.
    ///
    /// # Errors
    /// The system's.
    pub async fn sweep_folders(&self) -> io::Result<usize> {
        self.deps.folders.sweep(Clock::system().now(), self.deps.agents.default_agent().keep_files).await
    }

    /// Lists the working folder of a conversation's worker.
    ///
    /// # Errors
    /// The system's.
    pub async fn files(&self, conversation: &Conversation) -> io::Result<Listing> {
        self.deps.folders.list(conversation).await
    }

    /// Removes all files of a conversation's worker, from its working folder, its home and its
    /// temporary files. Returns false if the worker is running.
    ///
    /// # Errors
    /// The system's; some of the files may have been removed.
    pub async fn remove_files(&self, conversation: &Conversation) -> io::Result<bool> {
        self.deps.folders.clean(conversation).await
    }

    /// Returns the name of a conversation's agent for people.
    pub fn agent_title(&self, conversation: &Conversation) -> String {
        let title = self.deps.agents.of(conversation).map(|agent| agent.title.clone());
        title.or(conversation.agent.as_ref().map(ToString::to_string)).unwrap_or_default()
    }

    /// Returns the agents.
    pub fn agents(&self) -> &Agents {
        &self.deps.agents
    }

    /// Starts a worker for the conversation if it has none, and gives it a prompt.
    ///
    /// The returned channel yields the updates of the turn. It is bounded, so a slow reader slows
    /// the worker. Dropping it does not end the turn.
    ///
    /// # Errors
    /// [`PromptError`], to show to the user. No turn has begun then.
    pub async fn prompt(
        &self,
        conversation: &Conversation,
        text: String,
    ) -> Result<mpsc::Receiver<Update>, PromptError> {
        let (updates, receiver) = mpsc::channel(MAX_UPDATES);
        let mut prompt = Prompt { text, updates, cancel: CancellationToken::new() };
        loop {
            match self.table.admit(conversation, prompt)? {
                Admission::Delivered => return Ok(receiver),
                Admission::Start(NewWorker { entry, prompts, stop, started }) => {
                    let deps = Arc::clone(&self.deps);
                    tokio::spawn(worker::run(deps, entry, conversation.clone(), prompts, stop));
                    return started.await.unwrap_or(Err(PromptError::Stopped)).map(|()| receiver);
                }
                Admission::RetryAfter(ended, returned) => {
                    ended.cancelled().await;
                    prompt = returned;
                }
            }
        }
    }

    /// Cancels the turn in progress (ACP `session/cancel`). Returns whether there was one.
    pub async fn cancel(&self, conversation: ConversationId) -> bool {
        self.table.cancel(conversation)
    }

    /// Whether a turn of this conversation is in progress.
    pub fn is_at_work(&self, conversation: ConversationId) -> bool {
        self.table.is_at_work(conversation)
    }

    /// Ends the worker: its capability is void at once, and its process group gets TERM and then
    /// KILL. Returns whether there was a worker.
    pub async fn end(&self, conversation: ConversationId) -> bool {
        match self.table.stop(conversation) {
            Some(ended) => {
                ended.cancelled().await;
                true
            }
            None => false,
        }
    }

    /// Returns the conversations with a live worker.
    pub fn live(&self) -> Vec<Conversation> {
        self.table.live()
    }

    /// Returns the rights of the live workers, those by the injecting proxy among them.
    pub fn holders(&self) -> Vec<Holder> {
        self.live().into_iter().map(|conversation| self.deps.holder(conversation)).collect()
    }

    /// Returns the rights of a worker of this conversation, those by the injecting proxy among them.
    pub fn holder(&self, conversation: &Conversation) -> Holder {
        self.deps.holder(conversation.clone())
    }

    /// Returns the providers without whose tokens no worker of this conversation starts: those of
    /// `{token:PROVIDER}`.
    pub fn required_providers(&self, conversation: &Conversation) -> Vec<ProviderId> {
        self.deps.agents.of(conversation).map(required_providers).unwrap_or_default()
    }

    /// Subscribes to changes of [`Workers::live`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.table.changes()
    }

    /// Refuses later prompts.
    pub fn refuse_prompts(&self) {
        self.table.refuse_prompts();
    }

    /// Refuses later prompts and ends all workers, within at most 10 s.
    pub async fn shutdown(&self) {
        let all = self.table.close();
        let ended = async {
            for ended in all {
                ended.cancelled().await;
            }
        };
        if timeout(SHUTDOWN_WITHIN, ended).await.is_err() {
            tracing::error!("some agents did not end in time and are left to die with this process");
        }
    }
}
