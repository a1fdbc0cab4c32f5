//! Who may do what.
//!
//! A *principal* is somebody with a name: who shows a client certificate with that name, or one of its
//! tokens. It has *grants*: a role, in one keyspace or in all. As long as nobody has a grant everybody
//! may do everything; from the first one on, nobody may do what no grant of theirs allows.
//!
//! | role | may |
//! |---|---|
//! | reader | read keys, list them, look at keyspaces, conflicts and history |
//! | writer | what a reader may, and put and delete |
//! | publisher | what a reader may, push modules, try them, and pin keyspaces to them |
//! | operator | everything |
//!
//! Of a token the catalogue has the digest, and none of its bytes: tokens are 32 random bytes, so a
//! digest without salt gives nothing away.
//!
//! Somebody must be able to change all this: the first grant is that of an operator of all
//! keyspaces, and the last such operator stays as long as others have grants.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Versioned;

/// The longest name of a principal, in characters.
pub const PRINCIPAL_CHARS_MAX: usize = 64;
/// The most principals, those without a grant included.
pub const PRINCIPALS_MAX: usize = 1_024;
/// The most grants of one principal, and the most tokens.
pub const GRANTS_MAX: usize = 64;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read keys.
    Reader,
    /// Read and write keys.
    Writer,
    /// Read keys, and change what merges them.
    Publisher,
    /// Everything.
    Operator,
}

impl Role {
    /// Whether who has this role may do what `needed` may.
    pub fn implies(self, needed: Role) -> bool {
        self == needed || self == Role::Operator || needed == Role::Reader
    }
}

/// A role in one keyspace or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The keyspace's name; `None` is all, and what belongs to none.
    pub keyspace: Option<String>,
}

/// The digest of a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenDigest(String);

impl TokenDigest {
    /// Of a token as its bearer shows it.
    pub fn of(token: &str) -> Self {
        let digest = blake3::derive_key("stator access token v1", token.as_bytes());
        TokenDigest(hex::encode(digest))
    }

    /// What people name it by.
    pub fn id(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Somebody with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// What it may do.
    pub grants: BTreeSet<Grant>,
    /// Its tokens, and when each was made: milliseconds since 1970 (UTC).
    pub tokens: BTreeMap<TokenDigest, u64>,
}

impl Principal {
    /// Whether it may do what `role` may, in this keyspace; in all for `None`.
    pub fn may(&self, role: Role, keyspace: Option<&str>) -> bool {
        self.grants.iter().any(|grant| {
            let is_there = match (&grant.keyspace, keyspace) {
                (None, _) => true,
                (Some(granted), Some(asked)) => granted == asked,
                (Some(_), None) => false,
            };
            is_there && grant.role.implies(role)
        })
    }

    /// Whether it may do that somewhere.
    pub fn may_somewhere(&self, role: Role) -> bool {
        self.grants.iter().any(|grant| grant.role.implies(role))
    }
}

/// Who may do what, by name. Who was withdrawn stays, with nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Access(BTreeMap<String, Versioned<Principal>>);

/// A change of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessChange {
    /// Gives a role.
    Grant(Grant),
    /// Takes a role, or all roles and tokens.
    Withdraw(Option<Grant>),
    /// Makes a token known.
    AddToken {
        /// Its digest.
        digest: TokenDigest,
        /// When: milliseconds since 1970 (UTC).
        at_ms: u64,
    },
    /// Makes the tokens with this beginning of a digest worthless; all of them for an empty one.
    DropToken(String),
}

/// A change of access that is not made. All is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No name.
    #[error(
        "{0:?} is no name: 1 to {PRINCIPAL_CHARS_MAX} letters, digits, '-', '_', '.', '@' and '*' \
         are possible"
    )]
    BadName(String),
    /// There would be nobody left to change anything.
    #[error(
        "nobody would be left who may change this: somebody must be operator of all keyspaces \
         first, and as long as others have roles"
    )]
    NoOperator,
    /// There is no such principal, grant or token.
    #[error("{0}")]
    NotFound(String),
    /// Too many.
    #[error("there are {0} already, the most possible")]
    TooMany(String),
}

impl Access {
    /// Whether anybody has a grant.
    pub fn is_on(&self) -> bool {
        self.principals().any(|(_, principal)| !principal.grants.is_empty())
    }

    /// Whether nobody was ever given anything.
    pub fn is_untouched(&self) -> bool {
        self.0.is_empty()
    }

    /// Who has a grant or a token, by name.
    pub fn principals(&self) -> impl Iterator<Item = (&String, &Principal)> {
        let all = self.0.iter().map(|(name, principal)| (name, &principal.value));
        all.filter(|(_, principal)| !principal.grants.is_empty() || !principal.tokens.is_empty())
    }

    /// Who has this name.
    pub fn named(&self, name: &str) -> Option<&Principal> {
        self.0.get(name).map(|principal| &principal.value)
    }

    /// Whose token this is.
    pub fn bearer(&self, token: &str) -> Option<(&String, &Principal)> {
        let digest = TokenDigest::of(token);
        self.principals().find(|(_, principal)| principal.tokens.contains_key(&digest))
    }

    /// Takes in what another node knows.
    pub fn join(&mut self, other: &Access) {
        for (name, theirs) in &other.0 {
            match self.0.get_mut(name) {
                Some(ours) => ours.join(theirs),
                None => drop(self.0.insert(name.clone(), theirs.clone())),
            }
        }
    }

