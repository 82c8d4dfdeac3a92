//! The public sign-in pages: the keys of `[api]` beside the socket.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{ConfigError, file::ApiSection, source::Source};
use crate::{
    api::{CertificateFiles, PublicSettings, Transport},
    broker::PublicUrl,
    oauth::{Providers, Publisher, Undiscovered, mcp::client_document},
};

/// Returns the settings of the pages, or `None` if no key of theirs is set.
pub(super) fn settings(source: &Source<'_>, api: &ApiSection) -> Result<Option<PublicSettings>, ConfigError> {
    let error = |key: &str, problem: String| source.error_at(&["api", key], format!("api.{key}: {problem}"));
    let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let file = |value: &Option<PathBuf>| {
        let given = value.as_deref().filter(|path| !path.as_os_str().is_empty());
        given.map(|path: &Path| source.absolute(path))
    };
    let (url, listen) = (text(&api.public_url), text(&api.public_listen));
    let (certificate, key) = (file(&api.public_cert_file), file(&api.public_key_file));
    let listens = text(&api.listen).is_some();
    let (Some(url), Some(listen)) = (&url, &listen) else {
        let set = [
            ("public_url", url.is_some()),
            ("public_listen", listen.is_some()),
            ("public_cert_file", certificate.is_some()),
            ("public_key_file", key.is_some()),
            // The proxy may stand before the token API alone.
            ("behind_proxy", api.behind_proxy && !listens),
            ("proxy_peers", !api.proxy_peers.is_empty() && !listens),
        ];
        let Some((set, _)) = set.into_iter().find(|(_, is_set)| *is_set) else { return Ok(None) };
        let missing = if url.is_none() { "public_url" } else { "public_listen" };
        let problem = format!("the sign-in pages need {missing} too, or remove {set}");
        return Err(error(set, problem));
    };
    let url = PublicUrl::parse(url).map_err(|problem| error("public_url", problem.to_string()))?;
    let listen: SocketAddr = listen.parse().map_err(|_| {
        error("public_listen", "expected an address and a port, such as \"0.0.0.0:8443\"".to_owned())
    })?;
    let transport = match (certificate, key, api.behind_proxy) {
        (None, None, true) => Transport::Proxy(peers(api).map_err(|problem| error("proxy_peers", problem))?),
        (Some(_), _, true) | (_, Some(_), true) if !listens => {
            let problem = "a proxy has the certificate, so remove public_cert_file and public_key_file, or behind_proxy";
            return Err(error("behind_proxy", problem.to_owned()));
        }
        (Some(certificate), Some(key), _) => Transport::Tls(CertificateFiles { certificate, key }),
        (Some(_), None, _) => {
            return Err(error("public_cert_file", "public_key_file is missing".to_owned()));
        }
        (None, Some(_), _) => {
            return Err(error("public_key_file", "public_cert_file is missing".to_owned()));
        }
        (None, None, false) => {
            let problem = "browsers need https: name public_cert_file and public_key_file, or set behind_proxy = true if a proxy on this machine serves it";
            return Err(error("public_listen", problem.to_owned()));
        }
    };
    if !api.behind_proxy && !api.proxy_peers.is_empty() {
        return Err(error("proxy_peers", "it needs behind_proxy = true".to_owned()));
    }
    if matches!(transport, Transport::Tls(_)) && url.as_url().scheme() != "https" {
        return Err(error(
            "public_url",
            "it must begin with https, because a certificate is configured".to_owned(),
        ));
    }
    Ok(Some(PublicSettings { url, listen, transport, client_document: None }))
}

/// Adds the client id metadata document, if there is an MCP server. It has each redirect URI that a
/// sign-in there uses: those of the pages, and that of a paste.
pub(super) fn with_client_document(public: PublicSettings, providers: &Providers) -> PublicSettings {
    let servers = providers.ids().filter_map(|id| providers.undiscovered(id));
    let servers = servers.filter(|one| matches!(one.publisher, Publisher::Mcp(_)));
    let of = |one: &Undiscovered| match one.makes_client() {
        true => public.url.callback_of(&one.id),
        false => public.url.callback(),
    };
    let mut redirects: Vec<String> =
        servers.flat_map(|one| [one.settings.redirect_uri.clone(), of(&one).to_string()]).collect();
    if redirects.is_empty() {
        return public;
    }
    redirects.sort();
    redirects.dedup();
    let redirects: Vec<&str> = redirects.iter().map(String::as_str).collect();
    let id = public.url.client_document();
    let document = client_document(id.as_str(), public.url.as_url().as_str(), &redirects);
    PublicSettings { client_document: Some(Arc::new(document)), ..public }
}

/// The addresses of the proxies; those of this machine without a list.
pub(super) fn peers(api: &ApiSection) -> Result<Vec<IpAddr>, String> {
    if api.proxy_peers.is_empty() {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let parse = |text: &String| {
        let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
        address.map_err(|_| format!("expected addresses such as \"10.0.0.5\", and {text:?} is none"))
    };
    api.proxy_peers.iter().map(parse).collect()
}
