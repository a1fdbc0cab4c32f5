//! Modules that are none, or none that may run here.

use stator_proto::{upload, v1};
use tonic::Code::InvalidArgument;
use tonic::codegen::Bytes;
use tonic_types::StatusExt;

use super::node;
use crate::support::{LOOP, core_module, foreign_import, module, other_world, pushing, refusal};

#[tokio::test]
async fn bad_modules_are_refused_with_their_stage() {
    let (node, _folder) = node().await;
    let table: [(&str, Bytes, &str, &'static [&'static str]); 6] = [
        ("random bytes", Bytes::from_static(&[7; 100]), "bounds", &["not WebAssembly"]),
        ("a cut component", module(LOOP).slice(..200), "bounds", &["not a valid component"]),
        ("a core module", core_module(), "bounds", &["core module", "stator module encode"]),
        ("a component of another world", other_world(), "world", &["stator:merge/resolver"]),
        ("a foreign import", foreign_import(), "world", &["imports `secrets`", "not allowed"]),
        ("an endless loop", module(LOOP), "probe", &["fails its first call", "fuel"]),
    ];
    for (case, component, stage, says) in table {
        let answer = node.admin().push_module(pushing(component)).await;
        let status = answer.as_ref().expect_err(case);
        let details = status.get_error_details();
        let facts = details.error_info().map(|info| info.metadata.clone()).unwrap_or_default();
        assert_eq!(facts.get("stage").map(String::as_str), Some(stage), "{case}: {status}");
        refusal(InvalidArgument, "MODULE_REFUSED", says).check(case, answer);
        node.serves("default", case).await;
    }
    let listed = node.admin().list_modules(v1::ListModulesRequest::default()).await;
    assert_eq!(listed.expect("answered").into_inner().modules, [], "none was kept");
}

#[tokio::test]
async fn bad_uploads_are_refused() {
    let (node, _folder) = node().await;
    let messages = |name: &str, digest: &str, component: &'static [u8]| {
        let component = Bytes::from_static(component);
        upload::messages(name.to_owned(), digest.to_owned(), component, false).collect::<Vec<_>>()
    };
    let of = |part| vec![v1::PushModuleRequest { part: Some(part) }];
    let header = |size_bytes| {
        let name = "m".to_owned();
        let header = v1::ModuleHeader { name, size_bytes, ..Default::default() };
        of(v1::push_module_request::Part::Header(header))
    };
    let table: [(&str, Vec<v1::PushModuleRequest>, &'static str, &'static [&'static str]); 6] = [
        ("no message at all", Vec::new(), "HEADER_MISSING", &["header"]),
        (
            "bytes before the header",
            of(v1::push_module_request::Part::Chunk(Bytes::from_static(b"x"))),
            "HEADER_MISSING",
            &["header"],
        ),
        ("no name", messages("", "", b"x"), "BAD_NAME", &["1 to 64"]),
        ("another digest", messages("m", &"0".repeat(64), b"x"), "DIGEST_MISMATCH", &["digest"]),
        ("fewer bytes than announced", header(9), "SIZE_MISMATCH", &["0 bytes", "9 were"]),
        ("more bytes than allowed", header(1 << 40), "MODULE_TOO_LARGE", &["limit is"]),
    ];
    for (case, sent, reason, says) in table {
        let answer = node.admin().push_module(futures::stream::iter(sent)).await;
        crate::support::Refusal { code: InvalidArgument, reason, says }.check(case, answer);
        node.serves("default", case).await;
    }
}
