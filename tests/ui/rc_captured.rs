//! A captured value must be `Send` and `Sync`.

use sprang::delayed_local;
use std::rc::Rc;

fn main() {
    let base = Rc::new(1);
    delayed_local(move || *base + 1, ());
}
