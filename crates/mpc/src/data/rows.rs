//! The rows of an input one by one, for the record that a data holder's node keeps of what it has released.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::microprotocol::{Column, SeeRow};
use crate::number::canonical;

/// Shows every column and every number of a text that [`super::read`] accepts, in its column and in the form of [`canonical`]. `None` for other texts.
///
/// Memory is a reference per number, beside the text.
pub fn rows(json: &str, see: &mut SeeRow<'_>) -> Option<()> {
    let whole: &RawValue = serde_json::from_str(json).ok()?;
    if !whole.get().starts_with('{') {
        return column(whole, Column::Unnamed, see);
    }
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(whole.get()).ok()?;
    if let Some(vectors) = members.get("vectors") {
        return self::vectors(vectors, see);
    }
    if let Some(columns) = members.get("columns") {
        members = serde_json::from_str(columns.get()).ok()?;
    }
    let mut members = members.iter();
    members.try_for_each(|(name, values)| column(values, Column::Named(name), see))
}

fn vectors(json: &RawValue, see: &mut SeeRow<'_>) -> Option<()> {
    let vectors: Vec<&RawValue> = serde_json::from_str(json.get()).ok()?;
    for vector in vectors {
        let numbers: Vec<&RawValue> = serde_json::from_str(vector.get()).ok()?;
        for (position, number) in numbers.into_iter().enumerate() {
            see(Column::Position(position), Some(&canonical(number.get().as_bytes())?));
        }
    }
    Some(())
}

/// A number or a list of numbers.
fn column(json: &RawValue, column: Column<'_>, see: &mut SeeRow<'_>) -> Option<()> {
    see(column, None);
    if !json.get().starts_with('[') {
        see(column, Some(&canonical(json.get().as_bytes())?));
        return Some(());
    }
    let numbers: Vec<&RawValue> = serde_json::from_str(json.get()).ok()?;
    for number in numbers {
        see(column, Some(&canonical(number.get().as_bytes())?));
    }
    Some(())
}
