//! One run of `sc`: which manager it speaks with, and how it prints.

use std::io::IsTerminal;

use sc_api::Client;

use crate::{
    args::{Args, Command, Global},
    commands::*,
    exit, find,
    out::{Paint, Progress},
};

/// One run of `sc`.
pub(crate) struct Session {
    pub global: Global,
    /// How standard output is painted.
    pub paint: Paint,
}

impl Session {
    fn new(global: Global) -> Self {
        Self { global, paint: Paint::of(std::io::stdout().is_terminal()) }
    }

    /// The manager's client.
    pub fn client(&self) -> anyhow::Result<Client> {
        find::client(&self.global)
    }

    /// Says what is going on, on standard error.
    pub fn progress(&self) -> Progress {
        Progress::new()
    }
}

/// Runs a command; prints its error, if any. Gives the exit status.
pub(crate) async fn run(args: Args) -> u8 {
    let session = Session::new(args.global);
    match dispatch(args.command, &session).await {
        Ok(code) => code,
        Err(error) if crate::out::is_closed_pipe(&error) => exit::OK,
        Err(error) => {
            let paint = Paint::of(std::io::stderr().is_terminal());
            eprintln!("{} {}", paint.bad("error:"), exit::text(&error));
            exit::code(&error)
        }
    }
}

async fn dispatch(command: Command, session: &Session) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => run::run(args, session).await,
        Command::Deploy(args) => deploy::run(args, session).await,
        Command::Validate(args) => validate::run(&args),
        Command::Diff(args) => diff::run(args, session).await,
        Command::Canary(args) => canary::run(args, session).await,
        Command::Promote(args) => promote::run(args, session).await,
        Command::Rollback(args) => rollback::run(args, session).await,
        Command::History(args) => history::run(args, session).await,
        Command::Ls(args) => ls::run(args, session).await,
        Command::Ps(args) => ps::run(args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Scale(args) => scale::run(args, session).await,
        Command::Why(args) => why::run(args, session).await,
        Command::Stop(args) => stop::run(args, session).await,
        Command::Start(args) => start::run(args, session).await,
        Command::Restart(args) => restart::run(args, session).await,
        Command::Rm(args) => rm::run(args, session).await,
        Command::Logs(args) => logs::run(args, session).await,
        Command::Events(args) => events::run(args, session).await,
        Command::Exec(args) => exec::run(args, session).await,
        Command::Cp(args) => cp::run(args, session).await,
        Command::Cert(args) => cert::run(args, session).await,
        Command::Doctor(args) => doctor::run(args, session).await,
        #[cfg(feature = "docker")]
        Command::Up(args) => up::run(args, session).await,
        #[cfg(feature = "docker")]
        Command::Down(args) => down::run(args, session).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Completion(args) => completion::run(&args),
        Command::Version(args) => version::run(args, session).await,
        Command::Matrix(_) => Ok(exit::ERROR), // Run before there was a runtime.
    }
}
