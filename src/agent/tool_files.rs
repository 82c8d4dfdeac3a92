//! The files that give the tools of a worker their tokens, and their upkeep.
//!
//! Settings of tools, which have no token, are written once, before the process starts. A file with
//! an access token is written before the process starts too, and again whenever the token has
//! changed. It is removed as soon as there is no token for the worker any more, and at the worker's
//! end. [`TokenSource`] decides about each token; a refresh token does not reach this module.
//!
//! The worker may do anything to its home at any time. [`Below`] follows nothing that it puts there,
//! and an error costs the worker its own file alone: it is logged once, and the next change of the
//! store, or the next look at the clock, tries again.
//!
//! Concurrency: files are written and removed under one lock. After [`ToolFiles::close`] nothing is
//! written, not even by a write that began earlier and waits for the lock.
//!
//! What happens if the bot dies: the list of the files with a secret is on disk, outside the worker's
//! reach, before the first one is written. The next start removes them ([`remove_left`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    AgentSettings, AgentTool, Holder, InjectAccess, PromptError, TokenChanges, TokenRefusal, TokenSource,
    file_text, folders::Folders, tool_settings::ToolVariables,
};
use crate::{
    ids::{ProviderId, UnixTime},
    secret::{Pin, Scrubber, Secret},
    sys::{
        below::{Below, Written},
        detach, files,
    },
    tools::{RenderError, TokenValues, Values},
};

/// The file in a worker's folder with the paths of its files with a secret, one a line.
pub(super) const LIST: &str = "secret-files";
/// The remaining life at which a token is replaced, if no change of the store came before.
const AHEAD: Duration = Duration::from_secs(60);
/// The longest pause between two looks at the clock and at the owner's right. A right can end without
/// a change of the store.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The shortest pause.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The files of one worker. Dropping it removes those with a secret.
pub(super) struct ToolFiles {
    inner: Arc<Inner>,
    changes: Box<dyn TokenChanges>,
}

struct Inner {
    source: Source,
    home: Below,
    /// The file with the paths of the files with a secret.
    list: PathBuf,
    state: Mutex<State>,
}

/// The parts that the files are rendered from.
struct Source {
    settings: AgentSettings,
    holder: Holder,
    inject: Option<InjectAccess>,
    tokens: Arc<dyn TokenSource>,
    home: PathBuf,
    program: PathBuf,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    /// The files with a token, and the tokens that they were rendered from.
    written: BTreeMap<PathBuf, WrittenFile>,
    /// The other files with a secret.
    secret: BTreeSet<PathBuf>,
    /// The files whose last write or removal failed, which is logged.
    failed: BTreeSet<PathBuf>,
}

struct WrittenFile {
    tokens: Vec<TokenValues>,
    file: Written,
    #[expect(dead_code, reason = "its drop forgets the tokens")]
    pins: Vec<Pin>,
}

/// The next content of a file with a token.
enum Next {
    Write(Secret, Vec<TokenValues>),
    Remove,
}

impl ToolFiles {
    /// Writes all files of a worker that has not started yet. Returns `None` if it has neither tools
    /// nor files.
    ///
    /// # Errors
    /// [`PromptError::Tool`], if the settings of a tool cannot be rendered or written. A file with a
    /// token that cannot be written is logged.
    pub(super) async fn write(
        settings: &AgentSettings,
        folders: &Folders,
        holder: &Holder,
        inject: Option<InjectAccess>,
        tokens: &Arc<dyn TokenSource>,
    ) -> Result<(Option<Self>, ToolVariables), PromptError> {
        if settings.tools.is_empty() && settings.files.is_empty() {
            return Ok((None, ToolVariables::new()));
        }
        let source = Source {
            settings: settings.clone(),
            holder: holder.clone(),
            inject,
            tokens: Arc::clone(tokens),
            home: folders.home.clone(),
            program: detach::program_path().map_err(|error| failed("threadkey", &error))?,
        };
        // Before the first token, so that no change is missed.
        let changes = tokens.changes();
        let (home, list) = (folders.home.clone(), folders.home.with_file_name(LIST));
        let secret_paths = source.secret_paths();
        let opened = {
            let list = list.clone();
            blocking(move || {
                let lines: Vec<_> = secret_paths.iter().map(|path| path.to_string_lossy()).collect();
                files::replace_private(&list, lines.join("\n").as_bytes())?;
                Below::open(&home)
            })
        };
        let home = opened.await.map_err(|error| failed("HOME", &error))?;
        let inner = Arc::new(Inner { source, home, list, state: Mutex::default() });
        // From here on, a failure removes the files.
        let files = Self { inner, changes };
        let variables = files.write_settings().await?;
        files.inner.refresh().await;
        Ok((Some(files), variables))
    }

