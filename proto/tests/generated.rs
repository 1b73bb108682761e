//! The generated code is what the .proto files give. `POLITY_REGENERATE=1` writes it anew.

use std::{fs, path::Path};

use prost::Message as _;

#[test]
fn the_generated_code_is_up_to_date() {
    // Asked when the test runs: checkouts that share what they build share this program, too.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let root = Path::new(&root);
    let files =
        ["polity/cluster/v1/cluster.proto", "polity/room_state/v1/room_state.proto", "polity/error/v1/error.proto"];
    let descriptors = protox::compile(files.map(|file| root.join(file)), [root]).expect("valid .proto files");
    let out = tempfile::tempdir().expect("a folder");
    fs::write(out.path().join("descriptors.bin"), descriptors.encode_to_vec()).expect("a writable folder");
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("code can be generated");
    for entry in fs::read_dir(out.path()).expect("a readable folder").flatten() {
        let made = fs::read(entry.path()).expect("a readable file");
        let checked_in = root.join("src/generated").join(entry.file_name());
        if std::env::var_os("POLITY_REGENERATE").is_some() {
            fs::write(&checked_in, &made).expect("a writable folder");
        }
        let kept = fs::read(&checked_in).unwrap_or_default();
        assert!(kept == made, "{} is not what the .proto files give", checked_in.display());
    }
}
