//! The function of the task that a thread runs, for another thread to read.
//!
//! A client sets it twice for each task, so it is one pointer, and not a name behind a lock.
//!
//! # What is always true
//!
//! 1. The pointer is null, or was made of a `fn() -> &'static str` by [`RunningFunction::set`].

#![expect(unsafe_code, reason = "makes a function of the pointer that was made of it")]

use crate::graph::name;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Returns the name of the type of a task's function.
type TypeName = fn() -> &'static str;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct RunningFunction(AtomicPtr<()>);

impl RunningFunction {
    /// Sets the function until the guard is dropped.
    pub(super) fn set(&self, function: TypeName) -> impl Drop + use<'_> {
        struct Unset<'r>(&'r RunningFunction);
        impl Drop for Unset<'_> {
            fn drop(&mut self) {
                self.0.0.store(ptr::null_mut(), Ordering::Relaxed);
            }
        }
        // Relaxed here and below: functions are constants, so nothing has to be seen with them.
        self.0.store(function as *mut (), Ordering::Relaxed);
        Unset(self)
    }

    /// The name of the function, if there is one now.
    pub(super) fn name(&self) -> Option<String> {
        let function = self.0.load(Ordering::Relaxed);
        if function.is_null() {
            return None;
        }
        // SAFETY: by rule 1 it was a function of this type, which has the size of a pointer, and
        // functions live as long as the program.
        let function = unsafe { std::mem::transmute::<*mut (), TypeName>(function) };
        Some(name::of_function(function()))
    }
}

#[cfg(test)]
mod tests {
    use super::RunningFunction;

    #[test]
    fn a_function_has_a_name_until_its_guard_is_dropped() {
        let running = RunningFunction::default();
        assert_eq!(running.name(), None);
        let guard = running.set(|| "a::module::work");
        assert_eq!(running.name().as_deref(), Some("work"));
        drop(guard);
        assert_eq!(running.name(), None);
    }
}