    /// Writes the files without a token. Returns the variables of the tools.
    async fn write_settings(&self) -> Result<ToolVariables, PromptError> {
        let inner = Arc::clone(&self.inner);
        let mut variables = ToolVariables::new();
        let mut settings = Vec::new();
        let source = &inner.source;
        for agent_tool in &source.settings.tools {
            let problem = |error: RenderError| failed(&agent_tool.tool.name, &error);
            // A worker without a login starts without the account of one.
            let token = if agent_tool.means.needs_token() {
                source.tokens.token(&source.holder, &agent_tool.provider).await.ok()
            } else {
                None
            };
            let rendered = source.with_values(agent_tool, token.as_ref(), |values| {
                Ok((
                    agent_tool.means.render_files(values, false)?,
                    agent_tool.means.render_variables(values)?,
                ))
            });
            let (files, own) = rendered.map_err(problem)?;
            variables.extend(own);
            let in_home = |path: &str| agent_tool.in_home(path);
            settings
                .extend(files.into_iter().map(|file| (in_home(&file.path), file.text, file.holds_secret)));
        }
        for file in source.settings.files.iter().filter(|file| file.text.providers().is_empty()) {
            let text = file_text::render(
                file,
                &source.holder,
                source.inject.as_ref(),
                &BTreeMap::new(),
                source.tokens.now(),
            );
            let text = text.map_err(|error| failed(&file.path, &error))?;
            settings.push((PathBuf::from(&file.path), text, true));
        }
        let writer = Arc::clone(&inner);
        let write = move || {
            let mut state = writer.state();
            for (path, text, holds_secret) in settings {
                writer
                    .home
                    .replace(&path, text.expose().as_bytes())
                    .map_err(|error| (path.clone(), error))?;
                if holds_secret {
                    state.secret.insert(path);
                }
            }
            Ok(())
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => Ok(variables),
            Ok(Err((path, error))) => Err(failed(&path.display().to_string(), &error)),
            Err(error) => Err(failed("HOME", &error)),
        }
    }

    /// Keeps the files with a token fresh. Never ends; dropping the future stops it.
    pub(super) async fn keep_fresh(&mut self) -> Infallible {
        loop {
            let pause = self.inner.refresh().await;
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changes.next() => {}
                () = due => {}
            }
        }
    }

    /// Removes the files with a secret. None is written after it. The drop does it again, because the
    /// worker may have moved a file in the meantime.
    pub(super) async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        let _ = tokio::task::spawn_blocking(move || inner.close()).await;
    }
}

