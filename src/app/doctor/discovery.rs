//! The check of the providers whose endpoints a server publishes. It fetches their metadata, so a
//! change of the server is in the cache at once.

use futures_util::future::join_all;

use super::{Finding, Verdict};
use crate::{
    cli::{Exit, duration_text},
    ids::ProviderId,
    oauth::{Client, Discovered, DiscoveryError, Provider, Providers, Undiscovered},
    sys::clock::{Clock, UnixTime},
};

/// Fetches the metadata of each such provider, all at the same time.
pub(super) async fn check(providers: &Providers, clock: &Clock) -> Vec<Finding> {
    let published: Vec<_> = providers.ids().filter_map(|id| providers.undiscovered(id)).collect();
    if published.is_empty() {
        return Vec::new();
    }
    let client = match Client::new(clock.clone()) {
        Ok(client) => client,
        Err(error) => return vec![Finding::new("discovery", Verdict::Fail, error.to_string())],
    };
    let now = clock.now();
    join_all(published.iter().map(|undiscovered| refresh(providers, &client, undiscovered, now))).await
}

/// Refreshes the metadata of a provider. The age in the finding is that of the metadata before.
async fn refresh(
    providers: &Providers,
    client: &Client,
    undiscovered: &Undiscovered,
    now: UnixTime,
) -> Finding {
    let before = providers.get(&undiscovered.id);
    let before = before.as_ref().and_then(|before| before.discovered());
    let found = client.discover(undiscovered, now).await;
    let adopted = found.and_then(|found| providers.adopt(undiscovered, found));
    finding(&undiscovered.id, undiscovered.publisher.as_str(), before, adopted.as_deref(), now)
}

fn finding(
    id: &ProviderId,
    publisher: &str,
    before: Option<&Discovered>,
    adopted: Result<&Provider, &DiscoveryError>,
    now: UnixTime,
) -> Finding {
    let name = format!("discovery {id}");
    let age = before.map(|before| duration_text(now.saturating_sub(before.fetched_at)));
    match (adopted, age) {
        (Ok(provider), age) => {
            let before = match age {
                Some(age) => format!("; the metadata of before was {age} old"),
                None => "; it was not in the cache".to_owned(),
            };
            let earlier = provider.discovered().map_or(&[][..], |found| &found.earlier_token_endpoints);
            if earlier.is_empty() {
                let text = format!("{publisher} publishes {}{before}", provider.token_endpoint());
                return Finding::new(&name, Verdict::Ok, text);
            }
            let text = format!(
                "{publisher} publishes {}, and published {} before. Sessions of before keep using that one. If it is gone, list it in providers.{id}.formerly",
                provider.token_endpoint(),
                earlier.join(", ")
            );
            Finding::new(&name, Verdict::Warn, text)
        }
        (Err(problem), Some(age)) => {
            let text = format!("{problem}. The metadata of before is {age} old and stays in use");
            Finding::new(&name, Verdict::Warn, text)
        }
        (Err(problem), None) => {
            let exit = if problem.is_temporary() { Exit::Later } else { Exit::Usage };
            let text = format!("{problem}. Until then no sign-in is possible");
            Finding { exit, ..Finding::new(&name, Verdict::Fail, text) }
        }
    }
}
