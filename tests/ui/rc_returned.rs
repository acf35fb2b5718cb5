//! The value of a task must be `Send` and `Sync`.

use sprang::delayed_local;
use std::rc::Rc;

fn main() {
    delayed_local(|| Rc::new(1), ());
}
