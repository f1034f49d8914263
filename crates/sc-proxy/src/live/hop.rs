//! How an app's backends are spoken to.

use std::sync::Arc;

use sc_core::{
    routes::AppRoutes,
    spec::{BackendTls, Protocol, RouteSpec},
};

use crate::tls::Outgoing;

/// How an app's backends are spoken to; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hop {
    /// What is spoken.
    pub protocol: Protocol,
    /// What it is under, where that is TLS. None as well when TLS could not be set up: then no connection can be made.
    pub tls: Option<Arc<Outgoing>>,
}

impl Hop {
    /// The app's; what `previous` routes were made with is kept where it fits, so that TLS sessions are resumed.
    pub(super) fn new(app: &AppRoutes, previous: Option<&super::App>) -> Self {
        let protocol = app.traffic.protocol;
        let name = server_name(&app.traffic.tls, &app.routes);
        let fits = |before: &&super::App| {
            let before =
                (before.traffic.protocol, &before.traffic.tls, server_name(&before.traffic.tls, &before.routes));
            before == (protocol, &app.traffic.tls, name)
        };
        if let Some(before) = previous.filter(fits) {
            return before.hop.clone();
        }
        let outgoing = protocol.is_secure().then(|| Outgoing::new(&app.traffic.tls, name, protocol.is_multiplexed()));
        let tls = outgoing.and_then(|made| {
            let told = |error: &_| tracing::error!(app = %app.app, %error, "its backends cannot be reached under TLS");
            made.inspect_err(told).ok().map(Arc::new)
        });
        Self { protocol, tls }
    }

    /// Whether a connection made for the one serves the other.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        self.protocol == other.protocol && same_tls
    }
}

/// The name that backends are asked for: the one configured, else the first exact host.
fn server_name<'a>(tls: &'a BackendTls, routes: &'a [RouteSpec]) -> Option<&'a str> {
    let hosts = routes.iter().filter_map(|route| route.host.as_deref());
    tls.server_name.as_deref().or_else(|| hosts.into_iter().find(|host| !host.contains('*')))
}
