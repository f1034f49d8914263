//! sc's own containers on this host: what they are ([`parts`], pure), and how they come to be ([`host`]).

pub(crate) mod bridge;
pub(crate) mod container;
pub(crate) mod etcd;
mod hand_over;
pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod members;
pub(crate) mod parts;
pub(crate) mod ports;
