//! The shim of the process engine as a program of its own, for tests and for programs that are not their own shim.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    sc_engine::process::shim_main(&args)
}
