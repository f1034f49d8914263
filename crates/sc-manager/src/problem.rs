//! What goes wrong, as RFC 9457 problems: what, where, and what to do next.

use sc_api::Problem;
use sc_core::{AppId, ReplicaId, certs::Certificates, plan::Desired};
use sc_engine::EngineError;
use sc_store::StoreError;
use sc_vault::VaultError;

use crate::{record::NotRecorded, waiting::chain};

/// A problem of this kind (`/problems/KIND`).
pub fn problem(status: u16, kind: &str, title: &str, detail: impl Into<String>) -> Problem {
    let (kind, title) = (format!("/problems/{kind}"), title.to_owned());
    Problem { kind, title, status, detail: detail.into(), hint: None }
}

/// The same with a hint.
pub fn hinted(status: u16, kind: &str, title: &str, detail: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { hint: Some(hint.into()), ..problem(status, kind, title, detail) }
}

/// What was asked for cannot be.
pub fn invalid(detail: impl Into<String>, hint: impl Into<String>) -> Problem {
    hinted(422, "invalid", "This cannot be done as asked", detail, hint)
}

/// There is nothing to decide again.
pub fn not_recorded(error: NotRecorded) -> Problem {
    let (status, kind) = match error {
        NotRecorded::Never(_) => (404, "not-recorded"),
        NotRecorded::Unreadable { .. } => (500, "recording-unreadable"),
    };
    let hint = "`sc why APP --at TIME` tells the latest change before that time as far as its event is kept";
    hinted(status, kind, "There is no such recording", chain(&error), hint)
}

/// This manager records nothing.
pub fn no_recordings() -> Problem {
    let hint = "ask the manager that leads; `sc version` names it";
    hinted(404, "not-recorded", "There is no such recording", "this manager keeps no recordings of its decisions", hint)
}

/// The request could not be understood.
pub fn malformed(detail: impl Into<String>) -> Problem {
    problem(400, "malformed", "The request could not be understood", detail)
}

/// Nothing can be sealed or opened here.
pub fn of_vault(error: &VaultError) -> Problem {
    let hint = "nothing was changed; certificates that are served are served on";
    hinted(503, "store-key", "The store key cannot be used", chain(error), hint)
}

/// There is no such certificate.
pub fn no_cert(certificates: &Certificates, name: &str) -> Problem {
    let names: Vec<String> = certificates.certs.keys().cloned().collect();
    let hint = match nearest(name, &names) {
        Some(near) => format!("did you mean {near}?"),
        None => "`sc cert ls` lists the certificates there are".to_owned(),
    };
    hinted(404, "no-such-cert", "No such certificate", format!("there is no certificate {name}"), hint)
}

/// Something else stands in the way.
pub fn conflict(kind: &str, detail: impl Into<String>, hint: impl Into<String>) -> Problem {
    hinted(409, kind, "Something else stands in the way", detail, hint)
}

/// There is no such app; perhaps another was meant.
pub fn no_app(desired: &Desired, id: &AppId) -> Problem {
    if let Some(why) = desired.left_alone.get(id) {
        let hint = "another release or a person wrote it: restore or delete that key, or upgrade the manager";
        return conflict("unreadable", format!("the records of {id} are left alone: {why}"), hint);
    }
    let detail = format!("there is no app {id}");
    let text = id.to_string();
    let names: Vec<String> = desired.apps.keys().map(ToString::to_string).collect();
    let hint = match nearest(&text, &names) {
        Some(name) => format!("did you mean {name}?"),
        None if names.is_empty() => "there are no apps yet: `sc run` makes one".to_owned(),
        None => "`sc ls` lists the apps there are".to_owned(),
    };
    hinted(404, "no-such-app", "No such app", detail, hint)
}

/// There is no such replica.
pub fn no_replica(desired: &Desired, id: &ReplicaId) -> Problem {
    let Some(app) = desired.apps.get(&id.app) else { return no_app(desired, &id.app) };
    let there: Vec<String> = app.replicas.keys().map(|n| ReplicaId::new(&id.app, *n).to_string()).collect();
    let hint = match there.as_slice() {
        [] => format!("{} has no replicas now", id.app),
        some => format!("there are {}", some.join(", ")),
    };
    hinted(404, "no-such-replica", "No such replica", format!("there is no replica {id}"), hint)
}

fn nearest<'a>(text: &str, names: &'a [String]) -> Option<&'a String> {
    let near = names.iter().map(|name| (strsim::damerau_levenshtein(text, name), name));
    near.filter(|(distance, name)| *distance <= 1 + name.len() / 4).min().map(|(_, name)| name)
}

/// The store could not do it.
pub fn of_store(error: &StoreError) -> Problem {
    let detail = chain(error);
    match error {
        StoreError::Conflict | StoreError::Fenced => {
            conflict("changed-meanwhile", "something else changed it at the same time, again and again", "try again")
        }
        StoreError::Full { .. } => {
            let hint = "nothing was changed; make room in the store (`sc doctor` says how), then try again";
            hinted(507, "store-full", "The store is full", detail, hint)
        }
        StoreError::TooLarge { .. } | StoreError::TooManyBytes { .. } => {
            let hint = "nothing was changed; make the app smaller: less environment and arguments, fewer routes, and \
                        large values as files (`--copy`)";
            hinted(422, "too-large", "This is too much for one change", detail, hint)
        }
        StoreError::Unknown { .. } => {
            let hint = "the change may or may not have been made: look, then try again";
            hinted(503, "store-unknown", "The store did not answer", detail, hint)
        }
        _ => {
            let hint = "nothing was changed; apps and their traffic go on; try again when the store is back";
            hinted(503, "store-unavailable", "The store cannot be reached", detail, hint)
        }
    }
}

/// Nothing was ever loaded.
pub fn no_store(waiting: Option<String>) -> Problem {
    let detail = waiting.unwrap_or_else(|| "the store has not been read yet".to_owned());
    hinted(503, "store-unavailable", "The store cannot be reached", detail, "try again when it is back")
}

/// The engine could not do it.
pub fn of_engine(error: &EngineError) -> Problem {
    let detail = chain(error);
    match error {
        EngineError::Refused { hint, .. } => hinted(422, "refused", "The engine refuses this", detail, hint.clone()),
        EngineError::NoSuchReplica(_) => problem(404, "no-such-replica", "No such replica", detail),
        EngineError::Unavailable { .. } => hinted(
            503,
            "engine-unavailable",
            "The engine cannot be reached",
            detail,
            "`sc doctor` says what to look at",
        ),
        EngineError::TimedOut { .. } => problem(504, "engine-late", "The engine did not answer in time", detail),
        EngineError::Unsupported { .. } => problem(501, "unsupported", "This engine cannot do that", detail),
        EngineError::Failed { .. } => problem(502, "engine-failed", "The engine failed", detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_commit_takes_is_the_callers_to_mend() {
        for error in [StoreError::TooLarge { operations: 101 }, StoreError::TooManyBytes { bytes: 2 << 20 }] {
            let problem = of_store(&error);
            assert_eq!((problem.status, problem.kind.as_str()), (422, "/problems/too-large"));
            assert!(problem.hint.is_some_and(|hint| hint.contains("smaller")), "{error}");
        }
    }
}
