//! Gets a URL with the token of a provider: `get PROVIDER URL`.
//!
//! As a worker of threadkey it asks the token API. Elsewhere it runs the command `threadkey`, which it
//! finds in `PATH`. reqwest has no TLS here, so the URL is one of loopback; a program of your own turns
//! on reqwest's feature `rustls` or `native-tls`.

use std::{env, error::Error as StdError};

use reqwest_middleware::ClientBuilder;
use threadkey_client::{Client, Error, middleware::Authorized};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let [provider, url] =
        env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "usage: get PROVIDER URL")?;
    let threadkey = match Client::from_env() {
        Err(Error::NotInWorker(_)) => Client::program("threadkey"),
        found => found?,
    };
    let client =
        ClientBuilder::new(reqwest::Client::new()).with(Authorized::new(threadkey, &provider, &url)?).build();
    let answer = client.get(&url).send().await?;
    eprintln!("{}", answer.status());
    print!("{}", answer.text().await?);
    Ok(())
}
