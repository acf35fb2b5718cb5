//! A task may outlive the variables around it.

use sprang::delayed_local;

fn main() {
    let base = vec![1, 2, 3];
    delayed_local(|| base.len(), ());
}
