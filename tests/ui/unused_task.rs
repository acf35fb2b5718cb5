//! A task that is never computed.

#![deny(unused_must_use)]

use sprang::delayed;

fn main() {
    delayed(|| 1, ());
    delayed(|| 2, ()).name("two");
}
