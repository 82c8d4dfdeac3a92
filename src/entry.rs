//! The `threadkey` binary: from arguments and configuration to the command, and from its end to an exit code.

use std::{future::Future, path::Path, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser as _};
use tokio::runtime::Builder;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    agent::builtin::{self, BuiltinSettings},
    app::{self, Parts, doctor},
    cli::{self, AuthCommand, Cli, Command, Exit, Failure, RefreshArgs, TokenArgs, say, write_out},
    config::{Config, ConfigError},
    store,
    sys::{clock::Clock, process},
};

/// How long a thread for blocking work is kept that has nothing to do: longer than a provider takes to answer. What came back is
/// written by such a thread, and by then a limit on processes may allow no new one.
const KEEP_THREADS: Duration = Duration::from_secs(600);

/// How long a runtime may take to end after its work is done.
const END_WITHIN: Duration = Duration::from_secs(1);

/// The whole program: `src/main.rs` and the playground call it.
pub fn main() -> ExitCode {
    app::guard_panics();
    let cli = match Cli::usual_token(std::env::args_os().skip(1)).map_or_else(Cli::try_parse, Ok) {
        Ok(cli) => cli,
        Err(told) => {
            // `--help` and `--version` are told this way too.
            let _ = told.print();
            return if told.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match hardened().and_then(|()| dispatch(cli)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            say(&format!("threadkey: {failure}"));
            failure.exit.into()
        }
    }
}

/// Before any secret is read.
fn hardened() -> Result<(), Failure> {
    process::harden_self().map_err(|error| {
        Failure::new(Exit::Internal, format!("this process cannot be closed to others: {error}"))
    })
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let long = matches!(cli.command, Command::Run | Command::Serve);
    let level = app::log_level(if long { LevelFilter::INFO } else { LevelFilter::WARN })?;
    if !matches!(cli.command, Command::Token(_)) {
        app::start_logs(level);
    }
    let config = cli.config.as_deref();
    match cli.command {
        Command::Run => run(config)?,
        Command::Serve => on_threads(app::serve(parts(&load(config)?)))??,
        Command::Auth(command) => auth(config, command)?,
        Command::Token(args) => token(config, &args, level)?,
        Command::Refresh(args) => refresh(config, &args),
        Command::Providers(args) => write_out(&cli::providers::list(&load(config)?.providers, args.json)?)?,
        Command::Doctor(args) => return examine(config, args.json),
        Command::Agent => builtin_agent()?,
        Command::Completions { shell } => completions(shell)?,
        Command::LockProbe { path } => {
            write_out(if store::lock_probe(&path) { "held\n" } else { "free\n" })?;
        }
    }
    Ok(Exit::Done)
}

fn run(config: Option<&Path>) -> Result<(), Failure> {
    let config = load(config)?;
    let discord = config.discord().map_err(told)?;
    Ok(on_threads(app::run(parts(&config), discord))??)
}

fn builtin_agent() -> Result<(), Failure> {
    let settings = BuiltinSettings::from_env()?;
    Ok(on_one_thread(builtin::run(settings))??)
}

fn auth(config: Option<&Path>, command: AuthCommand) -> Result<(), Failure> {
    let parts = parts(&load(config)?);
    on_one_thread(async {
        let broker = parts.broker(parts.open_store()?)?;
        let result = cli::auth::run(&broker, command, parts.clock.now()).await;
        app::drain(&broker, &parts.store).await;
        result
    })?
}

fn token(config: Option<&Path>, args: &TokenArgs, level: LevelFilter) -> Result<(), Failure> {
    if cli::worker::is_worker() {
        app::start_logs(level);
        return on_one_thread(cli::worker::token(args))?;
    }
    let rejected = cli::token::rejected_from_stdin(args)?;
    let parts = parts(&load(config)?);
    let store = parts.open_store()?;
    let (providers, clock) = (&parts.providers, &parts.clock);
    let desk = cli::token::Desk { store: &store, providers, clock, config: &parts.config };
    // The usual case needs neither a runtime nor anybody else's record, and has nothing to log.
    if rejected.is_none()
        && let Some(session) = store.glance(&args.tenant())
        && cli::token::served_at_once(&desk, session, args)?
    {
        return Ok(());
    }
    app::start_logs(level);
    on_one_thread(cli::token::run(&desk, args, rejected))?
}

/// The detached process: whatever goes wrong is told to the caller, through the pipe.
fn refresh(config: Option<&Path>, args: &RefreshArgs) {
    let work = || -> Result<(), Failure> {
        let parts = parts(&load(config)?);
        on_one_thread(async {
            let broker = parts.broker(parts.open_store()?)?;
            cli::token::refresh(&broker, args).await;
            app::drain(&broker, &parts.store).await;
            Ok(())
        })?
    };
    if let Err(failure) = work() {
        cli::token::refresh_failed(&failure);
    }
}

fn examine(config: Option<&Path>, json: bool) -> Result<Exit, Failure> {
    let findings = match load(config) {
        Err(failure) => vec![doctor::Finding::no_configuration(&failure)],
        Ok(config) => {
            let discord = config.discord().map_err(|error| error.to_string());
            let path = std::env::var_os("PATH").unwrap_or_default();
            let parts = parts(&config);
            on_one_thread(doctor::examine(&parts, discord, &path))?
        }
    };
    write_out(&doctor::shown(&findings, json)?)?;
    Ok(doctor::exit(&findings))
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "threadkey", &mut script);
    write_out(&String::from_utf8_lossy(&script))
}

fn load(config: Option<&Path>) -> Result<Config, Failure> {
    let folder = std::env::current_dir().map_err(|error| {
        Failure::new(Exit::Internal, format!("the current folder cannot be told: {error}"))
    })?;
    Config::load(config, &folder, &std::env::vars_os().collect()).map_err(told)
}

fn told(error: ConfigError) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}

fn parts(config: &Config) -> Parts {
    Parts {
        config: config.file.clone(),
        store: config.store.clone(),
        store_options: config.store_options,
        providers: config.providers.clone(),
        api: config.api.clone(),
        agent: config.agent.clone(),
        clock: Clock::system(),
    }
}

fn on_threads<F: Future>(work: F) -> Result<F::Output, Failure> {
    on(Builder::new_multi_thread(), work)
}

fn on_one_thread<F: Future>(work: F) -> Result<F::Output, Failure> {
    on(Builder::new_current_thread(), work)
}

fn on<F: Future>(mut builder: Builder, work: F) -> Result<F::Output, Failure> {
    let runtime =
        builder.enable_all().thread_keep_alive(KEEP_THREADS).build().map_err(|error| {
            Failure::new(Exit::Internal, format!("the runtime cannot be started: {error}"))
        })?;
    let output = runtime.block_on(work);
    runtime.shutdown_timeout(END_WITHIN);
    Ok(output)
}
