//! Properties and stories of `decide`.

mod loops;
mod plant;
mod policies;
mod properties;
mod replays;
