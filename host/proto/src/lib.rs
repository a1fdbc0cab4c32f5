//! Stator's gRPC interface: code generated from the files under `proto/`.
//!
//! Each protobuf package is a module: `stator.v1` is [`v1`]. The `.proto` files are the
//! documentation; field comments there give units, defaults and limits.

pub mod strict;
pub mod upload;

mod generated {
    #![allow(clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::stator::*;

/// The files of `stator.v1` as an encoded `google.protobuf.FileDescriptorSet`, imports included:
/// what a gRPC reflection service serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn methods(service: &str) -> Vec<String> {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let mut services = set.file.iter().filter(|f| f.package() == "stator.v1");
        services
            .find_map(|file| file.service.iter().find(|s| s.name() == service))
            .map(|s| s.method.iter().map(|m| m.name().to_owned()).collect())
            .unwrap_or_default()
    }

    #[test]
    fn the_descriptor_set_lists_every_service() {
        assert_eq!(methods("Kv"), ["Get", "Put", "Delete", "GetReplica", "List", "Batch", "Watch"]);
        assert_eq!(methods("Routing"), ["GetRing"]);
        let admin = methods("Admin");
        for method in ["InitCluster", "GetStatus", "CreateKeyspace", "PushModule", "SetFault"] {
            assert!(admin.iter().any(|m| m == method), "Admin has no {method}: {admin:?}");
        }
    }

    #[test]
    fn the_descriptor_set_is_complete() {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let names: Vec<_> = set.file.iter().map(|f| f.name()).collect();
        for import in set.file.iter().flat_map(|f| &f.dependency) {
            assert!(names.contains(&import.as_str()), "{import} is imported but missing");
        }
    }

    #[test]
    fn an_absent_value_differs_from_an_empty_one() {
        let empty = v1::Version { value: Some(Default::default()), ..Default::default() };
        let absent = v1::Version::default();
        let back = |v: &v1::Version| v1::Version::decode(v.encode_to_vec().as_slice());
        assert_eq!(back(&empty), Ok(empty));
        assert_eq!(back(&absent), Ok(absent));
    }
}
