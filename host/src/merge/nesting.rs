//! How deep types of components lie inside one another, counted without diving.
//!
//! A type of a component or of an instance is a list of declarations, and a declaration may be such
//! a type. wasmparser reads them by recursion and sets no bound: 15 KB hold 5,000 of them inside one another,
//! which overflows the stack of whoever reads them. So the section is walked here first with a
//! list of how many declarations are left at each depth; all that cannot nest is read by wasmparser.

use wasmparser::{BinaryReader, ComponentImport, ComponentType, InstanceTypeDeclaration, Result};

const COMPONENT_TYPE: u8 = 0x41;
const INSTANCE_TYPE: u8 = 0x42;
const TYPE_DECLARATION: u8 = 0x01;
const IMPORT_DECLARATION: u8 = 0x03;

/// How deep the types of a section are: 1 where none is inside another. Ends as soon as it is more
/// than `max`, with `max + 1`.
///
/// # Errors
///
/// If the section cannot be read.
pub(super) fn depth_of_types(mut section: BinaryReader<'_>, max: u32) -> Result<u32> {
    let mut left = vec![section.read_var_u32()?];
    let mut deepest = 1;
    while let Some(declarations) = left.last_mut() {
        if *declarations == 0 {
            left.pop();
            continue;
        }
        *declarations -= 1;
        let is_inner = left.len() > 1;
        if is_inner && !is_type(&mut section)? {
            continue;
        }
        if let COMPONENT_TYPE | INSTANCE_TYPE = next(&section)? {
            section.read_u8()?;
            left.push(section.read_var_u32()?);
            deepest = deepest.max(left.len() as u32);
            if deepest > max {
                break;
            }
        } else {
            section.read::<ComponentType<'_>>()?;
        }
    }
    Ok(deepest)
}

/// Whether a declaration is one of a type, which is then still to be read; any other is passed over.
fn is_type(section: &mut BinaryReader<'_>) -> Result<bool> {
    match next(section)? {
        TYPE_DECLARATION => section.read_u8().map(|_| true),
        IMPORT_DECLARATION => {
            section.read_u8()?;
            section.read::<ComponentImport<'_>>().map(|_| false)
        }
        _ => section.read::<InstanceTypeDeclaration<'_>>().map(|_| false),
    }
}

/// The next byte, which is left where it is.
fn next(section: &BinaryReader<'_>) -> Result<u8> {
    section.clone().read_u8()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many types of instances inside one another, around what makes no depth.
    fn nested(depth: usize) -> Vec<u8> {
        // In each: an export of a function's type, a type, an alias of an outer one.
        let mut section = vec![1];
        section.extend([INSTANCE_TYPE, 2, TYPE_DECLARATION, 0x40, 0, 1, 0, 1].repeat(depth - 1));
        section.extend([COMPONENT_TYPE, 1, TYPE_DECLARATION, 0x79]);
        section
    }

    #[test]
    fn types_are_counted_however_deep_they_are() {
        let depth = |section: &[u8], max| depth_of_types(BinaryReader::new(section, 0), max);
        assert_eq!(depth(&[0], 16).expect("no type"), 1);
        assert_eq!(depth(&nested(1), 16).expect("a type"), 2);
        assert_eq!(depth(&nested(9), 16).expect("types"), 10);
        assert_eq!(depth(&nested(100_000), 16).expect("types"), 17);
        assert!(depth(&[1, INSTANCE_TYPE, 1, 9], 16).is_err());
        assert!(depth(&[1, INSTANCE_TYPE, 1], 16).is_err());
    }
}
