//! `sc-sim`: the simulators' command line.

mod contest;

use std::{process::ExitCode, time::Instant};

use clap::{Parser, Subcommand};
use sc_sim::{score::story, world};

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
    /// Real request counts through our autoscaler and its peers, scored: who is late how often, and at what cost.
    Score(contest::Score),
    /// Draws load against replicas, for each scaler, as SVG.
    Plot(contest::Plot),
    /// Tells how our scaler takes a flash crowd, a slow dependency, …
    Story {
        /// Which; all when left out.
        name: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::World { seeds, from, seed, verbose, fail_fast } => {
            return worlds(seeds, from, seed, verbose, fail_fast);
        }
        Command::Score(score) => score.run(),
        Command::Plot(plot) => plot.run(),
        Command::Story { name } => tell(name.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sc-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell(name: Option<&str>) -> anyhow::Result<()> {
    for story in story::STORIES.into_iter().filter(|story| name.is_none_or(|name| name == *story)) {
        println!("{}", story::tell(story).unwrap_or_default());
    }
    match name {
        Some(name) if !story::STORIES.contains(&name) => {
            anyhow::bail!("there is no story {name}: {}", story::STORIES.join(", "))
        }
        _ => Ok(()),
    }
}

fn worlds(seeds: u64, from: u64, seed: Option<u64>, verbose: bool, fail_fast: bool) -> ExitCode {
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
