//! References to code that another process of the same executable can resolve.
//!
//! A reference leads to a static, the [`CodeDescriptor`]. It names the module (the executable or a
//! library), the static's offset in the module, and its signature; all of that is checked before
//! the reference is resolved.
//!
//! # What the unsafe code rests on
//!
//! 1. Before anything is read at the address of a reference, the whole struct lies in one readable
//!    segment of the module that the reference names, at the alignment of the type.
//! 2. Until the struct is known to be there, only its magic number and the addresses of its
//!    functions are read, as integers and atomically, since the memory may be an unrelated
//!    variable.
//! 3. The functions are called only if the magic number is right and the addresses are addresses of
//!    code. The number has 128 bits, some of them made from the version of this crate, so only a
//!    `CodeDescriptor` has it in a program of the same executable.
//! 4. A reference is resolved only if the struct names the expected type of its item, and if the
//!    struct's two names have the hash that the sender took from the original. Two types of one
//!    name do not lie at the same address of the same executable.

#![cfg_attr(all(target_os = "linux", not(miri)), expect(unsafe_code, reason = "makes references from integers"))]

use serde::{Deserialize, Serialize};
use std::any::type_name;
use std::fmt;

/// A static that other processes can refer to.
#[repr(C)]
#[derive(Debug)]
pub struct CodeDescriptor<T: 'static> {
    magic: [u32; 4],
    type_name: fn() -> &'static str,
    signature: fn() -> &'static str,
    pub(crate) item: T,
}

/// Begins every [`CodeDescriptor`] of this version of the crate. It is no text, and none of its
/// numbers is zero.
const MAGIC: [u32; 4] = {
    let version = hash(&[env!("CARGO_PKG_VERSION")]);
    [0x9e1d_53a7, 0xd28b_f4c3, version as u32 | 1, (version >> 32) as u32 | 1]
};

impl<T> CodeDescriptor<T> {
    /// `signature` distinguishes statics of the same type.
    pub(crate) const fn new(signature: fn() -> &'static str, item: T) -> Self {
        CodeDescriptor { magic: MAGIC, type_name: type_name::<T>, signature, item }
    }

    pub(crate) fn name(&self) -> &'static str {
        (self.signature)()
    }
}

/// A reference to a [`CodeDescriptor`] static.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct CodeRef {
    /// The path of a library; empty for the program.
    module: String,
    /// The distance from the module's base.
    offset: u64,
    /// The hash of the static's signature and the name of its item's type.
    signature: u64,
}

/// Why a reference cannot be made or resolved.
#[derive(Clone, Debug)]
pub(crate) struct CodeError(pub(crate) String);

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodeError {}

/// FNV-1a of the texts and their ends.
const fn hash(texts: &[&str]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < texts.len() {
        let bytes = texts[i].as_bytes();
        let mut k = 0;
        while k < bytes.len() {
            hash = (hash ^ bytes[k] as u64).wrapping_mul(PRIME);
            k += 1;
        }
        hash = (hash ^ 0xff).wrapping_mul(PRIME); // this byte occurs in no UTF-8
        i += 1;
    }
    hash
}

fn signature_of<T>(name: &str) -> u64 {
    hash(&[type_name::<T>(), name])
}

#[cfg(all(target_os = "linux", not(miri)))]
mod modules {
    use super::{CodeDescriptor, CodeError, CodeRef, MAGIC, signature_of};
    use crate::portable::module::{Access, Module, find};
    use std::ffi::{CStr, CString};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

