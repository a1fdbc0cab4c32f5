//! The place of the rules in a component: a static of the module, so a run of bytes in its data,
//! which is found by its head and can be written without a compiler.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | [`MAGIC`] |
//! | 4 | the length of the text, little-endian |
//! | the rest | the text ([`Rules::text`]), then zeros |

use crate::{BadRules, Rules};

/// What a place begins with. It must stand in the component once.
pub const MAGIC: [u8; 16] = *b"\x7fstator rules 1\n";
/// All of it.
pub const SLOT_BYTES: usize = 4096;
const TEXT_AT: usize = MAGIC.len() + 4;
/// How long the text may be.
pub const TEXT_BYTES_MAX: usize = SLOT_BYTES - TEXT_AT;

/// A place without rules, for the module's static.
pub const fn empty() -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    let mut at = 0;
    while at < MAGIC.len() {
        slot[at] = MAGIC[at];
        at += 1;
    }
    slot
}

/// A place with these rules.
pub fn filled(rules: &Rules) -> [u8; SLOT_BYTES] {
    let text = rules.text();
    let mut slot = empty();
    // `Rules::read` has seen to it that they fit.
    slot[MAGIC.len()..TEXT_AT].copy_from_slice(&(text.len() as u32).to_le_bytes());
    slot[TEXT_AT..TEXT_AT + text.len()].copy_from_slice(text.as_bytes());
    slot
}

/// Reads the rules of a place, byte by byte: `byte` is asked for no more than there are.
///
/// # Errors
/// It does not hold a list of rules.
pub fn read(byte: impl Fn(usize) -> u8) -> Result<Rules, BadRules> {
    let length = u32::from_le_bytes([0, 1, 2, 3].map(|at| byte(MAGIC.len() + at))) as usize;
    if length > TEXT_BYTES_MAX {
        let why = format!("a text of {length} bytes is said to be in a place for {TEXT_BYTES_MAX}");
        return Err(BadRules(why));
    }
    let text: Vec<u8> = (TEXT_AT..TEXT_AT + length).map(byte).collect();
    let text = String::from_utf8(text).map_err(|_| BadRules("they are no UTF-8".to_owned()))?;
    Rules::read(text.lines())
}