impl Drop for ToolFiles {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the files with a token up to date. Returns the pause before the next look, or `None` if
    /// no file has a token.
    async fn refresh(self: &Arc<Self>) -> Option<Duration> {
        let source = &self.source;
        let mut tokens = BTreeMap::new();
        for provider in source.providers() {
            let token = source.tokens.token(&source.holder, &provider).await;
            if let Err(refusal) = &token {
                tracing::debug!(%provider, reason = refusal.reason, "no token for an agent's file");
            }
            tokens.insert(provider, token);
        }
        let now = source.tokens.now();
        let next = source.next_files(&tokens);
        let writer = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || writer.apply(next)).await;
        pause(tokens.values(), now)
    }

    fn apply(&self, next: Vec<(PathBuf, Result<Next, RenderError>)>) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        for (path, next) in next {
            let result = match next {
                Ok(Next::Write(text, tokens)) => self.write(&mut state, &path, &text, tokens),
                Ok(Next::Remove) => self.remove(&mut state, &path),
                Err(error) => Err(io::Error::other(error)),
            };
            state.note(&path, result);
        }
    }

    fn write(
        &self,
        state: &mut State,
        path: &Path,
        text: &Secret,
        tokens: Vec<TokenValues>,
    ) -> io::Result<()> {
        if state.written.get(path).is_some_and(|written| written.tokens == tokens) {
            return Ok(());
        }
        let scrubber = Scrubber::of_process();
        // The worker may pass a token on, so it stays known for a while after the file is gone.
        tokens.iter().for_each(|token| scrubber.note(token.access_token.expose()));
        let pins = tokens.iter().map(|token| scrubber.pin(token.access_token.expose())).collect();
        let file = self.home.replace(path, text.expose().as_bytes())?;
        state.written.insert(path.to_owned(), WrittenFile { tokens, file, pins });
        Ok(())
    }

    /// Removes a file with a secret, and empties it wherever the worker has moved it.
    fn remove(&self, state: &mut State, path: &Path) -> io::Result<()> {
        let emptied = match state.written.remove(path) {
            Some(written) => written.file.empty(),
            None => Ok(()),
        };
        self.home.remove(path).and(emptied)
    }

    fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let mut all_removed = true;
        for path in self.source.secret_paths() {
            let result = unless_replaced(self.remove(&mut state, &path));
            all_removed &= result.is_ok();
            state.note(&path, result);
        }
        // The list is kept for the next start if a file could not be removed.
        if all_removed && let Err(error) = files::remove(&self.list) {
            tracing::warn!(%error, "the list of an agent's files with tokens cannot be removed");
        }
    }
}

impl State {
    /// Logs the first of several failures of a file.
    fn note(&mut self, path: &Path, result: io::Result<()>) {
        match result {
            Ok(()) => drop(self.failed.remove(path)),
            Err(error) => {
                if self.failed.insert(path.to_owned()) {
                    let path = path.display();
                    tracing::warn!(%path, %error, "an agent's file with a token cannot be changed");
                }
            }
        }
    }
}

impl Source {
    /// Returns the providers whose tokens stand in files, each once.
    fn providers(&self) -> BTreeSet<ProviderId> {
        let of_tools = self.settings.tools.iter().filter(|tool| tool.means.holds_token());
        let of_files = self.settings.files.iter().flat_map(|file| file.text.providers());
        of_tools.map(|tool| tool.provider.clone()).chain(of_files).collect()
    }

    /// Returns the paths of the files that may have a secret in them.
    fn secret_paths(&self) -> BTreeSet<PathBuf> {
        let of_files = self.settings.files.iter().map(|file| PathBuf::from(&file.path));
        self.settings.tools.iter().flat_map(AgentTool::secret_paths).chain(of_files).collect()
    }

