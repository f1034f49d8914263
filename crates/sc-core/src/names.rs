//! Names: of projects, apps and replicas.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The project that apps live in unless another is named.
pub const DEFAULT_PROJECT: &str = "default";

/// No project's name: keys of routes begin with it, before the project.
const ROUTES: &str = "routes";

/// The longest name: with project, app and incarnation it still fits a DNS label (63, RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 20;

/// A name of a project or an app: a lower-case DNS label (letters, digits, inner hyphens; a letter first; at most
/// [`NAME_MAX`] characters). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no valid name: {why}")]
pub struct NameError {
    /// What was given.
    pub text: String,
    /// What is wrong with it, and what to write instead.
    pub why: &'static str,
}

impl Name {
    /// Checks a text.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let why = match text.as_bytes() {
            [] => "it is empty",
            [first, ..] if !first.is_ascii_lowercase() => "it must start with a lower-case letter a-z",
            bytes if bytes.len() > NAME_MAX => "it is longer than 20 characters",
            bytes if bytes.ends_with(b"-") => "it must not end with a hyphen",
            bytes if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') => {
                "only a-z, 0-9 and - are allowed"
            }
            _ => return Ok(Self(text.into())),
        };
        Err(NameError { text: text.to_owned(), why })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        (*name.0).to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// An app, by project and name. Written `app` in the default project, else `project/app`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppId {
    /// The project.
    pub project: Name,
    /// The app's name, unique in its project.
    pub name: Name,
}

impl AppId {
    /// An app of the default project.
    ///
    /// # Errors
    /// When the name is not valid.
    pub fn in_default(name: &str) -> Result<Self, NameError> {
        Ok(Self { project: Name::new(DEFAULT_PROJECT)?, name: Name::new(name)? })
    }
}

impl FromStr for AppId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (project, name) = text.split_once('/').unwrap_or((DEFAULT_PROJECT, text));
        if project == ROUTES {
            return Err(NameError { text: text.to_owned(), why: "no project can be called routes" });
        }
        if project == "certs" || project == "acme" {
            return Err(NameError { text: text.to_owned(), why: "no project can be called certs or acme" });
        }
        Ok(Self { project: Name::new(project)?, name: Name::new(name)? })
    }
}

impl TryFrom<String> for AppId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<AppId> for String {
    fn from(id: AppId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.project.as_str() == DEFAULT_PROJECT {
            return f.pad(self.name.as_str());
        }
        f.pad(&format!("{}/{}", self.project, self.name))
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One running instance of an app: the app and its incarnation, which the store hands out once and never again.
/// Written `app-7`, or `project/app-7` outside the default project.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId {
    /// The app it belongs to.
    pub app: AppId,
    /// From 1 upwards.
    pub incarnation: u64,
}

impl ReplicaId {
    /// The replica of `app` with this incarnation.
    pub fn new(app: &AppId, incarnation: u64) -> Self {
        Self { app: app.clone(), incarnation }
    }

    /// Its name as a container or a DNS label, unique on a host: `sc-project-app-7`. Projects and apps may hold
    /// hyphens themselves, so this is for people; labels carry the parts.
    pub fn container_name(&self) -> String {
        format!("sc-{}-{}-{}", self.app.project, self.app.name, self.incarnation)
    }
}

impl FromStr for ReplicaId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |why| NameError { text: text.to_owned(), why };
        let (app, incarnation) = text.rsplit_once('-').ok_or(bad("a replica is written APP-NUMBER, like web-7"))?;
        let canonical = !incarnation.starts_with(['0', '+']);
        let incarnation = incarnation.parse().ok().filter(|_| canonical);
        Ok(Self { app: app.parse()?, incarnation: incarnation.ok_or(bad("a replica ends in its number, like web-7"))? })
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.app, self.incarnation))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
