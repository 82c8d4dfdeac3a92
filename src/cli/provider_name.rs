//! The provider that a command is about.

use super::{Exit, Failure};
use crate::{
    ids::ProviderId,
    oauth::{Providers, no_provider_among},
};

/// Returns the provider of the arguments, which must be configured, or the only configured one.
///
/// # Errors
/// When the provider is unknown, or when none is named and there are several or none.
pub fn configured(providers: &Providers, named: Option<&ProviderId>) -> Result<ProviderId, Failure> {
    let id = named_or_only(providers, named)?;
    match providers.contains(&id) {
        true => Ok(id),
        false => Err(Failure::new(Exit::Usage, unknown(providers, &id))),
    }
}

/// As [`configured`], for a command that also works for a provider whose section was removed.
///
/// # Errors
/// When none is named and there are several or none.
pub(super) fn named_or_only(
    providers: &Providers,
    named: Option<&ProviderId>,
) -> Result<ProviderId, Failure> {
    if let Some(id) = named.or_else(|| providers.only()) {
        return Ok(id.clone());
    }
    let text = match list(providers) {
        Some(list) => format!("name a provider; configured are {list}"),
        None => "no provider is configured: add a section [providers.NAME] to the configuration, which `threadkey doctor` names".to_owned(),
    };
    Err(Failure::new(Exit::Usage, text))
}

/// Returns the text about an unknown provider, with a suggestion.
pub(super) fn unknown(providers: &Providers, id: &ProviderId) -> String {
    no_provider_among(id.as_str(), providers.ids().map(ProviderId::as_str))
}

fn list(providers: &Providers) -> Option<String> {
    let names: Vec<_> = providers.ids().map(ProviderId::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
