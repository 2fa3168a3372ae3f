//! JSON whose fields stay in the order in which they were written, as FHIR servers write them.

/// A JSON value.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Text(String),
    /// Digits as they shall stand in the text: FHIR decimals keep their trailing zeros.
    Number(String),
    Truth(bool),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl From<&String> for Json {
    fn from(text: &String) -> Json {
        Json::Text(text.clone())
    }
}

impl From<i64> for Json {
    fn from(number: i64) -> Json {
        Json::Number(number.to_string())
    }
}

impl From<bool> for Json {
    fn from(truth: bool) -> Json {
        Json::Truth(truth)
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Json {
        Json::List(items)
    }
}

/// An object out of `"field": value` pairs.
macro_rules! object {
    ($($field:literal : $value:expr),* $(,)?) => {
        $crate::samples::json::Json::Object(vec![$(($field, $crate::samples::json::Json::from($value))),*])
    };
}

/// A list out of values.
macro_rules! list {
    ($($value:expr),* $(,)?) => {
        $crate::samples::json::Json::List(vec![$($crate::samples::json::Json::from($value)),*])
    };
}

pub(super) use {list, object};

impl Json {
    /// Puts a field at the end of an object.
    pub fn push(&mut self, field: &'static str, value: impl Into<Json>) {
        if let Json::Object(fields) = self {
            fields.push((field, value.into()));
        }
    }

    /// The text: indented by two spaces a level, or without any space.
    pub fn to_text(&self, indented: bool) -> String {
        let mut text = String::new();
        self.write(&mut text, indented.then_some(0));
        text
    }

    fn write(&self, out: &mut String, level: Option<usize>) {
        match self {
            Json::Text(text) => write_text(out, text),
            Json::Number(digits) => out.push_str(digits),
            Json::Truth(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Json::List(items) => write_all(out, level, ['[', ']'], items, |out, level, item| item.write(out, level)),
            Json::Object(fields) => write_all(out, level, ['{', '}'], fields, |out, level, (field, value)| {
                write_text(out, field);
                out.push_str(if level.is_some() { ": " } else { ":" });
                value.write(out, level);
            }),
        }
    }
}

fn write_all<T>(
    out: &mut String,
    level: Option<usize>,
    brackets: [char; 2],
    items: &[T],
    write: impl Fn(&mut String, Option<usize>, &T),
) {
    let line = |out: &mut String, level: Option<usize>| {
        if let Some(level) = level {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", level));
        }
    };
    let inner = level.map(|level| level + 1);
    out.push(brackets[0]);
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        line(out, inner);
        write(out, inner, item);
    }
    if !items.is_empty() {
        line(out, level);
    }
    out.push(brackets[1]);
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_parse_to_the_same() {
        let json =
            object! {"b": list!["x\"\\\n\u{1}", object! {}], "a": 5, "n": Json::Number("3.50".into()), "t": true};
        let (wide, narrow) = (json.to_text(true), json.to_text(false));
        assert_eq!(narrow, "{\"b\":[\"x\\\"\\\\\\n\\u0001\",{}],\"a\":5,\"n\":3.50,\"t\":true}");
        assert!(wide.starts_with("{\n  \"b\": [\n    \"x"));
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&wide), parse(&narrow));
    }
}
