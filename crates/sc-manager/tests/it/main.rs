//! The manager against fakes: its loop under paused time, its interface over real sockets.

mod api_access;
mod api_blobs;
mod api_certs;
mod api_commands;
mod api_full;
mod api_limits;
mod api_streams;
mod cluster;
mod loop_canary;
mod loop_drain;
mod loop_faults;
mod loop_lead;
mod loop_rollout;
mod loop_scale;
mod loop_scaler;
mod loop_warm;
mod odd_store;
mod recordings;
mod server;
