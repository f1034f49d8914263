//! `sc-sim score` and `sc-sim plot`: what they are told, and what they print.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use sc_sim::score::{
    Contest,
    contest::{names, tuned},
    plot,
    table::table,
    trace::{self, Trace},
};

/// How a bucket's count is spread over its seconds.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shape {
    /// In straight lines from bucket to bucket.
    Ramp,
    /// Each bucket at its own rate.
    Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What is played.
#[derive(Debug, Args)]
struct Game {
    /// CSV files of `t_seconds,requests`, one bucket a line.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE.csv")]
    trace: Vec<PathBuf>,
    /// How a bucket's count is spread over its seconds.
    #[arg(long, value_enum, default_value = "ramp")]
    shape: Shape,
    /// From asking for a replica to its serving: `10s`, `500ms` (counted in whole seconds, upwards).
    #[arg(long, default_value = "10s", value_parser = seconds)]
    start_delay: f64,
    /// Replicas needed at the trace's peak. Scalers may ask for twice as many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    peak_replicas: u32,
    /// Days of the trace at most.
    #[arg(long, default_value_t = 2.0)]
    days: f64,
    /// Within what time an answer must come.
    #[arg(long, default_value = "200ms", value_parser = seconds)]
    objective: f64,
}

/// Real request counts through our autoscaler and its peers.
#[derive(Debug, Args)]
pub struct Score {
    #[command(flatten)]
    game: Game,
    /// Runs per trace, each with another app and other chance.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Only these scalers, a peer's name for its defaults and tuned, `NAME-tuned` for that alone.
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "NAME")]
    scaler: Vec<String>,
    /// For a person or a program.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// Draws load against replicas.
#[derive(Debug, Args)]
pub struct Plot {
    #[command(flatten)]
    game: Game,
    /// The run's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// These scalers, with their defaults.
    #[arg(long, value_delimiter = ',', num_args = 1.., default_values = ["sc", "kpa", "hpa"], value_name = "NAME")]
    scaler: Vec<String>,
    /// The folder for the pictures.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    out: PathBuf,
}

impl Game {
    fn contest(&self, seeds: u64, only: Vec<String>) -> anyhow::Result<Contest> {
        ensure!(self.days.is_finite() && self.days > 0.0, "--days must be above 0");
        ensure!((0.001..=3_600.0).contains(&self.objective), "--objective must be 1ms to 60m");
        ensure!(self.start_delay <= 3_600.0, "--start-delay may be an hour at most");
        Ok(Contest {
            traces: read_all(&self.trace)?,
            shape: match self.shape {
                Shape::Ramp => trace::Shape::Ramp,
                Shape::Step => trace::Shape::Step,
            },
            start_seconds: self.start_delay.ceil() as u64,
            peak: self.peak_replicas,
            seeds,
            days: self.days,
            objective: self.objective,
            only,
        })
    }
}

/// Reads all, or refuses all. Files of one name are told apart by a number: the name stands for the trace in all that is printed.
fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Trace>> {
    let mut traces: Vec<Trace> = Vec::new();
    for path in paths {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let stem = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut trace = Trace::parse(&stem, &bytes).with_context(|| format!("cannot use {}", path.display()))?;
        let mut number = 2;
        while traces.iter().any(|other| other.name == trace.name) {
            trace.name = format!("{stem}-{number}");
            number += 1;
        }
        traces.push(trace);
    }
    Ok(traces)
}

/// Refuses scalers that there are not.
fn check(asked: &[String], names: &[String]) -> anyhow::Result<()> {
    match asked.iter().find(|name| !names.contains(name)) {
        Some(unknown) => bail!("there is no scaler `{unknown}`: {}", names.join(", ")),
        None => Ok(()),
    }
}

impl Score {
    /// Plays and prints.
    pub fn run(self) -> anyhow::Result<()> {
        check(&self.scaler, &names().chain(tuned()).collect::<Vec<_>>())?;
        let contest = self.game.contest(self.seeds, self.scaler)?;
        let mut all = Vec::new();
        contest.play(|rows| {
            eprintln!("{}: done", rows.first().map_or("", |row| row.trace.as_str()));
            all.extend(rows);
        });
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?,
            Output::Table => write!(out, "{}", table(&all))?,
        }
        Ok(())
    }
}

impl Plot {
    /// Runs and draws.
    pub fn run(self) -> anyhow::Result<()> {
        check(&self.scaler, &names().collect::<Vec<_>>())?;
        let contest = self.game.contest(1, self.scaler)?;
        fs::create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))?;
        for trace in &contest.traces {
            let runs = contest.watch(trace, self.seed);
            let title = format!("{} ({}, a start takes {} s)", trace.name, contest.shape.name(), contest.start_seconds);
            let path = self.out.join(format!("{}-{}.svg", trace.name, contest.shape.name()));
            fs::write(&path, plot::svg(&title, &runs)).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// A time as `10s`, `200ms`, `2m`.
fn seconds(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        other => return Err(format!("`{other}` is no unit of time: ms, s or m")),
    };
    let number = digits.parse::<f64>().map_err(|_| format!("`{digits}` is not a number"))?;
    if number.is_finite() && number >= 0.0 { Ok(number * unit) } else { Err("it must not be below 0".to_owned()) }
}
