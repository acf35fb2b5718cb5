//! The function that workers run before their first task.
//!
//! # What is always true
//!
//! 1. The function type of an [`Initializer`] has no size and no destructor, and a value of it was
//!    given to [`Initializer::new`]. So every aligned address is that of a valid value, in each
//!    process of the executable.
//! 2. The function is called by reference, and it is `Sync`: a worker may call it on any thread.

#![expect(unsafe_code, reason = "calls a function of which only the type is known")]

use crate::portable::code::CodeDescriptor;
use std::any::{TypeId, type_name};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The setting `processes.initializer`: a function without captures that each worker process runs
/// before its first task.
///
/// It prepares the process for the tasks: a log, a model that is read once, a connection. If an
/// initializer fails or panics, the runs that need the worker fail.
///
/// # Examples
/// ```
/// use sprang::config::{self, Initializer};
/// use std::sync::OnceLock;
///
/// static MODEL: OnceLock<Vec<u8>> = OnceLock::new();
///
/// fn read_model() -> std::io::Result<()> {
///     MODEL.set(std::fs::read("model.bin")?).expect("a worker is initialized once");
///     Ok(())
/// }
///
/// // The function does not run in this process.
/// let _scope = config::scoped("processes.initializer", Initializer::new(read_model))?;
/// assert!(config::get("processes.initializer")?.ends_with("read_model"));
/// assert!(MODEL.get().is_none());
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// It cannot capture variables, because the worker process does not have them:
/// ```compile_fail,E0080
/// let path = String::from("model.bin");
/// sprang::config::Initializer::new(move || println!("{path}"));
/// ```
#[derive(Clone, Copy)]
pub struct Initializer {
    pub(crate) code: &'static CodeDescriptor<InitializerCode>,
}

/// How a worker process runs an initializer.
#[derive(Debug)]
pub(crate) struct InitializerCode {
    /// `Err` has the message of the function's error.
    pub(crate) call: fn() -> Result<(), String>,
    /// Tells initializers apart. Their names do not, because closures of one function share a name;
    /// their statics do not, because one function may have several.
    type_id: fn() -> TypeId,
}

impl Initializer {
    /// Makes an initializer from a function that returns `()` or a `Result<(), E>`.
    ///
    /// `cargo build` checks that the function captures nothing; `cargo check` does not.
    pub fn new<F, R>(function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: InitializerOutcome + 'static,
    {
        const { OfType::<F, R>::CHECK };
        let _ = function;
        Initializer { code: OfType::<F, R>::CODE }
    }

    /// The function's name.
    pub(crate) fn name(&self) -> &'static str {
        self.code.name()
    }
}

/// The result of an [`Initializer`]'s function: `()`, or a `Result<(), E>` whose error can be
/// displayed.
#[diagnostic::on_unimplemented(
    message = "an initializer cannot return `{Self}`",
    note = "it returns nothing, or a `Result<(), E>` where `E` can be displayed"
)]
pub trait InitializerOutcome: sealed::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result<(), String>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E: std::fmt::Display> Sealed for Result<(), E> {}
}

impl InitializerOutcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> InitializerOutcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        // In the alternate form, which has the sources of some errors: later there is only the
        // text.
        self.map_err(|error| format!("{error:#}"))
    }
}

struct OfType<F, R>(PhantomData<(F, R)>);

impl<F, R> OfType<F, R>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: InitializerOutcome + 'static,
{
    const CHECK: () = assert!(
        size_of::<F>() == 0 && !std::mem::needs_drop::<F>(),
        "the function given to `Initializer::new` captures variables or is a function pointer, so it cannot be sent to another \
         process; have it find what it needs by itself"
    );

    const CODE: &'static CodeDescriptor<InitializerCode> =
        &CodeDescriptor::new(type_name::<F>, InitializerCode { call: Self::call, type_id: TypeId::of::<F> });

    fn call() -> Result<(), String> {
        const { Self::CHECK };
        // SAFETY: a dangling pointer is non-null and aligned, and that is enough for a valid
        // reference to a type without a size that has a value (rule 1).
        let function = unsafe { NonNull::<F>::dangling().as_ref() };
        function().into_result()
    }
}

impl PartialEq for Initializer {
    fn eq(&self, other: &Self) -> bool {
        (self.code.item.type_id)() == (other.code.item.type_id)()
    }
}

impl Eq for Initializer {}

impl Hash for Initializer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.code.item.type_id)().hash(state);
    }
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initializer({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() {}

    fn bad() -> Result<(), &'static str> {
        Err("no model")
    }

    #[test]
    fn an_initializer_calls_its_function_and_says_how_it_failed() {
        assert_eq!((Initializer::new(good).code.item.call)(), Ok(()));
        assert_eq!((Initializer::new(bad).code.item.call)(), Err("no model".to_owned()));
        assert_eq!((Initializer::new(|| "4".parse::<i32>().map(drop)).code.item.call)(), Ok(()));
    }

    #[test]
    fn initializers_of_one_function_are_equal_and_others_are_not() {
        assert_eq!(Initializer::new(good), Initializer::new(good));
        assert_ne!(Initializer::new(|| ()), Initializer::new(|| ()));
        assert!(format!("{:?}", Initializer::new(good)).ends_with("tests::good)"));
    }
}
