//! Where a route sends its clients, made ready when the table is built.

use sc_core::spec::Redirect as Asked;

/// Where a route sends its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Its status.
    pub status: u16,
    /// How many bytes of the normal path are taken off.
    pub strip: usize,
    to: String,
}

impl Redirect {
    /// As a route asks for it.
    pub fn new(asked: &Asked, strip: usize) -> Self {
        Self { status: asked.status, strip, to: asked.to.clone() }
    }

    /// The `Location` for a request: `host` without its port, `path` in its normal form and stripped.
    pub fn location(&self, host: &str, path: &str, query: Option<&str>) -> String {
        let to = self.to.replacen("{host}", host, 1).replacen("{path}", path, 1);
        match query {
            Some(query) if self.to.contains('?') => format!("{to}&{query}"),
            Some(query) => format!("{to}?{query}"),
            None => to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_path_and_query() {
        let location = |to: &str, query| {
            Redirect::new(&Asked::to(to.to_owned()), 0).location("shop.example", "/a%20b/{host}", query)
        };
        assert_eq!(location("https://new.example{path}", Some("c=d")), "https://new.example/a%20b/{host}?c=d");
        assert_eq!(location("https://www.{host}{path}", None), "https://www.shop.example/a%20b/{host}");
        assert_eq!(location("/x?y=z", Some("c=d")), "/x?y=z&c=d");
        assert_eq!(location("https://new.example", Some("{path}")), "https://new.example?{path}");
    }
}
