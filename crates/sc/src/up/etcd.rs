//! Where the state is: in members of our own, or in somebody else's cluster and the way into it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit;

/// The largest file that belongs to the way into a cluster, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Where those files are in a container.
const FOLDER: &str = "/etc/sc";

/// Where the state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Etcd {
    /// In members of our own: client and peer port of each, where they are on the host's network.
    Own(Vec<(u16, u16)>),
    /// In somebody else's.
    At { urls: Vec<String>, access: Box<Access> },
}

/// The way into somebody else's etcd. Files are a name and their content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub ca: File,
    pub cert: File,
    pub key: File,
    pub user: Option<String>,
    pub password: File,
}

pub(crate) type File = Option<(String, Vec<u8>)>;

/// The options of `sc up` about an etcd that runs elsewhere.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AccessArgs {
    /// The authority that signed the certificates of an etcd elsewhere (PEM)
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,

    /// The certificate to show to it (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,

    /// The user to be there
    #[arg(long, value_name = "NAME", requires = "etcd_password_file")]
    etcd_user: Option<String>,

    /// File with the user's password
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

impl AccessArgs {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        let files = [&self.etcd_ca, &self.etcd_cert, &self.etcd_key, &self.etcd_password_file];
        files.iter().all(|file| file.is_none()) && self.etcd_user.is_none()
    }

    /// Whether it is about certificates.
    pub fn has_tls(&self) -> bool {
        [&self.etcd_ca, &self.etcd_cert, &self.etcd_key].iter().any(|file| file.is_some())
    }

    /// Reads the files: they are copied into the containers, which may run on another host.
    ///
    /// # Errors
    /// When one cannot be read, is empty, or holds no PEM.
    pub fn read(&self) -> anyhow::Result<Access> {
        let pem = |path: &Option<PathBuf>, name| path.as_deref().map(|path| read(path, name, true)).transpose();
        let password = self.etcd_password_file.as_deref();
        Ok(Access {
            ca: pem(&self.etcd_ca, "etcd-ca.pem")?,
            cert: pem(&self.etcd_cert, "etcd-cert.pem")?,
            key: pem(&self.etcd_key, "etcd-key.pem")?,
            user: self.etcd_user.clone(),
            password: password.map(|path| read(path, "etcd-password", false)).transpose()?,
        })
    }
}

fn read(path: &Path, name: &str, pem: bool) -> anyhow::Result<(String, Vec<u8>)> {
    let what = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).with_context(what)?.len();
    anyhow::ensure!(size <= FILE_MAX, "{} is too large for what it should be", path.display());
    let content = std::fs::read(path).with_context(what)?;
    if content.trim_ascii().is_empty() {
        return Err(exit::usage(format!("{} is empty", path.display())));
    }
    if pem && !content.windows(11).any(|words| words == b"-----BEGIN ") {
        return Err(exit::usage(format!("{} is no PEM file", path.display())));
    }
    Ok((name.to_owned(), content))
}

impl Access {
    fn all(&self) -> [(&'static str, &File); 4] {
        [
            ("--etcd-ca", &self.ca),
            ("--etcd-cert", &self.cert),
            ("--etcd-key", &self.key),
            ("--etcd-password-file", &self.password),
        ]
    }

    /// What manager and proxy are told of it.
    pub fn arguments(&self) -> Vec<String> {
        let files = self
            .all()
            .into_iter()
            .filter_map(|(flag, file)| file.as_ref().map(|(name, _)| format!("{flag}={FOLDER}/{name}")));
        files.chain(self.user.iter().map(|user| format!("--etcd-user={user}"))).collect()
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.all().into_iter().filter_map(|(_, file)| file.clone());
        files.map(|(name, content)| (format!("{FOLDER}/{name}"), content)).collect()
    }
}

impl Etcd {
    /// The members of our own.
    pub fn members(&self) -> &[(u16, u16)] {
        match self {
            Self::Own(members) => members,
            Self::At { .. } => &[],
        }
    }

    /// What its clients' containers need in them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Own(_) => Vec::new(),
            Self::At { access, .. } => access.files(),
        }
    }
}
