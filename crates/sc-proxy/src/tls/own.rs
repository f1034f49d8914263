//! A certificate of the proxy's own, so that HTTPS works before there is a real one. It is kept in the data folder: who trusted
//! it once need not do so again after a restart.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use super::{
    TlsError,
    certs::{self, Certs},
};

/// The names it is for.
const NAMES: [&str; 1] = ["localhost"];

pub(super) fn certs(data: Option<&Path>) -> Result<Certs, TlsError> {
    let kept = data.map(|data| (data.join("own.crt"), data.join("own.key")));
    if let Some((cert, key)) = &kept
        && let (Ok(cert_pem), Ok(key_pem)) = (std::fs::read(cert), std::fs::read(key))
        && let Ok(certs) = one(cert, &cert_pem, &key_pem)
    {
        return Ok(certs);
    }
    let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Own(error.to_string()))?;
    let (cert_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
    if let Some((cert, key)) = &kept {
        write(cert, cert_pem.as_bytes(), 0o644)?;
        write(key, key_pem.as_bytes(), 0o600)?;
    }
    one(Path::new("the proxy's own certificate"), cert_pem.as_bytes(), key_pem.as_bytes())
}

fn one(path: &Path, cert: &[u8], key: &[u8]) -> Result<Certs, TlsError> {
    let mut certs = Certs::default();
    certs.add(Arc::new(certs::read(path, cert, key)?), true).map_err(TlsError::Own)?;
    Ok(certs)
}

fn write(path: &Path, text: &[u8], mode: u32) -> Result<(), TlsError> {
    let _ = std::fs::remove_file(path);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text));
    written.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
