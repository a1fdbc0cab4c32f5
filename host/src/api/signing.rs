//! Signatures of modules as messages, and what keyspaces demand of them.

use std::collections::BTreeSet;

use stator_core::catalogue::{
    BadSigning, Catalogue, PublicKey, SIGNATURES_MAX, Signature, Signatures,
};
use stator_core::id::ModuleDigest;
use stator_proto::v1;
use tonic::Status;

use super::errors;
use crate::signing;

const SIGNATURES: &str = "header.signatures";

/// The keys that a keyspace is to demand.
pub(super) fn keys(asked: &[String]) -> Result<BTreeSet<PublicKey>, Status> {
    let key = |text: &String| {
        text.parse().map_err(|bad: BadSigning| {
            errors::bad_field("keyspace.signed_by", "BAD_KEY", bad.to_string())
        })
    };
    asked.iter().map(key).collect()
}

/// The signatures that come with a module, if they hold.
pub(super) fn verified(
    module: &ModuleDigest,
    claimed: &[v1::ModuleSignature],
) -> Result<Signatures, Status> {
    let bad = |why: BadSigning| errors::bad_field(SIGNATURES, "BAD_SIGNATURE", why.to_string());
    if claimed.len() > SIGNATURES_MAX {
        let message = format!("at most {SIGNATURES_MAX} are possible");
        return Err(errors::bad_field(SIGNATURES, "TOO_MANY_SIGNATURES", message));
    }
    let read = |claimed: &v1::ModuleSignature| {
        let bytes = claimed.signature.as_ref().try_into().map_err(|_| BadSigning::Signature)?;
        Ok((claimed.key.parse()?, Signature(bytes)))
    };
    let claimed: Vec<_> = claimed.iter().map(read).collect::<Result<_, _>>().map_err(bad)?;
    Signatures::verified(module, claimed, signing::holds).map_err(bad)
}

pub(super) fn messages(signatures: &Signatures) -> Vec<v1::ModuleSignature> {
    let message = |(key, signature): (&PublicKey, &Signature)| v1::ModuleSignature {
        key: key.to_string(),
        signature: signature.0.to_vec().into(),
    };
    signatures.iter().map(message).collect()
}

/// An alarm for each keyspace that pins or tries a module which is not signed for it.
pub(super) fn alarms(catalogue: &Catalogue) -> Vec<v1::Alarm> {
    let of = catalogue.live_keyspaces().flat_map(|keyspace| {
        let stands_in = keyspace.previous_module();
        let unsigned = catalogue.unsigned_in(keyspace).into_iter();
        unsigned.filter(move |module| stands_in != Some(*module)).map(|module| v1::Alarm {
            reason: "MODULE_NOT_SIGNED".to_owned(),
            node_id: String::new(),
            message: format!(
                "keyspace {:?} names module {module}, which none of the keys has signed that it \
                 demands, and does not call it: two operators changed it at the same time. Push the \
                 module with a signature, or activate another one",
                keyspace.name
            ),
        })
    });
    of.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn only_signatures_that_hold_are_taken() {
        let (module, key) =
            (ModuleDigest([7; 32]), signing::SigningKey::generate().expect("random bytes"));
        let claim = |module, signature: &[u8]| {
            let key = key.public().to_string();
            let signature = signature.to_vec().into();
            verified(module, &[v1::ModuleSignature { key, signature }])
        };
        let signature = key.sign(&module).0;
        let taken = claim(&module, &signature).expect("it holds");
        assert_eq!(messages(&taken)[0].signature, signature[..]);
        for refused in [claim(&ModuleDigest([8; 32]), &signature), claim(&module, &signature[1..])]
        {
            let status = refused.expect_err("it does not hold");
            assert_eq!(status.code(), Code::InvalidArgument);
        }
        assert!(keys(&[key.public().to_string()]).is_ok_and(|keys| keys.len() == 1));
        assert!(keys(&[String::new()]).is_err());
    }
}
