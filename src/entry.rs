//! The whole program: parses the arguments, runs the command and returns its exit code.

use std::{
    env,
    future::Future,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::runtime::Builder;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    agent::builtin::{self, BuiltinSettings},
    app::{self, AppSettings, doctor},
    cli::{
        self, AuthCommand, Cli, Command, ConfigArgs, ConfigCommand, ExecArgs, Exit, Failure, LogFormat,
        McpArgs, RefreshArgs, TokenArgs,
        config_init::{InitArgs, Problem},
        print_notice, print_result,
    },
    config::{self, CONFIG_VARIABLE, Config, ConfigError, Variables},
    ids::Tenant,
    oauth::Providers,
    store,
    sys::{clock::Clock, detach, files, process},
};

/// The time that an idle thread for blocking work is kept. It is longer than a provider takes to
/// answer: such a thread saves the answer, and by then a limit on processes may forbid a new
/// thread.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(600);

/// The time that a runtime gets to shut down after its work is done.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the command of the process's arguments. `src/main.rs` calls it, and so does the playground
/// when it starts itself as the bot, as an agent or as a detached refresh.
pub fn main() -> ExitCode {
    app::install_panic_hook();
    match Cli::from_process() {
        Ok(cli) => run_command(cli).unwrap_or_else(|failure| {
            print_notice(&format!("threadkey: {failure}"));
            failure.exit.into()
        }),
        Err(usage) => print_usage(&usage).into(),
    }
}

/// Prints a usage error. For clap, `--help` and `--version` are such errors too.
fn print_usage(usage: &clap::Error) -> Exit {
    let printed = usage.print().and_then(|()| io::stdout().flush());
    match printed {
        _ if usage.use_stderr() => Exit::Usage,
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            print_notice(&format!("threadkey: the result cannot be written: {error}"));
            Exit::Internal
        }
        _ => Exit::Done,
    }
}

fn run_command(cli: Cli) -> Result<ExitCode, Failure> {
    // Other processes must not read the memory of this one, so this comes before any secret is
    // read.
    // In a worker, `mcp` holds no secret. The bot finds out there whose process it is, and some systems
    // hide a protected process from it.
    if !matches!(cli.command, Command::Mcp(_) if cli::mcp::is_offered()) {
        harden()?;
    }
    let level = log_level(&cli.command)?;
    // The configuration of a service may name the form of its log.
    if !matches!(cli.command, Command::Token(_) | Command::Run { .. } | Command::Serve { .. }) {
        app::start_logs(level, LogFormat::default());
    }
    let config = cli.config.as_deref();
    match cli.command {
        Command::Run { log_format } => run(config, level, log_format)?,
        Command::Serve { log_format } => serve(config, level, log_format)?,
        Command::Auth(args) => auth(config, args.command)?,
        Command::Login(args) => auth(config, AuthCommand::Login(args))?,
        Command::Logout(args) => auth(config, AuthCommand::Logout(args))?,
        Command::Status(args) => auth(config, AuthCommand::Status(args))?,
        Command::RefreshHint(args) => auth(config, AuthCommand::RefreshHint(args))?,
        Command::Token(args) => token(config, &args, level)?,
        Command::Mcp(args) => mcp(config, &args)?,
        Command::Refresh(args) => refresh(config, &args),
        Command::Providers { json } => providers(config, json)?,
        Command::Config(ConfigArgs { command: ConfigCommand::Init(args) }) => config_init(config, &args)?,
        Command::Config(ConfigArgs { command: ConfigCommand::Check }) => config_check(config)?,
        Command::Exec(args) => return exec(config, &args),
        Command::Doctor { json, running } => return Ok(doctor(config, json, running)?.into()),
        Command::Agent => agent()?,
        Command::Completions { shell } => {
            // A script can be made before the configuration is.
            let config = load(config).ok();
            print_result(&cli::completions::script(shell, config.as_ref().map(|config| &config.providers)))?;
        }
        Command::LockProbe { path } => {
            print_result(if store::lock_probe(&path) { "held\n" } else { "free\n" })?;
        }
    }
    Ok(Exit::Done.into())
}

fn harden() -> Result<(), Failure> {
    process::harden_self().map_err(|error| {
        Failure::new(Exit::Internal, format!("this process cannot be protected from others: {error}"))
    })
}

