//! `sc validate`.

use super::sheet::{self, SheetArgs};
use crate::exit;

/// Check an app file and the local files it names; nothing is sent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    sheet: SheetArgs,
}

/// Checks a file.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let apps: Vec<String> = sheet::read(&args.sheet)?.iter().map(|app| app.app.to_string()).collect();
    eprintln!("the app file is right: {}", apps.join(", "));
    Ok(exit::OK)
}
