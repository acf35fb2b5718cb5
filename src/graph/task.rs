//! Makes a node from a function and its arguments.
//!
//! [`TaskArgs`] is implemented by the *tuple of arguments*, whose type is known before the body of
//! a closure is checked. The tuple selects the implementation, and the `Fn` bound of the
//! implementation gives the closure its signature. If the function implemented the trait, the types
//! of closures without annotations could not be inferred.

#![expect(unsafe_code, reason = "the typed functions behind a task's untyped kind")]

use super::argument::{Argument, Cursor};
use super::crossing::{CallEncodedFn, Crossing, TaskCode, ValueCode, whole_bytes};
use super::node::{ArgumentError, CallError, Kind, Task, TaskRef, drop_body, layout};
use super::value::{Cell, drop_value_of, needs_release};
use crate::portable::Portable;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, Decoder, Encoder};
use std::any::TypeId;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A function of several tasks, in generic code: `Copy + Send + Sync + 'static` under one name. It
/// says nothing of the signature, so write both: `F: Fn(&T) -> R + TaskFn`.
///
/// Every function, and every closure that captures nothing or only such values, has the trait.
/// [`delayed`](crate::delayed) takes those that capture nothing; it checks that where the generic
/// function is called with a certain `F`.
///
/// # Examples
/// ```
/// use sprang::{Delayed, Portable, TaskFn, delayed};
///
/// /// Reduces a list by a tree of calls.
/// fn tree<T, F>(combine: F, mut items: Vec<Delayed<T>>) -> Option<Delayed<T>>
/// where
///     T: Portable,
///     F: Fn(&T, &T) -> T + TaskFn,
/// {
///     while items.len() > 1 {
///         let pair = |pair: &[Delayed<T>]| match pair {
///             [a, b] => delayed(combine, (a, b)),
///             one => one[0].clone(),
///         };
///         items = items.chunks(2).map(pair).collect();
///     }
///     items.pop()
/// }
///
/// let parts: Vec<_> = (0..9).map(|n| delayed(|n: i32| vec![n], (n,))).collect();
/// let all = tree(|a: &Vec<i32>, b: &Vec<i32>| [&a[..], b].concat(), parts).unwrap();
/// assert_eq!(all.compute()?, (0..9).collect::<Vec<_>>());
/// # Ok::<_, sprang::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the function of several tasks",
    label = "not `Copy + Send + Sync + 'static`",
    note = "in generic code write the bound `F: Fn(&T) -> R + TaskFn`, with the function's own signature",
    note = "a closure has the trait if all that it captures has it; give the task what it needs as arguments instead: plain values, `lit(value)`, `owned(value)`, `&local(value)`"
)]
pub trait TaskFn: Copy + Send + Sync + 'static {}

// Without this the compiler would report the marker trait that is missing, and not the message
// above.
#[diagnostic::do_not_recommend]
impl<F: Copy + Send + Sync + 'static> TaskFn for F {}

/// An error with which the function of a task can fail: one that `?` converts to
/// `Box<dyn Error + Send + Sync>`, such as an `io::Error`, a text, an `anyhow::Error`, or a type
/// that implements [`Error`](std::error::Error) and is `Send + Sync + 'static`.
///
/// [`try_delayed`](crate::try_delayed) and its siblings require it.
#[diagnostic::on_unimplemented(
    message = "a task cannot fail with `{Self}`",
    label = "not an error that can go to another thread",
    note = "use a type that implements `std::error::Error` and is `Send + Sync + 'static`, or `Box<dyn Error + Send + Sync>` in the place of `Box<dyn Error>`; a `String` or a `&'static str` is an error too",
    note = "with `delayed(f, args)` in the place of `try_delayed`, the `Result` is the value of the task"
)]
pub trait TaskError: Into<CallError> {}

// Without this the compiler would report `Into<Box<dyn Error + ..>>`, and not the message above.
#[diagnostic::do_not_recommend]
impl<E: Into<CallError>> TaskError for E {}

/// Derives a task's value from the return value of its function.
pub trait Return<O> {
    /// The type that dependents read.
    type Value: Send + Sync + 'static;
    /// Sends the value to another process; `None` for a value that stays in this process.
    #[doc(hidden)]
    const VALUE_CODE: Option<&'static CodeDescriptor<ValueCode>>;
    #[doc(hidden)]
    fn split(returned: O) -> Result<Self::Value, CallError>;
}

/// The return value is the task's value, and portable.
#[derive(Debug)]
pub(crate) struct Plain;

/// The return value is the task's value, and stays in this process.
#[derive(Debug)]
pub(crate) struct LocalPlain;

