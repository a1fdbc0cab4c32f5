//! The log of what the devices asked and were answered: the only source of truth about a run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

/// One operation with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The keyspace.
    pub keyspace: &'static str,
    /// The cart.
    pub cart: String,
    /// Which of the cart's two devices.
    pub device: usize,
    /// The node it used, from 0.
    pub node: usize,
    /// What it did.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What a device did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub enum Operation {
    /// It read the cart.
    Get {
        /// How many concurrent versions there were; 0 for an absent cart.
        siblings: u32,
        /// Why there was no answer.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// It wrote the cart.
    Put(Put),
}

/// A write and what it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Put {
    /// The adds that are new in it.
    pub added: Vec<Added>,
    /// The removals that are new in it.
    pub removed: Vec<Removed>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it is not acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An article that was put in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Added {
    /// Names the add.
    pub tag: String,
    /// The article.
    pub sku: String,
}

/// An article that was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The article.
    pub sku: String,
    /// All of its adds that the device saw.
    pub tags: BTreeSet<String>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The store promised to keep it.
    Acked,
    /// The store did not take it, for sure.
    Refused,
    /// It may be stored or not.
    Unknown,
}

/// Writes `logs` to `path`, one operation a line as JSON.
///
/// # Errors
/// The file cannot be written; it may hold a part then.
pub fn write(path: &Path, logs: &[Vec<Record>]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in logs.iter().flatten() {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_flat_line() {
        let record = Record {
            keyspace: "carts",
            cart: "c".into(),
            device: 0,
            node: 2,
            operation: Operation::Get { siblings: 2, error: None },
        };
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        write(file.path(), &[vec![record.clone()], vec![record]]).expect("written");
        let text = std::fs::read_to_string(file.path()).expect("read");
        let line =
            r#"{"keyspace":"carts","cart":"c","device":0,"node":2,"operation":"get","siblings":2}"#;
        assert_eq!(text, format!("{line}\n{line}\n"));
    }
}
