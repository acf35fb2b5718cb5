//! The functions before `main` (constructors) that the hook runs itself.
//!
//! The linker chooses the order of constructors, and in a worker the hook never returns. So the
//! hook runs the constructors that come after it: they fill registries that tasks may use. If
//! sprang is in a library of its own, these include the constructors of the modules that were
//! linked with that library, up to the program. Constructors of later libraries that do not depend
//! on it do not run, because the loader does not tell what it has still to run.
//!
//! # What the unsafe code rests on
//!
//! 1. The linker made the list of constructors: an aligned array of addresses of functions that
//!    take three arguments or fewer, or of 0 or -1.
//! 2. Each remaining constructor is run once, in the loader's order. The loader does not run it
//!    again, because the hook does not return.

#![expect(unsafe_code, reason = "calls functions by their addresses, as the loader does")]

use crate::portable::module::{Access, Module, find};
use std::ffi::{OsStr, OsString, c_char, c_int};
use std::ops::Range;

pub(super) type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// The arguments of `main`, which constructors get too.
pub(super) struct MainArguments {
    pub(super) count: c_int,
    pub(super) arguments: *const *const c_char,
    pub(super) environment: *const *const c_char,
}

/// A module, without the loader's data.
pub(super) struct LinkedModule {
    base: usize,
    pub(super) is_program: bool,
    constructors: Option<Range<usize>>,
    needed: Vec<OsString>,
    /// The names in `needed` of other modules that mean this one.
    names: Vec<OsString>,
}

impl LinkedModule {
    fn new(module: &Module<'_>) -> Self {
        LinkedModule {
            base: module.base(),
            is_program: module.is_program(),
            constructors: module.constructors(),
            needed: module.needed().map(OsStr::to_owned).collect(),
            names: Vec::new(),
        }
    }

    fn needs(&self, other: &LinkedModule) -> bool {
        self.needed.iter().any(|name| other.names.contains(name))
    }
}

/// The module with this base and the modules that were linked with it, directly or not, each after
/// the modules that it needs. Empty if there is no such module.
pub(super) fn linked_with(base: usize) -> Vec<LinkedModule> {
    let mut modules = Vec::new();
    let _: Option<()> = find(|module| {
        modules.push(LinkedModule::new(module));
        None
    });
    let needed: Vec<OsString> = modules.iter().flat_map(|module| module.needed.iter().cloned()).collect();
    let _: Option<()> = find(|module| {
        if let Some(linked) = modules.iter_mut().find(|linked| linked.base == module.base()) {
            linked.names = needed.iter().filter(|name| module.has_name(name)).cloned().collect();
        }
        None
    });

    /// Lists a module after the modules that need it. If libraries need each other in a circle, the
    /// order within the circle is arbitrary.
    fn visit(index: usize, modules: &[LinkedModule], is_visited: &mut [bool], order: &mut Vec<usize>) {
        is_visited[index] = true;
        for other in (0..modules.len()).rev() {
            if !is_visited[other] && modules[other].needs(&modules[index]) {
                visit(other, modules, is_visited, order);
            }
        }
        order.push(index);
    }

    let mut order = Vec::new();
    if let Some(first) = modules.iter().position(|module| module.base == base) {
        visit(first, &modules, &mut vec![false; modules.len()], &mut order);
    }
    let mut modules: Vec<Option<LinkedModule>> = modules.into_iter().map(Some).collect();
    order.into_iter().rev().filter_map(|index| modules[index].take()).collect()
}

/// Runs the constructors that have not run yet, as far as they are known. `hook` is the address in
/// the list of the one that runs now.
pub(super) fn run_constructors(hook: usize, arguments: &MainArguments) {
    let base = find(|module| module.contains(&(hook..hook + 1), Access::Read).then(|| module.base()));
    for (index, module) in base.map(linked_with).unwrap_or_default().iter().enumerate() {
        let Some(list) = module.constructors.clone().or_else(|| constructors_of_static_program(module)) else {
            continue;
        };
        let start = match index {
            0 if list.contains(&hook) => hook + size_of::<usize>(),
            0 => continue,
            _ => list.start,
        };
        for entry in (start..list.end).step_by(size_of::<usize>()) {
            // SAFETY: an entry of the list, which is aligned and whose module stays loaded (rule
            // 1).
            let address = unsafe { *(entry as *const usize) };
            if address == 0 || address == usize::MAX {
                continue;
            }
            // SAFETY: a function of this type or of fewer arguments (rule 1), which may run now
            // (rule 2).
            unsafe {
                let constructor = std::mem::transmute::<usize, Constructor>(address);
                constructor(arguments.count, arguments.arguments, arguments.environment);
            }
        }
    }
}

/// A static program that is not relocated has no table of its parts. It has symbols, which
/// libraries lack.
#[cfg(target_feature = "crt-static")]
fn constructors_of_static_program(module: &LinkedModule) -> Option<Range<usize>> {
    unsafe extern "C" {
        static __init_array_start: [usize; 0];
        static __init_array_end: [usize; 0];
    }
    module.is_program.then(|| &raw const __init_array_start as usize..&raw const __init_array_end as usize)
}

#[cfg(not(target_feature = "crt-static"))]
fn constructors_of_static_program(_module: &LinkedModule) -> Option<Range<usize>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constructors_of_a_library_run_after_those_of_its_dependencies() {
        let program = find(|module| Some(module.base())).unwrap();
        assert!(matches!(&linked_with(program)[..], [module] if module.is_program));
        assert!(linked_with(1).is_empty());
        // A static program has no other modules.
        let Some(library) = find(|module| module.has_name("libc.so.6".as_ref()).then(|| module.base())) else {
            return;
        };
        let modules = linked_with(library);
        assert_eq!(modules[0].base, library);
        let last = modules.last().unwrap();
        assert!(
            last.is_program
                && last.constructors.as_ref().is_some_and(|list| list.contains(&super::super::hook::hook_address()))
        );
        for (index, module) in modules.iter().enumerate() {
            assert!(!modules[index..].iter().skip(1).any(|later| module.needs(later)), "{:x}", module.base);
        }
        let mut bases: Vec<_> = modules.iter().map(|module| module.base).collect();
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), modules.len());
    }
}
