//! The commands `run` and `serve`: they start everything, wait for a signal, and end in order.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{signal::unix::Signal, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{AppError, AppSettings, signals::Signals, standby::bot_lock};
use crate::{
    agent::{Agents, Capabilities, Workers},
    api::{self, Bound, InjectServer, OperatorKeys},
    broker::{Broker, OwnerRights, WithoutBot, WorkerTokens},
    discord::{self, BotDeps, Conversations, DiscordError, DiscordSettings, Rights, SignInQuestions},
    oauth::ProviderError,
    secret::Scrubber,
    sys::files,
};

/// The time that refreshes under way get when the process ends: the longest time that a response is
/// read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(180);
/// The additional time in which a short-lived command tries again to save a token.
const SAVE_TIMEOUT: Duration = Duration::from_secs(600);

/// Runs the bot and the token API until a signal. While Discord cannot be reached, the bot tries again
/// and everything else runs.
///
/// # Errors
/// When a part cannot start, or Discord refuses the bot permanently.
pub async fn run(settings: AppSettings, discord: DiscordSettings) -> Result<(), AppError> {
    let (mut signals, hangups) = Signals::new()?;
    // Nothing is made, nor any folder examined, for a store of another user.
    let store = settings.open_store()?;
    for agent in settings.agents.iter().flat_map(Agents::all) {
        agent.check()?;
    }
    let Some(_bot) = bot_lock(&store, &mut signals).await? else { return Ok(()) };
    warn_of_readable_secrets(&settings);
    let broker = settings.broker(store)?;
    let hooks = settings.start_hooks(&broker);
    let conversations =
        Arc::new(Conversations::load(discord.conversations.clone()).map_err(DiscordError::from)?);
    let capabilities = Arc::new(Capabilities::new());
    let (stopping, shutdown) = (CancellationToken::new(), CancellationToken::new());
    // The token API is served before and while Discord is away: a probe learns from
    // it that the process is in order.
    let connected = watch::Sender::new(false);
    let operators = OperatorKeys::load(settings.api.operator_keys.clone()).await?;
    let reload = reload_keys_on_hangup(operators.clone(), hangups);
    let bound = bind_api(&settings, operators).await?.with_bot(connected.subscribe());
    let bound = bound.with_end_of_tcp(stopping.clone());
    // The rights are unknown until the bot reaches Discord, and an unknown right opens nothing.
    let rights = Rights::new(&discord, settings.clock.clone());
    let pages = serve_sign_in_pages(&settings, &broker, Arc::new(rights.clone()), &stopping).await?;
    let questions = SignInQuestions::default();
    let tokens =
        WorkerTokens::new(broker.clone(), Arc::new(rights.clone())).asking(Arc::new(questions.clone()));
    let mut api = serve_api(bound, &broker, &capabilities, &tokens, &shutdown);
    let scrubber = Scrubber::of_process().clone();
    let workers = match settings.agents.clone() {
        Some(agents) => Some(create_workers(agents, capabilities, tokens.clone(), &conversations).await?),
        None => None,
    };
    let inject =
        workers.as_ref().map(|workers| serve_inject(&settings, workers, tokens.clone())).transpose()?;
    let upkeep = workers.clone().map(|workers| tokio::spawn(async move { workers.keep_folders().await }));
    let background_refresh = workers.clone().map(|workers| refresh_in_background(broker.clone(), workers));
    let keepalive = keep_alive(broker.clone(), workers.clone(), Arc::new(rights.clone()));
    let sweep = sweep_ended(broker.clone(), settings.sweep_after);
    let choice_expiry = expire_choices(broker.clone());
    let sign_in_polls = poll_sign_ins(broker.clone(), Arc::new(rights.clone()));
    let discovery = keep_discovered(broker.clone());
    let deps = BotDeps {
        conversations,
        broker: broker.clone(),
        workers: workers.clone(),
        scrubber,
        rights,
        questions,
    };
    let bot = discord::run(discord, deps, connected, shutdown.clone());
    let mut bot = tokio::spawn(bot);
    let (outcome, defect) = tokio::select! {
        ended = &mut bot => (Some(ended), None),
        _ = &mut api => (None, Some(AppError::Stopped("the token API"))),
        () = signals.next() => (None, None),
    };
    tracing::info!("ending after the work that is under way; a second signal ends the process at once");
    stopping.cancel();
    tokens.end_owner_waits();
    let orderly_end = async {
        if let (Some(workers), Some(Some(inject))) = (&workers, &inject) {
            workers.refuse_prompts();
            inject.drain().await;
        }
        if let Some(workers) = &workers {
            workers.shutdown().await;
        }
        shutdown.cancel();
        let outcome = match outcome {
            Some(ended) => ended,
            None => bot.await,
        };
        for task in [background_refresh, upkeep].into_iter().flatten() {
            task.abort();
        }
        keepalive.abort();
        sweep.abort();
        choice_expiry.abort();
        if let Some(pages) = pages {
            let _ = pages.await;
        }
        sign_in_polls.abort();
        discovery.abort();
        reload.abort();
        finish(&broker, api, &settings.store).await;
        hooks.finish().await;
        match (defect, outcome) {
            (Some(defect), _) => Err(defect),
            (None, Ok(result)) => result.map_err(AppError::from),
            (None, Err(_)) => Err(AppError::Stopped("the Discord bot")),
        }
    };
    tokio::select! {
        result = orderly_end => result,
        () = signals.next() => end_at_once(&broker, &settings.store),
    }
}

