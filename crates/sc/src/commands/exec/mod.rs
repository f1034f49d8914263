//! `sc exec`.

mod all;
mod one;
mod terminal;

use sc_api::types::Exec;

use crate::{
    exit,
    named::{self, Named, Place},
    session::Session,
};

/// Run a program inside a replica
///
/// Exit status: the program's own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sc exec web -- cat /etc/hosts
  sc exec -it web/3 -- sh
  sc exec --all web -- hostname")]
pub(crate) struct Args {
    /// An app (a ready replica of it) or a replica: web, web/3
    name: Named,

    /// Program and arguments, passed without a shell
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,

    /// Pass standard input on
    #[arg(long, short)]
    interactive: bool,

    /// Give the program a terminal
    #[arg(long, short)]
    tty: bool,

    /// In every replica of the app at once; each line with its replica's name
    #[arg(long, conflicts_with_all = ["interactive", "tty"])]
    all: bool,
}

/// Runs a program.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let client = session.client()?;
    let place = args.name.resolve(&client).await?;
    if let (true, Place::App(app)) = (args.all, &place) {
        return all::run(&client, app, &args.command, session.paint).await;
    }
    let replica = named::one_replica(&client, place).await?;
    if args.tty && !terminal::is_one() {
        let hint = "leave -t out where input or output is no terminal";
        return Err(exit::usage(format!("-t needs a terminal\n  → {hint}")));
    }
    let tty = args.tty.then(terminal::size);
    let stream = client.exec(&replica, &Exec { command: args.command.clone(), tty }).await?;
    let raw = args.tty.then(terminal::Raw::begin).transpose()?;
    let code = one::run(stream, args.interactive, args.tty).await;
    drop(raw);
    code
}

/// A program's exit status as ours: what does not fit is 255.
fn status(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}
