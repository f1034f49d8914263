//! `sc`, the command line of the simple cloud.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    // A replica's shim: before any thread is started.
    if args.get(1).is_some_and(|first| first == "__shim") {
        return sc_engine::process::shim_main(&args[2..]);
    }
    sc_cli::main(args)
}