fn log_level(command: &Command) -> Result<LevelFilter, Failure> {
    app::log_level(match command {
        Command::Run { .. } | Command::Serve { .. } => LevelFilter::INFO,
        // The command has the screen.
        Command::Exec(_) => LevelFilter::ERROR,
        _ => LevelFilter::WARN,
    })
}

// === the commands ===

fn run(config: Option<&Path>, level: LevelFilter, format: Option<LogFormat>) -> Result<(), Failure> {
    let config = load(config)?;
    app::start_logs(level, format.or(config.log_format).unwrap_or_default());
    raise_descriptor_limit();
    let ended = on_threads(|| async {
        let discord = config.discord().await.map_err(usage_failure)?;
        Ok(app::run(app_settings(config), discord).await?)
    });
    // An end at once kills the workers with the runtime, but not the processes that have left their
    // groups.
    process::end_children();
    ended?
}

fn serve(config: Option<&Path>, level: LevelFilter, format: Option<LogFormat>) -> Result<(), Failure> {
    let config = load(config)?;
    app::start_logs(level, format.or(config.log_format).unwrap_or_default());
    raise_descriptor_limit();
    let settings = app_settings(config);
    Ok(on_threads(|| app::serve(settings))??)
}

/// Each connection takes a descriptor, and many systems start a service with a limit of 1024.
fn raise_descriptor_limit() {
    match process::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(limit, "the limit of open descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of open descriptors cannot be raised"),
    }
}

fn auth(config: Option<&Path>, command: AuthCommand) -> Result<(), Failure> {
    let settings = load_settings(config)?;
    on_one_thread(|| async {
        let broker = settings.broker(settings.open_store()?)?;
        let hooks = settings.start_hooks(&broker);
        let result = cli::auth::run(&broker, command, settings.clock.now()).await;
        app::drain_for_user(&broker, &settings.store).await;
        hooks.finish().await;
        result
    })?
}

fn token(config: Option<&Path>, args: &TokenArgs, level: LevelFilter) -> Result<(), Failure> {
    cli::git_credential::check_args(args)?;
    if cli::worker::is_worker() {
        app::start_logs(level, LogFormat::default());
        return on_one_thread(|| cli::worker::run(args))?;
    }
    let rejected = match args.rejected {
        Some(_) => on_one_thread(|| cli::token::rejected_from_stdin(args))??,
        None => None,
    };
    let settings = load_settings(config)?;
    let provider = cli::provider_name::configured(&settings.providers, args.provider.as_ref())?;
    let tenant = args.tenant(provider)?;
    let Some(job) = cli::token::job(args, rejected, || settings.git_hosts(&tenant.provider))? else {
        return Ok(());
    };
    let store = settings.open_store()?;
    let context = cli::token::TokenContext {
        store: &store,
        providers: &settings.providers,
        clock: &settings.clock,
        config: &settings.config,
    };
    // The fast path for a fresh token: it reads one session, logs nothing and needs no runtime.
    if job.rejected.is_none()
        && !args.probe
        && let Some(session) = store.find_session(&tenant)
        && cli::token::print_if_fresh(&context, &tenant, session, args, &job.output)?
    {
        return Ok(());
    }
    app::start_logs(level, LogFormat::default());
    on_one_thread(|| cli::token::run(&context, &tenant, args, job))?
}

fn exec(config: Option<&Path>, args: &ExecArgs) -> Result<ExitCode, Failure> {
    if cli::worker::is_worker() {
        let text =
            "exec is for terminals: a worker gets its tools from the agent's table in the configuration";
        return Err(Failure::new(Exit::Usage, text));
    }
    args.check_command()?;
    let settings = load_settings(config)?;
    // The hooks of the command read the file by its path, without `--config`.
    Config::check_for_programs(&settings.config).map_err(usage_failure)?;
    for provider in &args.providers {
        cli::provider_name::configured(&settings.providers, Some(provider))?;
    }
    Ok(on_one_thread(|| app::exec(&settings, args))??.into())
}

