//! The message and the location of a panic in a task.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// The number of runs that this thread is inside, one within the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The location of the last panic in a task on this thread.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether this thread is inside a run, perhaps further down its stack.
pub(crate) fn in_run() -> bool {
    DEPTH.get() > 0
}

/// Marks this thread as inside a run until it is dropped.
pub(crate) struct InRun(());

impl InRun {
    pub(crate) fn new() -> Self {
        install_hook();
        DEPTH.set(DEPTH.get() + 1);
        InRun(())
    }
}

impl Drop for InRun {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// A panic's payload has no location; only the panic hook gets it. So the first run installs a
/// hook, which records the location of panics in tasks and then calls the previous hook.
fn install_hook() {
    static INSTALL: Once = Once::new();
    // The hook cannot be changed while this thread panics.
    if std::thread::panicking() {
        return;
    }
    INSTALL.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if in_run() {
                let _before = LOCATION.try_with(|location| location.replace(info.location().map(ToString::to_string)));
            }
            before(info);
        }));
    });
}

/// Calls `body` and ignores its panic. For user code that nothing depends on, such as a `Drop`.
pub(crate) fn quietly(body: impl FnOnce()) {
    let Err(payload) = panic::catch_unwind(AssertUnwindSafe(body)) else { return };
    // A payload may panic when it is dropped, and the payload of that panic too, without end.
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// The message of the panic that was just caught on this thread, with its location if it is known.
pub(crate) fn describe(payload: Box<dyn Any + Send>) -> String {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (None, Some(message)) => message.clone(),
        (None, None) => "a value that is not text".to_owned(),
    };
    quietly(|| drop(payload));
    match LOCATION.try_with(RefCell::take).ok().flatten() {
        Some(location) => format!("{message} (at {location})"),
        None => message,
    }
}