/// `Ok` holds the task's value, which is portable; `Err` is the task's failure.
#[derive(Debug)]
pub(crate) struct Fallible;

/// `Ok` holds the task's value, which stays in this process; `Err` is the task's failure.
#[derive(Debug)]
pub(crate) struct LocalFallible;

impl<T: Portable> Return<T> for Plain {
    type Value = T;
    const VALUE_CODE: Option<&'static CodeDescriptor<ValueCode>> = Some(Crossing::<T>::CODE);
    #[inline(always)]
    fn split(returned: T) -> Result<T, CallError> {
        Ok(returned)
    }
}

impl<T: Send + Sync + 'static> Return<T> for LocalPlain {
    type Value = T;
    const VALUE_CODE: Option<&'static CodeDescriptor<ValueCode>> = None;
    #[inline(always)]
    fn split(returned: T) -> Result<T, CallError> {
        Ok(returned)
    }
}

impl<T: Portable, E: TaskError> Return<Result<T, E>> for Fallible {
    type Value = T;
    const VALUE_CODE: Option<&'static CodeDescriptor<ValueCode>> = Some(Crossing::<T>::CODE);
    #[inline(always)]
    fn split(returned: Result<T, E>) -> Result<T, CallError> {
        returned.map_err(Into::into)
    }
}

impl<T: Send + Sync + 'static, E: TaskError> Return<Result<T, E>> for LocalFallible {
    type Value = T;
    const VALUE_CODE: Option<&'static CodeDescriptor<ValueCode>> = None;
    #[inline(always)]
    fn split(returned: Result<T, E>) -> Result<T, CallError> {
        returned.map_err(Into::into)
    }
}

/// A tuple of arguments that fits a function: `(&a, b)` fits `f(&A, B)`.
///
/// Implemented for tuples of up to 12 [`Argument`]s.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of arguments",
    label = "not a tuple of up to 12 arguments",
    note = "write `(x,)`, with a comma, for one argument, `()` for none; `(&a, b)` calls `f(&A, B)`"
)]
pub trait TaskArgs<F, O> {
    /// Makes a task. `ONCE` says that no graph but that of one submission will reach it, so that
    /// its last attempt may take its values.
    #[doc(hidden)]
    fn into_task<M: Return<O> + 'static, const ONCE: bool>(self, function: F) -> TaskParts;
}

/// A task without its typed handle.
#[derive(Debug)]
pub struct TaskParts(pub(crate) Task);

struct TaskBody<F, S> {
    function: F,
    args: S,
}