fn mcp(config: Option<&Path>, args: &McpArgs) -> Result<(), Failure> {
    if cli::mcp::is_offered() || cli::worker::is_worker() {
        return on_one_thread(|| cli::mcp::run_in_worker(args))?;
    }
    let settings = load_settings(config)?;
    let provider = cli::provider_name::configured(&settings.providers, Some(&args.provider))?;
    let tenant = Tenant::new(provider, cli::acting_principal(args.principal)?);
    let store = settings.open_store()?;
    let context = cli::token::TokenContext {
        store: &store,
        providers: &settings.providers,
        clock: &settings.clock,
        config: &settings.config,
    };
    on_one_thread(|| cli::mcp::run(&context, &tenant))?
}

/// Runs the detached process of `token`. The reply on the pipe reports every failure to the caller.
fn refresh(config: Option<&Path>, args: &RefreshArgs) {
    detach::name_self();
    let refresh = || -> Result<(), Failure> {
        let settings = load_settings(config)?;
        on_one_thread(|| async {
            let broker = settings.broker(settings.open_store()?)?;
            let hooks = settings.start_hooks(&broker);
            cli::detached_refresh::refresh(&broker, args).await;
            app::drain(&broker, &settings.store).await;
            hooks.finish().await;
            Ok(())
        })?
    };
    if let Err(failure) = refresh() {
        cli::detached_refresh::refresh_failed(&failure);
    }
}

fn doctor(config: Option<&Path>, json: bool, running: bool) -> Result<Exit, Failure> {
    let findings = match load(config) {
        Err(failure) => vec![doctor::Finding::no_configuration(&failure)],
        Ok(config) if running => {
            let settings = app_settings(config);
            vec![on_one_thread(|| doctor::examine_health(&settings.api.socket))?]
        }
        Ok(config) => {
            let path = env::var_os("PATH").unwrap_or_default();
            on_one_thread(|| async {
                let discord = config.discord().await.map_err(|error| error.to_string());
                doctor::examine(&app_settings(config), discord, &path).await
            })?
        }
    };
    print_result(&doctor::render(&findings, json)?)?;
    Ok(doctor::exit(&findings))
}

/// Composes a configuration, checks it, and writes it to the place from which it is read.
fn config_init(config: Option<&Path>, args: &InitArgs) -> Result<(), Failure> {
    let variables: Variables = env::vars_os().collect();
    let folder = current_folder(config)?;
    let path = Config::place(config, &folder, &variables).ok_or_else(|| {
        Failure::new(Exit::Usage, "HOME is not set: name the file to write with --config FILE")
    })?;
    let taken = || {
        Failure::new(
            Exit::Usage,
            format!(
                "{} exists already, and nothing was written: move it away, or name another file with --config FILE",
                path.display()
            ),
        )
    };
    if files::exists(&path) {
        return Err(taken());
    }
    // A variable that the text names can be set later.
    let parse = |text: &str| {
        let variables = config::with_missing_secrets(text, &variables).0;
        Config::parse(path.clone(), text.to_owned(), &variables)
    };
    let problem = |text: &str| {
        let error = parse(text).err()?;
        Some(Problem { key: error.key_in_unwritten(text).to_owned(), text: error.in_unwritten(text) })
    };
    let text = on_one_thread(|| cli::config_init::compose(args, problem))??;
    let parsed = parse(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("nothing was written: {}", error.in_unwritten(&text)))
    })?;
    let written = path.parent().map_or(Ok(()), files::create_private_folder);
    let written = written.and_then(|()| files::create_private(&path, text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(),
        _ => Failure::new(Exit::Usage, format!("{} cannot be written: {error}", path.display())),
    })?;
    // Without the option, the commands read another file.
    let option = match Config::place(None, &folder, &variables) {
        Some(usual) if usual == path => String::new(),
        _ => format!(" --config {}", path.display()),
    };
    let next = match text.contains("\n[discord]\n") {
        true => format!("`threadkey run{option}` starts the bot"),
        false => parsed
            .providers
            .ids()
            .next()
            .map_or_else(String::new, |id| format!("`threadkey login {id}{option}` signs in")),
    };
    let missing = match &config::with_missing_secrets(&text, &variables).1[..] {
        [] => String::new(),
        [name] => format!(" Put the secret into the variable {name} first."),
        names => format!(" Put the secrets into the variables {} first.", names.join(" and ")),
    };
    print_notice(&format!(
        "{} is written.{missing} `threadkey doctor{option}` checks the machine, and {next}.",
        path.display()
    ));
    print_result(&format!("{}\n", path.display()))
}

