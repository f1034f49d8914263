//! Which request is what.

use std::collections::BTreeMap;

use hyper::Method;
use sc_api::Problem;

use super::query::decoded;
use crate::problem;

/// Everything that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Who this manager is.
    Version,
    /// The OpenAPI document.
    OpenApi,
    /// All apps.
    Apps,
    /// One app.
    App,
    /// Makes or changes an app.
    Deploy,
    /// Removes an app.
    Remove,
    /// Sets the count.
    Scale,
    /// Stops an app.
    StopApp,
    /// Runs it again.
    StartApp,
    /// Replaces its replicas.
    RestartApp,
    /// Goes back to an earlier version.
    Rollback,
    /// Another share for the version on trial.
    Canary,
    /// Makes the version on trial the wanted one.
    Promote,
    /// The stored versions.
    Versions,
    /// Why so many.
    Why,
    /// What the replicas wrote.
    Logs,
    /// All replicas.
    Replicas,
    /// Stops a replica.
    StopReplica,
    /// Replaces a replica.
    RestartReplica,
    /// Runs a program in a replica.
    Exec,
    /// Files out of a replica.
    CopyOut,
    /// Files into a replica.
    CopyIn,
    /// What happened.
    Events,
    /// Whether a blob is there.
    HasBlob,
    /// Uploads a blob.
    PutBlob,
    /// The proxies.
    Proxies,
    /// A proxy says it is there.
    PutProxy,
    /// What proxies watch.
    Routes,
    /// The certificates.
    Certs,
    /// Adds a certificate.
    PutCert,
    /// Removes a certificate.
    RemoveCert,
    /// The certificates with their keys, for proxies.
    OpenedCerts,
    /// What is wrong.
    Doctor,
    /// The process lives.
    Healthz,
    /// It can do its work.
    Readyz,
    /// Numbers for Prometheus.
    Metrics,
}

/// One kind of request.
#[derive(Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path; `{name}` stands for one segment.
    pub pattern: &'static str,
    /// What it is.
    pub op: Op,
    /// No token is needed.
    pub open: bool,
    /// Its body may be large.
    pub upload: bool,
}

const fn route(method: Method, pattern: &'static str, op: Op) -> Route {
    Route { method, pattern, op, open: false, upload: false }
}

const fn open(pattern: &'static str, op: Op) -> Route {
    Route { method: Method::GET, pattern, op, open: true, upload: false }
}

const fn upload(pattern: &'static str, op: Op) -> Route {
    Route { method: Method::PUT, pattern, op, open: false, upload: true }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    route(Method::GET, "/v1/version", Op::Version),
    route(Method::GET, "/v1/openapi.json", Op::OpenApi),
    route(Method::GET, "/v1/apps", Op::Apps),
    route(Method::GET, "/v1/apps/{app}", Op::App),
    route(Method::PUT, "/v1/apps/{app}", Op::Deploy),
    route(Method::DELETE, "/v1/apps/{app}", Op::Remove),
    route(Method::POST, "/v1/apps/{app}/scale", Op::Scale),
    route(Method::POST, "/v1/apps/{app}/stop", Op::StopApp),
    route(Method::POST, "/v1/apps/{app}/start", Op::StartApp),
    route(Method::POST, "/v1/apps/{app}/restart", Op::RestartApp),
    route(Method::POST, "/v1/apps/{app}/rollback", Op::Rollback),
    route(Method::POST, "/v1/apps/{app}/canary", Op::Canary),
    route(Method::POST, "/v1/apps/{app}/promote", Op::Promote),
    route(Method::GET, "/v1/apps/{app}/versions", Op::Versions),
    route(Method::GET, "/v1/apps/{app}/why", Op::Why),
    route(Method::GET, "/v1/apps/{app}/logs", Op::Logs),
    route(Method::GET, "/v1/replicas", Op::Replicas),
    route(Method::POST, "/v1/replicas/{replica}/stop", Op::StopReplica),
    route(Method::POST, "/v1/replicas/{replica}/restart", Op::RestartReplica),
    route(Method::POST, "/v1/replicas/{replica}/exec", Op::Exec),
    route(Method::GET, "/v1/replicas/{replica}/files", Op::CopyOut),
    upload("/v1/replicas/{replica}/files", Op::CopyIn),
    route(Method::GET, "/v1/events", Op::Events),
    route(Method::HEAD, "/v1/blobs/{sha256}", Op::HasBlob),
    upload("/v1/blobs/{sha256}", Op::PutBlob),
    route(Method::GET, "/v1/proxies", Op::Proxies),
    route(Method::PUT, "/v1/proxies/{id}", Op::PutProxy),
    route(Method::GET, "/v1/routes", Op::Routes),
    route(Method::GET, "/v1/certs", Op::Certs),
    route(Method::GET, "/v1/certs/opened", Op::OpenedCerts),
    route(Method::PUT, "/v1/certs/{name}", Op::PutCert),
    route(Method::DELETE, "/v1/certs/{name}", Op::RemoveCert),
    route(Method::GET, "/v1/doctor", Op::Doctor),
    open("/healthz", Op::Healthz),
    open("/readyz", Op::Readyz),
    open("/metrics", Op::Metrics),
];

/// Finds the route of a request, with the segments its pattern names.
pub fn find(method: &Method, path: &str) -> Result<(&'static Route, BTreeMap<&'static str, String>), Problem> {
    let mut others = Vec::new();
    for route in ROUTES {
        let Some(params) = matches(route.pattern, path) else { continue };
        if route.method != *method {
            others.push(route.method.as_str());
            continue;
        }
        let params = params.into_iter().map(|(name, value)| Ok((name, decoded(value)?)));
        return Ok((route, params.collect::<Result<_, Problem>>()?));
    }
    if others.is_empty() {
        let detail = format!("there is nothing at {path}");
        return Err(problem::hinted(
            404,
            "no-such-path",
            "No such path",
            detail,
            "GET /v1/openapi.json lists what there is",
        ));
    }
    let detail = format!("{path} takes {}, not {method}", others.join(", "));
    Err(problem::problem(405, "wrong-method", "Wrong method", detail))
}

fn matches<'a>(pattern: &'static str, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    let mut params = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(want), Some(got)) => match want.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
                Some(name) if !got.is_empty() => params.push((name, got)),
                None if want == got => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_and_says_what_is_wrong() {
        let (route, params) = find(&Method::GET, "/v1/apps/team%2Fweb/why").unwrap();
        assert_eq!(route.op, Op::Why);
        assert_eq!(params["app"], "team/web");
        assert_eq!(find(&Method::GET, "/v1/apps/").unwrap_err().status, 404);
        assert_eq!(find(&Method::GET, "/v1/nothing").unwrap_err().status, 404);
        assert_eq!(find(&Method::DELETE, "/v1/events").unwrap_err().status, 405);
        assert_eq!(find(&Method::GET, "/v1/apps/%zz").unwrap_err().status, 400);
    }

    /// The document says exactly what the table does.
    #[test]
    fn the_openapi_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(super::super::OPENAPI).unwrap();
        let mut described = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.push(format!("{} {path}", method.to_uppercase()));
            }
        }
        let mut served: Vec<String> = ROUTES.iter().map(|r| format!("{} {}", r.method, r.pattern)).collect();
        described.sort();
        served.sort();
        assert_eq!(described, served);
    }
}
