//! The commands. This module only routes; each command has its file.

mod agent;
mod cancel;
mod channel;
mod completion;
mod config;
mod coordinator;
mod doctor;
mod job;
mod list;
mod logs;
mod manifest;
mod quarantine;
mod rollout;
mod run;
mod version;
mod wait;
mod why;

use std::process::ExitCode;

use crate::args::agent::AgentArgs;
use crate::args::channel::ChannelVerb;
use crate::args::coordinator::{CoordinatorCommand, CoordinatorVerb};
use crate::args::job::{JobVerb, TaskVerb};
use crate::args::{Args, Command, ConfigVerb, Format};
use crate::client::Client;
use crate::config::{SYSTEM_DIR, Settings, Sources, user_file};
use crate::console::Console;
use crate::daemon;
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use manifest::Mode;

/// What a client command works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) console: Console,
    pub(crate) signals: Signals,
}

/// Runs the command and reports on stderr what went wrong.
pub(crate) fn run(args: Args) -> ExitCode {
    let asked_for_json = matches!(args.global.output, Some(Format::Json | Format::Jsonl));
    let variable = |name: &str| std::env::var(name).ok();
    let sources = Sources {
        variable: &variable,
        user_file: user_file(&variable),
        system_file: format!("{SYSTEM_DIR}/client.yaml").into(),
    };
    let (result, as_json) = match Settings::resolve(&args.global, &sources) {
        Err(bad) => (Err(bad.into()), asked_for_json),
        Ok(settings) => {
            let as_json = matches!(settings.output.value, Format::Json | Format::Jsonl);
            (dispatch(args, &settings), as_json)
        }
    };
    let exit = result.unwrap_or_else(|failure| {
        // Nothing is left to do if stderr is gone too.
        Console::of_process(Format::Table, true, false, crate::args::ColorChoice::Never)
            .say(&failure.report(as_json));
        failure.exit()
    });
    exit.into()
}

/// Daemons and commands without a coordinator go their own way; the rest gets a connection.
fn dispatch(args: Args, settings: &Settings) -> Result<Exit, Failure> {
    let mut console = Console::of_process(
        settings.output.value,
        !args.global.no_headers,
        args.global.quiet,
        settings.color.value,
    );
    match args.command {
        Command::Up(flags) => daemon::up(&flags, &mut console),
        Command::Coordinator(CoordinatorCommand { verb: None, daemon }) => {
            daemon::coordinator(&daemon)
        }
        Command::Coordinator(CoordinatorCommand {
            verb: Some(verb), ..
        }) => coordinator_verb(verb, settings, console),
        Command::Agent(AgentArgs { verb: None, daemon }) => daemon::agent(&daemon),
        Command::Completion { shell } => completion::run(shell, &mut console),
        Command::Schema => manifest::schema(&mut console),
        Command::Config(flags) => {
            let ConfigVerb::Show { origin } = flags.verb;
            config::show(settings, origin, &mut console)
        }
        Command::Version => in_runtime(version::run(settings, &mut console)),
        Command::Doctor(flags) => in_runtime(doctor::run(&flags, settings, &mut console)),
        Command::Run(flags) if flags.follow.dry_run => run::dry_run(&flags, &mut console),
        Command::Job(flags) => match flags.verb {
            JobVerb::Run(flags) if flags.follow.dry_run => run::dry_run(&flags, &mut console),
            verb => in_runtime(with_client(settings, console, async |context| {
                job_verb(context, verb).await
            })),
        },
        command => in_runtime(with_client(settings, console, async |context| {
            client_command(context, command).await
        })),
    }
}

/// One thread: the client's work is waiting, and a runtime of one thread starts fastest.
fn in_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Setup { source })?;
    runtime.block_on(work)
}

async fn with_client(
    settings: &Settings,
    console: Console,
    command: impl AsyncFnOnce(&mut Context) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let client = Client::connect(&settings.addr.value, &settings.team.value).await?;
    let mut context = Context {
        client,
        console,
        signals: Signals::listen()?,
    };
    command(&mut context).await
}

async fn client_command(context: &mut Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(flags) => run::run(context, *flags).await,
        Command::Ps(flags) => list::ps(context, flags).await,
        Command::Wait(flags) => wait::run(context, &flags).await,
        Command::Cancel(flags) => cancel::run(context, &flags).await,
        Command::Logs(flags) => logs::run(context, flags).await,
        Command::Why(flags) => why::run(context, &flags.id).await,
        Command::Quarantine(flags) => quarantine::run(context, flags.verb).await,
        Command::Task(flags) => task_verb(context, flags.verb).await,
        Command::Agent(AgentArgs {
            verb: Some(verb), ..
        }) => agent::run(context, verb).await,
        Command::Channel(flags) => match flags.verb {
            ChannelVerb::List => channel::list(context).await,
            ChannelVerb::Get { channel } => channel::get(context, channel).await,
            ChannelVerb::Set {
                channel,
                image,
                following,
                warm,
            } => channel::set(context, channel, &image, following, &warm).await,
            ChannelVerb::Refresh { channel } => channel::refresh(context, channel).await,
            ChannelVerb::History(args) => channel::history(context, args).await,
        },
        Command::Rollout(flags) => rollout::run(context, flags.verb).await,
        Command::Rollback(flags) => channel::rollback(context, flags).await,
        Command::Apply(flags) => manifest::run(context, &flags, Mode::Apply).await,
        Command::Plan(flags) => manifest::run(context, &flags, Mode::Plan).await,
        Command::Health => version::health(context).await,
        Command::Up(_)
        | Command::Coordinator(_)
        | Command::Agent(AgentArgs { verb: None, .. })
        | Command::Config(_)
        | Command::Schema
        | Command::Version
        | Command::Doctor(_)
        | Command::Job(_)
        | Command::Completion { .. } => unreachable!("dispatched without a connection"),
    }
}

/// Two of them are about files of a coordinator that does not run.
fn coordinator_verb(
    verb: CoordinatorVerb,
    settings: &Settings,
    mut console: Console,
) -> Result<Exit, Failure> {
    match verb {
        CoordinatorVerb::Backup {
            file,
            data_dir: Some(directory),
        } => coordinator::backup_offline(&directory, &file, &mut console),
        CoordinatorVerb::Restore { file, data_dir } => {
            coordinator::restore(&file, &data_dir, &mut console)
        }
        CoordinatorVerb::Backup {
            file,
            data_dir: None,
        } => in_runtime(with_client(settings, console, async |context| {
            coordinator::backup(context, &file).await
        })),
        CoordinatorVerb::Adopt(args) => {
            in_runtime(with_client(settings, console, async |context| {
                coordinator::adopt(context, &args).await
            }))
        }
    }
}

async fn job_verb(context: &mut Context, verb: JobVerb) -> Result<Exit, Failure> {
    match verb {
        JobVerb::Run(flags) => run::run(context, *flags).await,
        JobVerb::List(flags) => list::ps(context, flags).await,
        JobVerb::Get { job } => job::get(context, &job).await,
        JobVerb::Wait(flags) => wait::run(context, &flags).await,
        JobVerb::Cancel(flags) => cancel::run(context, &flags).await,
    }
}

async fn task_verb(context: &mut Context, verb: TaskVerb) -> Result<Exit, Failure> {
    match verb {
        TaskVerb::List(flags) => list::tasks(context, &flags.job, &flags.filter).await,
        TaskVerb::Get { task } => job::get_task(context, &task).await,
        TaskVerb::Logs(flags) => logs::run(context, flags).await,
        TaskVerb::Cancel(flags) => cancel::run(context, &flags).await,
    }
}
