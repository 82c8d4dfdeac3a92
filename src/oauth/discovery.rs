//! The fetch of published metadata.
//!
//! One fetch tries the addresses of an issuer in their order and takes the first document that
//! completes the provider. If none does, the error is the one about a document's content, because it is
//! closer to the goal than a missing document. A host that cannot be reached ends the fetch: the next
//! address is on the same host.

use url::Url;

use super::{
    Client, Discovered, DiscoveryError, DocumentError, DocumentRequest, Publisher, ServerMetadata,
    Undiscovered, mcp::issuer_metadata_urls, metadata_urls,
};
use crate::{net::Reach, sys::clock::UnixTime};

impl Client {
    /// Fetches the metadata of a provider, and checks that it completes the provider. Takes at most
    /// 10 s for each address.
    ///
    /// # Errors
    /// See [`DiscoveryError`].
    pub async fn discover(
        &self,
        undiscovered: &Undiscovered,
        now: UnixTime,
    ) -> Result<Discovered, DiscoveryError> {
        let found = |metadata| Discovered {
            publisher: undiscovered.publisher.as_str().to_owned(),
            fetched_at: now,
            metadata,
            ..Discovered::default()
        };
        let is_useful = |metadata: &ServerMetadata| undiscovered.provider(found(metadata.clone())).map(drop);
        match &undiscovered.publisher {
            Publisher::Issuer(issuer) => {
                self.server_metadata(undiscovered, issuer, is_useful).await.map(found)
            }
            Publisher::Mcp(server) => self.discover_mcp(undiscovered, server, None, now).await,
        }
    }

    /// Fetches the metadata of an issuer: the first document that `is_useful` accepts.
    pub(super) async fn server_metadata(
        &self,
        undiscovered: &Undiscovered,
        issuer: &str,
        is_useful: impl Fn(&ServerMetadata) -> Result<(), DiscoveryError>,
    ) -> Result<ServerMetadata, DiscoveryError> {
        let url =
            Url::parse(issuer).map_err(|_| DiscoveryError::Setting("issuer is not a URL".to_owned()))?;
        let (mut missing, mut unusable) = (None, None);
        let urls = match &undiscovered.publisher {
            Publisher::Issuer(_) => metadata_urls(&url).to_vec(),
            Publisher::Mcp(_) => issuer_metadata_urls(&url),
        };
        for url in urls {
            let read = self.issuer_document(undiscovered, url, issuer).await;
            match read.and_then(|metadata| is_useful(&metadata).map(|()| metadata)) {
                Ok(metadata) => return Ok(metadata),
                Err(DiscoveryError::Document(
                    error @ (DocumentError::Unreachable(_) | DocumentError::TooSlow { .. }),
                )) => return Err(DiscoveryError::Document(error)),
                Err(error @ DiscoveryError::Document(_)) => missing = missing.or(Some(error)),
                Err(error) => unusable = unusable.or(Some(error)),
            }
        }
        Err(unusable.or(missing).unwrap_or_else(|| DiscoveryError::Setting("issuer has no host".to_owned())))
    }

    /// Fetches and reads one document of an issuer.
    async fn issuer_document(
        &self,
        undiscovered: &Undiscovered,
        url: Url,
        issuer: &str,
    ) -> Result<ServerMetadata, DiscoveryError> {
        let settings = &undiscovered.settings;
        let reach = settings.reach.clone().unwrap_or_else(|| Reach::default().listing_host_of(&url));
        let request = DocumentRequest::get(url, settings.trust.clone(), reach);
        let document = self.document(request).await.map_err(DiscoveryError::Document)?;
        let members = document.successful_json().map_err(DiscoveryError::Document)?;
        ServerMetadata::read(&members, &document.url, issuer)
    }
}
