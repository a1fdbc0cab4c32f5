//! Generates Rust from every `.proto` under `proto/`, without `protoc`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = Vec::new();
    collect_protos(Path::new("proto"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // What reflection serves.
    fs::write(out.join("descriptors.bin"), compiler.file_descriptor_set().encode_to_vec())?;

    let mut names = tonic_prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::strict::StrictCodec")
        .bytes(".")
        .btree_map(".")
        .include_file("modules.rs")
        .compile_fds_with_config(compiler.file_descriptor_set(), names)?;
    Ok(())
}

fn collect_protos(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_protos(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
