//! The rules by which the module `json-rules` merges JSON: which there are, how a list of them is
//! written, and where it stands in the component.
//!
//! The command line reads a list to refuse a wrong one before anything is sent, the module reads it
//! to merge by it. Both must read the same, so both use this crate, which depends on nothing.
//!
//! # A rule
//! `POINTER=RULE`: a JSON pointer (RFC 6901) in which `*` stands for any member, and one of
//!
//! | rule | of | what comes of it |
//! |---|---|---|
//! | `union` | arrays | each element once, in order; objects below are merged member by member |
//! | `max`, `min` | numbers, or texts | the largest, the smallest |
//! | `sum` | objects of numbers from 0, by writer | the largest of each writer |
//! | `last-write` | anything | what was written last |
//! | `three-way:RULE` | anything | what was changed; RULE (none of `sum` and `three-way`) if several changed it |
//!
//! The rule of the empty pointer, written `=RULE`, is the *default*: for all that has no rule.
//!
//! # Which rule holds
//! That of the most specific pointer: of two that fit, the one that has a name where the other has
//! `*`, at the first place where they differ in that. `union` and `three-way` go on below, as far as
//! no other rule does; the others take their value whole, so a rule that could only stand below
//! them is refused.
//!
//! # Left out
//! Places in arrays: a number is the name of a member. A member that is really called `*` has no
//! pointer of its own.

mod pattern;
pub mod slot;

use std::fmt;

pub use pattern::Step;
use pattern::{Pattern, covers};

/// The deepest document, and so the longest pointer.
pub const DEPTH_MAX: usize = 32;

/// How values of one place are made one, where it takes no more than the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Each element of all arrays once.
    Union,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// What was written last.
    LastWrite,
}

/// How values of one place are made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// By the values alone.
    Plain(Choice),
    /// The largest number of each writer.
    Sum,
    /// What was changed since the common ancestor; this, where several changed it.
    ThreeWay(Choice),
}

const CHOICES: [(&str, Choice); 4] = [
    ("union", Choice::Union),
    ("max", Choice::Max),
    ("min", Choice::Min),
    ("last-write", Choice::LastWrite),
];
const THREE_WAY: &str = "three-way:";

impl Choice {
    /// Its word.
    pub fn word(self) -> &'static str {
        CHOICES.iter().find(|(_, choice)| *choice == self).map_or("", |(word, _)| word)
    }

    fn of(word: &str) -> Option<Self> {
        CHOICES.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice)
    }
}

impl Rule {
    fn of(word: &str) -> Option<Self> {
        match word.strip_prefix(THREE_WAY) {
            Some(word) => Choice::of(word).map(Rule::ThreeWay),
            None if word == "sum" => Some(Rule::Sum),
            None => Choice::of(word).map(Rule::Plain),
        }
    }

    /// Whether objects are not merged member by member where this rule is stated.
    pub fn takes_whole(self) -> bool {
        !matches!(self, Rule::Plain(Choice::Union) | Rule::ThreeWay(_))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Plain(choice) => f.write_str(choice.word()),
            Rule::Sum => f.write_str("sum"),
            Rule::ThreeWay(choice) => write!(f, "{THREE_WAY}{}", choice.word()),
        }
    }
}

/// A rule and where it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pattern: Pattern,
    /// The rule.
    pub rule: Rule,
}

impl Listed {
    /// The pointer, taken apart.
    pub fn steps(&self) -> &[Step] {
        &self.pattern.0
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.rule)
    }
}

/// What is wrong with a list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRules(String);

impl fmt::Display for BadRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadRules {}

/// A list of rules that can be kept. However it was written, equal lists have equal texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Of those that fit a place, the most specific comes first.
    listed: Vec<Listed>,
}

impl Rules {
    /// Reads a list.
    ///
    /// # Errors
    /// What is wrong with which rule, and how it is written rightly.
    pub fn read<T: AsRef<str>>(rules: impl IntoIterator<Item = T>) -> Result<Self, BadRules> {
        let listed = rules.into_iter().map(|rule| read(rule.as_ref()));
        let mut listed: Vec<Listed> = listed.collect::<Result<_, _>>()?;
        listed.sort_by(|one, other| one.pattern.cmp(&other.pattern));
        if let Some(twice) = listed.windows(2).find(|two| two[0].pattern == two[1].pattern) {
            return Err(BadRules(format!(
                "`{}` and `{}` are two rules for one path: leave one of them out",
                twice[0], twice[1]
            )));
        }
        let rules = Rules { listed };
        rules.check_below()?;
        let bytes = rules.text().len();
        if bytes > slot::TEXT_BYTES_MAX {
            return Err(BadRules(format!(
                "the rules have {bytes} bytes together, and a component has room for {}: let `*` \
                 stand for several members, or write a module",
                slot::TEXT_BYTES_MAX
            )));
        }
        Ok(rules)
    }

