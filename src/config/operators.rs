//! `[api.operator_keys]` and `[api] listen`: the keys of the operator's programs, and the address at
//! which they are taken.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use super::{
    ConfigError,
    file::{ApiSection, OperatorKeySection},
    public::peers,
    secret::{SecretKeys, SecretReader},
    source::Source,
};
use crate::{
    api::{
        CertificateFiles, KeyScope, KeySource, ListenSettings, ListenTransport, OperatorKeySettings,
        ProviderPattern, Right,
    },
    oauth::{Providers, no_provider_among},
    sys::secret_source::SecretSource,
};

/// The longest name of a key.
const LONGEST_NAME: usize = 64;

/// Builds the settings of all keys. A key that is not there, or has not the right form, is an error
/// only for the commands that serve the API and for the checks: others run without it, mostly in the
/// terminal of another user.
pub(super) fn keys(
    source: &Source<'_>,
    secrets: &mut SecretReader<'_>,
    api: &ApiSection,
    providers: &Providers,
) -> Result<Vec<OperatorKeySettings>, ConfigError> {
    let keys = api.operator_keys.iter();
    keys.map(|(name, section)| key(source, secrets, name, section, providers)).collect()
}

fn key(
    source: &Source<'_>,
    secrets: &mut SecretReader<'_>,
    name: &str,
    section: &OperatorKeySection,
    providers: &Providers,
) -> Result<OperatorKeySettings, ConfigError> {
    let at = ["api", "operator_keys", name];
    let error = |key: &str, problem: String| {
        let path: Vec<&str> = at.into_iter().chain([key]).collect();
        source.error_at(&path, format!("api.operator_keys.{name}: {problem}"))
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_plain) {
        let problem =
            "the name of an operator key has up to 64 letters, digits, '-', '_' and '.': logs show it";
        return Err(source.error_at(&at, problem));
    }
    let file = section.key_file.as_deref().filter(|file| !file.as_os_str().is_empty());
    let read = secrets.read(&SecretKeys {
        section: &at,
        name: "key",
        env: section.key_env.as_deref(),
        file,
        command: &section.key_command,
    })?;
    let read = match read {
        Some(Ok(SecretSource::Known(text))) => KeySource::Variable(text),
        Some(Ok(SecretSource::Command(command))) => KeySource::Command(command),
        Some(Err(missing)) => KeySource::Missing(missing),
        None => {
            let problem = "it needs key_env, the name of an environment variable, or key_file, a path";
            return Err(error("key_env", problem.to_owned()));
        }
    };
    // A file is read again whenever it changes.
    let place = file.map_or(read, |file| KeySource::File(source.absolute(file)));
    Ok(OperatorKeySettings { name: name.to_owned(), source: place, scope: scope(section, providers, error)? })
}

fn scope(
    section: &OperatorKeySection,
    providers: &Providers,
    error: impl Fn(&str, String) -> ConfigError,
) -> Result<KeyScope, ConfigError> {
    let principals = section.principals.iter().map(|text| text.parse());
    let principals = principals.collect::<Result<_, _>>().map_err(|problem: crate::ids::IdError| {
        error("principals", format!("{problem}; `user:*`, `guild:*` and `*` are patterns"))
    })?;
    let mut covered = Vec::new();
    for text in &section.providers {
        let pattern: ProviderPattern =
            text.parse().map_err(|problem: crate::ids::IdError| error("providers", problem.to_string()))?;
        if let ProviderPattern::One(id) = &pattern
            && !providers.contains(id)
        {
            let known = providers.ids().map(crate::ids::ProviderId::as_str);
            return Err(error("providers", no_provider_among(id.as_str(), known)));
        }
        covered.push(pattern);
    }
    let rights = match &section.rights {
        None => Right::usual(),
        Some(names) => names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()
            .map_err(|problem: crate::api::NoSuchRight| error("rights", problem.to_string()))?,
    };
    Ok(KeyScope { principals, providers: covered, rights })
}

/// Builds the settings of the TCP listener, if there is one.
pub(super) fn listen(source: &Source<'_>, api: &ApiSection) -> Result<Option<ListenSettings>, ConfigError> {
    let error = |key: &str, problem: &str| source.error_at(&["api", key], format!("api.{key}: {problem}"));
    let file = |value: &Option<PathBuf>| {
        let given = value.as_deref().filter(|path| !path.as_os_str().is_empty());
        given.map(|path: &Path| source.absolute(path))
    };
    let (certificate, key) = (file(&api.cert_file), file(&api.key_file));
    let Some(listen) = api.listen.as_ref().filter(|listen| !listen.is_empty()) else {
        return match (certificate, key) {
            (None, None) => Ok(None),
            (Some(_), _) => Err(error("cert_file", "it needs api.listen, the address of the token API")),
            (None, Some(_)) => Err(error("key_file", "it needs api.listen, the address of the token API")),
        };
    };
    let address: SocketAddr = listen
        .parse()
        .map_err(|_| error("listen", "expected an address and a port, such as \"127.0.0.1:7420\""))?;
    if api.operator_keys.is_empty() {
        let problem =
            "only operator keys are taken there: add one under [api.operator_keys], or remove api.listen";
        return Err(error("listen", problem));
    }
    let is_local = is_loopback(address.ip());
    let transport = match (certificate, key) {
        (Some(certificate), Some(key)) => ListenTransport::Tls(CertificateFiles { certificate, key }),
        (Some(_), None) => return Err(error("cert_file", "key_file is missing")),
        (None, Some(_)) => return Err(error("key_file", "cert_file is missing")),
        (None, None) if api.behind_proxy => {
            let mut peers = peers(api).map_err(|problem| error("proxy_peers", &problem))?;
            if is_local {
                peers.extend([IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
            }
            ListenTransport::Proxy(peers)
        }
        (None, None) if is_local => ListenTransport::Local,
        (None, None) => {
            let problem = "tokens cross a network only over TLS: name cert_file and key_file, set behind_proxy = true if a proxy \
                 serves https, or listen on 127.0.0.1";
            return Err(error("listen", problem));
        }
    };
    Ok(Some(ListenSettings { listen: address, transport }))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
