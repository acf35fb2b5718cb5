//! The value of a task must be fit for other threads.

use sprang::delayed_local;
use std::rc::Rc;

fn main() {
    delayed_local(|| Rc::new(1), ());
}