fn config_check(config: Option<&Path>) -> Result<(), Failure> {
    let config = load(config)?;
    let findings = on_one_thread(|| {
        let path = env::var_os("PATH").unwrap_or_default();
        let (hooks, keys) = (config.hooks.clone(), config.api.operator_keys.clone());
        async move { doctor::examine_programs_and_keys(&hooks, &keys, &path).await }
    })?;
    let failed = findings.iter().find(|finding| finding.verdict == doctor::Verdict::Fail);
    if let Some(finding) = failed {
        return Err(Failure::new(Exit::Usage, finding.text.clone()));
    }
    print_result(&format!("{} is valid\n", config.file.display()))
}

/// The presets are of use before there is a configuration.
fn providers(config: Option<&Path>, json: bool) -> Result<(), Failure> {
    let providers = match find(config)? {
        Ok(config) => config.providers,
        Err(missing @ ConfigError::NotFound { .. }) => {
            print_notice(&missing.to_string());
            Providers::default()
        }
        Err(error) => return Err(usage_failure(error)),
    };
    print_result(&cli::providers::list(&providers, Clock::system().now(), json)?)
}

fn agent() -> Result<(), Failure> {
    let settings = BuiltinSettings::from_env()?;
    Ok(on_one_thread(|| builtin::run(settings))??)
}

// === the configuration ===

fn load_settings(config: Option<&Path>) -> Result<AppSettings, Failure> {
    load(config).map(app_settings)
}

fn load(config: Option<&Path>) -> Result<Config, Failure> {
    find(config)?.map_err(usage_failure)
}

fn find(config: Option<&Path>) -> Result<Result<Config, ConfigError>, Failure> {
    let config = Config::load(config, &current_folder(config)?, &env::vars_os().collect());
    if let Ok(Config { unused: Some(unused), file, .. }) = &config {
        cli::print_notice(&format!(
            "{} is not used; the configuration is {}. `--config` names another one",
            unused.display(),
            file.display()
        ));
    }
    Ok(config)
}

/// Returns the current folder, at which a relative path of the configuration starts. A tool may run in a
/// folder that was removed; without a relative path, any folder serves.
fn current_folder(config: Option<&Path>) -> Result<PathBuf, Failure> {
    let variable = env::var_os(CONFIG_VARIABLE);
    let named = config.or(variable.as_deref().map(Path::new));
    match env::current_dir() {
        Err(_) if named.is_none_or(|path| path.is_absolute() || path.as_os_str().is_empty()) => Ok("/".into()),
        folder => folder.map_err(|error| {
            let text = format!(
                "the current folder cannot be determined: {error}. Go to another folder, or name the configuration by its whole path"
            );
            Failure::new(Exit::Usage, text)
        }),
    }
}

fn usage_failure(error: ConfigError) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}

fn app_settings(config: Config) -> AppSettings {
    AppSettings {
        config: config.file,
        store: config.store,
        store_options: config.store_options,
        sweep_after: config.sweep_after,
        providers: config.providers,
        api: config.api,
        agents: config.agents,
        hooks: config.hooks,
        secret_files: config.secret_files,
        clock: Clock::system(),
    }
}

// === the runtime ===

fn on_threads<F: Future>(work: impl FnOnce() -> F) -> Result<F::Output, Failure> {
    block_on(Builder::new_multi_thread(), work)
}

fn on_one_thread<F: Future>(work: impl FnOnce() -> F) -> Result<F::Output, Failure> {
    block_on(Builder::new_current_thread(), work)
}

/// Runs a future to its end. It takes a function and is not inlined, so that the future is in this
/// frame alone. In the frame of its caller, the futures of all commands would be 100 KB that the
/// kernel maps at each start, for `token` too.
#[inline(never)]
fn block_on<F: Future>(mut builder: Builder, work: impl FnOnce() -> F) -> Result<F::Output, Failure> {
    let runtime =
        builder.enable_all().thread_keep_alive(THREAD_KEEP_ALIVE).build().map_err(|error| {
            Failure::new(Exit::Internal, format!("the runtime cannot be started: {error}"))
        })?;
    let output = runtime.block_on(work());
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    Ok(output)
}
