//! Reads tables key by key: notes where each value stands, collects errors, and knows which keys nobody asked for.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::{FileError, FileErrors};

/// The errors of one file, as they are found.
#[derive(Default)]
pub(super) struct Errors(RefCell<Vec<(Range<usize>, String)>>);

impl Errors {
    pub(super) fn add(&self, span: Range<usize>, what: String) {
        self.0.borrow_mut().push((span, what));
    }

    pub(super) fn finish(self, text: &str) -> Result<(), FileErrors> {
        let mut found = self.0.into_inner();
        found.sort_by_key(|(span, _)| span.start);
        found.dedup();
        let errors: Vec<_> = found.into_iter().map(|(span, what)| FileError::new(text, span, what)).collect();
        if errors.is_empty() { Ok(()) } else { Err(FileErrors(errors)) }
    }
}

type Value<'a> = &'a Spanned<DeValue<'a>>;

/// A table, with another behind it that stands in for what it leaves out.
pub(super) struct Reader<'a> {
    layers: Vec<&'a DeTable<'a>>,
    span: Range<usize>,
    errors: &'a Errors,
    asked: RefCell<BTreeSet<&'static str>>,
    /// Where each key of the app stands, by its path: `scale.min`. Shared with the tables within.
    spans: Rc<RefCell<BTreeMap<String, Range<usize>>>>,
    prefix: String,
    /// The defaults are checked for unknown keys with the first app only, and only once.
    own_layers: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(table: &'a Spanned<DeTable<'a>>, errors: &'a Errors) -> Self {
        Self::over(vec![table.get_ref()], 1, table.span(), errors)
    }

    fn over(layers: Vec<&'a DeTable<'a>>, own_layers: usize, span: Range<usize>, errors: &'a Errors) -> Self {
        let (asked, spans) = (RefCell::default(), Rc::default());
        Self { layers, span, errors, asked, spans, prefix: String::new(), own_layers }
    }

    /// The value of a key, from the first layer that has it.
    fn value(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().insert(key);
        let value = self.layers.iter().find_map(|table| table.get(key))?;
        self.note(key, value);
        Some(value)
    }

    fn note(&self, key: &str, value: Value<'a>) {
        self.spans.borrow_mut().insert(format!("{}{key}", self.prefix), value.span());
    }

    /// Where a key's value stands (or, for a path like `scale.min`, the nearest table around it), else where this table does.
    pub(super) fn span(&self, key: &str) -> Range<usize> {
        let spans = self.spans.borrow();
        let path = format!("{}{key}", self.prefix);
        let parents = std::iter::successors(Some(&*path), |path| path.rsplit_once('.').map(|(parent, _)| parent));
        parents.into_iter().find_map(|path| spans.get(path).cloned()).unwrap_or_else(|| self.span.clone())
    }

    pub(super) fn error(&self, key: &str, what: impl Into<String>) {
        self.errors.add(self.span(key), what.into());
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn is_table(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    /// A value of some type; says what was expected where it is of another.
    fn typed<T>(
        &self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let read = read(value.get_ref());
        if read.is_none() {
            self.error(key, format!("`{key}` is {expected}, not {}", article(value.get_ref())));
        }
        read
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.typed(key, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        self.typed(key, "true or false", DeValue::as_bool)
    }

    /// A whole number within `u32`, or smaller limits of the caller's.
    pub(super) fn number(&self, key: &'static str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let expected = match *range.end() {
            u32::MAX => format!("a whole number, at least {}", range.start()),
            most => format!("a whole number from {} to {most}", range.start()),
        };
        self.typed(key, &expected, |value| integer(value).filter(|n| range.contains(n)))
    }

    /// A number with or without fraction.
    pub(super) fn fraction(&self, key: &'static str) -> Option<f64> {
        self.typed(key, "a number", number)
    }

    /// `0.7` or `"70%"`.
    pub(super) fn share(&self, key: &'static str) -> Option<f64> {
        let percent = |text: &str| text.strip_suffix('%')?.trim().parse::<f64>().ok().map(|p| p / 100.0);
        self.typed(key, "a share like \"70%\" or 0.7", |value| number(value).or_else(|| percent(value.as_str()?)))
    }

    /// A text that is read further, such as a duration.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&self.text(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(key, format!("`{key}`: {error}"));
                None
            }
        }
    }

    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let list = |value: &'a DeValue<'a>| {
            value.as_array()?.iter().map(|v| v.get_ref().as_str().map(str::to_owned)).collect()
        };
        self.typed(key, "a list of texts, like [\"a\", \"b\"]", list)
    }

    /// A table of texts; numbers and flags are taken as they are written.
    pub(super) fn text_map(&self, key: &'static str) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        self.asked.borrow_mut().insert(key);
        for layer in self.layers.iter().rev() {
            let Some(value) = layer.get(key) else { continue };
            self.note(key, value);
            let Some(table) = value.get_ref().as_table() else {
                self.error(
                    key,
                    format!("`{key}` is a table, like {{ NAME = \"value\" }}, not {}", article(value.get_ref())),
                );
                continue;
            };
            for (name, value) in table {
                match plain(value.get_ref()) {
                    Some(text) => _ = map.insert(name.get_ref().to_string(), text),
                    None => self.errors.add(value.span(), format!("`{}` is not a text", name.get_ref())),
                }
            }
        }
        map
    }

    /// A table within this one, each layer's behind the other.
    pub(super) fn table(&self, key: &'static str) -> Option<Reader<'a>> {
        let first = self.value(key)?;
        if first.get_ref().as_table().is_none() {
            self.error(key, format!("`{key}` is a table, not {}", article(first.get_ref())));
            return None;
        }
        let tables = |layers: &[&'a DeTable<'a>]| -> Vec<&'a DeTable<'a>> {
            layers.iter().filter_map(|layer| layer.get(key)?.get_ref().as_table()).collect()
        };
        let own = tables(&self.layers[..self.own_layers]).len();
        let (spans, prefix) = (self.spans.clone(), format!("{}{key}.", self.prefix));
        Some(Reader { spans, prefix, ..Reader::over(tables(&self.layers), own, first.span(), self.errors) })
    }

    /// The tables of a list of tables, `[[key]]`.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<Reader<'a>>> {
        let value = self.value(key)?;
        let tables: Option<Vec<_>> = value.get_ref().as_array().and_then(|list| {
            let one = |(i, v): (usize, &'a Spanned<DeValue<'a>>)| {
                let (spans, prefix) = (self.spans.clone(), format!("{}{key}.{i}.", self.prefix));
                self.note(&format!("{key}.{i}"), v);
                Some(Reader { spans, prefix, ..Reader::over(vec![v.get_ref().as_table()?], 1, v.span(), self.errors) })
            };
            list.iter().enumerate().map(one).collect()
        });
        if tables.is_none() {
            self.error(key, format!("`{key}` is a list of tables: write [[….{key}]]"));
        }
        tables
    }

    /// All tables in this one by name, with `defaults` behind each.
    pub(super) fn tables(&self, defaults: Option<&Reader<'a>>) -> Vec<(String, Range<usize>, Reader<'a>)> {
        let mut found = Vec::new();
        for (name, value) in self.layers[0] {
            let Some(table) = value.get_ref().as_table() else {
                self.errors.add(value.span(), format!("`{0}` is a table: write [app.{0}]", name.get_ref()));
                continue;
            };
            let behind = defaults.iter().flat_map(|d| d.layers.iter().copied());
            let layers: Vec<_> = std::iter::once(table).chain(behind).collect();
            // The first app answers for the keys of the defaults.
            let own = if found.is_empty() { layers.len() } else { 1 };
            found.push((name.get_ref().to_string(), name.span(), Reader::over(layers, own, name.span(), self.errors)));
        }
        found
    }

    /// Says which keys nobody asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.layers[..self.own_layers].iter().flat_map(|layer| layer.iter()) {
            if !asked.contains(&**key.get_ref()) {
                self.errors
                    .add(key.span(), format!("unknown key `{}`{}", key.get_ref(), suggestion(key.get_ref(), &asked)));
            }
        }
    }
}

fn suggestion(key: &str, known: &BTreeSet<&'static str>) -> String {
    let near = known.iter().map(|k| (strsim::jaro_winkler(key, k), *k)).filter(|(score, _)| *score > 0.75);
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => format!("; known here: {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
    }
}

fn integer(value: &DeValue<'_>) -> Option<u32> {
    let integer = value.as_integer()?;
    u32::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    let text = value.as_float().map(|f| f.as_str()).or_else(|| value.as_integer().map(|i| i.as_str()))?;
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}

fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(n) => Some(n.to_string()),
        DeValue::Float(n) => Some(n.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn article(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(n) => format!("the number {n}"),
        DeValue::Float(n) => format!("the number {n}"),
        DeValue::String(text) if text.chars().count() <= 40 => format!("the text {text:?}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        other => format!("a {}", other.type_str()),
    }
}
