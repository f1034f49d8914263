//! The HTTP interface of sc, version 1: its types ([`types`]), its errors ([`Problem`], RFC 9457) and the typed client
//! ([`client`]) that the command line and the tests use.
//!
//! | method and path | body → answer |
//! |---|---|
//! | `GET /v1/version` | → [`types::Release`] |
//! | `GET /v1/openapi.json` | → the OpenAPI 3.1 document |
//! | `GET /v1/apps` | → `[AppView]` |
//! | `GET /v1/apps/{app}` | → [`types::AppView`] |
//! | `PUT /v1/apps/{app}` | [`types::Deploy`] → [`types::Accepted`]; makes or changes an app |
//! | `DELETE /v1/apps/{app}` | → [`types::Accepted`] |
//! | `POST /v1/apps/{app}/scale` | [`types::SetScale`] → [`types::Accepted`] |
//! | `POST /v1/apps/{app}/stop`, `/start`, `/restart` | → [`types::Accepted`] |
//! | `POST /v1/apps/{app}/rollback` | [`types::Rollback`] → [`types::Accepted`] |
//! | `POST /v1/apps/{app}/canary` | [`types::SetCanary`] → [`types::Accepted`] |
//! | `POST /v1/apps/{app}/promote` | → [`types::Accepted`] |
//! | `GET /v1/apps/{app}/versions` | → `[VersionView]` |
//! | `GET /v1/apps/{app}/why?at=MS` | → [`types::WhyView`] |
//! | `GET /v1/apps/{app}/logs?follow=1&since=MS&tail=N&grep=TEXT` | → lines of JSON [`types::LogRecord`] |
//! | `GET /v1/replicas?app={app}` | → `[ReplicaView]` |
//! | `POST /v1/replicas/{replica}/stop`, `/restart` | → [`types::Accepted`] |
//! | `POST /v1/replicas/{replica}/exec` | [`types::Exec`], `Upgrade: sc-exec/1` → 101, then frames ([`exec`]) |
//! | `GET`, `PUT /v1/replicas/{replica}/files?path=P` | a tar stream out of, or into, a replica |
//! | `GET /v1/events?follow=1&since=MS&app={app}` | → lines of JSON [`sc_core::records::Event`] |
//! | `HEAD`, `PUT /v1/blobs/{sha256}` | the content → 201, or 200 when it is there |
//! | `GET /v1/proxies` | → `[ProxyView]` |
//! | `PUT /v1/proxies/{id}` | [`sc_core::records::Proxy`]; a proxy without access to the store says it is there, every 3 s |
//! | `GET /v1/routes?after=REVISION` | → lines of JSON [`types::RoutesUpdate`]: all routes, then each change |
//! | `GET /v1/doctor` | → `[Finding]` |
//! | `GET /healthz`, `GET /readyz`, `GET /metrics` | outside `/v1`, no token needed |
//!
//! `{app}` and `{replica}` are names as people write them; an app of another project is `project%2Fapp`. Every answer
//! in the 4xx and 5xx is a [`Problem`]. All but the last row need `Authorization: Bearer TOKEN`, also on the unix socket
//! unless the peer is root or the manager's own user.

pub mod client;
pub mod exec;
pub mod types;

pub use client::{Client, ClientError, Target};
use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong and what to do next (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}{}", hint.as_deref().map(|h| format!("\n  → {h}")).unwrap_or_default())]
pub struct Problem {
    /// A stable word for programs, as a relative URI: `/problems/route-taken`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// This case in words.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
