//! threadkey signs users in to OAuth providers from Discord, and hands fresh access tokens to agent
//! processes, one per thread.
//!
//! Providers replace a refresh token at each use, and take the second use of an old one as theft:
//! they revoke the whole grant. threadkey exists so that this does not happen:
//!
//! > No concurrency, timeout or death of a caller spends a refresh token twice or loses a new one.
//!
//! # Bird's eye
//!
//! Modules stand on floors and import only floors below them. A test holds this
//! (`tests/layers.rs`).
//!
//! | floor | module | owns |
//! | --- | --- | --- |
//! | 0 | [`ids`], [`secret`] | validated names; secrets that never print themselves, and the scrubber |
//! | 1 | [`sys`] | the real clock, randomness, disk, locks and processes, and all `unsafe` code |
//! | 1 | [`session`] | the record, the pure decisions on it, the order of the steps that spend a secret |
//! | 1 | [`net`] | the way out: trusted certificates, proxies, connections |
//! | 1 | [`tools`] | tools that people already use, as data: their hooks, variables and credential files |
//! | 2 | [`store`] | the file, its locks, the journal, notices of changes |
//! | 2 | [`oauth`] | providers, the requests to them, the meaning of their answers |
//! | 2 | [`agent`] | the agent processes of conversations, and their sandbox |
//! | 3 | [`broker`] | one refresh for each tenant, and sign-ins from start to end |
//! | 4 | [`discord`], [`api`], [`cli`] | the three interfaces |
//! | 4 | [`hooks`] | the operator's commands after events of logins |
//! | 5 | [`config`], [`app`] | the configuration; the assembly of all parts |
//! | 6 | [`entry`] | the program: from arguments to an exit code |
//!
//! # The three ways of a token
//!
//! **A fresh one.** A caller asks [`broker::Broker::token`]. The store is unchanged since the last
//! read, which one `stat` shows, so the record in memory is the record on disk.
//! [`broker::StoredToken`] decides from it, and the caller gets a [`broker::Lease`]. No lock is
//! taken and nothing is written. Once three quarters of the lifetime have passed, a refresh starts
//! in the background.
//!
//! **A refreshed one.** The callers of a tenant in this process share one flight. The flight takes
//! the tenant's lock, which all processes share, or waits for its holder and adopts the result.
//! Under the lock it reads the refresh token, announces the request in the journal, sends it, saves
//! the answer, commits its meaning, and empties the journal ([`session::journal`],
//! [`session::TenantLock`]). A process that dies at any line leaves a journal from which the next
//! one continues.
//!
//! **A first one.** [`broker::Broker::start`] writes a pending sign-in and returns its link. The
//! user pastes the address of the last page, [`oauth::Pasted`] finds the state and the code in it, and
//! [`broker::Broker::finish`] exchanges the code by the same steps as a refresh, under the tenant's
//! sign-in lock. A device code or CIBA brings no code back: threadkey polls, by the same steps
//! ([`oauth::TokenAcquirer`]). A sign-in with another account than the session's waits until the user chooses.
//!
//! # Invariants
//!
//! - A refresh token is read from the store under the tenant's lock, never from memory.
//! - A journal with reserved space is durable before a request, and the raw answer before it is
//!   read.
//! - A secret of a session goes only to the client and the endpoints that its sign-in bound.
//! - A late result changes only the lineage and generation that it was requested for.
//! - Network trouble deletes nothing. Only a provider's verdict ends a session.
//! - An unreadable store is never taken for an empty one, and unknown fields survive each write.
//! - The global lock is never held during a request, and no task holds two tenants' locks.
//! - A caller that gives up a refresh cancels only its wait. A change that is given up while it waits
//!   for the global lock is never applied.
//! - No clock of a single process drops another process's sign-in.
//! - Which token a worker may have is decided in one place: [`broker::WorkerTokens`].
//! - A refresh token is in no file, variable or argument of a worker, and a worker's file is written
//!   below its HOME alone, whatever the worker does there: `sys::below`.
//! - A worker's secret never reaches an upstream of the injecting proxy, and the token reaches nothing
//!   else: `api::inject`.
//!
//! Absent on purpose: a lock that expires, a copy of a refresh token outside the store, a retry
//! inside the HTTP client, a cache without an identity check, and polling where an event will do.
//!
//! # Examples
//!
//! The decision about a token is pure:
//!
//! ```
//! use std::time::Duration;
//! use threadkey::{
//!     ids::Lineage,
//!     secret::{AccessToken, RefreshToken},
//!     session::{Binding, Decision, Grant, Session, Wish, decide},
//! };
//!
//! let grant = Grant {
//!     access_token: AccessToken::new("at-1"),
//!     refresh_token: Some(RefreshToken::new("rt-1")),
//!     token_type: "Bearer".into(),
//!     scope: None,
//!     expires_in: Some(Duration::from_secs(3600)),
//!     account: None,
//!     refresh_expires_at: None,
//!     identity: None,
//! };
//! let binding = Binding {
//!     issuer: None,
//!     token_endpoint: "https://id.acme.example/token".into(),
//!     revocation_endpoint: None,
//!     userinfo_endpoint: None,
//!     probe_endpoint: None,
//!     client_id: "threadkey".into(),
//!     resource: None,
//! };
//! let issued_at = 1_795_358_672;
//! let session = Session::begin(Lineage([1; 16]), grant, binding, issued_at);
//!
//! let minute = Wish::living(Duration::from_secs(60));
//! assert_eq!(decide(&session, issued_at, &minute), Decision::Serve);
//! assert_eq!(decide(&session, issued_at + 2700, &minute), Decision::ServeAndRefresh);
//! assert_eq!(decide(&session, issued_at + 3600, &minute), Decision::Refresh);
//! ```
//!
//! A store is a file that several processes share:
//!
//! ```
//! use threadkey::{
//!     ids::Tenant,
//!     store::{FileStore, FileStoreOptions, Store},
//!     sys::clock::Clock,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("auth.json");
//! let store = FileStore::open(&path, Clock::system(), FileStoreOptions::default())?;
//! let tenant: Tenant = "acme/user:80351110224678912".parse()?;
//! assert!(store.read(&tenant).await?.session.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! A paste carries the code in any form. The state of the sign-in shows that it is the right one:
//!
//! ```
//! use threadkey::{oauth::Pasted, secret::State};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = State::new("Yq3-kXn0_4dF7hJ2mP9sT1vW5zA8bC6eG0iK3lN-oQ2");
//! let pasted = Pasted::parse(
//!     "It ended on <http://127.0.0.1:28471/callback?code=c-1&amp;state=Yq3-kXn0_4dF7hJ2mP9s
//!         T1vW5zA8bC6eG0iK3lN-oQ2>, and the page did not load.",
//! )?;
//! let response = pasted.response(&[&state])?;
//! assert_eq!(response.code.expose(), "c-1");
//! assert_eq!(response.sign_in, Some(0));
//! assert!(pasted.response(&[]).is_err(), "it belongs to another sign-in");
//! # Ok(())
//! # }
//! ```
//!
//! A worker asks the token API with the secrets of its environment:
//!
//! ```no_run
//! use threadkey::{
//!     agent::token_client::{TokenClient, TokenQuery},
//!     ids::ProviderId,
//! };
//!
//! # async fn worker() -> Result<(), Box<dyn std::error::Error>> {
//! let provider: ProviderId = "acme".parse()?;
//! let token = TokenClient::from_env()?.token(&provider, TokenQuery::default()).await?;
//! println!("a token of generation {}", token.generation);
//! # Ok(())
//! # }
//! ```
//!
//! # Stability
//!
//! Stable, as the contract of the program: the commands and their exit codes, the token API, the
//! store's file and lock protocol (`docs/protocol.md`), and the configuration. Of this library,
//! [`ids`], [`secret`], [`session`], [`store::Store`], [`store::FileStore`], [`oauth`] and
//! [`broker`] are meant for programs that embed it; they change only with a version. The other
//! modules are public for the binary and its tests, and change at any time. `test-util` is for
//! tests alone.
//!
//! # Decisions
//!
//! - [1. Modules stand on floors and import only
//!   downwards](../../../adr/0001-modules-stand-on-floors-and-import-only-downwards.md)
//! - [2. flock on sidecar files is the only
//!   lock](../../../adr/0002-flock-on-sidecar-files-is-the-only-lock.md)
//! - [3. Every write is durable, and unreadable is not
//!   empty](../../../adr/0003-every-write-is-durable-and-unreadable-is-not-empty.md)
//! - [4. The journal of a refresh lives in the tenant's lock
//!   file](../../../adr/0004-the-journal-of-a-refresh-lives-in-the-tenants-lock-file.md)
//! - [5. Lineage and generation identify a
//!   grant](../../../adr/0005-lineage-and-generation-identify-a-grant.md)
//! - [6. One refresh per tenant, and an ambiguous outcome is not
//!   replayed](../../../adr/0006-one-refresh-per-tenant-and-an-ambiguous-outcome-is-not-replayed.md)
//! - [7. A worker gets a capability and runs in a
//!   sandbox](../../../adr/0007-a-worker-gets-a-capability-and-runs-in-a-sandbox.md)
//! - [8. Users sign in by pasting, and each tenant has its own pending
//!   sign-in](../../../adr/0008-users-sign-in-by-pasting-and-each-tenant-has-its-own-pending-sign-in.md)
//! - [9. Commands are dispatched by our own table on
//!   serenity](../../../adr/0009-commands-are-dispatched-by-our-own-table-on-serenity.md)
//! - [10. Other crates log warnings at
//!   most](../../../adr/0010-other-crates-log-warnings-at-most.md)
//! - [11. An answer that no journal accepts goes to a rescue
//!   file](../../../adr/0011-an-answer-that-no-journal-accepts-goes-to-a-rescue-file.md)
//! - [12. A read of an unchanged store is one
//!   stat](../../../adr/0012-a-read-of-an-unchanged-store-is-one-stat.md)
//! - [13. Changes that wait together share one
//!   write](../../../adr/0013-changes-that-wait-together-share-one-write.md)
//! - [14. A commit touches only the member that
//!   changes](../../../adr/0014-a-commit-touches-only-the-member-that-changes.md)
//! - [15. A fresh token is printed without reading the whole
//!   store](../../../adr/0015-a-fresh-token-is-printed-without-reading-the-whole-store.md)
//! - [16. A sign-in as another account waits for a
//!   choice](../../../adr/0016-a-sign-in-as-another-account-waits-for-a-choice.md)
//! - [17. Store changes notify every listening
//!   process](../../../adr/0017-store-changes-notify-every-listening-process.md)
//! - [18. Places in the token API are shared
//!   fairly](../../../adr/0018-places-in-the-token-api-are-shared-fairly.md)
//! - [19. What we do not optimise for](../../../adr/0019-what-we-do-not-optimise-for.md)
//! - [20. Every format change that is coming is made at
//!   once](../../../adr/0020-every-format-change-that-is-coming-is-made-at-once.md)
//! - [21. Types keep the order of the steps that spend a
//!   secret](../../../adr/0021-types-keep-the-order-of-the-steps-that-spend-a-secret.md)
//! - [22. Change notices come from inotify on the store's folder
//!   alone](../../../adr/0022-change-notices-come-from-inotify-on-the-stores-folder-alone.md)
//! - [23. The look-alike and the playground are packages of their
//!   own](../../../adr/0023-the-look-alike-and-the-playground-are-packages-of-their-own.md)
//! - [24. An answer is read leniently, and by one
//!   function](../../../adr/0024-an-answer-is-read-leniently-and-by-one-function.md)
//! - [25. Our own state in the text is
//!   enough](../../../adr/0025-our-own-state-in-the-text-is-enough.md)
//! - [26. One way out: trust and proxies](../../../adr/0026-one-way-out-trust-and-proxies.md)
//! - [27. A wait for the lock ends, and no single clock drops a
//!   sign-in](../../../adr/0027-a-wait-for-the-lock-ends-and-no-single-clock-drops-a-sign-in.md)
//! - [28. A report refuses a token to its reporter
//!   alone](../../../adr/0028-a-report-refuses-a-token-to-its-reporter-alone.md)
//! - [29. The configuration comes from a place that its user
//!   chose](../../../adr/0029-the-configuration-comes-from-a-place-that-its-user-chose.md)
//! - [30. A sentence ends a session only if it has no other
//!   subject](../../../adr/0030-a-sentence-ends-a-session-only-if-it-has-no-other-subject.md)
//! - [31. Every endpoint that gets a secret is bound into the
//!   session](../../../adr/0031-every-endpoint-that-gets-a-secret-is-bound-into-the-session.md)
//! - [32. A logout ends the grant, and asks where others share
//!   it](../../../adr/0032-a-logout-ends-the-grant-and-asks-where-others-share-it.md)
//! - [33. One rule decides who may use the bot, and it is checked where it is
//!   used](../../../adr/0033-one-rule-decides-who-may-use-the-bot-and-it-is-checked-where-it-is-used.md)
//! - [34. An agent's text never passes for the bot's own
//!   words](../../../adr/0034-an-agents-text-never-passes-for-the-bots-own-words.md)
//! - [35. One scrubber knows every secret, for Discord and the
//!   log](../../../adr/0035-one-scrubber-knows-every-secret-for-discord-and-the-log.md)
//! - [36. Workers share nothing by name, and have
//!   limits](../../../adr/0036-workers-share-nothing-by-name-and-have-limits.md)
//! - [37. A prompt waits in memory for its
//!   sign-in](../../../adr/0037-a-prompt-waits-in-memory-for-its-sign-in.md)
//! - [38. Providers are data](../../../adr/0038-providers-are-data.md)
//! - [39. No client secret is bundled, and a risk is accepted in
//!   writing](../../../adr/0039-no-client-secret-is-bundled-and-risk-is-accepted-in-writing.md)
//! - [40. Each grant is a token acquirer in one
//!   file](../../../adr/0040-each-grant-is-a-token-acquirer-in-one-file.md)
//! - [41. The browser's way back proves who signed
//!   in](../../../adr/0041-the-browsers-way-back-proves-who-signed-in.md)
//! - [42. A token may come from the environment or by
//!   exchange](../../../adr/0042-a-token-may-come-from-the-environment-or-by-exchange.md)
//! - [43. login listens on loopback](../../../adr/0043-login-listens-on-loopback.md)
//! - [44. Published endpoints are cached and fetched from public addresses
//!   alone](../../../adr/0044-published-endpoints-are-cached-and-fetched-from-public-addresses-alone.md)
//! - [45. An MCP server's credentials are keyed by its
//!   issuer](../../../adr/0045-an-mcp-servers-credentials-are-keyed-by-its-issuer.md)
//! - [46. Rust clients of MCP servers get tokens from threadkey and never a refresh
//!   token](../../../adr/0046-rust-clients-of-mcp-servers-get-tokens-from-threadkey-and-never-a-refresh-token.md)
//! - [47. An id token is verified by the server's keys, and an account is its issuer and
//!   sub](../../../adr/0047-an-id-token-is-verified-by-the-servers-keys-and-an-account-is-its-issuer-and-sub.md)
//! - [48. An idle login is kept alive only where the operator
//!   asks](../../../adr/0048-an-idle-login-is-kept-alive-only-where-the-operator-asks.md)
//! - [49. Vendors: the matrix, and the go or no-go
//!   rule](../../../adr/0049-vendors-the-matrix-and-the-go-no-go-rule.md)
//! - [50. The injecting proxy puts the token in on the way
//!   out](../../../adr/0050-the-injecting-proxy-puts-the-token-in-on-the-way-out.md)
//! - [51. Operator keys are scoped, and the TCP listener takes nothing
//!   else](../../../adr/0051-operator-keys-are-scoped-and-the-tcp-listener-takes-nothing-else.md)
//! - [52. Several agents, and MCP servers for
//!   them](../../../adr/0052-several-agents-and-mcp-servers-for-them.md)
//! - [53. Tokens of a sign-in that is gone are revoked from its
//!   journal](../../../adr/0053-tokens-of-a-sign-in-that-is-gone-are-revoked-from-its-journal.md)
//! - [54. Tools get a hook before a file, and never a refresh
//!   token](../../../adr/0054-tools-get-a-hook-before-a-file-and-never-a-refresh-token.md)
//! - [55. A hook tries its token first, and exec owns a
//!   proxy](../../../adr/0055-a-hook-tries-its-token-first-and-exec-owns-a-proxy.md)
//! - [56. An agent waits for its owner, and one question serves all
//!   waits](../../../adr/0056-an-agent-waits-for-its-owner-and-one-question-serves-all-waits.md)
//! - [57. The process that makes a change runs its
//!   hook](../../../adr/0057-the-process-that-makes-a-change-runs-its-hook.md)
//! - [58. reqwest gets tokens from a
//!   middleware](../../../adr/0058-reqwest-gets-tokens-from-a-middleware.md)
//! - [59. A token read asks the store and the rights each
//!   time](../../../adr/0059-a-token-read-asks-the-store-and-the-rights-each-time.md)

#[cfg(not(unix))]
compile_error!("threadkey runs on Unix only: its locks are flock(2) and its token API is a Unix socket.");

pub mod agent;
pub mod api;
pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod discord;
pub mod entry;
pub mod hooks;
pub mod ids;
pub mod net;
pub mod oauth;
pub mod secret;
pub mod session;
pub mod store;
pub mod sys;
pub mod tools;