    /// Makes a change for the principal called `name`.
    ///
    /// # Errors
    /// It does not fit; all is as it was.
    pub fn change(&mut self, name: &str, change: &AccessChange) -> Result<(), AccessError> {
        check_name(name)?;
        let mut principal = self.named(name).cloned().unwrap_or_default();
        match change {
            AccessChange::Grant(grant) => {
                principal.grants.insert(grant.clone());
            }
            AccessChange::Withdraw(None) => {
                self.known(name)?;
                principal = Principal::default();
            }
            AccessChange::Withdraw(Some(grant)) => {
                if !principal.grants.remove(grant) {
                    let message = format!("{name} has no such role there");
                    return Err(AccessError::NotFound(message));
                }
            }
            AccessChange::AddToken { digest, at_ms } => {
                principal.tokens.insert(digest.clone(), *at_ms);
            }
            AccessChange::DropToken(prefix) => {
                let before = principal.tokens.len();
                principal.tokens.retain(|digest, _| !digest.0.starts_with(prefix.as_str()));
                if principal.tokens.len() == before {
                    let message = format!("{name} has no such token");
                    return Err(AccessError::NotFound(message));
                }
            }
        }
        if principal.grants.len() > GRANTS_MAX || principal.tokens.len() > GRANTS_MAX {
            return Err(AccessError::TooMany(format!("{GRANTS_MAX} roles or tokens of {name}")));
        }
        if self.0.len() >= PRINCIPALS_MAX && !self.0.contains_key(name) {
            return Err(AccessError::TooMany(format!("{PRINCIPALS_MAX} names")));
        }
        let mut changed = self.clone();
        changed.0.entry(name.to_owned()).or_default().set(principal);
        changed.check_operator()?;
        *self = changed;
        Ok(())
    }

    fn known(&self, name: &str) -> Result<(), AccessError> {
        let is_known = self.principals().any(|(known, _)| known == name);
        let missing = || AccessError::NotFound(format!("{name} has no role and no token"));
        is_known.then_some(()).ok_or_else(missing)
    }

    fn check_operator(&self) -> Result<(), AccessError> {
        let mut all = self.principals();
        match !self.is_on() || all.any(|(_, principal)| principal.may(Role::Operator, None)) {
            true => Ok(()),
            false => Err(AccessError::NoOperator),
        }
    }
}

fn check_name(name: &str) -> Result<(), AccessError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@*".contains(c);
    let length = name.chars().count();
    match (1..=PRINCIPAL_CHARS_MAX).contains(&length) && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(AccessError::BadName(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant(role: Role, keyspace: Option<&str>) -> AccessChange {
        AccessChange::Grant(Grant { role, keyspace: keyspace.map(ToOwned::to_owned) })
    }

    #[test]
    fn a_role_holds_where_it_was_given_and_for_what_it_implies() {
        let mut access = Access::default();
        access.change("root", &grant(Role::Operator, None)).unwrap();
        access.change("shop", &grant(Role::Writer, Some("carts"))).unwrap();
        let shop = access.named("shop").unwrap();
        assert!(shop.may(Role::Reader, Some("carts")) && shop.may(Role::Writer, Some("carts")));
        assert!(
            !shop.may(Role::Publisher, Some("carts")) && !shop.may(Role::Reader, Some("users"))
        );
        assert!(!shop.may(Role::Reader, None) && shop.may_somewhere(Role::Reader));
        let root = access.named("root").unwrap();
        assert!(root.may(Role::Publisher, Some("carts")) && root.may(Role::Operator, None));
    }

    #[test]
    fn somebody_can_always_change_it() {
        let mut access = Access::default();
        let first = access.change("shop", &grant(Role::Writer, None));
        assert_eq!(first, Err(AccessError::NoOperator));
        assert!(!access.is_on());
        access.change("root", &grant(Role::Operator, None)).unwrap();
        access.change("shop", &grant(Role::Writer, None)).unwrap();
        let last = access.change("root", &AccessChange::Withdraw(None));
        assert_eq!(last, Err(AccessError::NoOperator));
        access.change("shop", &AccessChange::Withdraw(None)).unwrap();
        access.change("root", &AccessChange::Withdraw(None)).unwrap();
        assert!(!access.is_on() && !access.is_untouched());
    }

    #[test]
    fn a_token_is_its_bearers_until_it_is_dropped() {
        let mut access = Access::default();
        access.change("root", &grant(Role::Operator, None)).unwrap();
        let digest = TokenDigest::of("one");
        let add = AccessChange::AddToken { digest: digest.clone(), at_ms: 1 };
        access.change("shop", &add).unwrap();
        assert_eq!(access.bearer("one").map(|(name, _)| name.as_str()), Some("shop"));
        assert!(access.bearer("two").is_none());
        let drop = AccessChange::DropToken(digest.id().to_owned());
        access.change("shop", &drop).unwrap();
        assert!(access.bearer("one").is_none());
        assert!(matches!(access.change("shop", &drop), Err(AccessError::NotFound(_))));
    }

    fn changes() -> impl Strategy<Value = Vec<(bool, u8)>> {
        prop::collection::vec((any::<bool>(), 0..3u8), 0..8)
    }

    proptest! {
        #[test]
        fn joining_is_commutative_and_idempotent(ours in changes(), theirs in changes()) {
            let made = |changes: &[(bool, u8)]| {
                let mut access = Access::default();
                access.change("root", &grant(Role::Operator, None)).unwrap();
                for (is_grant, who) in changes {
                    let change = match is_grant {
                        true => grant(Role::Reader, Some("k")),
                        false => AccessChange::Withdraw(None),
                    };
                    let _ = access.change(&format!("p{who}"), &change);
                }
                access
            };
            let (ours, theirs) = (made(&ours), made(&theirs));
            let (mut one, mut other) = (ours.clone(), theirs.clone());
            one.join(&theirs);
            other.join(&ours);
            prop_assert_eq!(&one, &other);
            one.join(&ours);
            prop_assert_eq!(one, other);
        }
    }
}
