//! Properties and stories of `decide`.

mod loops;
mod plant;
mod properties;
