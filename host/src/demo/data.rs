//! Reading retail lines in the CSV format of *Online Retail* (UCI).
//!
//! Columns are found by their names in the first line; others than the four needed may hold
//! anything, in any encoding.

use std::io::Read;

use csv::{ByteRecord, ReaderBuilder};

/// One line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the file, from 1; the column names are line 1.
    pub number: u64,
    /// The invoice; a cancellation begins with `C`.
    pub invoice: String,
    /// The article.
    pub sku: String,
    /// How many; negative for what is given back, and 0 changes nothing.
    pub quantity: i32,
    /// The customer, empty if unknown.
    pub customer: String,
}

impl Line {
    /// Whether the line takes an article out of the cart.
    pub fn is_removal(&self) -> bool {
        self.quantity < 0 || self.invoice.starts_with('C')
    }

    /// The cart: one per customer, or per invoice where the customer is unknown.
    pub fn cart(&self) -> String {
        match self.customer.strip_suffix(".0").unwrap_or(&self.customer) {
            "" => format!("invoice-{}", self.invoice),
            customer => format!("customer-{customer}"),
        }
    }
}

/// What is wrong with a file of retail lines.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read, or not as CSV.
    #[error("line {line}: {source}")]
    Csv {
        /// Where.
        line: u64,
        /// What is wrong.
        source: csv::Error,
    },
    /// The first line lacks a column.
    #[error(
        "line 1 has no column {column}; needed are InvoiceNo, StockCode, Quantity and CustomerID"
    )]
    Column {
        /// The missing column.
        column: &'static str,
    },
    /// A field that must hold something is empty.
    #[error("line {line}: {column} is empty")]
    Empty {
        /// Where.
        line: u64,
        /// Which field.
        column: &'static str,
    },
    /// A quantity is no whole number, or too large for a cart.
    #[error("line {line}: Quantity {text:?} is no whole number of 32 bits")]
    Quantity {
        /// Where.
        line: u64,
        /// What is there.
        text: String,
    },
    /// There is nothing after the column names.
    #[error("there are no lines after the column names")]
    NoLines,
}

/// All lines of `source`, in order.
///
/// # Errors
/// Names the line and what is wrong in it.
pub fn read(source: impl Read) -> Result<Vec<Line>, DataError> {
    let mut reader = ReaderBuilder::new().from_reader(source);
    let header = reader.byte_headers().map_err(|source| DataError::Csv { line: 1, source })?;
    let columns = Columns::find(header)?;
    let mut lines = Vec::new();
    let mut record = ByteRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(true) => lines.push(columns.line(&record)?),
            Ok(false) => break,
            Err(source) => return Err(DataError::Csv { line, source }),
        }
    }
    if lines.is_empty() { Err(DataError::NoLines) } else { Ok(lines) }
}

/// Where the needed columns are.
struct Columns {
    invoice: usize,
    sku: usize,
    quantity: usize,
    customer: usize,
}

impl Columns {
    fn find(header: &ByteRecord) -> Result<Self, DataError> {
        let of = |column: &'static str| {
            let found = header.iter().position(|name| {
                name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) == column.as_bytes()
            });
            found.ok_or(DataError::Column { column })
        };
        Ok(Columns {
            invoice: of("InvoiceNo")?,
            sku: of("StockCode")?,
            quantity: of("Quantity")?,
            customer: of("CustomerID")?,
        })
    }

    fn line(&self, record: &ByteRecord) -> Result<Line, DataError> {
        let number = record.position().map_or(0, csv::Position::line);
        let text = |index| {
            String::from_utf8_lossy(record.get(index).unwrap_or_default()).trim().to_owned()
        };
        let filled = |index, column| match text(index) {
            field if field.is_empty() => Err(DataError::Empty { line: number, column }),
            field => Ok(field),
        };
        let quantity = filled(self.quantity, "Quantity")?;
        let quantity = quantity
            .parse()
            .map_err(|_| DataError::Quantity { line: number, text: quantity.clone() })?;
        Ok(Line {
            number,
            invoice: filled(self.invoice, "InvoiceNo")?,
            sku: filled(self.sku, "StockCode")?,
            quantity,
            customer: text(self.customer),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,CustomerID\n";

    fn read_text(text: &str) -> Result<Vec<Line>, DataError> {
        read(format!("{HEADER}{text}").as_bytes())
    }

    #[test]
    fn lines_know_their_cart_and_whether_they_remove() {
        let text = "1,a,\"x, y\",2,17850.0\nC2,a,,3,17850\n3,b,,-1,\n";
        let lines = read_text(text).expect("valid");
        assert_eq!(lines.iter().map(|l| l.number).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(lines.iter().map(Line::is_removal).collect::<Vec<_>>(), [false, true, true]);
        let carts: Vec<_> = lines.iter().map(Line::cart).collect();
        assert_eq!(carts, ["customer-17850", "customer-17850", "invoice-3"]);
    }

    #[test]
    fn a_description_in_another_encoding_does_no_harm() {
        let mut bytes = HEADER.as_bytes().to_vec();
        bytes.extend_from_slice(b"1,a,\xa35,2,\n");
        assert_eq!(read(bytes.as_slice()).expect("valid").len(), 1);
    }

    #[test]
    fn errors_name_the_line() {
        let of = |text: &str| read_text(text).expect_err("wrong").to_string();
        assert_eq!(
            of("1,a,,2,\n1,a,,two,\n"),
            "line 3: Quantity \"two\" is no whole number of 32 bits"
        );
        assert_eq!(of("1,,,2,\n"), "line 2: StockCode is empty");
        assert!(of("1,a,,2,\n1,a\n").starts_with("line 3:"), "{}", of("1,a,,2,\n1,a\n"));
        assert!(matches!(read_text(""), Err(DataError::NoLines)));
        let error = read(b"InvoiceNo,StockCode\n1,2\n".as_slice()).expect_err("no column");
        assert!(matches!(error, DataError::Column { column: "Quantity" }));
    }
}
