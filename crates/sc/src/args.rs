//! What may be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use sc_api::Target;

use crate::commands::*;

/// The simple cloud: runs many apps on one Docker host or a few, each as a set of replicas behind one proxy.
///
/// `sc demo` shows all of it with nothing installed; `sc up` starts it on this host's Docker, `sc run` an app on it.
#[derive(Debug, Parser)]
#[command(name = "sc", version, max_term_width = 100, propagate_version = false, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 ok · 1 error · 2 usage · 3 not converged, or rolled back · 4 not found · \
5 manager unreachable · 6 denied · 7 conflict")]
pub(crate) struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which manager")]
pub(crate) struct Global {
    /// The manager: http://HOST:PORT or unix:/PATH [default: that of `sc up`, else a running `sc demo`]
    #[arg(long, global = true, env = "SC_MANAGER", value_name = "URL", hide_env = true)]
    pub manager: Option<Target>,

    /// A file with the manager's token; SC_TOKEN may hold the token itself
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// The commands.
// One is made in a run: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::Args),
    Deploy(deploy::Args),
    Validate(validate::Args),
    Diff(diff::Args),
    Canary(canary::Args),
    Promote(promote::Args),
    Rollback(rollback::Args),
    History(history::Args),
    #[command(alias = "list", alias = "apps")]
    Ls(ls::Args),
    Ps(ps::Args),
    #[command(alias = "inspect")]
    Describe(describe::Args),
    Scale(scale::Args),
    Why(why::Args),
    Stop(stop::Args),
    Start(start::Args),
    Restart(restart::Args),
    #[command(alias = "delete", alias = "remove")]
    Rm(rm::Args),
    Logs(logs::Args),
    Events(events::Args),
    Exec(exec::Args),
    Cp(cp::Args),
    #[command(alias = "certs")]
    Cert(cert::Args),
    Doctor(doctor::Args),
    #[cfg(feature = "docker")]
    Up(up::Args),
    #[cfg(feature = "docker")]
    Down(down::Args),
    Demo(demo::Args),
    Completion(completion::Args),
    Version(version::Args),
    /// The reference app, as `sc-matrix`.
    #[command(hide = true)]
    Matrix(crate::matrix::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_make_sense() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_has_help() {
        for command in Args::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "version") {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }
}
