//! What a client asks: `{"m": method, "p": [...]}`.

use serde::Deserialize;
use serde_json::Value;

/// A request, as sent. Parameters are read leniently: real clients differ in what they leave out.
#[derive(Debug, Deserialize)]
pub(in crate::simulator) struct Request {
    /// What to do.
    #[serde(rename = "m")]
    pub(in crate::simulator) method: String,
    /// With what; mostly a session first.
    #[serde(rename = "p", default)]
    pub(in crate::simulator) parameters: Vec<Value>,
}

impl Request {
    /// The parameter at `index`.
    pub(in crate::simulator) fn value(&self, index: usize) -> Option<&Value> {
        self.parameters.get(index)
    }

    /// The parameter at `index`, where it is a text.
    pub(in crate::simulator) fn text(&self, index: usize) -> Option<&str> {
        self.value(index).and_then(Value::as_str)
    }

    /// All parameters after the first that are texts, those of nested lists too.
    pub(in crate::simulator) fn texts(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().skip(1).flat_map(|value| {
            let nested = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            value.as_str().into_iter().chain(nested)
        })
    }

    /// How an error names this request: `method: NAME. args: "[a, b]"`, the session left out.
    pub(in crate::simulator) fn named(&self) -> String {
        let args: Vec<String> = self.parameters.iter().skip(1).map(plain).collect();
        format!("method: {}. args: \"[{}]\"", self.method, args.join(", "))
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_request_as_the_provider_does() {
        let json = r#"{"m":"create_series","p":["cs_1","$prices","s1","ser_1","XX",100]}"#;
        let request: Request = serde_json::from_str(json).unwrap();
        assert_eq!(
            request.named(),
            r#"method: create_series. args: "[$prices, s1, ser_1, XX, 100]""#
        );
        assert_eq!((request.text(0), request.text(5)), (Some("cs_1"), None));
    }
}