    /// No rule may stand where it is never asked.
    fn check_below(&self) -> Result<(), BadRules> {
        for below in &self.listed {
            for depth in 1..below.steps().len() {
                let fits = |listed: &&Listed| covers(listed.steps(), &below.steps()[..depth]);
                let above = self.listed.iter().find(fits);
                let Some(above) = above.filter(|above| above.rule.takes_whole()) else { continue };
                return Err(BadRules(format!(
                    "`{below}` stands below `{above}`, which takes its value whole, so it would \
                     never be asked: leave one of them out, or put `union` or `three-way` above"
                )));
            }
        }
        Ok(())
    }

    /// The rules, those of the shortest pointers first.
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Whether one of them looks at the ancestor.
    pub fn use_ancestor(&self) -> bool {
        self.listed.iter().any(|listed| matches!(listed.rule, Rule::ThreeWay(_)))
    }

    /// The list as it stands in a component: a line each.
    pub fn text(&self) -> String {
        self.listed.iter().map(|listed| format!("{listed}\n")).collect()
    }

    /// The whole document.
    pub fn top(&self) -> Place<'_> {
        Place { depth: 0, reaching: self.listed.iter().collect() }
    }
}

/// A place in a document, and the rules that stand there or below.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    depth: usize,
    reaching: Vec<&'a Listed>,
}

impl<'a> Place<'a> {
    /// The rule that is stated for this very place.
    pub fn rule(&self) -> Option<Rule> {
        let here = |listed: &&&Listed| listed.steps().len() == self.depth;
        self.reaching.iter().find(here).map(|listed| listed.rule)
    }

    /// Whether it is the whole document, whose rule is the default of all below.
    pub fn is_top(&self) -> bool {
        self.depth == 0
    }

    /// Whether its rule takes what is here whole, so that nothing below has a rule.
    pub fn takes_whole(&self) -> bool {
        !self.is_top() && self.rule().is_some_and(Rule::takes_whole)
    }

    /// Whether no rule stands below it.
    pub fn is_lowest(&self) -> bool {
        self.takes_whole() || self.reaching.iter().all(|listed| listed.steps().len() <= self.depth)
    }

    /// The member of this name.
    pub fn enter(&self, name: &str) -> Place<'a> {
        let leads = |listed: &&Listed| match listed.steps().get(self.depth) {
            Some(Step::Any) => true,
            Some(Step::Name(known)) => known == name,
            None => false,
        };
        let reaching = self.reaching.iter().copied().filter(leads).collect();
        Place { depth: self.depth + 1, reaching }
    }
}

fn read(text: &str) -> Result<Listed, BadRules> {
    let bad = |why: String| BadRules(format!("`{}`: {why}", text.escape_debug()));
    let Some((pointer, word)) = text.rsplit_once('=') else {
        return Err(bad("a rule is written POINTER=RULE, such as /items=union".to_owned()));
    };
    let pattern = Pattern::read(pointer).map_err(bad)?;
    let Some(rule) = Rule::of(word) else {
        let why = match word {
            "three-way" => "say what decides where several changed it, or the ancestor is not \
                            known, such as three-way:last-write"
                .to_owned(),
            "three-way:sum" | "three-way:three-way" => {
                "of union, max, min and last-write one can stand behind three-way".to_owned()
            }
            _ => format!(
                "no rule is called `{}`: there are union, max, min, sum, last-write and \
                 three-way:RULE",
                word.escape_debug()
            ),
        };
        return Err(bad(why));
    };
    if pattern.0.is_empty() && rule == Rule::Sum {
        return Err(bad(
            "sum needs a path, such as /visits=sum: it is for objects, which have no \
                        default rule"
                .to_owned(),
        ));
    }
    Ok(Listed { pattern, rule })
}

#[cfg(test)]
mod tests;
