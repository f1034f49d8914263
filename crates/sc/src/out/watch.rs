//! Printing again and again.

use std::{future::Future, io::IsTerminal, time::Duration};

use sc_api::ClientError;

use super::{Watching, print};

/// How often is looked.
const PERIOD: Duration = Duration::from_secs(1);

/// Prints what `look` gives; with `--watch` again whenever it differs, until Ctrl-C or until nobody reads any more. On a
/// terminal it takes the place of what stood there. A manager that is away for a while is waited for.
pub(crate) async fn watch<F>(watching: Watching, look: impl Fn() -> F) -> anyhow::Result<u8>
where
    F: Future<Output = anyhow::Result<String>>,
{
    let mut shown = look().await?;
    if !watching.watch {
        print(&shown)?;
        return Ok(crate::exit::OK);
    }
    let terminal = std::io::stdout().is_terminal();
    show(&shown, terminal)?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(crate::exit::OK),
            () = tokio::time::sleep(PERIOD) => {}
        }
        let text = match look().await {
            Ok(text) => text,
            Err(error) if away(&error) && terminal => format!("{shown}\n{}\n", crate::exit::text(&error)),
            Err(error) if away(&error) => continue,
            Err(error) => return Err(error),
        };
        if text != shown {
            show(&text, terminal)?;
            shown = text;
        }
    }
}

fn away(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().is_some_and(ClientError::is_unreachable)
}

fn show(text: &str, terminal: bool) -> std::io::Result<()> {
    if terminal { print(&format!("\x1b[H\x1b[2J\x1b[3J{text}")) } else { print(&format!("{text}\n")) }
}
