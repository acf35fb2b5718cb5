//! Compiles the decoder.

fn main() {
    println!("cargo::rerun-if-changed=c");
    cc::Build::new().file("c/tiny.c").compile("tiny");
}