/// Serves the token API and the sign-in pages without the bot until a signal, and polls the sign-ins
/// that a command has left.
///
/// # Errors
/// When the API or the pages cannot start.
pub async fn serve(settings: AppSettings) -> Result<(), AppError> {
    let (mut signals, hangups) = Signals::new()?;
    let broker = settings.broker(settings.open_store()?)?;
    if settings.api.operator_keys.is_empty() {
        return Err(AppError::NoOperatorKey);
    }
    warn_of_readable_secrets(&settings);
    let hooks = settings.start_hooks(&broker);
    let shutdown = CancellationToken::new();
    let operators = OperatorKeys::load(settings.api.operator_keys.clone()).await?;
    let reload = reload_keys_on_hangup(operators.clone(), hangups);
    let bound = bind_api(&settings, operators).await?;
    let capabilities = Arc::new(Capabilities::new());
    let pages = serve_sign_in_pages(&settings, &broker, Arc::new(WithoutBot), &shutdown).await?;
    let tokens = WorkerTokens::new(broker.clone(), Arc::new(WithoutBot));
    let mut api = serve_api(bound, &broker, &capabilities, &tokens, &shutdown);
    let choice_expiry = expire_choices(broker.clone());
    let sign_in_polls = poll_sign_ins(broker.clone(), Arc::new(WithoutBot));
    let discovery = keep_discovered(broker.clone());
    tokio::select! {
        () = signals.next() => {}
        _ = &mut api => return Err(AppError::Stopped("the token API")),
    }
    tracing::info!("ending after the requests that are under way; a second signal ends the process at once");
    shutdown.cancel();
    choice_expiry.abort();
    sign_in_polls.abort();
    discovery.abort();
    let orderly_end = async {
        if let Some(pages) = pages {
            let _ = pages.await;
        }
        finish(&broker, api, &settings.store).await;
        hooks.finish().await;
    };
    reload.abort();
    tokio::select! {
        () = orderly_end => Ok(()),
        () = signals.next() => end_at_once(&broker, &settings.store),
    }
}

/// Warns of files with secrets that other users of the machine can read. Containers mount such files
/// in folders that are private, so they are no error.
fn warn_of_readable_secrets(settings: &AppSettings) {
    for file in settings.secret_files.iter().filter(|file| files::is_readable_by_others(file)) {
        tracing::warn!(
            file = %file.display(),
            "a file with a secret can be read by its group or by others: run `chmod 600` on it"
        );
    }
}

async fn bind_api(settings: &AppSettings, operators: OperatorKeys) -> Result<Bound, AppError> {
    let bound = api::bind(&settings.api)?;
    tracing::info!(socket = %settings.api.socket.display(), "the token API is served");
    let tcp = match settings.api.listen.clone() {
        Some(listen) => Some(api::bind_tcp(listen).await?),
        None => None,
    };
    Ok(bound.with_operators(operators).with_tcp(tcp))
}

/// Reads the operator keys again at each SIGHUP, and once for those since the start. Files of keys are
/// followed without it; a command is not.
fn reload_keys_on_hangup(operators: OperatorKeys, mut hangups: Signal) -> JoinHandle<()> {
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP: the operator keys are read again");
            operators.reload().await;
        }
    })
}

/// Serves the public sign-in pages, if they are configured.
async fn serve_sign_in_pages(
    settings: &AppSettings,
    broker: &Broker,
    rights: Arc<dyn OwnerRights>,
    shutdown: &CancellationToken,
) -> Result<Option<JoinHandle<()>>, AppError> {
    let Some(public) = settings.api.public.clone() else { return Ok(None) };
    broker.set_public_url(public.url.clone());
    let bound = api::bind_pages(public).await?;
    Ok(Some(tokio::spawn(api::serve_pages(bound, broker.clone(), rights, shutdown.clone()))))
}

fn serve_api(
    bound: Bound,
    broker: &Broker,
    capabilities: &Arc<Capabilities>,
    tokens: &WorkerTokens,
    shutdown: &CancellationToken,
) -> JoinHandle<()> {
    let (broker, capabilities, tokens) = (broker.clone(), capabilities.clone(), tokens.clone());
    tokio::spawn(api::serve(bound, broker, capabilities, tokens, shutdown.clone()))
}

