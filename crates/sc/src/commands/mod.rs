//! One file per command: what it takes (its doc comments are its help), and what it does.

pub(crate) mod canary;
pub(crate) mod cert;
pub(crate) mod completion;
pub(crate) mod cp;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod doctor;
#[cfg(feature = "docker")]
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod history;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod promote;
pub(crate) mod ps;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod start;
pub(crate) mod stop;
#[cfg(feature = "docker")]
pub(crate) mod up;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod why;

mod lifecycle;
mod note;
mod sheet;
