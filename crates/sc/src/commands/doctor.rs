//! stub
use crate::session::Session;
/// stub
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
/// stub
pub(crate) async fn run(_args: Args, _session: &Session) -> anyhow::Result<u8> {
    Ok(1)
}
