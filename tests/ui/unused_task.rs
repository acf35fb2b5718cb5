//! A task that nobody computes.

#![deny(unused_must_use)]

use sprang::delayed;

fn main() {
    delayed(|| 1, ());
    delayed(|| 2, ()).name("two");
}
