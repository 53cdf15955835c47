//! A new file in an embedded folder must find its way into the binary.

fn main() {
    for folder in ["config", "detectors", "policies", "samples", "migrations", "console"] {
        println!("cargo:rerun-if-changed={folder}");
    }
}
