//! `sc-sim score` and `sc-sim plot` as a user runs them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// A folder with these files in it.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn sc_sim(command: &str, args: &[&str], traces: &[PathBuf]) -> Output {
    let mut sc_sim = Command::new(env!("CARGO_BIN_EXE_sc-sim"));
    sc_sim.arg(command).arg("--trace").args(traces).args(["--peak-replicas", "3"]).args(args).output().unwrap()
}

/// The rows of a game of one seed that is well.
fn rows(args: &[&str], traces: &[PathBuf]) -> Vec<Value> {
    let done = sc_sim("score", &[args, &["-o", "json"]].concat(), traces);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// What is said of a game that is refused, the folder left out.
fn refused(folder: &Path, args: &[&str], names: &[&str]) -> String {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let done = sc_sim("score", args, &paths);
    assert!(!done.status.success() && done.stdout.is_empty(), "{names:?} {args:?}");
    let error = String::from_utf8(done.stderr).unwrap();
    error.replace(&format!("{}/", folder.display()), "").lines().next().unwrap_or_default().to_owned()
}

const HILL: &[u8] = b"t_seconds,requests\n0,600\n60,900\n120,1200\n180,700\n240,300\n";

#[test]
fn the_rows_are_named_as_they_are_known_by_others() {
    let folder = folder(&[("hill.csv", HILL)]);
    let hill = [folder.path().join("hill.csv")];
    let args = ["--shape", "step", "--start-delay", "1s", "--seeds", "2", "--days", "0.01", "--objective", "150ms"];
    let rows = rows(&args, &hill);
    let scalers: Vec<&str> = rows.iter().map(|row| row["scaler"].as_str().unwrap()).collect();
    insta::assert_snapshot!(scalers.join(" "), @"sc oracle static static-tuned kpa kpa-tuned hpa hpa-tuned aws aws-tuned nomad nomad-tuned threshold threshold-tuned react react-tuned");
    let keys: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    insta::assert_snapshot!(keys.join(" "), @"actions_per_hour capacity_ratio elastic_speedup held rejected replica_seconds scaler seeds setting shape tau_o tau_u theta_o theta_u trace upsilon violation_pct vs_oracle");
    for row in &rows {
        assert_eq!((row["trace"].as_str(), row["shape"].as_str()), (Some("hill"), Some("step")));
        let numbers = row
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| !["trace", "shape", "scaler", "setting", "reaches"].contains(&key.as_str()));
        numbers.for_each(|(key, value)| assert!(value.as_f64().is_some_and(|n| n >= 0.0), "{key}: {row}"));
    }
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let folder = folder(&[("hill.csv", HILL)]);
    let hill = [folder.path().join("hill.csv")];
    let of = |args: &[&str]| rows(args, &hill).iter().map(|row| row["scaler"].as_str().unwrap().to_owned()).collect();
    let scalers: Vec<String> = of(&["--scaler", "kpa-tuned", "sc"]);
    assert_eq!(scalers, ["sc", "kpa-tuned"]);
    let scalers: Vec<String> = of(&["--scaler", "hpa,oracle"]);
    assert_eq!(scalers, ["oracle", "hpa", "hpa-tuned"]);
}

