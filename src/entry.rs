//! The whole program: parses the arguments, runs the command and returns its exit code.

use std::{env, future::Future, path::Path, process::ExitCode, time::Duration};

use clap::CommandFactory as _;
use tokio::runtime::Builder;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    agent::builtin::{self, BuiltinSettings},
    app::{self, AppSettings, doctor},
    cli::{
        self, AuthCommand, Cli, Command, Exit, Failure, RefreshArgs, TokenArgs, print_notice, print_result,
    },
    config::{Config, ConfigError},
    store,
    sys::{clock::Clock, process},
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
    let exit = match Cli::from_process() {
        Ok(cli) => run_command(cli).unwrap_or_else(|failure| {
            print_notice(&format!("threadkey: {failure}"));
            failure.exit
        }),
        Err(usage) => print_usage(&usage),
    };
    exit.into()
}

/// Prints a usage error. For clap, `--help` and `--version` are such errors too.
fn print_usage(usage: &clap::Error) -> Exit {
    let _ = usage.print();
    if usage.use_stderr() { Exit::Usage } else { Exit::Done }
}

fn run_command(cli: Cli) -> Result<Exit, Failure> {
    // Other processes must not read the memory of this one, so this comes before any secret is
    // read.
    harden()?;
    let level = log_level(&cli.command)?;
    if !matches!(cli.command, Command::Token(_)) {
        app::start_logs(level);
    }
    let config = cli.config.as_deref();
    match cli.command {
        Command::Run => run(config)?,
        Command::Serve => serve(config)?,
        Command::Auth(args) => auth(config, args.command)?,
        Command::Token(args) => token(config, &args, level)?,
        Command::Refresh(args) => refresh(config, &args),
        Command::Providers { json } => print_result(&cli::providers::list(&load(config)?.providers, json)?)?,
        Command::Doctor { json } => return doctor(config, json),
        Command::Agent => agent()?,
        Command::Completions { shell } => completions(shell)?,
        Command::LockProbe { path } => {
            print_result(if store::lock_probe(&path) { "held\n" } else { "free\n" })?;
        }
    }
    Ok(Exit::Done)
}

fn harden() -> Result<(), Failure> {
    process::harden_self().map_err(|error| {
        Failure::new(Exit::Internal, format!("this process cannot be protected from others: {error}"))
    })
}

fn log_level(command: &Command) -> Result<LevelFilter, Failure> {
    let is_service = matches!(command, Command::Run | Command::Serve);
    app::log_level(if is_service { LevelFilter::INFO } else { LevelFilter::WARN })
}

// === the commands ===

fn run(config: Option<&Path>) -> Result<(), Failure> {
    let config = load(config)?;
    let discord = config.discord().map_err(usage_failure)?;
    Ok(on_threads(|| app::run(app_settings(config), discord))??)
}

fn serve(config: Option<&Path>) -> Result<(), Failure> {
    let settings = load_settings(config)?;
    Ok(on_threads(|| app::serve(settings))??)
}

fn auth(config: Option<&Path>, command: AuthCommand) -> Result<(), Failure> {
    let settings = load_settings(config)?;
    on_one_thread(|| async {
        let broker = settings.broker(settings.open_store()?)?;
        let result = cli::auth::run(&broker, command, settings.clock.now()).await;
        app::drain_for_user(&broker, &settings.store).await;
        result
    })?
}

fn token(config: Option<&Path>, args: &TokenArgs, level: LevelFilter) -> Result<(), Failure> {
    if cli::worker::is_worker() {
        app::start_logs(level);
        return on_one_thread(|| cli::worker::run(args))?;
    }
    let rejected = match args.rejected {
        Some(_) => on_one_thread(|| cli::token::rejected_from_stdin(args))??,
        None => None,
    };
    let settings = load_settings(config)?;
    let store = settings.open_store()?;
    let context = cli::token::TokenContext {
        store: &store,
        providers: &settings.providers,
        clock: &settings.clock,
        config: &settings.config,
    };
    // The fast path for a fresh token: it reads one session, logs nothing and needs no runtime.
    if rejected.is_none()
        && let Some(session) = store.find_session(&args.tenant())
        && cli::token::print_if_fresh(&context, session, args)?
    {
        return Ok(());
    }
    app::start_logs(level);
    on_one_thread(|| cli::token::run(&context, args, rejected))?
}

/// Runs the detached process of `token`. The reply on the pipe reports every failure to the caller.
fn refresh(config: Option<&Path>, args: &RefreshArgs) {
    let refresh = || -> Result<(), Failure> {
        let settings = load_settings(config)?;
        on_one_thread(|| async {
            let broker = settings.broker(settings.open_store()?)?;
            cli::token::refresh(&broker, args).await;
            app::drain(&broker, &settings.store).await;
            Ok(())
        })?
    };
    if let Err(failure) = refresh() {
        cli::token::refresh_failed(&failure);
    }
}

fn doctor(config: Option<&Path>, json: bool) -> Result<Exit, Failure> {
    let findings = match load(config) {
        Err(failure) => vec![doctor::Finding::no_configuration(&failure)],
        Ok(config) => {
            let discord = config.discord().map_err(|error| error.to_string());
            let path = env::var_os("PATH").unwrap_or_default();
            let settings = app_settings(config);
            on_one_thread(|| doctor::examine(&settings, discord, &path))?
        }
    };
    print_result(&doctor::render(&findings, json)?)?;
    Ok(doctor::exit(&findings))
}

fn agent() -> Result<(), Failure> {
    let settings = BuiltinSettings::from_env()?;
    Ok(on_one_thread(|| builtin::run(settings))??)
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "threadkey", &mut script);
    print_result(&String::from_utf8_lossy(&script))
}

// === the configuration ===

fn load_settings(config: Option<&Path>) -> Result<AppSettings, Failure> {
    load(config).map(app_settings)
}

fn load(config: Option<&Path>) -> Result<Config, Failure> {
    let folder = env::current_dir().map_err(|error| {
        Failure::new(Exit::Internal, format!("the current folder cannot be determined: {error}"))
    })?;
    let config = Config::load(config, &folder, &env::vars_os().collect()).map_err(usage_failure)?;
    if let Some(unused) = &config.unused {
        cli::print_notice(&format!(
            "{} is not used; the configuration is {}. `--config` names another one",
            unused.display(),
            config.file.display()
        ));
    }
    Ok(config)
}

fn usage_failure(error: ConfigError) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}

fn app_settings(config: Config) -> AppSettings {
    AppSettings {
        config: config.file,
        store: config.store,
        store_options: config.store_options,
        providers: config.providers,
        api: config.api,
        agent: config.agent,
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
