//! `sc cert`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sc_api::types::{CertAccepted, CertView, PutCert};

use crate::{
    exit,
    out::{self, Cell, Format, Output, Paint, Table, Watching},
    session::Session,
    times,
};

/// Give apps' hosts their certificates
///
/// What is added is kept in the store, the private key sealed; every proxy serves it within a second, by the host names in it.
/// Certificates of a proxy's own folder (`sc up --certs`) go first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Add a certificate, or replace the one of this name
    Add(Add),
    /// List the certificates, and those that are being had from an authority
    #[command(alias = "list")]
    Ls(Ls),
    /// Remove a certificate
    #[command(alias = "delete", alias = "remove")]
    Rm(Rm),
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Its name, for you; `default` is served for hosts that no other is for
    name: String,

    /// PEM file of the host's certificate, then those that lead to its authority
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,

    /// PEM file of its private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Ls {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    watching: Watching,
}

#[derive(Debug, clap::Args)]
struct Rm {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Does it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    match args.what {
        What::Add(add) => add.run(session).await,
        What::Ls(ls) => ls.run(session).await,
        What::Rm(rm) => rm.run(session).await,
    }
}

impl Add {
    async fn run(self, session: &Session) -> anyhow::Result<u8> {
        let put = PutCert { chain: read(&self.cert)?, key: read(&self.key)? };
        let accepted = session.client()?.put_cert(&self.name, &put).await?;
        let CertAccepted { name, names, not_after_ms, changed, .. } = accepted;
        let does = if changed { "is served" } else { "was there already" };
        session.progress().done(&format!(
            "{name} {does} for {} until {}",
            names.join(", "),
            times::stamp(not_after_ms)
        ));
        Ok(exit::OK)
    }
}

/// The manager says what is wrong in it.
fn read(path: &Path) -> anyhow::Result<String> {
    let what = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).with_context(what)?.len();
    anyhow::ensure!(size <= 64 << 10, "{} is too large for a certificate or a key", path.display());
    std::fs::read_to_string(path).with_context(|| format!("{} is no PEM file", path.display()))
}

impl Ls {
    async fn run(self, session: &Session) -> anyhow::Result<u8> {
        let client = session.client()?;
        let look = async || {
            let certs = client.certs().await?;
            Ok(match self.output.format {
                Format::Name => certs.iter().map(|cert| format!("{}\n", cert.name)).collect(),
                format => out::structured(format, &certs)?.unwrap_or_else(|| table(&certs, session.paint)),
            })
        };
        out::watch(self.watching, look).await
    }
}

fn table(certs: &[CertView], paint: Paint) -> String {
    if certs.is_empty() {
        return "there are no certificates yet: `sc cert add NAME --cert FILE --key FILE`, or `certificate = \"acme\"` in an app\n"
            .to_owned();
    }
    let mut table = Table::new(&["NAME", "HOSTS", "NOT AFTER", "SOURCE", "STATE", ""]);
    for cert in certs {
        let until = cert.not_after_ms.map(times::stamp).unwrap_or_default();
        let state = Cell::painted(cert.state.as_str(), |paint, state| match state {
            "ok" => paint.good(state),
            "broken" | "expired" | "failed" | "refused" => paint.bad(state),
            _ => paint.busy(state),
        });
        table.row([
            cert.name.as_str().into(),
            cert.names.join(" ").into(),
            until.into(),
            cert.source.as_str().into(),
            state,
            out::printable(&cert.detail).into(),
        ]);
    }
    table.text(paint)
}

impl Rm {
    async fn run(self, session: &Session) -> anyhow::Result<u8> {
        let (client, mut progress) = (session.client()?, session.progress());
        for name in &self.names {
            client.remove_cert(name).await?;
            progress.done(&format!("{name} is removed"));
        }
        Ok(exit::OK)
    }
}
