//! `sc completion`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{exit, out};

/// Print the completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bash   source <(sc completion bash)
  zsh    sc completion zsh > ~/.zfunc/_sc
  fish   sc completion fish > ~/.config/fish/completions/sc.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Args::command(), "sc", &mut script);
    out::print(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}