macro_rules! task_args {
    ($($A:ident $i:tt),*) => {
        const _: () = {
            /// The functions for one type of function, arguments and return value.
            struct TaskFns<F, O, M, $($A,)*>(PhantomData<fn() -> (F, O, M, $($A,)*)>);

            #[allow(non_snake_case, reason = "arguments are named like their types")]
            #[allow(unused, clippy::ptr_arg, reason = "a task without arguments uses no cursor and no list")]
            impl<F, O, M, $($A,)*> TaskFns<F, O, M, $($A,)*>
            where
                F: for<'a> Fn($($A::Out<'a>),*) -> O + Send + Sync + 'static,
                M: Return<O> + 'static,
                $($A: Argument,)*
            {
                const CODE: &'static CodeDescriptor<TaskCode> = &CodeDescriptor::new(
                    std::any::type_name::<(F, ($($A::Stored,)*), M)>,
                    TaskCode { function: std::any::type_name::<F>, call: Self::__rust_begin_short_backtrace_encoded as CallEncodedFn, value: M::VALUE_CODE },
                );

                const KIND: Kind = Kind {
                    call: Self::__rust_begin_short_backtrace,
                    visit_inputs: Self::visit_inputs,
                    release_inputs: Self::release_inputs,
                    value_bytes: size_of::<M::Value>(),
                    whole_bytes: whole_bytes::<M::Value>,
                    drop_value: if needs_release::<M::Value>() { Some(drop_value_of::<M::Value>) } else { None },
                    clone_value: None,
                    write_args: Self::write_args,
                    describe_args: Self::describe_args,
                    tolerates: if false $(|| $A::TOLERATES)* { Some(Self::tolerates) } else { None },
                    code: if M::VALUE_CODE.is_some() { Some(Self::CODE) } else { None },
                    value_code: M::VALUE_CODE,
                    drop_body: drop_body::<TaskBody<F, ($($A::Stored,)*)>>,
                    layout: layout::<TaskBody<F, ($($A::Stored,)*)>>(),
                    type_id: TypeId::of::<(F, ($($A::Stored,)*), M)>,
                    type_name: std::any::type_name::<F>,
                    is_value: false,
                    awaited: None,
                    captures: size_of::<F>() != 0,
                    has_options: false,
                };

                // The standard library ends a backtrace, unless it is a full one, at functions with
                // this name. So that of a panic in a task ends before the frames of sprang. As a
                // name of functions that are called anyway it costs nothing.
                unsafe fn __rust_begin_short_backtrace(task: TaskRef, cells: &[Cell], inputs: *const u32, id: u32, keep: bool) -> Option<Box<CallError>> {
                    // SAFETY: own task, so the body has this type. The other conditions are passed
                    // on.
                    unsafe { Self::__rust_begin_short_backtrace_body(task.body(), cells, inputs, id, keep) }
                }

                /// # Safety
                /// As [`CallFn`](super::node::CallFn), for a task with this body.
                #[inline(always)]
                unsafe fn __rust_begin_short_backtrace_body(
                    body: &TaskBody<F, ($($A::Stored,)*)>,
                    cells: &[Cell],
                    inputs: *const u32,
                    id: u32,
                    keep: bool,
                ) -> Option<Box<CallError>> {
                    // SAFETY: own ids: the arguments walk over the inputs in the order of
                    // `visit_inputs`, so each cursor points to the inputs of the next argument, and
                    // `id` is below `cells.len()`. Finished inputs: `fetch` reads values of the
                    // right types, or errors where the kind says so, and their borrows end with the
                    // function's call. Own cell: `put` writes it once. One release: `release` runs
                    // only here.
                    unsafe {
                        let mut cursor = Cursor::new(cells, inputs, keep);
                        $(let $A = $A::fetch(&body.args.$i, &mut cursor);)*
                        match M::split((body.function)($($A),*)) {
                            Ok(value) => cells.get_unchecked(id as usize).put(value),
                            Err(error) => return Some(Box::new(error)),
                        }
                        if !keep {
                            let mut cursor = Cursor::new(cells, inputs, keep);
                            $($A::release(&body.args.$i, &mut cursor);)*
                        }
                    }
                    None
                }

                unsafe fn __rust_begin_short_backtrace_encoded(
                    decoder: &mut Decoder<'_>,
                    cells: &[Cell],
                    inputs: *const u32,
                    id: u32,
                ) -> Result<Option<Box<CallError>>, ArgumentError> {
                    // `delayed` refuses such a function at compile time, and local tasks have no
                    // code.
                    assert!(size_of::<F>() == 0, "a function that captures cannot be called from another process");
                    let args = ($($A::read(decoder).map_err(|error| ($i, error))?,)*);
                    // SAFETY: the function's type has no bytes to read, and is inhabited: the
                    // sending process has a value of it.
                    let function = unsafe { NonNull::<F>::dangling().read() };
                    // SAFETY: the caller keeps the conditions for the inputs, ids and cells of a
                    // task with these arguments.
                    Ok(unsafe { Self::__rust_begin_short_backtrace_body(&TaskBody { function, args }, cells, inputs, id, false) })
                }

                unsafe fn visit_inputs(task: TaskRef, inputs: &mut Vec<TaskRef>) {
                    // SAFETY: own task, so the body has this type.
                    let body = unsafe { task.body::<TaskBody<F, ($($A::Stored,)*)>>() };
                    $($A::visit(&body.args.$i, inputs);)*
                }

                unsafe fn release_inputs(task: TaskRef, cells: &[Cell], inputs: *const u32) {
                    // SAFETY: own task, so the body has this type. Own ids: the cursor points to
                    // the inputs of the arguments in turn. The inputs have finished, no result of
                    // `fetch` lives, and this is their one release.
                    unsafe {
                        let body = task.body::<TaskBody<F, ($($A::Stored,)*)>>();
                        let mut cursor = Cursor::new(cells, inputs, false);
                        $($A::release(&body.args.$i, &mut cursor);)*
                    }
                }

                unsafe fn write_args(task: TaskRef, encoder: &mut Encoder<'_>) -> Result<(), ArgumentError> {
                    // SAFETY: own task, so the body has this type.
                    let body = unsafe { task.body::<TaskBody<F, ($($A::Stored,)*)>>() };
                    $($A::write(&body.args.$i, encoder).map_err(|error| ($i, error))?;)*
                    Ok(())
                }

                unsafe fn describe_args(task: TaskRef, texts: &mut Vec<String>) {
                    // SAFETY: own task, so the body has this type.
                    let body = unsafe { task.body::<TaskBody<F, ($($A::Stored,)*)>>() };
                    $($A::describe(&body.args.$i, texts);)*
                }

                unsafe fn tolerates(task: TaskRef, edges: &mut Vec<bool>) {
                    // SAFETY: own task, so the body has this type.
                    let body = unsafe { task.body::<TaskBody<F, ($($A::Stored,)*)>>() };
                    $($A::tolerates(&body.args.$i, edges);)*
                }
            }

            impl<F, O, $($A,)*> TaskArgs<F, O> for ($($A,)*)
            where
                F: for<'a> Fn($($A::Out<'a>),*) -> O + Send + Sync + 'static,
                $($A: Argument,)*
            {
                #[inline]
                fn into_task<M: Return<O> + 'static, const ONCE: bool>(self, function: F) -> TaskParts {
                    let args = match ONCE {
                        true => ($(self.$i.store_once(),)*),
                        false => ($(self.$i.store(),)*),
                    };
                    let body = TaskBody { function, args };
                    // SAFETY: `KIND` was made for this type of body.
                    TaskParts(unsafe { Task::new(const { &TaskFns::<F, O, M, $($A,)*>::KIND }, body) })
                }
            }
        };
    };
}
task_args!();
for_each_arity!(task_args);

