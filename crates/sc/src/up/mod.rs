//! sc's own containers on this host: what they are ([`parts`], pure), and how they come to be ([`host`]).

pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod parts;
