//! The reference app as a program of its own.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sc_cli::matrix::main(&sc_cli::matrix::Args::parse())
}