/// A value in the place of a function: shared by all runs, never moved out.
pub(crate) struct ValueOf<T>(PhantomData<T>);

impl<T: Send + Sync + 'static> ValueOf<T> {
    pub(crate) const LOCAL: Kind = Kind {
        call: Self::call,
        visit_inputs: |_, _| {},
        release_inputs: |_, _, _| {},
        value_bytes: size_of::<T>(),
        whole_bytes: |_| None,
        drop_value: None,
        clone_value: None,
        write_args: |_, _| Ok(()),
        describe_args: |_, _| {},
        tolerates: None,
        code: None,
        value_code: None,
        drop_body: drop_body::<T>,
        layout: layout::<T>(),
        type_id: TypeId::of::<Self>,
        type_name: || "value",
        is_value: true,
        awaited: None,
        captures: true,
        has_options: false,
    };

    unsafe fn call(task: TaskRef, cells: &[Cell], _: *const u32, id: u32, _: bool) -> Option<Box<CallError>> {
        // SAFETY: own task, so the body is a `T`, and the plan's maker keeps the node alive during
        // the run. Own cell, whose id is below `cells.len()` (own ids).
        unsafe { cells.get_unchecked(id as usize).put_external::<T>(task.body::<T>()) };
        None
    }
}

impl<T: Clone + Send + Sync + 'static> ValueOf<T> {
    const CLONEABLE: Kind = Kind { clone_value: Some(<T as Clone>::clone as fn(&T) -> T as *const ()), ..Self::LOCAL };
}

impl<T: Portable + Clone> ValueOf<T> {
    const PORTABLE: Kind = Kind { value_code: Some(Crossing::<T>::CODE), ..Self::CLONEABLE };
}

/// A task that has its value already.
pub(crate) fn value_task<T: Send + Sync + 'static>(value: T) -> Task {
    // SAFETY: the kind was made for a body of type `T`.
    unsafe { Task::new_alone(const { &ValueOf::<T>::LOCAL }, value) }
}

/// A task that has its value already, and can be an output.
pub(crate) fn cloneable_value_task<T: Clone + Send + Sync + 'static>(value: T) -> Task {
    // SAFETY: the kind was made for a body of type `T`.
    unsafe { Task::new_alone(const { &ValueOf::<T>::CLONEABLE }, value) }
}

/// A task that has its value already, can be an output, and whose value can be sent to another
/// process.
pub(crate) fn portable_value_task<T: Portable + Clone>(value: T) -> Task {
    // SAFETY: the kind was made for a body of type `T`.
    unsafe { Task::new_alone(const { &ValueOf::<T>::PORTABLE }, value) }
}

/// A short text for each of the task's plain arguments.
pub(crate) fn argument_texts(task: TaskRef) -> Vec<String> {
    let mut texts = Vec::new();
    // SAFETY: own task: the function comes from the kind of `task`, which its caller keeps alive.
    unsafe { (task.kind().describe_args)(task, &mut texts) };
    texts
}

/// An encoding of the task's plain arguments and of the shape of the others. Equal arguments have
/// equal encodings. `None` if an argument cannot be encoded.
pub(crate) fn token_of(task: TaskRef) -> Option<Box<[u8]>> {
    let mut encoder = Encoder::new(Codec::Fast, None);
    // SAFETY: own task: the function comes from the kind of `task`, which its caller keeps alive.
    unsafe { (task.kind().write_args)(task, &mut encoder) }.ok()?;
    Some(encoder.finish().0.into())
}
