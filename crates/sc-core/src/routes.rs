//! What the proxies watch: per app its routes and its backends, as plain data.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    names::{AppId, ReplicaId},
    records::Extra,
    spec::{RouteSpec, Traffic},
};

/// Value of `{project}/routes/{app}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppRoutes {
    /// Layout version, 1.
    pub v: u32,
    /// The app.
    pub app: AppId,
    /// Which requests are the app's.
    pub routes: Vec<RouteSpec>,
    /// Where they may go. Empty: they are held.
    pub backends: Vec<BackendRoute>,
    /// How they are treated.
    #[serde(default)]
    pub traffic: Traffic,
    /// Set when the app is stopped: requests get 503 at once instead of being held.
    #[serde(default)]
    pub stopped: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One backend of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendRoute {
    /// The replica. In a hand-written routes file a made-up one, numbered from 1.
    pub replica: ReplicaId,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Share of the traffic relative to others.
    #[serde(default = "one")]
    pub weight: u32,
    /// Version it runs, for the stats.
    #[serde(default)]
    pub version: u64,
}

fn one() -> u32 {
    1
}
