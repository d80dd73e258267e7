//! Compiles `proto/` without protoc: protox parses, tonic-prost-build generates.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;

    // The reflection service tells of the public API only.
    let mut public = descriptors.clone();
    public.file.retain(|file| file.package() == "duramen.v1");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("public.bin"), public.encode_to_vec())?;

    tonic_prost_build::configure()
        .bytes(".")
        // Written by hand: what it takes is bounded.
        .extern_path(".duramen.v1.RecordList", "crate::RecordList")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
