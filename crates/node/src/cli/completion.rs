//! `fdrtd completion` and `fdrtd man`: made from the very definition of the command line.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::{Exit, Failure};
use crate::Cli;

/// Prints a script that completes fdrtd's commands and options in a shell.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fdrtd completion bash > ~/.local/share/bash-completion/completions/fdrtd
  fdrtd completion zsh > ~/.zfunc/_fdrtd
  fdrtd completion fish > ~/.config/fish/completions/fdrtd.fish")]
pub(crate) struct CompletionArgs {
    /// For which shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

/// Writes the manual pages, one for each command.
#[derive(Args)]
#[command(after_help = "\
Example:
  fdrtd man target/man && man -l target/man/fdrtd.1")]
pub(crate) struct ManArgs {
    /// Where to; made if there is none
    directory: PathBuf,
}

pub(crate) fn completion(args: &CompletionArgs) -> Result<(), Failure> {
    let shell = match args.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fdrtd", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(())
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let made = std::fs::create_dir_all(&args.directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.directory));
    made.map_err(|error| {
        let what = format!(
            "the manual pages cannot be written to {}: {error}",
            args.directory.display()
        );
        Failure::new(Exit::Failed, what, "", "name a directory that you may write to", "")
    })
}
