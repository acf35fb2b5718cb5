//! A function and its arguments made into a node.
//!
//! [`TaskArgs`] stands on the *tuple of arguments*, so that its type is known before the body of a closure is checked: the tuple selects
//! the implementation, and the implementation's `Fn` bound gives the closure its signature. (With the trait on the function,
//! unannotated closures do not infer.)

#![expect(unsafe_code, reason = "the typed functions behind a task's untyped kind")]

use super::argument::{Argument, Cursor};
use super::crossing::{CallEncodedFn, Crossing, TaskCode, ValueCode};
use super::node::{ArgumentError, CallError, Kind, Task, TaskRef, drop_body, layout};
use super::value::{Cell, drop_value_of, needs_release};
use crate::portable::Portable;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, Decoder, Encoder};
use std::any::TypeId;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What a task makes of the return value of its function.
pub trait Return<O> {
    /// What dependents see.
    type Value: Send + Sync + 'static;
    /// How the value crosses to another process; `None` if it does not.
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

impl<T: Portable, E: Into<CallError>> Return<Result<T, E>> for Fallible {
    type Value = T;
    const VALUE_CODE: Option<&'static CodeDescriptor<ValueCode>> = Some(Crossing::<T>::CODE);
    #[inline(always)]
    fn split(returned: Result<T, E>) -> Result<T, CallError> {
        returned.map_err(Into::into)
    }
}

impl<T: Send + Sync + 'static, E: Into<CallError>> Return<Result<T, E>> for LocalFallible {
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
    #[doc(hidden)]
    fn into_task<M: Return<O> + 'static>(self, function: F) -> TaskParts;
}

/// A task on its way from the arguments to the handle.
#[derive(Debug)]
pub struct TaskParts(pub(crate) Task);

struct Body<F, S> {
    function: F,
    args: S,
}

macro_rules! task_args {
    ($($A:ident $i:tt),*) => {
        const _: () = {
            /// The functions for one type of function, arguments and return value.
            struct Of<F, O, M, $($A,)*>(PhantomData<fn() -> (F, O, M, $($A,)*)>);

            #[allow(non_snake_case, reason = "arguments are named like their types")]
            #[allow(unused, clippy::ptr_arg, reason = "a task without arguments uses no cursor and no list")]
            impl<F, O, M, $($A,)*> Of<F, O, M, $($A,)*>
            where
                F: for<'a> Fn($($A::Out<'a>),*) -> O + Send + Sync + 'static,
                M: Return<O> + 'static,
                $($A: Argument,)*
            {
                const CODE: &'static CodeDescriptor<TaskCode> = &CodeDescriptor::new(
                    std::any::type_name::<(F, ($($A::Stored,)*), M)>,
                    TaskCode { function: std::any::type_name::<F>, call: Self::call_encoded as CallEncodedFn, value: M::VALUE_CODE },
                );

                const KIND: Kind = Kind {
                    call: Self::call,
                    visit_inputs: Self::visit_inputs,
                    release_inputs: Self::release_inputs,
                    value_bytes: size_of::<M::Value>(),
                    drop_value: if needs_release::<M::Value>() { Some(drop_value_of::<M::Value>) } else { None },
                    clone_value: None,
                    write_args: Self::write_args,
                    describe_args: Self::describe_args,
                    code: if M::VALUE_CODE.is_some() { Some(Self::CODE) } else { None },
                    value_code: M::VALUE_CODE,
                    drop_body: drop_body::<Body<F, ($($A::Stored,)*)>>,
                    layout: layout::<Body<F, ($($A::Stored,)*)>>(),
                    type_id: TypeId::of::<(F, ($($A::Stored,)*), M)>,
                    type_name: std::any::type_name::<F>,
                    is_value: false,
                    awaited: None,
                    captures: size_of::<F>() != 0,
                    has_options: false,
                };

                unsafe fn call(task: TaskRef, cells: &[Cell], inputs: *const u32, id: u32, keep: bool) -> Option<Box<CallError>> {
                    // SAFETY: the kind belongs to nodes with this body; the engine calls it for a ready task with its inputs and
                    // its own id, so the inputs have finished, with values of the types of their handles.
                    unsafe { Self::call_body(task.body(), cells, inputs, id, keep) }
                }

                /// # Safety
                /// As [`CallFn`](super::node::CallFn).
                #[inline(always)]
                unsafe fn call_body(
                    body: &Body<F, ($($A::Stored,)*)>,
                    cells: &[Cell],
                    inputs: *const u32,
                    id: u32,
                    keep: bool,
                ) -> Option<Box<CallError>> {
                    // SAFETY: the caller's contract.
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

                unsafe fn call_encoded(
                    decoder: &mut Decoder<'_>,
                    cells: &[Cell],
                    inputs: *const u32,
                    id: u32,
                ) -> Result<Option<Box<CallError>>, ArgumentError> {
                    // `delayed` has let nobody make such a task, and local tasks have no code.
                    assert!(size_of::<F>() == 0, "a function that captures cannot be called from another process");
                    let args = ($($A::read(decoder).map_err(|error| ($i, error))?,)*);
                    // SAFETY: the function has no bytes to read. That there is a value of the type is known from the process that holds it.
                    let function = unsafe { NonNull::<F>::dangling().read() };
                    // SAFETY: the caller's contract.
                    Ok(unsafe { Self::call_body(&Body { function, args }, cells, inputs, id, false) })
                }

                unsafe fn visit_inputs(task: TaskRef, inputs: &mut Vec<TaskRef>) {
                    // SAFETY: the kind belongs to nodes with this body.
                    let body = unsafe { task.body::<Body<F, ($($A::Stored,)*)>>() };
                    $($A::visit(&body.args.$i, inputs);)*
                }

                unsafe fn release_inputs(task: TaskRef, cells: &[Cell], inputs: *const u32) {
                    // SAFETY: as `call`; there is no call in progress.
                    unsafe {
                        let body = task.body::<Body<F, ($($A::Stored,)*)>>();
                        let mut cursor = Cursor::new(cells, inputs, false);
                        $($A::release(&body.args.$i, &mut cursor);)*
                    }
                }

                unsafe fn write_args(task: TaskRef, encoder: &mut Encoder<'_>) -> Result<(), ArgumentError> {
                    // SAFETY: the kind belongs to nodes with this body.
                    let body = unsafe { task.body::<Body<F, ($($A::Stored,)*)>>() };
                    $($A::write(&body.args.$i, encoder).map_err(|error| ($i, error))?;)*
                    Ok(())
                }

                unsafe fn describe_args(task: TaskRef, words: &mut Vec<String>) {
                    // SAFETY: the kind belongs to nodes with this body.
                    let body = unsafe { task.body::<Body<F, ($($A::Stored,)*)>>() };
                    $($A::describe(&body.args.$i, words);)*
                }
            }

            impl<F, O, $($A,)*> TaskArgs<F, O> for ($($A,)*)
            where
                F: for<'a> Fn($($A::Out<'a>),*) -> O + Send + Sync + 'static,
                $($A: Argument,)*
            {
                #[inline]
                fn into_task<M: Return<O> + 'static>(self, function: F) -> TaskParts {
                    let body = Body { function, args: ($(self.$i.store(),)*) };
                    // SAFETY: the kind is the one for this body.
                    TaskParts(unsafe { Task::new(const { &Of::<F, O, M, $($A,)*>::KIND }, body) })
                }
            }
        };
    };
}
task_args!();
for_each_arity!(task_args);