    impl CodeRef {
        /// Makes a reference to `item`.
        ///
        /// # Errors
        /// `item` was allocated, so it is not part of the program or of a library.
        ///
        /// # Complexity
        /// O(modules of the process); for an item of a library, also the lookup of its path in the
        /// file system.
        pub(crate) fn to<T>(item: &'static CodeDescriptor<T>) -> Result<CodeRef, CodeError> {
            let start = std::ptr::from_ref(item) as usize;
            let range = start..start + size_of::<CodeDescriptor<T>>();
            let (base, path) = find(|module| {
                let path = || if module.is_program() { PathBuf::new() } else { module.path() };
                module.contains(&range, Access::Read).then(|| (module.base(), path()))
            })
            .ok_or_else(|| CodeError(format!("`{}` lies in no module of this process", item.name())))?;
            // The path may be relative to the directory that was the current one when the library
            // was loaded.
            let path = if path.as_os_str().is_empty() { path } else { path.canonicalize().unwrap_or(path) };
            let module = path.into_os_string().into_string().map_err(|path| {
                CodeError(format!("the path of the library {path:?}, which has `{}`, is not UTF-8", item.name()))
            })?;
            Ok(CodeRef { module, offset: (start - base) as u64, signature: signature_of::<T>(item.name()) })
        }

        /// Finds the static that the reference leads to. Loads its library if necessary.
        ///
        /// # Errors
        /// There is no such module, or it does not have such a static at the offset.
        pub(crate) fn resolve<T>(&self) -> Result<&'static CodeDescriptor<T>, CodeError> {
            let missing = |why: &str| CodeError(format!("{self} leads to no function of this process: {why}"));
            let size = size_of::<CodeDescriptor<T>>();
            let offset = usize::try_from(self.offset).map_err(|_| missing("the offset is too large"))?;
            let start_in = |module: &Module<'_>| {
                let start = module.base().checked_add(offset)?;
                start.checked_add(size).filter(|&end| module.contains(&(start..end), Access::Read)).map(|_| start)
            };
            let found = match find(|module| self.is_in(module).then(|| start_in(module))) {
                Some(found) => found,
                None => {
                    load(&self.module).map_err(|why| missing(&why))?;
                    find(|module| self.is_in(module).then(|| start_in(module)))
                        .ok_or_else(|| missing("the module is not there after loading it"))?
                }
            };
            let start = found.ok_or_else(|| missing("the module ends before it"))?;
            if !start.is_multiple_of(align_of::<CodeDescriptor<T>>()) {
                return Err(missing("the offset is not aligned"));
            }
            let descriptor = start as *const CodeDescriptor<T>;
            // SAFETY: the whole struct is readable and aligned (rule 1), and only integers are read
            // from it, atomically (rule 2).
            let (magic, functions) = unsafe {
                let magic = (&raw const (*descriptor).magic).cast::<u32>().cast_mut();
                let functions = [&raw const (*descriptor).type_name, &raw const (*descriptor).signature];
                (
                    [0, 1, 2, 3].map(|i| AtomicU32::from_ptr(magic.add(i)).load(Relaxed)),
                    functions.map(|function| AtomicUsize::from_ptr(function.cast::<usize>().cast_mut()).load(Relaxed)),
                )
            };
            if magic != MAGIC {
                return Err(missing("nothing that can be referred to lies there; is this another executable?"));
            }
            let is_code = |start: usize| {
                let range = start..start.saturating_add(1);
                find(|module| module.contains(&range, Access::Execute).then_some(())).is_some()
            };
            if !functions.into_iter().all(is_code) {
                return Err(missing("its description is damaged"));
            }
            // SAFETY: the magic number is right and the addresses are addresses of code, so these
            // are the functions of a `CodeDescriptor` (rule 3).
            let (type_name, name) = unsafe { (((*descriptor).type_name)(), ((*descriptor).signature)()) };
            if type_name != std::any::type_name::<T>() || signature_of::<T>(name) != self.signature {
                return Err(missing(&format!("`{name}`, `{type_name}`, lies there; is this another executable?")));
            }
            // SAFETY: the type's name and the hash match, so this is the static that the reference
            // was made to (rule 4). Its module is not unloaded: it is the program, a library that
            // the program uses, or one that `load` loaded for good.
            Ok(unsafe { &*descriptor })
        }

        fn is_in(&self, module: &Module<'_>) -> bool {
            if self.module.is_empty() || module.is_program() {
                return self.module.is_empty() && module.is_program();
            }
            let path = module.path();
            path == Path::new(&self.module)
                || (path.file_name() == Path::new(&self.module).file_name()
                    && path.canonicalize().is_ok_and(|path| path == Path::new(&self.module)))
        }
    }

    /// Loads a library for good, since references to its statics may exist from now on.
    fn load(path: &str) -> Result<(), String> {
        // The loader would search the folders of the system for a relative path.
        if !Path::new(path).is_absolute() {
            return Err("there is no such module".into());
        }
        let path = CString::new(path).map_err(|_| "its path has a zero in it".to_owned())?;
        // SAFETY: the path is a C string. The process that made the reference had loaded the
        // library, so running the library's constructors is something that this program does.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        if !handle.is_null() {
            return Ok(());
        }
        // SAFETY: `dlerror` returns null or a C string of this thread that is valid until the next
        // call of `dlerror`.
        let why = unsafe {
            let why = libc::dlerror();
            if why.is_null() { "no reason is given".into() } else { CStr::from_ptr(why).to_string_lossy().into_owned() }
        };
        Err(format!("the library cannot be loaded: {why}"))
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
impl CodeRef {
    /// # Errors
    /// Always: the platform has no worker processes.
    pub(crate) fn to<T>(item: &'static CodeDescriptor<T>) -> Result<CodeRef, CodeError> {
        Err(unsupported(item.name()))
    }

