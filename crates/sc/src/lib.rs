//! The command line of sc, and what comes with it: the demo and the reference app.
//!
//! ```text
//!  arguments ─▶ commands/* ─▶ Client (sc-api) ─▶ manager            one file per command; its doc comment is its help
//!                  │
//!                  ├─▶ out     tables, JSON, YAML, colours, progress
//!                  ├─▶ wait    until what was asked for is so
//!                  ├─▶ demo    manager, proxy, store, load in this very process
//!                  └─▶ up      this host's containers, the one place that speaks with Docker
//! ```
//!
//! Data goes to standard output, everything else to standard error. What each exit status means is in [`exit`].

mod args;
mod commands;
mod demo;
pub mod exit;
mod find;
mod local;
pub mod matrix;
mod named;
mod out;
mod session;
mod times;
#[cfg(feature = "docker")]
mod up;
mod wait;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::Parser;

/// Runs one command to its end; gives its exit status.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    if let args::Command::Matrix(args) = &args.command {
        return matrix::main(args);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sc: no threads can be started: {error}");
            return ExitCode::from(exit::ERROR);
        }
    };
    let code = runtime.block_on(session::run(args));
    // A thread may still wait for a line of standard input.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ExitCode::from(code)
}
