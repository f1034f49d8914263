//! `sc-sim`: the simulator's command line.

use std::{process::ExitCode, time::Instant};

use clap::{Parser, Subcommand};
use sc_sim::world;

/// Simulates sc from a seed.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the real manager loop in a world where everything fails that can, and checks that nothing is lost.
    World {
        /// How many seeds to run.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Only this seed, and the end of its trace.
        #[arg(long)]
        seed: Option<u64>,
        /// Print everything that happens.
        #[arg(long)]
        verbose: bool,
        /// Stop at the first seed that fails.
        #[arg(long)]
        fail_fast: bool,
    },
}

fn main() -> ExitCode {
    let Command::World { seeds, from, seed, verbose, fail_fast } = Cli::parse().command;
    if let Some(seed) = seed {
        return one(seed, verbose);
    }
    let (begun, mut failed) = (Instant::now(), 0u64);
    for seed in from..from.saturating_add(seeds) {
        let outcome = world::run(seed, verbose);
        if outcome.violations.is_empty() {
            continue;
        }
        failed += 1;
        println!("seed {seed} fails: {}", outcome.violations.join("; "));
        if fail_fast {
            break;
        }
    }
    println!("{seeds} seeds from {from}: {failed} failed, {:.1} s", begun.elapsed().as_secs_f64());
    if failed > 0 {
        println!("reproduce one with: sc-sim world --seed SEED --verbose");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn one(seed: u64, verbose: bool) -> ExitCode {
    let outcome = world::run(seed, verbose);
    if !verbose {
        outcome.lines.iter().rev().take(60).rev().for_each(|line| println!("{line}"));
    }
    println!("seed {seed}: trace {:016x}", outcome.hash);
    outcome.violations.iter().for_each(|violation| println!("violation: {violation}"));
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
