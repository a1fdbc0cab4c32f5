//! Where a watch is: a position of every member, and of the listing if one is under way.

use std::collections::BTreeMap;
use std::fmt;

const FORMAT: &str = "w1";
const LISTING: &str = "list";

/// A watch's place. Prints as `w1:RANGE,NODE:POSITION,…,list:PAGE`, which no shell minds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// Names the keys.
    pub(super) range: String,
    /// How far each member's stream is told, by its id.
    pub(super) positions: BTreeMap<String, String>,
    /// The page that is next, while keys are listed.
    pub(super) listing: Option<String>,
}

impl Token {
    /// Before the beginning.
    pub(super) fn of(range: String) -> Self {
        Token { range, positions: BTreeMap::new(), listing: None }
    }

    pub(super) fn parse(text: &str) -> Option<Token> {
        let (head, rest) = text.split_once(',').unwrap_or((text, ""));
        let range = head.strip_prefix(FORMAT)?.strip_prefix(':')?;
        let mut token = Token::of(range.to_owned());
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            match part.split_once(':')? {
                (LISTING, page) => token.listing = Some(page.to_owned()),
                (node, position) => {
                    token.positions.insert(node.to_owned(), position.to_owned());
                }
            }
        }
        Some(token)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORMAT}:{}", self.range)?;
        for (node, position) in &self.positions {
            write!(f, ",{node}:{position}")?;
        }
        match &self.listing {
            Some(page) => write!(f, ",{LISTING}:{page}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nonsense_does_not() {
        let mut token = Token::of("00ff".to_owned());
        assert_eq!(Token::parse(&token.to_string()), Some(token.clone()));
        for node in ["000000000000000a", "000000000000000b"] {
            let position = "0.00000000000000ff.1a/2b/17.6b6579".to_owned();
            token.positions.insert(node.to_owned(), position);
        }
        for listing in [None, Some(String::new()), Some("12.6b".to_owned())] {
            token.listing = listing;
            assert_eq!(Token::parse(&token.to_string()), Some(token.clone()));
        }
        for nonsense in ["", "w1", "w2:00", "w1:00,x"] {
            assert_eq!(Token::parse(nonsense), None, "{nonsense}");
        }
    }
}
