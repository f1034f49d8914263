//! sc
fn main() {}
