//! What an engine says when it cannot do as asked.

use sc_core::ReplicaId;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can never work as asked.
    #[error("{what}. {hint}")]
    Refused {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// There is no such replica.
    #[error("there is no replica {0}")]
    NoSuchReplica(ReplicaId),
    /// The engine cannot be reached.
    #[error("{engine} cannot be reached")]
    Unavailable {
        /// Which.
        engine: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("{engine} did not answer within {seconds} s: {what}")]
    TimedOut {
        /// Which.
        engine: String,
        /// What was asked.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It answered with an error.
    #[error("{engine}: {what}")]
    Failed {
        /// Which.
        engine: String,
        /// Its words.
        what: String,
    },
    /// This engine cannot do that.
    #[error("{engine} cannot {what}")]
    Unsupported {
        /// Which.
        engine: String,
        /// What.
        what: String,
    },
}

impl EngineError {
    /// Whether asking again can never help: the user has to change something first.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unsupported { .. })
    }

    /// A refusal: what is wrong, and what to do about it.
    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }
}