    fn with_values<T>(
        &self,
        agent_tool: &AgentTool,
        token: Option<&TokenValues>,
        use_values: impl FnOnce(&Values<'_>) -> Result<T, RenderError>,
    ) -> Result<T, RenderError> {
        let folder = agent_tool.means.folder.as_ref().map(|folder| self.home.join(&folder.home));
        let inject = match (&agent_tool.route, &self.inject) {
            (Some(route), Some(inject)) => inject.values(route),
            _ => None,
        };
        use_values(&Values {
            provider: &agent_tool.provider,
            program: &self.program,
            folder: folder.as_deref().unwrap_or(&self.home),
            base_url: agent_tool.base_url.as_deref(),
            model: agent_tool.model.as_deref(),
            token,
            inject: inject.as_ref(),
            now: self.tokens.now(),
        })
    }

    /// Returns the next content of each file with a token. A file is left out where the reason for
    /// having no token will pass.
    fn next_files(
        &self,
        tokens: &BTreeMap<ProviderId, Result<TokenValues, TokenRefusal>>,
    ) -> Vec<(PathBuf, Result<Next, RenderError>)> {
        let mut next = Vec::new();
        for tool in self.settings.tools.iter().filter(|tool| tool.means.holds_token()) {
            match tokens.get(&tool.provider) {
                Some(Ok(token)) => {
                    let files =
                        self.with_values(tool, Some(token), |values| tool.means.render_files(values, true));
                    match files {
                        Ok(files) => next.extend(files.into_iter().map(|file| {
                            let write = Next::Write(file.text, vec![token.clone()]);
                            (tool.in_home(&file.path), Ok(write))
                        })),
                        Err(error) => next.extend(tool.secret_paths().map(|path| (path, Err(error.clone())))),
                    }
                }
                Some(Err(refusal)) if refusal.is_final => {
                    next.extend(tool.secret_paths().map(|path| (path, Ok(Next::Remove))));
                }
                _ => {}
            }
        }
        for file in &self.settings.files {
            let providers = file.text.providers();
            let of_file = || providers.iter().filter_map(|provider| tokens.get(provider));
            let path = PathBuf::from(&file.path);
            if providers.is_empty() {
                continue;
            }
            if of_file().any(|token| token.as_ref().is_err_and(|refusal| refusal.is_final)) {
                next.push((path, Ok(Next::Remove)));
            } else if of_file().all(Result::is_ok) {
                let used: BTreeMap<_, _> = providers
                    .iter()
                    .filter_map(|id| Some((id.clone(), tokens.get(id)?.as_ref().ok()?.clone())))
                    .collect();
                let text =
                    file_text::render(file, &self.holder, self.inject.as_ref(), &used, self.tokens.now());
                next.push((path, text.map(|text| Next::Write(text, used.into_values().collect()))));
            }
        }
        next
    }
}

/// Returns the pause before the next look, or `None` without tokens.
fn pause<'a>(
    tokens: impl Iterator<Item = &'a Result<TokenValues, TokenRefusal>>,
    now: UnixTime,
) -> Option<Duration> {
    let pauses = tokens.map(|token| match token {
        Ok(token) if token.has_end() => {
            let left = u64::try_from(token.expires_at.saturating_sub(now)).unwrap_or(0);
            Duration::from_secs(left).saturating_sub(AHEAD)
        }
        _ => LONGEST_PAUSE,
    });
    Some(pauses.min()?.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> PromptError {
    PromptError::Tool { what: what.to_owned(), detail: error.to_string() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Accepts the failed removal of a file whose place the worker has given to something else: a symlink or
/// a file stands in the place of a folder, or a folder in the place of the file. So the file is not there.
fn unless_replaced(removed: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{IsADirectory, NotADirectory};
    removed.or_else(
        |error| {
            if matches!(error.kind(), NotADirectory | IsADirectory) { Ok(()) } else { Err(error) }
        },
    )
}

/// Removes the files with a secret that a bot has left in a worker's folder because it died. A file that
/// cannot be removed keeps no other one. This touches the disk, so async threads must not call it.
///
/// # Errors
/// The system's first one. The list is kept then.
pub(super) fn remove_left(own: &Path, home: &Path) -> io::Result<()> {
    let list = own.join(LIST);
    let paths = match files::read_text(&list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let home = Below::open(home)?;
    let paths = paths.lines().filter(|path| !path.is_empty());
    let removed = paths.map(|path| unless_replaced(home.remove(Path::new(path))));
    removed.fold(Ok(()), Result::and)?;
    files::remove(&list)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use async_trait::async_trait;

    use super::{super::*, *};
    use crate::{
        ids::{ConversationId, Snowflake},
        secret::AccessToken,
        tools::NO_END,
    };

    struct NoTokens;

    #[async_trait]
    impl TokenSource for NoTokens {
        async fn token(&self, _: &Holder, _: &ProviderId) -> Result<TokenValues, TokenRefusal> {
            Err(TokenRefusal { reason: "there is none".to_owned(), is_final: true })
        }

        fn changes(&self) -> Box<dyn TokenChanges> {
            unreachable!("no file is kept fresh here")
        }

        fn now(&self) -> UnixTime {
            0
        }
    }

    fn settings(path: &str) -> AgentSettings {
        let text = FileText::Free("{token:acme}".to_owned());
        let day = Duration::from_secs(24 * 3600);
        AgentSettings {
            title: "worker".to_owned(),
            command: Vec::new(),
            providers: Vec::new(),
            isolation: Isolation::None,
            routes: Vec::new(),
            mcp: Vec::new(),
            mcp_by_stdio: false,
            tools: Vec::new(),
            files: vec![AgentFile { path: path.to_owned(), text }],
            env: BTreeMap::new(),
            root: PathBuf::new(),
            socket: PathBuf::new(),
            read: Vec::new(),
            deny: Vec::new(),
            max_workers: 1,
            max_workers_per_user: 1,
            limits: WorkerLimits::default(),
            idle: day,
            keep_files: day,
            start_within: day,
            max_turn: day,
            max_silence: day,
        }
    }

    fn token(expires_at: UnixTime) -> Result<TokenValues, TokenRefusal> {
        let access_token = AccessToken::new("access-7");
        Ok(TokenValues { access_token, expires_at, account: None, scope: None, id_token: None })
    }

    #[test]
    fn a_right_is_looked_at_within_a_minute_also_for_a_token_without_an_end() {
        let paused = |tokens: &[_]| pause(tokens.iter(), 1_000);
        assert_eq!(paused(&[]), None, "no file has a token");
        assert_eq!(paused(&[token(NO_END)]), Some(LONGEST_PAUSE));
        assert_eq!(paused(&[token(100_000)]), Some(LONGEST_PAUSE));
        assert_eq!(paused(&[token(NO_END), token(1_090)]), Some(Duration::from_secs(30)));
        assert_eq!(paused(&[token(1_000)]), Some(SHORTEST_PAUSE));
        let refused = Err(TokenRefusal { reason: "signed out".to_owned(), is_final: true });
        assert_eq!(paused(&[refused]), Some(LONGEST_PAUSE));
    }

    #[test]
    fn a_write_that_began_before_the_end_of_its_worker_writes_nothing_after_it() {
        let around = tempfile::tempdir().expect("a folder");
        let home = around.path().to_owned();
        let owner = Snowflake(803);
        let conversation =
            Conversation { id: ConversationId(Snowflake(1)), owner, shared_guild: None, agent: None };
        let source = Source {
            settings: settings("a"),
            holder: Holder { conversation, providers: Vec::new() },
            inject: None,
            tokens: Arc::new(NoTokens),
            home: home.clone(),
            program: PathBuf::new(),
        };
        let (below, list) = (Below::open(&home).expect("opened"), home.join(LIST));
        let inner = Inner { source, home: below, list, state: Mutex::default() };
        let write = || {
            let tokens = vec![token(NO_END).expect("a token")];
            inner.apply(vec![(PathBuf::from("a"), Ok(Next::Write(Secret::new("access-7"), tokens)))]);
        };
        write();
        assert!(home.join("a").exists());
        inner.close();
        write();
        assert!(!home.join("a").exists());
    }

    #[test]
    fn a_file_in_a_strange_place_keeps_no_other_file_of_a_dead_bot() {
        let around = tempfile::tempdir().expect("a folder");
        let (own, home) = (around.path(), around.path().join("home"));
        fs::create_dir_all(home.join("taken/name")).expect("made");
        fs::write(around.path().join("token"), "outside").expect("written");
        symlink(around.path(), home.join("link")).expect("made");
        fs::write(home.join("plain"), "no folder").expect("written");
        for path in ["a", "z"] {
            fs::write(home.join(path), "access-7").expect("written");
        }
        let paths = ["a", "link/token", "plain/token", "taken/name", "z"];
        fs::write(own.join(LIST), paths.join("\n")).expect("written");
        remove_left(own, &home).expect("removed");
        assert!(!home.join("a").exists() && !home.join("z").exists());
        assert!(!own.join(LIST).exists(), "nothing is left to remove");
        assert_eq!(fs::read(own.join("token")).expect("outside"), b"outside");
        // An error of another kind keeps the list, and the files after it are removed.
        fs::write(home.join("z"), "access-7").expect("written");
        fs::write(own.join(LIST), "../token\nz").expect("written");
        assert!(remove_left(own, &home).is_err());
        assert!(own.join(LIST).exists() && !home.join("z").exists());
    }
}
