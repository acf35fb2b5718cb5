//! What a task captures must be fit for other threads.

use sprang::delayed_local;
use std::rc::Rc;

fn main() {
    let base = Rc::new(1);
    delayed_local(move || *base + 1, ());
}
