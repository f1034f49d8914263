//! The cases of `main.rs` again, with hyper for everything.

const HTTP1: sc_proxy::Http1 = sc_proxy::Http1::Hyper;

mod access;
mod balance;
mod bounds;
mod certs;
mod compress;
mod control;
mod drain;
mod grpc;
mod h2;
mod http;
mod limits;
mod rate;
mod relayed;
mod rules;
mod standalone;
mod sticky;
mod support;
mod tcp;
mod tls;
mod uploads;
mod upstream;
