//! Routes that send clients elsewhere.

use serde::{Deserialize, Serialize};

/// Where a route sends its clients, instead of to the app. It needs no replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// An `http://` or `https://` URL, or a path. `{path}` stands for the request's path (without the route's prefix, if that is
    /// stripped), `{host}` for its host, which a route of any host cannot give: so nobody can have clients sent to a place that is
    /// not in the routes. The request's query is kept.
    pub to: String,
    /// 301, 302, 307 or 308 (RFC 9110 section 15.4); left out: 307, which clients neither keep nor change the method for.
    #[serde(default = "temporary")]
    pub status: u16,
}

/// The longest target in bytes.
const TO_MAX: usize = 1_024;

fn temporary() -> u16 {
    307
}

impl Redirect {
    /// To there, for now.
    pub fn to(to: String) -> Self {
        Self { to, status: temporary() }
    }

    /// What is wrong with it, in sentences. `any_host`: its route is for any host.
    pub fn faults(&self, any_host: bool) -> Vec<String> {
        let mut found = Vec::new();
        if ![301, 302, 307, 308].contains(&self.status) {
            found.push(format!("{} is no status of a redirect: give 301, 302, 307 or 308", self.status));
        }
        let plain = self.to.replacen("{path}", "", 1).replacen("{host}", "", 1);
        let odd = |byte: u8| byte <= b' ' || byte >= 0x7f || b"\"<>\\^`{|}#".contains(&byte);
        if plain.bytes().any(odd) || self.to.len() > TO_MAX {
            found.push(format!(
                "{:?}: no blanks, fragments or special characters, and {{path}} and {{host}} once each",
                self.to
            ));
        } else if !self.leads_somewhere() {
            found.push(format!("{:?}: write it like https://new.example{{path}} or /new{{path}}", self.to));
        }
        if any_host && self.to.contains("{host}") {
            found.push("{host} is for routes that name a host".to_owned());
        }
        found
    }

    /// Whether it is a URL with a host, or a path that cannot be read as one (`//host`). `{path}` begins with a slash.
    fn leads_somewhere(&self) -> bool {
        let after = self.to.strip_prefix("https://").or_else(|| self.to.strip_prefix("http://"));
        let Some(after) = after else {
            let second = self.to.strip_prefix('/').map(|rest| rest.bytes().next());
            return second.is_some_and(|byte| !matches!(byte, Some(b'/' | b'{')));
        };
        let end = after.find(['/', '?']).into_iter().chain(after.find("{path}")).min().unwrap_or(after.len());
        let (host, query) = (&after[..end], after.find('?'));
        let label = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]{}".contains(&byte);
        let path_is_one = query.is_none_or(|query| !after[query..].contains("{path}"));
        !host.is_empty() && host.bytes().all(label) && path_is_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_where_its_author_says_and_nowhere_else() {
        let faults = |to: &str, any_host| Redirect::to(to.to_owned()).faults(any_host).join("; ");
        for to in [
            "https://new.example{path}",
            "http://new.example:8080/a{path}",
            "https://www.{host}{path}",
            "https://new.example",
            "https://new.example/?from=old",
            "/new{path}",
            "/",
            "/a/b?c=d",
        ] {
            assert_eq!(faults(to, false), "", "{to}");
        }
        for to in [
            "",
            "{path}",
            "/{path}",
            "//evil.example",
            "new.example{path}",
            "ftp://new.example",
            "https://{path}",
            "https:///a",
            "https://me@new.example",
            "https://new.example/?to={path}",
        ] {
            assert!(faults(to, false).contains("write it like"), "{to}: {}", faults(to, false));
        }
        for to in ["https://new.example/a b", "https://a/{path}{path}", "https://a/{query}", "/\\evil", "/a\r\nb: c"] {
            assert!(faults(to, false).contains("no blanks"), "{to}: {}", faults(to, false));
        }
        assert!(faults("https://{host}{path}", true).contains("name a host"));
        assert!(Redirect { status: 200, ..Redirect::to("/a".to_owned()) }.faults(true)[0].contains("200 is no status"));
    }
}
