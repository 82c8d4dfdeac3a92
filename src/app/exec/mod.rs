//! `threadkey exec PROVIDER… -- CMD`: runs a command in the terminal whose tool is signed in.
//!
//! Order: plan, tokens, private folder if a tool has files, proxy, files and variables, command. Until the
//! command starts, a signal ends this process, and the command does not start. From then on this process
//! only passes signals on and waits. After the command, this process waits for the refreshes that are under
//! way. A user whose wait is long is notified, and the next signal ends it.
//!
//! The remains when this process dies:
//!
//! - *By a signal or an error.* Nothing: the command and its descendants are ended, the proxy is closed,
//!   and the folder is removed. A refresh in progress is waited for, as by every command.
//! - *By `kill -9`.* The system asks the command to end. The folder stays, with an access token at most, and the
//!   next `exec` removes it. The journal has the state of a refresh.
//!
//! No capability and no token is an argument of any process. The secret of the proxy is in the command's
//! environment and in files of the private folder, and void when the command has ended.

mod home;
mod plan;
mod yaml;

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use home::{ToolFolder, Variables};
use plan::{Choice, Named, Wanted, plan};

use super::{AppSettings, drain_for_user, run::write_rescue_files};
use crate::{
    agent::{InjectAccess, InjectPorts as _, InjectWorker, Served},
    api::InjectServer,
    broker::{Broker, TokenError, WithoutBot, WorkerTokens},
    cli::{AS_VARIABLE, ExecArgs, Exit, Failure, git_credential::GitHost, print_notice},
    ids::{Principal, ProviderId, Tenant},
    net::is_loopback,
    oauth::ProviderError,
    sys::{
        clock::Clock,
        detach,
        foreground::{Foreground, PassedSignals, exit_code},
        private_tree::{self, PrivateTree},
        process::find_program,
    },
    tools::{InjectValues, Rendered, TokenValues, Values, Way},
};

/// The least remaining life of a token that a tool gets: longer than tools cache one, which is 5 minutes.
const MIN_TTL: Duration = Duration::from_secs(6 * 60);
/// How long a user waits for a refresh after the command before a notice.
const NOTICE_AFTER: Duration = Duration::from_secs(2);
/// How long the command may take to end after a signal, before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// The longest pause between two looks at a token that is in a file. It bounds how late a jump of the
/// clock is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The exit codes of a shell for a command that is missing, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// A tool that is ready: its choice, its folder and the parts that render its files again.
struct Ready<'a> {
    choice: &'a Choice<'a>,
    tenant: &'a Tenant,
    folder: ToolFolder,
    inject: Option<InjectValues>,
}

/// The parts of the program that render a tool.
struct Context<'a> {
    broker: &'a Broker,
    clock: &'a Clock,
    program: PathBuf,
    model: Option<&'a str>,
}

/// Runs the command, and returns its exit code. Must be called on the main thread.
///
/// # Errors
/// When the command cannot be started on the login.
pub async fn exec(settings: &AppSettings, args: &ExecArgs) -> Result<u8, Failure> {
    let Some(name) = args.command.first() else { return Err(Failure::new(Exit::Usage, "name a command")) };
    let path = env::var_os("PATH").unwrap_or_default();
    let program = match find_program(Path::new(name), &path) {
        Ok(program) => program,
        Err(error) => {
            print_notice(&format!("threadkey: {} cannot be run: {error}", name.display()));
            return Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN });
        }
    };
    let principal = args.principal()?;
    let named = named(settings, args);
    let wanted = Wanted {
        tool: args.tool.as_deref(),
        way: args.way,
        base_url: args.base_url.as_deref(),
        model: args.model.as_deref(),
    };
    let choices = plan(&named, Path::new(name), wanted, &settings.api.inject)?;
    let mut signals = PassedSignals::new().map_err(internal("the signals cannot be read"))?;
    let broker = settings.broker(settings.open_store()?)?;
    let run = Run { settings, args, principal, broker: &broker, choices: &choices };
    let result = run.run(&program, name, &mut signals).await;
    run.leave(&mut signals).await;
    result
}

/// The parts that are ready when the command starts.
struct Prepared<'a> {
    /// The private folder, if a tool has files.
    tree: Option<PrivateTree>,
    proxy: Option<(InjectServer, InjectAccess)>,
    /// Ends the proxy.
    ended: CancellationToken,
    tools: Vec<Ready<'a>>,
    variables: Variables,
}

