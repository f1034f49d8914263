//! The world over some hundred seeds. More: `sc-sim world --seeds 5000`. A failing seed is printed;
//! `sc-sim world --seed N --verbose` runs it again.
//! What is known to fail is listed in [`OPEN`], by seed and cause.

use sc_sim::world;

/// Bugs that are known and open; each is to be mended, then taken from here.
///
/// - 150: both proxies are cut off from store and manager until their leases have run out, and the manager dies meanwhile. The
///   next one knows of no proxy, takes a draining replica for idle, and stops it before its deadline: a request is cut short.
/// - 58: the manager's clock jumps ahead in the middle of a rollout: the deploy timeout of a sound version ends too early, and
///   it goes back.
const OPEN: [u64; 2] = [58, 150];

/// Runs these seeds; every one of them must pass, but for the open ones.
fn seeds(range: std::ops::Range<u64>) {
    let failed: Vec<String> = range
        .filter(|seed| !OPEN.contains(seed))
        .map(|seed| world::run(seed, false))
        .filter(|outcome| !outcome.violations.is_empty())
        .map(|outcome| format!("seed {}: {}", outcome.seed, outcome.violations.join("; ")))
        .collect();
    assert!(failed.is_empty(), "sc-sim world --seed N --verbose shows what happened:\n{}", failed.join("\n"));
}

#[test]
fn world_0() {
    seeds(0..24);
}

#[test]
fn world_24() {
    seeds(24..48);
}

#[test]
fn world_48() {
    seeds(48..72);
}

#[test]
fn world_72() {
    seeds(72..96);
}

#[test]
fn world_96() {
    seeds(96..120);
}

#[test]
fn world_120() {
    seeds(120..144);
}

#[test]
fn world_144() {
    seeds(144..168);
}

#[test]
fn world_168() {
    seeds(168..192);
}

#[test]
fn world_192() {
    seeds(192..216);
}

#[test]
fn world_216() {
    seeds(216..240);
}

/// What a printed seed is worth: it gives the same run again, to the last line.
#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 1_000..1_008 {
        let (one, two) = (world::run(seed, false), world::run(seed, false));
        assert_eq!(one.lines, two.lines, "seed {seed}");
        assert_eq!(one.hash, two.hash, "seed {seed}");
    }
}
