//! The notation of fields: `$`, `accepts`, `accepts[0].payTo`, `endpoints.NAME.resource.url`.

use std::borrow::Cow;

/// The part of the input that a rule inspects. It is formatted only for an issue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    endpoint: Option<&'p str>,
    /// The path to a document that lies below members of another one.
    wrapper: Option<&'p str>,
    entry: Option<usize>,
}

impl<'p> Place<'p> {
    pub(crate) const ROOT: Self = Self { endpoint: None, wrapper: None, entry: None };

    pub(crate) const fn endpoint(name: &'p str) -> Self {
        Self { endpoint: Some(name), ..Self::ROOT }
    }

    /// The place of a wrapped document; the path is one of short names.
    pub(crate) const fn wrapped(path: &'p str) -> Self {
        Self { wrapper: Some(path), ..Self::ROOT }
    }

    pub(crate) const fn entry(self, index: usize) -> Self {
        Self { entry: Some(index), ..self }
    }

    /// Formats the field `tail` of this part; an empty tail means the document or entry itself.
    pub(crate) fn field(self, tail: &str) -> String {
        let mut out = self.wrapper.unwrap_or_default().to_owned();
        if let Some(name) = self.endpoint {
            out.push_str("endpoints.");
            out.push_str(&short(name));
        }
        if let Some(index) = self.entry {
            dot(&mut out);
            out.push_str(&format!("accepts[{index}]"));
        }
        if !tail.is_empty() {
            dot(&mut out);
            out.push_str(tail);
        }
        if out.is_empty() { "$".to_owned() } else { out }
    }
}

fn dot(out: &mut String) {
    if !out.is_empty() {
        out.push('.');
    }
}

/// Cuts a name chosen by the sender at 128 bytes: it is repeated in every field below it, and the report must stay
/// linear in its input.
pub(crate) fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= 128 {
        return Cow::Borrowed(name);
    }
    let end = (0..=128).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_document_is_named_by_its_path() {
        assert_eq!(Place::wrapped("error.data").field(""), "error.data");
        assert_eq!(Place::wrapped("error.data").entry(0).field("payTo"), "error.data.accepts[0].payTo");
    }

    #[test]
    fn fields_are_written_as_the_issue_has_them() {
        assert_eq!(Place::ROOT.field(""), "$");
        assert_eq!(Place::ROOT.field("accepts"), "accepts");
        assert_eq!(Place::ROOT.entry(0).field("payTo"), "accepts[0].payTo");
        assert_eq!(Place::ROOT.entry(12).field(""), "accepts[12]");
        assert_eq!(Place::endpoint("weather").field(""), "endpoints.weather");
        assert_eq!(Place::endpoint("weather").entry(1).field("asset"), "endpoints.weather.accepts[1].asset");
        assert_eq!(Place::endpoint(&"é".repeat(100)).field("").len(), "endpoints.".len() + 128 + "…".len());
    }
}
