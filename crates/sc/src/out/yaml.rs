//! JSON values as YAML: block style, every text that could be read as something else quoted as JSON quotes it (which YAML
//! reads the same way).

use serde_json::Value;

/// A value as a YAML document.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => list(&mut text, items, 0),
        Value::Object(fields) if !fields.is_empty() => map(&mut text, fields, 0, false),
        other => text = scalar(other) + "\n",
    }
    text
}

fn list(text: &mut String, items: &[Value], depth: usize) {
    for item in items {
        *text += &format!("{}- ", "  ".repeat(depth));
        match item {
            Value::Object(fields) if !fields.is_empty() => map(text, fields, depth + 1, true),
            Value::Array(items) if !items.is_empty() => {
                text.truncate(text.len() - 1);
                text.push('\n');
                list(text, items, depth + 1);
            }
            other => *text += &(scalar(other) + "\n"),
        }
    }
}

fn map(text: &mut String, fields: &serde_json::Map<String, Value>, depth: usize, mut begun: bool) {
    for (key, value) in fields {
        // The first key of a list's item stands behind its dash.
        if !std::mem::take(&mut begun) {
            *text += &"  ".repeat(depth);
        }
        *text += &plain(key);
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                *text += ":\n";
                map(text, inner, depth + 1, false);
            }
            Value::Array(items) if !items.is_empty() => {
                *text += ":\n";
                list(text, items, depth + 1);
            }
            other => *text += &format!(": {}\n", scalar(other)),
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => other.to_string(), // null, true, numbers, [] and {} are the same in both.
    }
}

/// A text without quotes where nothing but a text can be read from it.
fn plain(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    let letter = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if letter && !word && text.chars().all(safe) { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_every_kind() {
        let value = json!([
            { "app": "web", "count": 3, "ok": true, "none": null, "empty": [], "nothing": {},
              "routes": [{ "host": "web.localhost", "path": "/" }, { "host": "*.x" }], "nested": { "a": { "b": [[1, 2]] } } },
            "no", "1.5", "", "two words", "line\nbreak", "# hash", "a: b", "é",
        ]);
        insta::assert_snapshot!(yaml(&value), @r##"
        - app: web
          count: 3
          empty: []
          nested:
            a:
              b:
                -
                  - 1
                  - 2
          none: null
          nothing: {}
          ok: true
          routes:
            - host: web.localhost
              path: /
            - host: "*.x"
        - "no"
        - "1.5"
        - ""
        - "two words"
        - "line\nbreak"
        - "# hash"
        - "a: b"
        - "é"
        "##);
        assert_eq!(yaml(&json!([])), "[]\n");
        assert_eq!(yaml(&json!("x")), "x\n");
    }
}
