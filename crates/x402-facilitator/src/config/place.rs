//! The places in the configuration file that errors name.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Adds the line and column of an offset, if there is one.
pub(super) fn at(text: &str, offset: Option<usize>, error: ConfigError) -> ConfigError {
    let Some(before) = offset.and_then(|offset| text.get(..offset)) else { return error };
    let (above, line) = before.rsplit_once('\n').map_or(("", before), |(above, line)| (above, line));
    let number = if before.contains('\n') { above.matches('\n').count().saturating_add(2) } else { 1 };
    ConfigError::At { line: number, column: line.chars().count().saturating_add(1), error: Box::new(error) }
}

/// Adds the line and column of the key that the error names. `entry` is the entry's number in the first array of tables
/// on the way.
pub(super) fn of_field(text: &str, entry: usize, error: ConfigError) -> ConfigError {
    let ConfigError::Range { field, .. } = &error else { return error };
    let offset = DeTable::parse(text).ok().and_then(|root| find(root.get_ref(), field, entry));
    at(text, offset, error)
}

/// Returns the dotted key whose value contains an offset.
pub(super) fn key_at(text: &str, offset: usize) -> Option<String> {
    within(DeTable::parse(text).ok()?.get_ref(), offset)
}

fn within(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let deeper = match value.get_ref() {
            DeValue::Table(table) => within(table, offset),
            DeValue::Array(array) => {
                array.iter().filter_map(|each| each.get_ref().as_table()).find_map(|table| within(table, offset))
            }
            _ => None,
        };
        match deeper {
            Some(deeper) => Some(format!("{}.{deeper}", key.get_ref())),
            None => value.span().contains(&offset).then(|| key.get_ref().to_string()),
        }
    })
}

/// Returns the offset of the value of a dotted key, or of the innermost table on the way if the key is absent.
fn find(root: &DeTable<'_>, field: &str, entry: usize) -> Option<usize> {
    let (mut table, mut found, mut entry) = (root, None, Some(entry));
    for name in field.split('.') {
        let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { return found };
        found = Some(value.span().start);
        let Some(inner) = inner(value, &mut entry) else { return found };
        found = Some(inner.span().start);
        let Some(next) = inner.get_ref().as_table() else { return found };
        table = next;
    }
    found
}

/// Returns the value itself, or of an array of tables the entry: the numbered one of the first array, then each first.
fn inner<'a, 'i>(value: &'a Spanned<DeValue<'i>>, entry: &mut Option<usize>) -> Option<&'a Spanned<DeValue<'i>>> {
    match value.get_ref().as_array() {
        Some(array) if array.iter().all(|each| each.get_ref().is_table()) => {
            array.get(entry.take().unwrap_or_default())
        }
        _ => Some(value),
    }
}
