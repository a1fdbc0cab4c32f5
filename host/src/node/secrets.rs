//! What a node derives from the cluster's secret, and from those that count beside it while the
//! cluster changes from one to the next.
//!
//! Peers prove the present secret and may prove any. Contexts are sealed with a key that takes
//! both the catalogue's secret, drawn with the cluster, and the configured one: whoever learns
//! one of them forges nothing, and to change the configured one changes the contexts' key too.

use std::sync::{PoisonError, RwLock};

use stator_core::catalogue::{Catalogue, Secret as Drawn};
use stator_core::causality::ContextSecrets;

use super::Node;
use crate::config::Config;

/// The contexts' secrets for the catalogue's secrets that were seen last.
#[derive(Default)]
pub(super) struct Derived(RwLock<Option<(Vec<Drawn>, ContextSecrets)>>);

impl Node {
    /// What authenticates causal contexts.
    pub fn context_secrets(&self, catalogue: &Catalogue) -> ContextSecrets {
        let drawn = &catalogue.context_secrets.value;
        {
            let derived = self.derived.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((of, secrets)) = derived.as_ref()
                && of == drawn
            {
                return secrets.clone();
            }
        }
        let secrets = ContextSecrets::new(
            &self.config.context_keys(drawn),
            self.config.limits.context_bytes_max,
        );
        let mut derived = self.derived.0.write().unwrap_or_else(PoisonError::into_inner);
        *derived = Some((drawn.clone(), secrets.clone()));
        secrets
    }
}

impl Node {
    /// What shows that a page of held objects is from a node of the cluster.
    pub fn prove_page(&self, page: &[u8]) -> [u8; 32] {
        page_proof(&self.config.peer_secret(), page)
    }

    /// Whether the page is from a node that knows a secret that counts.
    pub fn is_page_proven(&self, page: &[u8], proof: &[u8]) -> bool {
        let Ok(proof) = <[u8; 32]>::try_from(proof).map(blake3::Hash::from_bytes) else {
            return false;
        };
        let previous = self.config.previous_peer_secrets();
        let mut secrets = std::iter::once(self.config.peer_secret()).chain(previous);
        // Hashes compare in constant time.
        secrets.any(|secret| blake3::Hash::from_bytes(page_proof(&secret, page)) == proof)
    }
}

fn page_proof(secret: &[u8; 32], page: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&blake3::derive_key("stator held page v1", secret), page).as_bytes()
}

impl Config {
    /// The key with which this node proves that it belongs to the others. Without a configured
    /// secret, which only loopback allows, all such nodes share one.
    pub(super) fn peer_secret(&self) -> [u8; 32] {
        peer_key(self.cluster_secret.as_ref().map_or("", |secret| secret.reveal()))
    }

    /// The keys that others may prove beside it.
    pub(super) fn previous_peer_secrets(&self) -> Vec<[u8; 32]> {
        self.previous_secrets.iter().map(|secret| peer_key(secret.reveal())).collect()
    }

    /// The keys of contexts: the first one seals, each opens.
    fn context_keys(&self, drawn: &[Drawn]) -> Vec<[u8; 32]> {
        let own = self.cluster_secret.as_ref().map(|secret| secret.reveal());
        let previous = self.previous_secrets.iter().map(|secret| Some(secret.reveal()));
        let configured: Vec<_> = std::iter::once(own).chain(previous).collect();
        let keys = configured.iter().flat_map(|configured| {
            drawn.iter().map(move |drawn| match configured {
                None => drawn.0,
                Some(secret) => {
                    let secret = blake3::derive_key("stator context secret v1", secret.as_bytes());
                    *blake3::keyed_hash(&drawn.0, &secret).as_bytes()
                }
            })
        });
        keys.collect()
    }
}

fn peer_key(secret: &str) -> [u8; 32] {
    blake3::derive_key("stator cluster secret v1", secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(secret: Option<&str>, previous: &[&str]) -> Config {
        Config {
            cluster_secret: secret.map(Secret::new),
            previous_secrets: previous.iter().copied().map(Secret::new).collect(),
            ..Config::default()
        }
    }

    #[test]
    fn each_configured_and_each_drawn_secret_makes_a_key_of_its_own() {
        let drawn = [Drawn([1; 32]), Drawn([2; 32])];
        let keys = config(Some("new"), &["old"]).context_keys(&drawn);
        assert_eq!(keys.len(), 4);
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), 4);
        // What sealed before the change opens after it.
        assert_eq!(config(Some("old"), &[]).context_keys(&drawn), keys[2..]);
        assert_eq!(config(None, &[]).context_keys(&drawn), [[1; 32], [2; 32]]);
    }

    #[test]
    fn a_secret_of_before_is_what_peers_proved_before() {
        let before = config(Some("old"), &[]).peer_secret();
        assert_eq!(config(Some("new"), &["old"]).previous_peer_secrets(), [before]);
    }
}
