//! Compiles the protobuf files with protox: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common", "records", "consents", "registry", "erasure", "operations", "keys", "audit", "peer"]
        .map(|f| format!("kura/v1/{f}.proto"));
    println!("cargo:rerun-if-changed=kura/v1");
    let descriptors = protox::compile(&files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .bytes(".")
        .file_descriptor_set_path(out.join("kura.bin"))
        .compile_fds(descriptors.clone())?;
    std::fs::write(out.join("kura.bin"), prost::Message::encode_to_vec(&descriptors))?;
    Ok(())
}
