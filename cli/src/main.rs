//! `pgquorum`: automated failover for PostgreSQL with replicated monitors.

mod args;
mod exit;
mod locate;
mod logging;
#[cfg(feature = "mutants")]
mod mutant;
mod output;
mod program;
mod progress;
mod server;
mod table;
mod verbs;
mod wait;

use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

use crate::args::change::SetNode;
use crate::args::{Cli, JsonArgs, Perform, Set, Show, Toggle, Verb};
use crate::exit::{CliError, Status};

fn main() -> ExitCode {
    #[cfg(feature = "mutants")]
    if let Err(unknown) = mutant::choose() {
        eprintln!("{unknown}");
        return ExitCode::FAILURE;
    }
    // Internal: the process between a keeper and its PostgreSQL. It must not depend on anything else.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == keeper::guardian::COMMAND) {
        return match keeper::guardian::main(std::env::args_os().skip(2)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(error.exit as u8)
            }
        };
    }
    program::start();
    let parsed = verbs::help::command()
        .try_get_matches()
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            if error.kind() == ErrorKind::DisplayVersion {
                // As pg_autoctl: the same as the command of that name.
                return verbs::version::run(&JsonArgs { json: false }).map_or(Status::Internal, |()| Status::Ok).into();
            }
            // Printing fails only when the stream is gone: then nobody reads it anyway.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp => Status::Ok.into(),
                _ => Status::BadArguments.into(),
            };
        }
    };
    logging::start(&cli);
    // Nobody is worse off when it fails than before.
    let _ = keeper::hide::passwords();
    let without_configuration = without_configuration(&cli.verb);
    match dispatch(cli) {
        Ok(()) => Status::Ok.into(),
        Err(error) => {
            let error = error.of_command(without_configuration);
            error.report();
            error.status.into()
        }
    }
}

/// The exit code where a data directory has no configuration: pg_autoctl's, which differs by command.
fn without_configuration(verb: &Verb) -> Status {
    match verb {
        Verb::Enable(Toggle::Monitor(_)) | Verb::Disable(Toggle::Monitor(_)) => Status::BadConfiguration,
        Verb::Set(Set::Node(SetNode::Metadata(_))) => Status::BadConfiguration,
        Verb::Enable(Toggle::Maintenance(_) | Toggle::Secondary(_))
        | Verb::Disable(Toggle::Maintenance(_) | Toggle::Secondary(_)) => Status::BadArguments,
        Verb::Config(_) | Verb::Stop(_) | Verb::Reload(_) | Verb::Status(_) => Status::BadArguments,
        Verb::Create(_) | Verb::Drop(_) | Verb::Get(_) | Verb::Set(_) => Status::BadArguments,
        Verb::Show(Show::Settings(_)) | Verb::Perform(Perform::Promotion(_)) => Status::BadArguments,
        _ => Status::Internal,
    }
}

fn dispatch(cli: Cli) -> Result<(), CliError> {
    match cli.verb {
        Verb::Create(verb) => verbs::create::run(verb),
        Verb::Drop(verb) => verbs::drop::run(verb),
        Verb::Show(verb) => verbs::show::run(verb),
        Verb::Enable(verb) => verbs::enable::enable(verb),
        Verb::Disable(verb) => verbs::enable::disable(verb),
        Verb::Get(verb) => verbs::settings::get(verb),
        Verb::Set(verb) => verbs::settings::set(verb),
        Verb::Perform(verb) => verbs::perform::run(verb),
        Verb::Config(verb) => verbs::node_config::run(verb),
        Verb::Explain(args) => verbs::explain::run(&args),
        Verb::Simulate(args) => verbs::simulate::run(&args),
        Verb::Demo(args) => verbs::demo::run(&args),
        Verb::Watch(args) => verbs::watch::run(&args),
        Verb::Node(verb) => verbs::declared::run(verb),
        Verb::Inspect(verb) => verbs::inspect::run(verb),
        Verb::Help(args) => verbs::help::run(&args),
        Verb::Run(args) if verbs::node::is_node(&args.data) => verbs::node::run(&args),
        Verb::Stop(args) if verbs::node::is_node(&args.data) => verbs::node::stop(&args),
        Verb::Reload(args) if verbs::node::is_node(&args.data) => verbs::node::reload(&args.data),
        Verb::Status(args) if verbs::node::is_node(&args.data) => verbs::node::status(&args),
        Verb::Run(args) => verbs::service::run(&args),
        Verb::Stop(args) => verbs::service::stop(&args),
        Verb::Reload(args) => verbs::service::reload(&args.data),
        Verb::Status(args) => verbs::service::status(&args),
        Verb::Version(args) => verbs::version::run(&args),
        Verb::Activate(_) => verbs::later::citus("activate"),
        Verb::Accept(_) => verbs::later::accept_timeline(),
    }
}
