//! The proxy with real sockets: real backends, real clients, everything in this process.

/// The same cases run over the other path in `hyper.rs`.
const HTTP1: sc_proxy::Http1 = sc_proxy::Http1::Fast;

mod access;
mod balance;
mod binary;
mod bounds;
mod certs;
mod compress;
mod control;
mod drain;
mod endurance;
mod farewell;
mod grpc;
mod h2;
mod http;
mod limits;
mod peers;
mod rate;
mod relayed;
mod rules;
mod standalone;
mod sticky;
mod support;
mod tcp;
mod threads;
mod tls;
mod upgrade;
mod uploads;
mod upstream;
