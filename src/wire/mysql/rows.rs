//! Rows with the definitions of their columns, for those who look into a result.
//!
//! Source: MySQL internals, "Text Resultset Row", "Binary Protocol Resultset Row".

use super::cursor::WireError;
use super::value::{Column, TextRow, Value, decode_binary_row};

/// How the values of a row are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowForm {
    /// Every value as text (COM_QUERY).
    Text,
    /// Every value by its column's type (COM_STMT_EXECUTE, COM_STMT_FETCH).
    Binary,
}

/// Definitions of columns or parameters, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    payloads: Vec<u8>,
    /// Where each payload ends.
    ends: Vec<usize>,
    /// Each column's type, and whether its numbers are unsigned.
    types: Vec<(u8, bool)>,
}

impl Columns {
    /// Adds a definition by its packet's payload.
    ///
    /// # Errors
    /// It is no definition.
    pub fn push(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let column = Column::decode(payload)?;
        self.types.push((column.column_type, column.is_unsigned()));
        self.payloads.extend_from_slice(payload);
        self.ends.push(self.payloads.len());
        Ok(())
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.payloads.clear();
        self.ends.clear();
        self.types.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The definitions, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Column<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, &end)| {
            // Each was decoded once already.
            Column::decode(self.payloads.get(start..end)?).ok()
        })
    }
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The packet's payload; a row of 16 MiB and more in one piece.
    pub payload: &'a [u8],
    /// How its values are laid out.
    pub form: RowForm,
    /// What its values are.
    pub columns: &'a Columns,
}

impl<'a> Row<'a> {
    /// The values, one for each column. Those of a text row are bytes or NULL, whatever their column's
    /// type.
    ///
    /// # Errors
    /// The row does not have the values that its columns ask for.
    pub fn values(&self) -> Result<Vec<Value<'a>>, WireError> {
        if self.form == RowForm::Binary {
            return decode_binary_row(self.payload, &self.columns.types);
        }
        let fields = TextRow::new(self.payload);
        let values = fields.map(|field| Ok(field?.map_or(Value::Null, Value::Bytes)));
        let values: Vec<_> = values.collect::<Result<_, WireError>>()?;
        if values.len() != self.columns.len() {
            return Err(WireError::Malformed);
        }
        Ok(values)
    }
}