    /// # Errors
    /// Always: the platform has no worker processes.
    pub(crate) fn resolve<T>(&self) -> Result<&'static CodeDescriptor<T>, CodeError> {
        Err(unsupported(&self.to_string()))
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn unsupported(what: &str) -> CodeError {
    CodeError(format!("{what} cannot be referred to from another process on {}", std::env::consts::OS))
}

impl fmt::Display for CodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let module = if self.module.is_empty() { "the program" } else { &self.module };
        write!(f, "the reference to {module} + {:#x}", self.offset)
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static ONE: CodeDescriptor<u64> = CodeDescriptor::new(|| "one", 1);
    static TWO: CodeDescriptor<u64> = CodeDescriptor::new(|| "two", 2);
    static SMALL: CodeDescriptor<u8> = CodeDescriptor::new(|| "one", 3);
    /// It lies outside the read-only segments.
    static VARIABLE: CodeDescriptor<std::sync::atomic::AtomicU64> =
        CodeDescriptor::new(|| "variable", std::sync::atomic::AtomicU64::new(4));

    struct Generic<T>(T);

    impl<T: 'static> Generic<T> {
        const CODE: &'static CodeDescriptor<fn() -> &'static str> =
            &CodeDescriptor::new(type_name::<T>, type_name::<T>);
    }

    fn error<T: fmt::Debug + 'static>(reference: &CodeRef) -> String {
        reference.resolve::<T>().unwrap_err().to_string()
    }

    #[test]
    fn a_reference_resolves_to_its_static() {
        let back = CodeRef::to(&ONE).unwrap().resolve::<u64>().unwrap();
        assert!(std::ptr::eq(back, &ONE));
        assert_eq!((back.item, back.name()), (1, "one"));
        assert_eq!(
            CodeRef::to(&VARIABLE)
                .unwrap()
                .resolve::<std::sync::atomic::AtomicU64>()
                .unwrap()
                .item
                .load(std::sync::atomic::Ordering::Relaxed),
            4
        );
        let generic = CodeRef::to(Generic::<Vec<i8>>::CODE).unwrap().resolve::<fn() -> &'static str>().unwrap();
        assert_eq!((generic.item)(), type_name::<Vec<i8>>());
    }

    #[test]
    fn a_reference_can_be_sent() {
        let bytes = postcard::to_stdvec(&CodeRef::to(&TWO).unwrap()).unwrap();
        assert!(bytes.len() < 20, "{} bytes", bytes.len());
        let back: CodeRef = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(back.resolve::<u64>().unwrap().item, 2);
    }

    #[test]
    fn a_damaged_description_is_refused() {
        #[repr(C)]
        struct Damaged {
            magic: [u32; 4],
            functions: [usize; 2],
            item: u64,
        }
        static DAMAGED: Damaged = Damaged { magic: MAGIC, functions: [16, usize::MAX], item: 1 };

        let one = CodeRef::to(&ONE).unwrap();
        let distance = (&raw const DAMAGED as u64).wrapping_sub(&raw const ONE as u64);
        let damaged = CodeRef { offset: one.offset.wrapping_add(distance), ..one };
        assert_eq!(DAMAGED.item + DAMAGED.functions[0] as u64 + u64::from(DAMAGED.magic[0]), 17 + u64::from(MAGIC[0]));
        assert!(error::<u64>(&damaged).contains("its description is damaged"));
    }

    #[test]
    fn an_allocated_item_cannot_be_referred_to() {
        let item = Box::leak(Box::new(CodeDescriptor::new(|| "leaked", 1_u8)));
        assert_eq!(CodeRef::to(item).unwrap_err().to_string(), "`leaked` lies in no module of this process");
    }

    #[test]
    fn another_static_or_another_type_is_refused() {
        let (one, two) = (CodeRef::to(&ONE).unwrap(), CodeRef::to(&TWO).unwrap());
        let crossed = CodeRef { offset: two.offset, ..one.clone() };
        assert!(error::<u64>(&crossed).contains("`two`, `u64`, lies there"), "{}", error::<u64>(&crossed));
        assert!(error::<i64>(&one).contains("`one`, `u64`, lies there"), "{}", error::<i64>(&one));
        assert!(
            error::<u64>(&CodeRef { offset: CodeRef::to(&SMALL).unwrap().offset, ..one.clone() })
                .contains("`one`, `u8`, lies there")
        );
        assert!(error::<u64>(&CodeRef { signature: one.signature ^ 1, ..one }).contains("another executable"));
    }

    #[test]
    fn a_wrong_offset_is_refused() {
        let one = CodeRef::to(&ONE).unwrap();
        let at = |offset| CodeRef { offset, ..one.clone() };
        assert!(error::<u64>(&at(one.offset + 1)).contains("not aligned"));
        assert!(error::<u64>(&at(one.offset + 8)).contains("nothing that can be referred to"));
        assert!(error::<u64>(&at(u64::MAX)).contains("the module ends"));
        assert!(error::<u64>(&at(u64::MAX - 64)).contains("the module ends"));
    }

    #[test]
    fn a_wrong_module_is_refused() {
        let one = CodeRef::to(&ONE).unwrap();
        let within = |module: &str| CodeRef { module: module.into(), ..one.clone() };
        assert!(error::<u64>(&within("libm.so.6")).contains("there is no such module"));
        assert!(error::<u64>(&within("/nowhere/lib.so")).contains("cannot be loaded"));
        assert!(error::<u64>(&within("/no\0where")).contains("a zero"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn no_offset_does_harm(near in -(1_i64 << 24)..(1 << 24), far in any::<u64>(), is_near: bool, signature: u64) {
            let one = CodeRef::to(&ONE).unwrap();
            let offset = if is_near { one.offset.wrapping_add_signed(near & !7) } else { far };
            prop_assume!(offset != one.offset);
            for reference in [CodeRef { offset, ..one.clone() }, CodeRef { offset, signature, ..one }] {
                prop_assert!(reference.resolve::<u64>().is_err(), "{}", reference);
            }
        }

        #[test]
        fn no_offset_into_a_library_does_harm(offset in 0_u64..(1 << 22)) {
            let reference = CodeRef { module: find_library(), offset, signature: 0 };
            prop_assert!(reference.resolve::<u64>().is_err(), "{}", reference);
        }
    }

    fn find_library() -> String {
        let path = crate::portable::module::find(|module| {
            (!module.is_program() && module.path().is_absolute()).then(|| module.path())
        });
        path.map_or_else(String::new, |path| path.canonicalize().unwrap().into_os_string().into_string().unwrap())
    }

    #[test]
    fn every_offset_in_the_program_except_those_of_its_statics_is_refused() {
        let one = CodeRef::to(&ONE).unwrap();
        let ends = (one.offset.saturating_sub(1 << 18), one.offset + (1 << 18));
        let found: Vec<u64> =
            (ends.0..ends.1).filter(|&offset| CodeRef { offset, ..one.clone() }.resolve::<u64>().is_ok()).collect();
        assert_eq!(found, [one.offset]);
    }
}
