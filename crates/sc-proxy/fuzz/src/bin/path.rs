//! Normal paths: one is its own normal form, begins with a slash, and has nothing in it that leads elsewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sc_proxy_fuzz::path::normal_path;

fuzz_target!(|path: &str| {
    let normal = normal_path(path);
    assert!(normal.starts_with('/'), "{normal}");
    assert_eq!(normal_path(&normal), normal, "it is not its own normal form");
    assert!(!normal.contains("//"), "{normal}");
    for segment in normal.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        assert!(name != "." && name != "..", "{normal}");
    }
    let lower = normal.to_ascii_lowercase();
    assert!(!lower.contains("%2e") && !lower.contains("%41"), "{normal}");
});