/// A value in the place of a task: shared by all runs, never moved out.
pub(crate) struct ValueOf<T>(PhantomData<T>);

impl<T: Send + Sync + 'static> ValueOf<T> {
    pub(crate) const LOCAL: Kind = Kind {
        call: Self::call,
        visit_inputs: |_, _| {},
        release_inputs: |_, _, _| {},
        value_bytes: size_of::<T>(),
        drop_value: None,
        clone_value: None,
        write_args: |_, _| Ok(()),
        describe_args: |_, _| {},
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
        // SAFETY: the kind belongs to nodes with this body, which outlive the run; the task writes to its own cell.
        unsafe { cells.get_unchecked(id as usize).put_external::<T>(task.body::<T>()) };
        None
    }
}

impl<T: Clone + Send + Sync + 'static> ValueOf<T> {
    const CLONEABLE: Kind = Kind { clone_value: Some(<T as Clone>::clone as fn(&T) -> T as *const ()), ..Self::LOCAL };
}

/// A task whose value is there already.
pub(crate) fn value_task<T: Send + Sync + 'static>(value: T) -> Task {
    // SAFETY: the kind is the one for this body.
    unsafe { Task::new_alone(const { &ValueOf::<T>::LOCAL }, value) }
}

/// A task whose value is there already and can be asked for as an output.
pub(crate) fn cloneable_value_task<T: Clone + Send + Sync + 'static>(value: T) -> Task {
    // SAFETY: the kind is the one for this body.
    unsafe { Task::new_alone(const { &ValueOf::<T>::CLONEABLE }, value) }
}

/// A few words on each of the task's plain arguments.
pub(crate) fn described_arguments(task: TaskRef) -> Vec<String> {
    let mut words = Vec::new();
    // SAFETY: the kind is the task's own.
    unsafe { (task.kind().describe_args)(task, &mut words) };
    words
}

/// An encoding of the task's plain arguments and of the shape of the others, equal for equal ones; `None` if they have none.
pub(crate) fn token_of(task: TaskRef) -> Option<Box<[u8]>> {
    let mut encoder = Encoder::new(Codec::Fast, None);
    // SAFETY: the kind is the task's own.
    unsafe { (task.kind().write_args)(task, &mut encoder) }.ok()?;
    Some(encoder.finish().0.into())
}
