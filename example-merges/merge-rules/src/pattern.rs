//! JSON pointers in which `*` stands for any member.

use std::cmp::Ordering;
use std::fmt;

use crate::DEPTH_MAX;

/// One step of a pointer, from an object to a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// To the member of this name.
    Name(String),
    /// To any.
    Any,
}

/// A pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) Vec<Step>);

/// Short ones first. Of two of one length that fit the same place, the more specific one first.
impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        let any = |step: &Step| *step == Step::Any;
        let shape = |pattern: &Self| pattern.0.iter().map(any).collect::<Vec<_>>();
        let key = |pattern: &Self| (pattern.0.len(), shape(pattern));
        key(self).cmp(&key(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Pattern {
    pub(crate) fn read(pointer: &str) -> Result<Self, String> {
        if pointer.is_empty() {
            return Ok(Pattern(Vec::new()));
        }
        let Some(steps) = pointer.strip_prefix('/') else {
            return Err(format!(
                "a pointer is empty or begins with `/`: `/{}`?",
                pointer.escape_debug()
            ));
        };
        // The list is kept with a line for each rule.
        if pointer.contains(char::is_control) {
            return Err("a pointer has no line ends or other control characters".to_owned());
        }
        let steps = steps.split('/').map(step).collect::<Result<Vec<_>, _>>()?;
        match steps.len() {
            0..=DEPTH_MAX => Ok(Pattern(steps)),
            n => Err(format!("it goes {n} members deep, and a document has at most {DEPTH_MAX}")),
        }
    }
}

fn step(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::Any);
    }
    let mut rest = text.split('~');
    let mut name = rest.next().unwrap_or_default().to_owned();
    for part in rest {
        let mut letters = part.chars();
        name.push(match letters.next() {
            Some('0') => '~',
            Some('1') => '/',
            _ => return Err("in a pointer `~` is written `~0`, and `/` in a name `~1`".to_owned()),
        });
        name.push_str(letters.as_str());
    }
    Ok(Step::Name(name))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Name(name) => write!(f, "/{}", name.replace('~', "~0").replace('/', "~1")),
            Step::Any => f.write_str("/*"),
        })
    }
}

/// Whether a pointer fits all of these places.
pub(crate) fn covers(pointer: &[Step], places: &[Step]) -> bool {
    let fits = |(step, place): (&Step, &Step)| *step == Step::Any || step == place;
    pointer.len() == places.len() && pointer.iter().zip(places).all(fits)
}
