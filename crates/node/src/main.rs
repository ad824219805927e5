//! The command line.

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cli::failure::{EXIT_HELP, Exit, Failure};

/// Federated secure computing: nodes compute together, and nobody learns anything but the result.
#[derive(Parser)]
#[command(name = "fdrtd", version, after_help = EXIT_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node.
    Serve(Box<cli::serve::ServeArgs>),
    /// Runs three nodes on one port for a lesson or a trial; nothing is kept.
    Demo(cli::demo::DemoArgs),
    Identity(cli::identity::IdentityArgs),
    Compute(Box<cli::compute::ComputeArgs>),
    Task(cli::task::TaskArgs),
    Token(cli::token::TokenArgs),
    Policy(cli::policy::PolicyArgs),
    Receipt(cli::receipt::ReceiptArgs),
    Audit(cli::audit::AuditArgs),
    Backup(cli::backup::BackupArgs),
    Restore(cli::backup::RestoreArgs),
    Doctor(cli::doctor::DoctorArgs),
    Peers(cli::peers::PeersArgs),
    Completion(cli::completion::CompletionArgs),
    Man(cli::completion::ManArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "fdrtd: {failure}");
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => cli::serve::serve(*args)?,
        Command::Demo(args) => cli::demo::demo(&args)?,
        Command::Identity(args) => cli::identity::identity(&args)?,
        Command::Compute(args) => return cli::compute::compute(*args),
        Command::Task(args) => return cli::task::task(args),
        Command::Token(args) => return cli::token::token(args),
        Command::Peers(args) => return cli::peers::peers(args),
        Command::Policy(args) => return cli::policy::policy(args),
        Command::Receipt(args) => return cli::receipt::receipt(&args),
        Command::Audit(args) => return cli::audit::audit(args),
        Command::Backup(args) => return cli::backup::backup(&args),
        Command::Restore(args) => return cli::backup::restore(&args),
        Command::Doctor(args) => return cli::doctor::doctor(args),
        Command::Completion(args) => cli::completion::completion(&args)?,
        Command::Man(args) => cli::completion::man(&args)?,
    }
    Ok(Exit::Ok)
}
