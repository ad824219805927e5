//! The command line.

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Federated secure computing: nodes compute together, and nobody learns anything but the result.
#[derive(Parser)]
#[command(name = "fdrtd", version)]
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
    /// Prints this node's key, and makes it if there is none.
    Identity(cli::identity::IdentityArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => cli::serve::serve(*args),
        Command::Demo(args) => cli::demo::demo(&args),
        Command::Identity(args) => cli::identity::identity(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fdrtd: {error}");
            ExitCode::FAILURE
        }
    }
}
