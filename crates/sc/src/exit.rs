//! Exit statuses, and which error has which.

use sc_api::ClientError;

/// All went well.
pub const OK: u8 = 0;
/// Something failed.
pub const ERROR: u8 = 1;
/// The command as typed, or the app file, is not right.
pub const USAGE: u8 = 2;
/// What was asked for did not come to be in time, or went back.
pub const NOT_CONVERGED: u8 = 3;
/// There is no such app, replica or version.
pub const NOT_FOUND: u8 = 4;
/// No manager answers.
pub const UNREACHABLE: u8 = 5;
/// The token is wrong or missing.
pub const DENIED: u8 = 6;
/// Something else stands in the way: a route that is taken, a change that came first.
pub const CONFLICT: u8 = 7;

/// An error with its exit status.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The exit status.
    pub code: u8,
    /// What went wrong, and what to do next.
    pub text: String,
}

/// An error with this exit status.
pub fn failure(code: u8, text: impl Into<String>) -> anyhow::Error {
    Failure { code, text: text.into() }.into()
}

/// The command as typed is not right.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    failure(USAGE, text)
}

/// The exit status of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.code;
    }
    let Some(error) = error.downcast_ref::<ClientError>() else { return ERROR };
    if error.is_unreachable() {
        return UNREACHABLE;
    }
    match error {
        ClientError::Problem(problem) => match problem.status {
            401 | 403 => DENIED,
            404 => NOT_FOUND,
            409 | 412 => CONFLICT,
            400 | 422 if problem.kind.ends_with("/invalid") => USAGE,
            _ => ERROR,
        },
        _ => ERROR,
    }
}

/// An error with its causes, each said once.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_api::{Problem, Target};

    fn problem(status: u16, kind: &str) -> anyhow::Error {
        let problem =
            Problem { kind: kind.into(), title: "T".into(), status, detail: "D".into(), hint: Some("do that".into()) };
        ClientError::from(problem).into()
    }

    #[test]
    fn each_error_has_its_status() {
        assert_eq!(code(&anyhow::anyhow!("x")), ERROR);
        assert_eq!(code(&usage("x")), USAGE);
        assert_eq!(code(&usage("x").context("more")), USAGE);
        assert_eq!(code(&failure(NOT_CONVERGED, "x")), NOT_CONVERGED);
        assert_eq!(code(&problem(404, "/problems/no-such-app")), NOT_FOUND);
        assert_eq!(code(&problem(401, "/problems/token-wrong")), DENIED);
        assert_eq!(code(&problem(403, "/problems/denied")), DENIED);
        assert_eq!(code(&problem(409, "/problems/route-taken")), CONFLICT);
        assert_eq!(code(&problem(422, "/problems/invalid")), USAGE);
        assert_eq!(code(&problem(503, "/problems/store-unavailable")), ERROR);
        let late = ClientError::TimedOut { target: Target::Tcp("a:1".into()), seconds: 1 };
        assert_eq!(code(&late.into()), UNREACHABLE);
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("disk full").context("cannot write x: disk full");
        assert_eq!(text(&error), "cannot write x: disk full");
        assert_eq!(text(&anyhow::anyhow!("disk full").context("cannot write x")), "cannot write x: disk full");
        assert!(text(&problem(409, "k")).contains("do that"));
    }
}
