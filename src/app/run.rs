//! The long-running commands.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{AppError, Parts, signals::Signals, standby::bot_lock};
use crate::{
    agent::{AgentSettings, Capabilities, Workers},
    api,
    broker::{Broker, WorkerTokens},
    discord::{self, DiscordSettings, Scrubber},
};

/// How long refreshes under way may take when the process ends: as long as one request is read.
const DRAIN: Duration = Duration::from_secs(180);
/// How long a command of its own goes on trying to save what it was given.
const PATIENCE: Duration = Duration::from_secs(600);

/// The bot and the token API, until a signal.
///
/// # Errors
/// When it cannot begin, or Discord refuses it for good.
pub async fn run(parts: Parts, discord: DiscordSettings) -> Result<(), AppError> {
    let mut signals = Signals::new()?;
    if let Some(agent) = &parts.agent {
        agent.check()?;
    }
    let store = parts.open_store()?;
    let Some(_bot) = bot_lock(&store, &mut signals).await? else { return Ok(()) };
    let broker = parts.broker(store)?;
    let capabilities = Arc::new(Capabilities::new());
    let shutdown = CancellationToken::new();
    let mut api = serve_api(&parts, &broker, &capabilities, &shutdown)?;
    let scrubber = {
        let capabilities = capabilities.clone();
        Scrubber::new(move |fingerprint| capabilities.is_secret(fingerprint))
    };
    let workers = parts.agent.clone().map(|agent| workers(agent, capabilities, &broker));
    let fresh = workers.clone().map(|workers| keep_fresh(broker.clone(), workers));
    let choices = expire_choices(broker.clone());
    let mut bot =
        tokio::spawn(discord::run(discord, broker.clone(), workers.clone(), scrubber, shutdown.clone()));
    let (outcome, defect) = tokio::select! {
        ended = &mut bot => (Some(ended), None),
        _ = &mut api => (None, Some(AppError::Stopped("the token API"))),
        () = signals.next() => (None, None),
    };
    tracing::info!("ending: no new work is taken, and what is under way is finished. Once more ends at once");
    let ended = async {
        if let Some(workers) = &workers {
            workers.shutdown().await;
        }
        shutdown.cancel();
        let outcome = match outcome {
            Some(ended) => ended,
            None => bot.await,
        };
        if let Some(fresh) = fresh {
            fresh.abort();
        }
        choices.abort();
        finish(&broker, api, &parts.store).await;
        match (defect, outcome) {
            (Some(defect), _) => Err(defect),
            (None, Ok(result)) => result.map_err(AppError::from),
            (None, Err(_)) => Err(AppError::Stopped("the Discord side")),
        }
    };
    tokio::select! {
        result = ended => result,
        () = signals.next() => at_once(&broker, &parts.store),
    }
}

/// The token API alone, until a signal.
///
/// # Errors
/// When it cannot begin.
pub async fn serve(parts: Parts) -> Result<(), AppError> {
    let mut signals = Signals::new()?;
    let broker = parts.broker(parts.open_store()?)?;
    let shutdown = CancellationToken::new();
    let mut api = serve_api(&parts, &broker, &Arc::new(Capabilities::new()), &shutdown)?;
    let choices = expire_choices(broker.clone());
    tokio::select! {
        () = signals.next() => {}
        _ = &mut api => return Err(AppError::Stopped("the token API")),
    }
    tracing::info!("ending: what is under way is finished. Once more ends at once");
    shutdown.cancel();
    choices.abort();
    tokio::select! {
        () = finish(&broker, api, &parts.store) => Ok(()),
        () = signals.next() => at_once(&broker, &parts.store),
    }
}

fn serve_api(
    parts: &Parts,
    broker: &Broker,
    capabilities: &Arc<Capabilities>,
    shutdown: &CancellationToken,
) -> Result<JoinHandle<()>, AppError> {
    let bound = api::bind(&parts.api)?;
    tracing::info!(socket = %parts.api.socket.display(), "the token API is served");
    Ok(tokio::spawn(api::serve(bound, broker.clone(), capabilities.clone(), shutdown.clone())))
}

fn workers(agent: AgentSettings, capabilities: Arc<Capabilities>, broker: &Broker) -> Workers {
    let tokens = Arc::new(WorkerTokens::new(broker.clone(), capabilities.clone()));
    Workers::new(agent, capabilities, tokens)
}

fn keep_fresh(broker: Broker, workers: Workers) -> JoinHandle<()> {
    let others = workers.changes();
    tokio::spawn(async move { broker.keep_fresh(|| WorkerTokens::in_use(&workers.holders()), others).await })
}

fn expire_choices(broker: Broker) -> JoinHandle<()> {
    tokio::spawn(async move { broker.expire_choices().await })
}

/// Waits for the requests and for the refreshes under way.
async fn finish(broker: &Broker, api: JoinHandle<()>, store: &Path) {
    let _ = api.await;
    if tokio::time::timeout(DRAIN, broker.drained()).await.is_err() {
        tracing::warn!("a refresh is still under way after {} s; it is in its journal", DRAIN.as_secs());
        rescue(broker, store);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "an arm beside others that can fail")]
fn at_once(broker: &Broker, store: &Path) -> Result<(), AppError> {
    tracing::warn!(
        "ended at once: a refresh that was under way is in its journal, and the next start deals with it"
    );
    rescue(broker, store);
    Ok(())
}

/// Waits until nothing is under way, for a command that ends by itself: for as long as a request may take, and then for ten
/// minutes in which a disk may get well. What cannot be saved until then goes to a rescue file.
pub async fn drain(broker: &Broker, store: &Path) {
    if tokio::time::timeout(DRAIN + PATIENCE, broker.drained()).await.is_err() {
        rescue(broker, store);
    }
}

/// Writes what no journal could take into files elsewhere, and names them.
fn rescue(broker: &Broker, store: &Path) {
    let beside = store.parent().map(Path::to_owned);
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let folders = [beside, home.map(|home| home.join(".local/state/threadkey")), Some(std::env::temp_dir())];
    let folders: Vec<PathBuf> = folders.into_iter().flatten().collect();
    for (tenant, file) in broker.rescue(&folders) {
        match file {
            Some(file) => tracing::error!(
                %tenant,
                "a new token could not be saved; it is in {file}. Mend the store, then run: threadkey auth restore {file}",
                file = file.display()
            ),
            None => tracing::error!(%tenant, "a new token could be saved nowhere and is lost: sign in again"),
        }
    }
}