#[test]
fn odd_loads_are_played() {
    let folder = folder(&[
        ("zeros.csv", b"t_seconds,requests\n0,0\n60,0\n120,0\n"),
        ("one_line.csv", b"t_seconds,requests\n0,100\n"),
        ("one_second_1s.csv", b"5\n"),
        ("constant.csv", b"0,600\r\n60,600\r\n\r\n120,600\r\n"),
        ("largest.csv", b"0,1\n60,1e12\n"),
    ]);
    let names = ["zeros", "one_line", "one_second_1s", "constant", "largest"];
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.path().join(format!("{name}.csv"))).collect();
    for row in rows(&[], &paths) {
        let numbers = row.as_object().unwrap().values().filter(|value| !value.is_string() && !value.is_boolean());
        numbers.for_each(|value| assert!(value.as_f64().is_some_and(|n| n >= 0.0), "{row}"));
    }
    let table = sc_sim("score", &["--scaler", "sc", "static"], &paths);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        names.iter().all(|name| table.contains(name)) && !table.contains("NaN") && !table.contains("inf"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_used_is_refused_whole_with_its_file_and_line() {
    let folder = folder(&[
        ("good.csv", HILL),
        ("empty.csv", b""),
        ("header.csv", b"t_seconds,requests\n"),
        ("negative.csv", b"t_seconds,requests\n0,5\n60,-5\n"),
        ("nan.csv", b"0,NaN\n"),
        ("huge.csv", b"0,1e300\n"),
        ("missing.csv", b"t_seconds,requests\n0,5\n60\n"),
        ("unsorted.csv", b"t_seconds,requests\n60,5\n0,5\n"),
        ("latin.csv", b"t_seconds,requests\n0,5\n60,\xe9\n"),
        ("utf16.csv", b"\xff\xfe0\0,\x005\0\n\0"),
    ]);
    let bad = ["empty", "header", "negative", "nan", "huge", "missing", "unsorted", "latin", "utf16", "nowhere"];
    let told: Vec<String> =
        bad.iter().map(|name| refused(folder.path(), &[], &["good.csv", &format!("{name}.csv")])).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    sc-sim: cannot use empty.csv: it holds no counts: expected lines `t_seconds,requests`
    sc-sim: cannot use header.csv: it holds no counts: expected lines `t_seconds,requests`
    sc-sim: cannot use negative.csv: line 3: `60,-5` is not `t_seconds,requests`
    sc-sim: cannot use nan.csv: line 1: `0,NaN` is not `t_seconds,requests`
    sc-sim: cannot use huge.csv: line 1: `0,1e300` is not `t_seconds,requests`
    sc-sim: cannot use missing.csv: line 3: `60` has not as many columns as the lines before it
    sc-sim: cannot use unsorted.csv: line 3: the time does not rise
    sc-sim: cannot use latin.csv: line 3: it is not UTF-8
    sc-sim: cannot use utf16.csv: line 1: it is not UTF-8
    sc-sim: cannot read nowhere.csv: No such file or directory (os error 2)
    ");
    assert!(refused(folder.path(), &[], &["."]).contains("Is a directory"));
}

#[test]
fn bad_options_are_refused() {
    let folder = folder(&[("good.csv", HILL)]);
    let bad: [&[&str]; 14] = [
        &["--shape", "hill"],
        &["--start-delay", "ten"],
        &["--start-delay", "-1s"],
        &["--start-delay", "2h"],
        &["--seeds", "0"],
        &["--days", "0"],
        &["--days", "NaN"],
        &["--objective", "0ms"],
        &["--objective", "2000m"],
        &["--peak-replicas", "0"],
        &["--scaler", "nobody"],
        &["--scaler", "sc-tuned"],
        &["--scaler", "tuned"],
        &["-o", "xml"],
    ];
    for args in bad {
        let told = refused(folder.path(), args, &["good.csv"]);
        assert!(!told.is_empty() && !told.contains("panicked"), "{args:?}: {told}");
    }
}

#[test]
fn a_picture_for_each_trace_also_where_two_have_one_name() {
    let (one, two, out) = (folder(&[("hill.csv", HILL)]), folder(&[("hill.csv", b"0,1\n")]), folder(&[]));
    let paths = [one.path().join("hill.csv"), two.path().join("hill.csv")];
    let to = out.path().join("new").display().to_string();
    let done = sc_sim("plot", &["--scaler", "sc", "hpa", "--out", &to], &paths);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for name in ["hill-ramp.svg", "hill-2-ramp.svg"] {
        let picture = fs::read_to_string(out.path().join("new").join(name)).unwrap();
        assert!(picture.contains(">sc: ") && picture.contains(">hpa: ") && !picture.contains("NaN"), "{name}");
    }
    let tuned = sc_sim("plot", &["--scaler", "hpa-tuned"], &paths);
    assert!(!tuned.status.success() && String::from_utf8_lossy(&tuned.stderr).contains("there is no scaler"));
}
