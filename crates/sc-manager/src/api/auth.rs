//! Who may ask: who has the token, and on the unix socket also root and the manager's own user.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hyper::{Request, header};
use sc_api::Problem;

use crate::problem;

/// The token. It is never logged: its debug form is empty.
pub struct Token {
    hex: String,
    file: PathBuf,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.file.display())
    }
}

/// The least length of a token that somebody wrote into the file.
const SHORTEST: usize = 16;

impl Token {
    /// Reads the token's file; makes one, only for its owner to read, when there is none.
    ///
    /// # Errors
    /// When it cannot be read or made, or what is in it is too short to be safe.
    pub fn open(file: &Path) -> io::Result<Self> {
        let hex = match fs::read_to_string(file) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(file)?,
            Err(error) => return Err(error),
        };
        if hex.len() < SHORTEST {
            let what = format!("the token in {} is too short: delete the file to have a new one made", file.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if fs::metadata(file)?.mode() & 0o077 != 0 {
            tracing::warn!(file = %file.display(), "others may read the token: chmod 600");
        }
        Ok(Self { hex, file: file.to_owned() })
    }

    /// Whether a request may come in.
    pub fn admits<B>(&self, request: &Request<B>, trusted: bool) -> Result<(), Problem> {
        if trusted {
            return Ok(());
        }
        let file = self.file.display();
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(given) = given.and_then(|value| value.split_once(' ')) else {
            let hint = format!("send `Authorization: Bearer TOKEN`; the token is in {file} on the manager's host");
            return Err(problem::hinted(401, "token-missing", "A token is needed", "the request has no token", hint));
        };
        if given.0.eq_ignore_ascii_case("bearer") && same(given.1.trim().as_bytes(), self.hex.as_bytes()) {
            return Ok(());
        }
        let hint = format!("the right one is in {file} on the manager's host (SC_TOKEN, --token-file)");
        Err(problem::hinted(
            401,
            "token-wrong",
            "The token is wrong",
            "the request's token is not this manager's",
            hint,
        ))
    }
}

fn make(file: &Path) -> io::Result<String> {
    let bytes: [u8; 32] = rand::random();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Written aside first: a crash in between leaves no half of one.
    let aside = file.with_extension("new");
    let _ = fs::remove_file(&aside);
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    new.write_all(hex.as_bytes())?;
    new.sync_all()?;
    fs::rename(&aside, file)?;
    Ok(hex)
}

/// Compares in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let made = Token::open(&file).unwrap();
        assert_eq!(made.hex.len(), 64);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Token::open(&file).unwrap().hex, made.hex);
        assert!(!format!("{made:?}").contains(&made.hex));
        fs::write(&file, "short").unwrap();
        assert!(Token::open(&file).is_err());
    }

    #[test]
    fn only_the_right_token_is_admitted() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::open(&dir.path().join("token")).unwrap();
        let with = |value: &str| Request::builder().header("authorization", value).body(()).unwrap();
        assert!(token.admits(&with(&format!("Bearer {}", token.hex)), false).is_ok());
        assert!(token.admits(&with(&format!("bearer {}", token.hex)), false).is_ok());
        assert_eq!(token.admits(&with("Bearer 00"), false).unwrap_err().kind, "/problems/token-wrong");
        assert_eq!(token.admits(&with(&format!("Basic {}", token.hex)), false).unwrap_err().status, 401);
        assert_eq!(token.admits(&Request::new(()), false).unwrap_err().kind, "/problems/token-missing");
        assert!(token.admits(&Request::new(()), true).is_ok());
    }
}
