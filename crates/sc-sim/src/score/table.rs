//! The rows for a person, and their means over the traces.

use std::fmt::Write;

use super::contest::Row;

/// The rows, trace by trace, and each scaler's geometric means.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut traces: Vec<&str> = rows.iter().map(|row| row.trace.as_str()).collect();
    traces.dedup();
    for trace in traces {
        let _ = writeln!(text, "\n{trace}");
        head(&mut text);
        rows.iter().filter(|row| row.trace == trace).for_each(|row| line(&mut text, row));
    }
    let _ = writeln!(text, "\ngeometric means over the traces");
    means(&mut text, rows);
    text
}

fn head(text: &mut String) {
    let _ = writeln!(
        text,
        "  {:16} {:>8} {:>9} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>7} {:>9}  setting",
        "scaler", "late %", "repl-h", "oracle", "θU", "θO", "τU", "τO", "υ", "ε", "acts/h", "rejected"
    );
}

fn line(text: &mut String, row: &Row) {
    let _ = write!(
        text,
        "  {:16} {:8.3} {:9.1} {:7.3} {:7.2} {:7.1} {:6.2} {:6.1} {:6.1} {:6.2} {:7.1} {:9.0}  {}",
        row.scaler,
        row.violation_pct,
        row.replica_seconds / 3_600.0,
        row.vs_oracle,
        row.theta_u,
        row.theta_o,
        row.tau_u,
        row.tau_o,
        row.upsilon,
        row.elastic_speedup,
        row.actions_per_hour,
        row.rejected,
        row.setting,
    );
    if row.reaches == Some(false) {
        let _ = write!(text, ": no setting has as few violations");
    }
    if let Some(ratio) = row.capacity_ratio {
        let _ = write!(text, "; learned {ratio:.2} of the true capacity");
    }
    text.push('\n');
}

/// A violation of nothing counts as a thousandth of a percent, so that one perfect trace does not make the mean nothing.
const LEAST_PCT: f64 = 0.001;

fn means(text: &mut String, rows: &[Row]) {
    let mut names: Vec<&str> = Vec::new();
    rows.iter().for_each(|row| {
        if !names.contains(&row.scaler.as_str()) {
            names.push(&row.scaler)
        }
    });
    let ours: Vec<&Row> = rows.iter().filter(|row| row.scaler == "sc").collect();
    let _ = writeln!(
        text,
        "  {:16} {:>8} {:>7}  replica-seconds of sc in relation to it, where it reaches sc's violations",
        "scaler", "late %", "oracle"
    );
    for name in names {
        let of: Vec<&Row> = rows.iter().filter(|row| row.scaler == name).collect();
        let late = geometric(of.iter().map(|row| row.violation_pct.max(LEAST_PCT)));
        let _ = write!(text, "  {name:16} {late:8.3} {:7.3}", geometric(of.iter().map(|row| row.vs_oracle)));
        let fair: Vec<f64> = of
            .iter()
            .filter(|row| row.reaches == Some(true))
            .filter_map(|row| {
                ours.iter().find(|our| our.trace == row.trace).map(|our| our.replica_seconds / row.replica_seconds)
            })
            .collect();
        match fair.len() {
            0 => text.push('\n'),
            n => {
                let less = 100.0 * (geometric(fair.into_iter()) - 1.0);
                let _ = writeln!(text, "  {less:+.0} % (on {n} of {} traces)", of.len());
            }
        }
    }
}

fn geometric(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value.max(1e-12).ln(), n + 1.0));
    if n > 0.0 { (sum / n).exp() } else { f64::NAN }
}
