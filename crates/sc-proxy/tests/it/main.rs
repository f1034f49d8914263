//! The proxy with real sockets: real backends, real clients, everything in this process.

mod balance;
mod binary;
mod control;
mod drain;
mod http;
mod limits;
mod support;
