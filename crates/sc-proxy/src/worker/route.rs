//! Whose a request is, and where it goes.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use hyper::{Request, StatusCode, Uri, body::Incoming, header::HeaderValue, http::uri::PathAndQuery};
use sc_core::spec::Bounds;

use super::{LocalApp, Worker, answer::Refusal, judge::judge};
use crate::{
    compress::Compressor,
    headers,
    rate::Limiter,
    rules::Rules,
    sticky::Sticky,
    table::{Redirect, Then, normal_host, normal_path, strip_prefix},
};

/// Where a request goes.
pub(super) struct Routed {
    pub(super) app: Rc<LocalApp>,
    /// The authority it is for.
    pub(super) host: Option<HeaderValue>,
    /// Its target when it goes on, if that differs from what came.
    pub(super) target: Option<Uri>,
    /// What was taken off its path then.
    pub(super) prefix: Option<HeaderValue>,
    /// Where its client is sent instead.
    pub(super) elsewhere: Option<(StatusCode, HeaderValue)>,
    pub(super) rules: Option<Arc<Rules>>,
    pub(super) sticky: Option<Arc<Sticky>>,
    pub(super) limiter: Option<Arc<Limiter>>,
    pub(super) compress: Option<Arc<Compressor>>,
    pub(super) bounds: Bounds,
    /// It asks for another protocol on a stream of HTTP/2.
    pub(super) tunnels: bool,
}

/// Finds the app of a request, and what is to be done with it.
pub(super) fn route(worker: &Worker, request: &mut Request<Incoming>) -> Result<Routed, Refusal> {
    let host = judge(request, &worker.limits)?;
    let name = match &host {
        None => Cow::Borrowed(""),
        Some(host) => host.to_str().ok().and_then(normal_host).ok_or(Refusal::BadHost)?,
    };
    let method = request.method().clone();
    if !headers::may_go_on(&method, request.headers_mut()) {
        return Err(Refusal::LastOptions);
    }
    let uri = request.uri();
    let path = normal_path(uri.path());
    let table = worker.table();
    let found = table.routes.find(&name, &path).ok_or(Refusal::NoRoute)?;
    let listed = &table.apps[found.app];
    let (app, rules, sticky) = (worker.local(listed), listed.rules.clone(), listed.sticky.clone());
    let (mut prefix, mut elsewhere) = (None, None);
    let target = match found.then {
        Then::Forward => uri.authority().map(|_| origin(uri.path(), uri.query())),
        Then::Strip(strip) => {
            prefix = HeaderValue::from_str(&path[..strip]).ok();
            Some(origin(&strip_prefix(&path, strip), uri.query()))
        }
        Then::Redirect(n) => {
            elsewhere = table.routes.redirect(n).and_then(|to| location(to, &name, &path, uri.query()));
            None
        }
    };
    drop(name);
    let (limiter, compress, bounds) = (listed.limiter.clone(), listed.compress.clone(), listed.traffic.bounds);
    Ok(Routed { app, host, target, prefix, elsewhere, rules, sticky, limiter, compress, bounds, tunnels: false })
}

fn location(to: &Redirect, host: &str, path: &str, query: Option<&str>) -> Option<(StatusCode, HeaderValue)> {
    let location = to.location(host, &strip_prefix(path, to.strip), query);
    Some((StatusCode::from_u16(to.status).ok()?, HeaderValue::try_from(location).ok()?))
}

fn origin(path: &str, query: Option<&str>) -> Uri {
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    PathAndQuery::try_from(text).map(Uri::from).unwrap_or_default()
}