/// Gives the workers ports of the injecting proxy, if it has a route.
fn serve_inject(
    settings: &AppSettings,
    workers: &Workers,
    tokens: WorkerTokens,
) -> Result<Option<Arc<InjectServer>>, AppError> {
    if settings.api.inject.is_empty() {
        return Ok(None);
    }
    let server = Arc::new(
        InjectServer::new(settings.api.inject.clone(), tokens)
            .map_err(|error| ProviderError::Tls(error.to_string()))?,
    );
    workers.open_ports_by(server.clone());
    Ok(Some(server))
}

/// Creates the workers, and prepares their folders.
async fn create_workers(
    agents: Agents,
    capabilities: Arc<Capabilities>,
    tokens: WorkerTokens,
    conversations: &Arc<Conversations>,
) -> Result<Workers, AppError> {
    let root = agents.default_agent().root.clone();
    let workers = Workers::new(agents, capabilities, Arc::new(tokens), conversations.clone());
    workers.prepare().await.map_err(|source| AppError::AgentFolders { root, source })?;
    if let Err(missing) = workers.supervise() {
        tracing::warn!(
            "agents have {missing}. deploy/threadkey.service shows how systemd delegates a cgroup"
        );
    }
    Ok(workers)
}

/// Refreshes the sessions of live workers before their tokens expire.
fn refresh_in_background(broker: Broker, workers: Workers) -> JoinHandle<()> {
    let changes = workers.changes();
    tokio::spawn(async move { broker.keep_fresh(|| WorkerTokens::in_use(&workers.holders()), changes).await })
}

/// Refreshes idle logins where the operator asks for it.
fn keep_alive(broker: Broker, workers: Option<Workers>, rights: Arc<dyn OwnerRights>) -> JoinHandle<()> {
    let in_use = move || match &workers {
        Some(workers) => WorkerTokens::in_use(&workers.holders()),
        None => Vec::new(),
    };
    tokio::spawn(async move { broker.keep_alive(in_use, rights).await })
}

fn sweep_ended(broker: Broker, after: Duration) -> JoinHandle<()> {
    tokio::spawn(async move { broker.sweep_ended(after).await })
}

fn expire_choices(broker: Broker) -> JoinHandle<()> {
    tokio::spawn(async move { broker.expire_choices().await })
}

/// Polls the sign-ins that need no code here.
fn poll_sign_ins(broker: Broker, rights: Arc<dyn OwnerRights>) -> JoinHandle<()> {
    tokio::spawn(async move { broker.poll_sign_ins(rights).await })
}

/// Keeps the published metadata of the providers fresh.
fn keep_discovered(broker: Broker) -> JoinHandle<()> {
    tokio::spawn(async move { broker.keep_discovered().await })
}

/// Waits for the requests and the refreshes that are under way.
async fn finish(broker: &Broker, api: JoinHandle<()>, store: &Path) {
    let _ = api.await;
    if broker.clock().within(DRAIN_TIMEOUT, broker.drained()).await.is_none() {
        tracing::warn!(
            "a refresh is still under way after {} s; its journal has its state",
            DRAIN_TIMEOUT.as_secs()
        );
        write_rescue_files(broker, store);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the other arms of its `select!` can fail")]
fn end_at_once(broker: &Broker, store: &Path) -> Result<(), AppError> {
    tracing::warn!(
        "ended at once; the journal has the state of a refresh that was under way, and the next start recovers it"
    );
    write_rescue_files(broker, store);
    Ok(())
}

/// Waits until nothing is under way, at the end of a short-lived command.
///
/// It waits as long as a request may take, and then ten minutes in which the disk may recover. A
/// token that cannot be saved in this time goes to a rescue file.
pub async fn drain(broker: &Broker, store: &Path) {
    if tokio::time::timeout(DRAIN_TIMEOUT + SAVE_TIMEOUT, broker.drained()).await.is_err() {
        write_rescue_files(broker, store);
    }
}

/// As [`drain`], for a command for which a user waits. It also ends once each answer that cannot be
/// saved is in its journal.
pub async fn drain_for_user(broker: &Broker, store: &Path) {
    tokio::select! {
        () = drain(broker, store) => {}
        () = broker.safe_to_leave() => {}
    }
}

/// Writes each answer that no journal could take to a rescue file, and logs the file's path.
pub(super) fn write_rescue_files(broker: &Broker, store: &Path) {
    let beside = store.parent().map(Path::to_owned);
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let folders = [beside, home.map(|home| home.join(".local/state/threadkey")), Some(std::env::temp_dir())];
    let folders: Vec<PathBuf> = folders.into_iter().flatten().collect();
    for (tenant, file) in broker.rescue(&folders) {
        match file {
            Some(file) => tracing::error!(
                %tenant,
                "a new token could not be saved; it is in {file}. Repair the store, then run: threadkey auth restore {file}",
                file = file.display()
            ),
            None => {
                tracing::error!(%tenant, "a new token could not be saved anywhere and is lost: sign in again")
            }
        }
    }
}