/// One run of a command.
struct Run<'a> {
    settings: &'a AppSettings,
    args: &'a ExecArgs,
    principal: Principal,
    broker: &'a Broker,
    choices: &'a [Choice<'a>],
}

impl Run<'_> {
    async fn run(&self, program: &Path, name: &OsString, signals: &mut PassedSignals) -> Result<u8, Failure> {
        let tenants: Vec<Tenant> =
            self.args.providers().into_iter().map(|id| Tenant::new(id, self.principal)).collect();
        let context = Context {
            broker: self.broker,
            clock: &self.settings.clock,
            program: detach::program_path().map_err(internal("threadkey's own path is unknown"))?,
            model: self.args.model.as_deref(),
        };
        let prepared = tokio::select! {
            prepared = self.prepare(&tenants, &context) => prepared?,
            signal = signals.next() => return Ok(signal.exit_code()),
        };
        // The files are written in one step, in which a signal may have arrived.
        if let Some(signal) = signals.arrived().await {
            return Ok(signal.exit_code());
        }
        let Prepared { tree, proxy, ended, tools, variables } = prepared;
        let command = Foreground::spawn(program, name, &self.args.command[1..], &variables.finish());
        let mut command = match command {
            Ok(command) => command,
            Err(error) => {
                print_notice(&format!("threadkey: {} cannot be run: {error}", name.display()));
                return Ok(NOT_RUN);
            }
        };
        let status = {
            let upkeep = self.upkeep(&tenants, &tools, &context, tree.as_ref());
            tokio::select! {
                status = attend(&mut command, signals) => status,
                () = upkeep => unreachable!("it ends with the command"),
            }
        };
        // The proxy serves no descendant that is left.
        ended.cancel();
        if let Some((server, _)) = &proxy {
            server.drain().await;
        }
        status.map(exit_code).map_err(internal("the end of the command is unknown"))
    }

    /// Gets the tokens, and makes all that the command needs.
    async fn prepare<'a>(
        &'a self,
        tenants: &'a [Tenant],
        context: &Context<'_>,
    ) -> Result<Prepared<'a>, Failure> {
        // The login is there before anything is made.
        for tenant in tenants {
            self.broker.token(tenant, MIN_TTL).await.map_err(|error| self.no_token(error, tenant))?;
        }
        let has_files = self.choices.iter().any(|choice| choice.means.has_files());
        let tree = if has_files { Some(private_tree(&self.settings.store)?) } else { None };
        let root = tree.as_ref().map_or(Path::new(""), PrivateTree::path);
        let ended = CancellationToken::new();
        let proxy = self.proxy(root, ended.clone()).await?;
        let mut variables = Variables::new(|name| env::var_os(name));
        let mut tools = Vec::new();
        for (choice, tenant) in self.choices.iter().filter_map(|choice| {
            Some((choice, tenants.iter().find(|tenant| tenant.provider == choice.provider)?))
        }) {
            let inject = choice.route.zip(proxy.as_ref());
            let inject = inject.and_then(|(route, (_, access))| access.values(&route.name));
            let folder = choice.means.folder.as_ref();
            let folder = ToolFolder::new(root, &choice.tool.name, folder, |name| env::var_os(name));
            let tool = Ready { choice, tenant, folder, inject };
            let rendered = tool.render(context).await?;
            if !variables.add(&choice.tool.name, &rendered.variables) {
                tracing::debug!(
                    tool = choice.tool.name,
                    "another tool of the same provider has these variables"
                );
                continue;
            }
            if let Some((name, value)) = &tool.folder.variable {
                variables.set(name, value);
            }
            if let Some(tree) = tree.as_ref().filter(|_| choice.means.has_files()) {
                tool.folder.fill(tree, &rendered).map_err(internal("the tool's folder cannot be made"))?;
            }
            tools.push(tool);
        }
        if proxy.is_some() {
            variables.exempt_loopback(|name| env::var_os(name));
        }
        variables.set("THREADKEY_CONFIG", &self.settings.config);
        variables.set(AS_VARIABLE, self.principal.to_string());
        Ok(Prepared { tree, proxy, ended, tools, variables })
    }

    /// Waits for the refreshes that are under way. The process that sends a refresh should not die, so a
    /// signal counts only after a notice. Then the journal has the state of the refresh.
    async fn leave(&self, signals: &mut PassedSignals) {
        let store = &self.settings.store;
        let leave_at_once = async {
            let notice = tokio::time::sleep(NOTICE_AFTER);
            tokio::pin!(notice);
            loop {
                tokio::select! {
                    () = &mut notice => break,
                    _ = signals.next() => {}
                }
            }
            print_notice(
                "threadkey: a refresh is under way, so this command waits for its new token; press Ctrl-C to leave at once, which may lose the login",
            );
            signals.next().await;
        };
        tokio::select! {
            () = drain_for_user(self.broker, store) => {}
            () = leave_at_once => write_rescue_files(self.broker, store),
        }
    }

    /// Opens the injecting proxy for the routes that are in use, with its sockets in `root`.
    async fn proxy(
        &self,
        root: &Path,
        ended: CancellationToken,
    ) -> Result<Option<(InjectServer, InjectAccess)>, Failure> {
        let names: BTreeSet<_> = self.choices.iter().filter_map(|choice| Some(&choice.route?.name)).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let routes =
            self.settings.api.inject.iter().filter(|route| names.contains(&route.name)).cloned().collect();
        let tokens = WorkerTokens::new(self.broker.clone(), Arc::new(WithoutBot));
        let server =
            InjectServer::new(routes, tokens).map_err(|error| ProviderError::Tls(error.to_string()))?;
        let with_socket =
            self.choices.iter().filter(|choice| choice.way == Way::Inject && choice.means.uses_socket());
        let sockets = with_socket.filter_map(|choice| {
            let name = choice.route?.name.clone();
            let path = root.join(format!("{}.sock", name.as_str()));
            Some((name, path))
        });
        let serves = Served::Terminal { principal: self.principal, providers: self.args.providers() };
        let worker = InjectWorker {
            serves,
            capability: None,
            voided: ended,
            sockets: sockets.collect(),
            open: BTreeSet::new(),
            process: Arc::default(),
        };
        let access = server.open(worker).await;
        let access = access.map_err(internal("the injecting proxy cannot be opened"))?;
        Ok(Some((server, access)))
    }

    /// Keeps the sessions and the files fresh, for ever.
    async fn upkeep(
        &self,
        tenants: &[Tenant],
        ready: &[Ready<'_>],
        context: &Context<'_>,
        tree: Option<&PrivateTree>,
    ) {
        // No other process reports holders here.
        let (_holders, others) = watch::channel(0);
        let sessions = self.broker.keep_fresh(|| tenants.to_vec(), others);
        let stale = || ready.iter().filter(|tool| tool.choice.means.holds_token());
        let stale = tree.into_iter().flat_map(|tree| stale().map(move |tool| (tool, tree)));
        let files = futures_util::future::join_all(stale.map(|(tool, tree)| tool.keep_fresh(context, tree)));
        tokio::join!(sessions, files);
        std::future::pending().await
    }

    fn no_token(&self, error: TokenError, tenant: &Tenant) -> Failure {
        let mut failure = Failure::from(error);
        if failure.exit == Exit::NoSession && self.principal == Principal::Local {
            failure.text = format!(
                "{tenant} is not signed in: run `threadkey login {}` once, in about half a minute",
                tenant.provider
            );
        }
        failure
    }
}

