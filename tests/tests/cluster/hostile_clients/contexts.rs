//! Contexts that the cluster did not give out, or not for this key.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use stator_proto::v1;
use stator_proto::v1::kv_client::KvClient;
use tonic::Code;
use tonic::codegen::Bytes;
use tonic::transport::Channel;

use super::raw::Outcomes;
use crate::support::{get, put, values};

const RANDOM: usize = 200;

/// Tries to replace a value by contexts that are altered, cut, of another key, or invented. Each
/// must be refused, and the value must stay.
pub async fn forged(mut kv: KvClient<Channel>) -> Outcomes {
    for key in ["mine", "yours"] {
        kv.put(put("default", key, "kept")).await.expect("written");
    }
    let mine = context(&mut kv, "mine").await;
    let yours = context(&mut kv, "yours").await;
    let mut forged = vec![yours, Bytes::new(), Bytes::from(vec![0; 60_000])];
    for at in 0..mine.len() {
        forged.push(mine.slice(..at));
        let mut altered = mine.to_vec();
        altered[at] ^= 0x10;
        forged.push(altered.into());
    }
    forged.push([&mine[..], b"more"].concat().into());
    let mut runner = TestRunner::deterministic();
    let random = prop::collection::vec(any::<u8>(), 0..300);
    for _ in 0..RANDOM {
        let tail = random.new_tree(&mut runner).expect("a case").current();
        forged.push([&mine[..5], &tail].concat().into());
        forged.push(tail.into());
    }
    let mut outcomes = Outcomes::default();
    for token in forged {
        let request =
            v1::PutRequest { contexts: vec![token.clone()], ..put("default", "mine", "taken") };
        let code = match kv.put(request).await {
            Ok(_) => panic!("a forged context was taken: {token:?}"),
            Err(status) => status.code(),
        };
        let is_right = matches!(code, Code::InvalidArgument | Code::FailedPrecondition);
        assert!(is_right, "{code:?} for {token:?}");
        outcomes.add(format!("{code:?}"));
    }
    let read = kv.get(get("default", "mine")).await.expect("read");
    assert_eq!(values(read.get_ref()), ["kept".to_owned()].into(), "nothing was replaced");
    outcomes
}

async fn context(kv: &mut KvClient<Channel>, key: &str) -> Bytes {
    let read = kv.get(get("default", key)).await.expect("read").into_inner();
    read.context.expect("a context")
}
