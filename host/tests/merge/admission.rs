//! The way of a good module: admission, the artefact cache, loading and unloading.

use std::fs;
use std::path::PathBuf;

use stator_core::divergence::MergeFailure;
use stator_core::id::ModuleDigest;

use crate::support::{TestHost, cart, divergence, host_on, text};

fn artefact(test: &TestHost) -> PathBuf {
    let mut files = fs::read_dir(test.cache.path()).expect("the cache is there");
    let file = files.next().expect("an artefact").expect("readable").path();
    assert!(files.next().is_none(), "one module, one file");
    file
}

#[tokio::test]
async fn an_admitted_module_is_loaded_until_it_is_unloaded() {
    let test = TestHost::new();
    let info = test.host.admit(cart()).await.expect("the cart is taken");
    assert_eq!(info.digest, ModuleDigest::of(&cart()));
    assert_eq!(info.component_bytes, cart().len());
    assert!(info.code_bytes > 0);
    assert!(test.host.is_loaded(&info.digest));

    test.host.unload(&info.digest);
    assert!(!test.host.is_loaded(&info.digest));
    let answer = test.host.resolve(&info.digest, &divergence(&[Some("{}")])).await;
    assert_eq!(answer, Err(MergeFailure::NotLoaded(info.digest)));

    test.host.load(info.digest, cart()).await.expect("loads again");
    test.host.load(info.digest, cart()).await.expect("loading twice is nothing");
    assert!(test.host.resolve(&info.digest, &divergence(&[Some("{}")])).await.is_ok());
    assert_eq!(test.host.figures().compilations, 1);
}

#[tokio::test]
async fn pushing_at_once_compiles_once() {
    let test = TestHost::new();
    let (a, b) = tokio::join!(test.host.admit(cart()), test.host.admit(cart()));
    assert_eq!(a.expect("taken"), b.expect("taken"));
    assert_eq!(test.host.figures().compilations, 1);
}

#[tokio::test]
async fn the_next_start_loads_from_the_cache() {
    let test = TestHost::new();
    let digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let next = host_on(test.cache.path(), |config| config.compiler = "/nonexistent".into());
    next.load(digest, cart()).await.expect("no compiler is needed");
    assert_eq!(next.figures().compilations, 0);
    assert!(next.resolve(&digest, &divergence(&[Some("{}")])).await.is_ok());
}

#[tokio::test]
async fn a_damaged_artefact_is_compiled_anew() {
    let test = TestHost::new();
    let digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let file = artefact(&test);
    let good = fs::read(&file).expect("readable");
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let (middle, last) = (good.len() / 2, good.len() - 1);
    let longer = [&good[..], b"x"].concat();
    let damages =
        [flip(0), flip(20), flip(middle), flip(last), good[..middle].to_vec(), longer, Vec::new()];
    for damaged in damages {
        fs::write(&file, &damaged).expect("writable");
        let next = host_on(test.cache.path(), |_| ());
        next.load(digest, cart()).await.expect("compiles");
        assert_eq!(next.figures().compilations, 1);
        let merged = next.resolve(&digest, &divergence(&[Some("{}")])).await.expect("merges");
        assert_eq!(text(&merged), r#"{"items":{},"removed":[]}"#);
        assert_eq!(artefact(&test), file);
        assert_ne!(fs::read(&file).expect("readable"), damaged, "the file is whole again");
    }
}

#[tokio::test]
async fn an_artefact_of_another_module_is_not_taken() {
    let test = TestHost::new();
    let cart_digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let cart_file = artefact(&test);
    let other = crate::support::module(crate::support::EMPTY_ANSWER);
    let other_digest = ModuleDigest::of(&other);
    let other_file = PathBuf::from(
        cart_file.to_string_lossy().replace(&cart_digest.to_string(), &other_digest.to_string()),
    );
    fs::copy(&cart_file, &other_file).expect("writable");
    let next = host_on(test.cache.path(), |_| ());
    next.load(other_digest, other).await.expect("compiles");
    assert_eq!(next.figures().compilations, 1);
}

#[tokio::test]
async fn a_cache_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let config = stator::merge::MergeHostConfig::new(file.path()).expect("a path");
    let Err(error) = stator::merge::MergeHost::new(config) else { panic!("a file is no cache") };
    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
}
