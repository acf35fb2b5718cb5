//! What a panic in a task said, and where.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// How many tasks deep this thread is.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Where the last panic in a task on this thread happened.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether this thread is working on a run right now, perhaps further down its stack.
pub(crate) fn in_run() -> bool {
    DEPTH.get() > 0
}

/// Marks this thread as working on a run until it is dropped.
pub(crate) struct InRun(());

impl InRun {
    pub(crate) fn new() -> Self {
        watch();
        DEPTH.set(DEPTH.get() + 1);
        InRun(())
    }
}

impl Drop for InRun {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// A panic's payload does not say where it happened; only the panic hook is told. So the first run puts a hook before the one that
/// is there, which notes the place of panics in tasks and then calls that one.
fn watch() {
    static WATCH: Once = Once::new();
    // The hook cannot be changed while this thread panics.
    if std::thread::panicking() {
        return;
    }
    WATCH.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if in_run() {
                let _before = LOCATION.try_with(|location| location.replace(info.location().map(ToString::to_string)));
            }
            before(info);
        }));
    });
}

/// Does something that may panic where nobody is to blame and nothing can be done about it.
pub(crate) fn quietly(body: impl FnOnce()) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(body)) {
        // It may panic itself when it is dropped.
        std::mem::forget(payload);
    }
}

/// The message of the panic that was just caught on this thread, with its place where known.
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
