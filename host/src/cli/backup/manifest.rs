//! What a backup consists of, as JSON.

use prost::Message;
use serde::{Deserialize, Serialize};
use stator_proto::v1;

use crate::cli::parse;

/// The form of manifests that this program writes, and the latest that it reads.
const FORMAT: u32 = 1;

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) id: String,
    pub(super) cluster_id: String,
    pub(super) cluster_name: String,
    pub(super) started_at_ms: u64,
    pub(super) ended_at_ms: u64,
    /// Bytes that were not there before.
    pub(super) new_bytes: u64,
    pub(super) keyspaces: Vec<Keyspace>,
    pub(super) modules: Vec<Module>,
}

/// A keyspace of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keyspace {
    pub(super) name: String,
    pub(super) id: String,
    /// The message `stator.v1.Keyspace`, in base64.
    settings: String,
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) chunks: Vec<Chunk>,
}

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) digest: String,
    pub(super) keys: u64,
    pub(super) bytes: u64,
}

/// A module that a keyspace needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Module {
    pub(super) digest: String,
    pub(super) name: String,
    pub(super) class: i32,
    /// Backups of before have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) signatures: Vec<Signature>,
}

/// A signature of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signature {
    key: String,
    /// In base64.
    signature: String,
}

impl Manifest {
    pub(super) fn new(id: String, cluster: &v1::ClusterInfo, started_at_ms: u64) -> Self {
        Manifest {
            format: FORMAT,
            id,
            cluster_id: cluster.id.clone(),
            cluster_name: cluster.name.clone(),
            started_at_ms,
            ended_at_ms: 0,
            new_bytes: 0,
            keyspaces: Vec::new(),
            modules: Vec::new(),
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        match manifest.format {
            FORMAT => Ok(manifest),
            later => Err(format!("it has the form {later}, this program reads {FORMAT}: upgrade")),
        }
    }

    pub(super) fn keys(&self) -> u64 {
        self.keyspaces.iter().map(|keyspace| keyspace.keys).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.keyspaces.iter().map(|keyspace| keyspace.bytes).sum()
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.keyspaces.iter().flat_map(|keyspace| &keyspace.chunks)
    }
}

impl Module {
    pub(super) fn of(module: v1::Module) -> Self {
        let v1::Module { digest, name, class, signatures, .. } = module;
        let kept = |v1::ModuleSignature { key, signature }| {
            let signature = parse::print_base64(&signature);
            Signature { key, signature }
        };
        Module { digest, name, class, signatures: signatures.into_iter().map(kept).collect() }
    }

    /// As it is pushed.
    pub(super) fn header(&self) -> Result<v1::ModuleHeader, String> {
        let signature = |kept: &Signature| {
            let signature = parse::context(&kept.signature)?;
            Ok(v1::ModuleSignature { key: kept.key.clone(), signature })
        };
        Ok(v1::ModuleHeader {
            name: self.name.clone(),
            digest: self.digest.clone(),
            class: self.class,
            signatures: self.signatures.iter().map(signature).collect::<Result<_, String>>()?,
            ..Default::default()
        })
    }
}

impl Keyspace {
    pub(super) fn of(keyspace: &v1::Keyspace) -> Self {
        Keyspace {
            name: keyspace.name.clone(),
            id: keyspace.id.clone(),
            settings: parse::print_base64(&keyspace.encode_to_vec()),
            keys: 0,
            bytes: 0,
            chunks: Vec::new(),
        }
    }

    /// The keyspace as it is created under a name.
    pub(super) fn settings(&self, name: &str) -> Result<v1::Keyspace, String> {
        let bytes = parse::context(&self.settings)?;
        let kept = v1::Keyspace::decode(bytes).map_err(|error| error.to_string())?;
        Ok(v1::Keyspace {
            name: name.to_owned(),
            generation: 0,
            id: String::new(),
            etag: String::new(),
            trial: None,
            chronicle: Vec::new(),
            unsigned_modules: Vec::new(),
            usage: None,
            resize: None,
            ..kept
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_back_with_its_signatures() {
        let signature = v1::ModuleSignature { key: "ed25519:00".into(), signature: vec![1].into() };
        let pushed = v1::Module {
            digest: "d".into(),
            name: "cart".into(),
            class: v1::ModuleClass::Large.into(),
            signatures: vec![signature.clone()],
            ..Default::default()
        };
        let kept = serde_json::to_string(&Module::of(pushed)).expect("JSON");
        let read: Module = serde_json::from_str(&kept).expect("as it was written");
        let header = read.header().expect("whole");
        assert_eq!((header.name.as_str(), header.digest.as_str()), ("cart", "d"));
        assert_eq!((header.class(), header.signatures), (v1::ModuleClass::Large, vec![signature]));
        let before = r#"{"digest":"d","name":"cart","class":1}"#;
        let read: Module = serde_json::from_str(before).expect("as before there were some");
        assert!(read.header().is_ok_and(|header| header.signatures.is_empty()));
    }
}