impl Ready<'_> {
    /// Renders the files and the variables with the present token.
    async fn render(&self, context: &Context<'_>) -> Result<Rendered, Failure> {
        let token = if self.choice.means.needs_token() {
            let lease = context.broker.token(self.tenant, MIN_TTL).await?;
            let session = context.broker.session(self.tenant).await?;
            Some(TokenValues {
                id_token: session.and_then(|session| session.id_token),
                access_token: lease.access_token,
                expires_at: lease.expires_at,
                account: lease.account,
                scope: lease.scope,
            })
        } else {
            None
        };
        let values = Values {
            provider: &self.choice.provider,
            program: &context.program,
            folder: &self.folder.path,
            base_url: self.choice.base_url.as_deref(),
            model: context.model,
            token: token.as_ref(),
            inject: self.inject.as_ref(),
            now: context.clock.now(),
        };
        self.choice.means.render(&values).map_err(|error| {
            let tool = &self.choice.tool.title;
            Failure::new(Exit::Usage, format!("{tool} cannot be given {}: {error}", self.choice.provider))
        })
    }

    /// Writes the files with a token again whenever there is a newer one, for ever. Removes them when the
    /// right to a token ends.
    async fn keep_fresh(&self, context: &Context<'_>, tree: &PrivateTree) {
        let mut changes = context.broker.changes();
        let mut written = None;
        let mut reported = String::new();
        loop {
            let pause = match context.broker.token(self.tenant, MIN_TTL).await {
                Ok(lease) => {
                    let fingerprint = lease.access_token.fingerprint();
                    if written.as_ref() != Some(&fingerprint) {
                        match self.rewrite(context, tree).await {
                            Ok(()) => written = Some(fingerprint),
                            Err(failure) => {
                                report(
                                    &mut reported,
                                    &format!("the tool's files are not renewed: {}", failure.text),
                                );
                            }
                        }
                    }
                    (lease.expires_in / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
                }
                Err(error) => {
                    let mut problem = format!("the tool's files are not renewed: {error}");
                    if error.is_final() {
                        written = None;
                        problem = format!("the tool's files with a token are removed: {error}");
                        let means = self.choice.means;
                        let paths = means.paths().filter(|path| means.is_secret_file(path));
                        if let Err(failed) = self.folder.remove(tree, paths) {
                            problem = format!(
                                "remove these files, because they have a token that is not valid any more ({error}): {failed}"
                            );
                        }
                    }
                    report(&mut reported, &problem);
                    LONGEST_PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changes.next() => {}
            }
        }
    }

    async fn rewrite(&self, context: &Context<'_>, tree: &PrivateTree) -> Result<(), Failure> {
        let rendered = self.render(context).await?;
        self.folder.refresh(tree, &rendered).map_err(internal("the tool's files cannot be written"))
    }
}

/// Waits for the end of the command, and passes signals on. A signal that asks for the end also ends what
/// the command leaves, after a while by force.
async fn attend(
    command: &mut Foreground,
    signals: &mut PassedSignals,
) -> io::Result<std::process::ExitStatus> {
    loop {
        tokio::select! {
            status = command.wait() => return status,
            signal = signals.next() => {
                if signal.ends() {
                    return command.end(signal, GRACE).await;
                }
                command.pass(signal);
            }
        }
    }
}

/// Reports a problem once until it changes. The command has the screen.
fn report(reported: &mut String, problem: &str) {
    if reported != problem {
        tracing::error!("{problem}");
        problem.clone_into(reported);
    }
}

/// Returns the providers with the facts that the plan needs.
fn named(settings: &AppSettings, args: &ExecArgs) -> Vec<Named> {
    let named = |id: ProviderId| {
        let provider = settings.providers.get(&id);
        let undiscovered = settings.providers.undiscovered(&id);
        let preset = provider.as_ref().and_then(|provider| provider.preset().map(str::to_owned));
        let preset = preset.or_else(|| undiscovered?.settings.preset.clone());
        let git_host = provider.as_ref().and_then(|provider| {
            let scheme = if is_loopback(provider.token_endpoint()) { "http" } else { "https" };
            Some(format!("{scheme}://{}", GitHost::of_provider(provider)?.host))
        });
        Named { id, preset, git_host }
    };
    args.providers().into_iter().map(named).collect()
}

/// Makes the folder of this run: in memory where the system offers that, else beside the store, where no other user gets.
fn private_tree(store: &Path) -> Result<PrivateTree, Failure> {
    // A program that runs as another user, as by `su`, may inherit that user's variable.
    let is_own = |path: &PathBuf| path.is_absolute() && private_tree::is_own_folder(path).unwrap_or(false);
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(is_own);
    if let Some(tree) = runtime.and_then(|path| PrivateTree::make(&path.join("threadkey/exec")).ok()) {
        return Ok(tree);
    }
    let mut beside = store.to_owned().into_os_string();
    beside.push(".exec");
    PrivateTree::make(Path::new(&beside)).map_err(|error| {
        let text = format!(
            "the tool's files have no place: {} cannot be made: {error}. XDG_RUNTIME_DIR can name a folder of yours that no other user can write",
            Path::new(&beside).display()
        );
        Failure::new(Exit::Internal, text)
    })
}

fn internal(problem: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(Exit::Internal, format!("{problem}: {error}"))
}
