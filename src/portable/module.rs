//! The modules of this process: its program and its loaded libraries, as the dynamic loader lists
//! them.
//!
//! # What the unsafe code rests on
//! 1. A [`Module`] lives only within the call that [`find`] makes. During it the loader holds its
//!    lock and keeps its list unchanged.
//! 2. The segments that the loader lists are mapped completely for as long as the module is loaded.
//!    A read of the loader's own tables (the dynamic section and the strings) stays within a
//!    readable segment of their module, and these tables do not change after loading.
//! 3. Nothing else is read here. Callers decide whether an address holds what they want.

#![expect(unsafe_code, reason = "asks the loader, and reads its tables")]

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::slice;

/// One module, during a call of [`find`].
pub(crate) struct Module<'a> {
    info: &'a libc::dl_phdr_info,
    is_program: bool,
}

/// An entry of a module's dynamic section.
#[repr(C)]
#[derive(Clone, Copy)]
struct DynamicEntry {
    tag: isize,
    value: usize,
}

const DT_NULL: isize = 0;
const DT_NEEDED: isize = 1;
const DT_STRTAB: isize = 5;
const DT_STRSZ: isize = 10;
const DT_SONAME: isize = 14;
const DT_INIT_ARRAY: isize = 25;
const DT_INIT_ARRAYSZ: isize = 27;

/// Passes the modules to `inspect`, the program first, until it returns a result. A panic in
/// `inspect` aborts.
pub(crate) fn find<R>(mut inspect: impl FnMut(&Module<'_>) -> Option<R>) -> Option<R> {
    struct ModuleSearch<'s, R> {
        inspect: &'s mut dyn FnMut(&Module<'_>) -> Option<R>,
        num_seen: usize,
        found: Option<R>,
    }

    unsafe extern "C" fn visit<R>(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
        // SAFETY: `data` is the pointer that the loader was given below, to a value that is used
        // only here during the call; `info` describes a module and is valid until this function
        // returns (rule 1).
        let (search, info) = unsafe { (&mut *data.cast::<ModuleSearch<'_, R>>(), &*info) };
        // The manual of dl_iterate_phdr: the first object is the main program.
        let module = Module { info, is_program: search.num_seen == 0 };
        search.num_seen += 1;
        search.found = (search.inspect)(&module);
        c_int::from(search.found.is_some())
    }

    let mut search = ModuleSearch { inspect: &mut inspect, num_seen: 0, found: None };
    // SAFETY: `visit` has the type that the loader expects, and casts `data` back to the type of
    // `search`.
    unsafe { libc::dl_iterate_phdr(Some(visit::<R>), (&raw mut search).cast()) };
    search.found
}

impl Module<'_> {
    pub(crate) fn is_program(&self) -> bool {
        self.is_program
    }

    /// The offset between the addresses in the module's file and those in memory.
    pub(crate) fn base(&self) -> usize {
        self.info.dlpi_addr as usize
    }

    /// The path by which a library was loaded; meaningless for the program.
    pub(crate) fn path(&self) -> PathBuf {
        if self.info.dlpi_name.is_null() {
            return PathBuf::new();
        }
        // SAFETY: the loader's name is a C string that lives as long as its description of the
        // module (rule 1).
        let name = unsafe { CStr::from_ptr(self.info.dlpi_name) };
        Path::new(OsStr::from_bytes(name.to_bytes())).to_path_buf()
    }

    fn headers(&self) -> &[ProgramHeader] {
        if self.info.dlpi_phdr.is_null() {
            return &[];
        }
        // SAFETY: the loader lists `dlpi_phnum` headers at this address, and they live as long as
        // `info` (rule 1).
        unsafe { slice::from_raw_parts(self.info.dlpi_phdr, usize::from(self.info.dlpi_phnum)) }
    }

    /// Whether the whole range lies within one segment that allows this access.
    pub(crate) fn contains(&self, range: &Range<usize>, access: Access) -> bool {
        let flag = match access {
            Access::Read => libc::PF_R,
            Access::Execute => libc::PF_X,
        };
        self.headers().iter().any(|header| {
            let start = self.base().wrapping_add(header.p_vaddr as usize);
            let Some(end) = start.checked_add(header.p_memsz as usize) else { return false };
            header.p_type == libc::PT_LOAD && header.p_flags & flag != 0 && start <= range.start && range.end <= end
        })
    }

    /// The dynamic section; empty for a static program.
    fn dynamic(&self) -> &[DynamicEntry] {
        let Some(header) = self.headers().iter().find(|header| header.p_type == libc::PT_DYNAMIC) else { return &[] };
        let start = self.base().wrapping_add(header.p_vaddr as usize);
        let Some(end) = start.checked_add(header.p_memsz as usize) else { return &[] };
        if !self.contains(&(start..end), Access::Read) || !start.is_multiple_of(align_of::<DynamicEntry>()) {
            return &[];
        }
        // SAFETY: the section lies within a readable segment, which stays mapped while the module
        // is loaded (rule 2); it is aligned, and any bytes are valid entries.
        unsafe { slice::from_raw_parts(start as *const DynamicEntry, (end - start) / size_of::<DynamicEntry>()) }
    }

    fn entries(&self) -> impl Iterator<Item = DynamicEntry> {
        self.dynamic().iter().copied().take_while(|entry| entry.tag != DT_NULL)
    }

    fn entry(&self, tag: isize) -> Option<usize> {
        self.entries().find(|entry| entry.tag == tag).map(|entry| entry.value)
    }

    /// The address that an entry means. Some loaders replace the offset in the file by the address,
    /// others do not.
    fn address_of(&self, value: usize, size: usize) -> Option<usize> {
        [value, self.base().wrapping_add(value)]
            .into_iter()
            .find(|&start| start.checked_add(size).is_some_and(|end| self.contains(&(start..end), Access::Read)))
    }

    fn strings(&self) -> &[u8] {
        let (Some(offset), Some(size)) = (self.entry(DT_STRTAB), self.entry(DT_STRSZ)) else { return &[] };
        let Some(start) = self.address_of(offset, size) else { return &[] };
        // SAFETY: `address_of` found these bytes within a readable segment, which stays mapped and
        // unchanged (rule 2).
        unsafe { slice::from_raw_parts(start as *const u8, size) }
    }

    fn string(&self, offset: usize) -> Option<&OsStr> {
        let text = CStr::from_bytes_until_nul(self.strings().get(offset..)?).ok()?;
        Some(OsStr::from_bytes(text.to_bytes()))
    }

    /// The names of the libraries that the module was linked with.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &OsStr> {
        self.entries().filter(|entry| entry.tag == DT_NEEDED).filter_map(|entry| self.string(entry.value))
    }

    /// Whether a module that was linked with a library of this name means this module.
    pub(crate) fn has_name(&self, name: &OsStr) -> bool {
        let path = self.path();
        self.entry(DT_SONAME).and_then(|offset| self.string(offset)) == Some(name)
            || path.as_os_str() == name
            || path.file_name() == Some(name)
    }

    /// The table of the addresses of the module's constructors. `None` if the module has no such
    /// table, as a static program without relocation.
    pub(crate) fn constructors(&self) -> Option<Range<usize>> {
        let (offset, size) = (self.entry(DT_INIT_ARRAY)?, self.entry(DT_INIT_ARRAYSZ)?);
        let start = self.address_of(offset, size)?;
        Some(start..start + size)
    }
}

/// What a segment may be used for.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Read,
    Execute,
}

#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type ProgramHeader = libc::Elf32_Phdr;

#[cfg(test)]
mod tests {
    use super::*;

    static HERE: u64 = 7;

    fn range_of<T>(item: &T) -> Range<usize> {
        let start = std::ptr::from_ref(item) as usize;
        start..start + size_of::<T>()
    }

    #[test]
    fn the_program_has_its_statics_and_can_run_its_functions() {
        let program =
            |access, range: Range<usize>| find(|module| module.contains(&range, access).then(|| module.is_program()));
        let code = the_program_has_its_statics_and_can_run_its_functions as fn() as usize;
        assert_eq!(program(Access::Read, range_of(&HERE)), Some(true));
        assert_eq!(program(Access::Execute, code..code + 1), Some(true));
        assert_eq!(program(Access::Execute, range_of(&HERE)), None);
    }

    #[test]
    fn allocated_memory_lies_in_no_module() {
        let boxed = Box::new(7_u64);
        assert!(find(|module| module.contains(&range_of(&*boxed), Access::Read).then_some(())).is_none());
    }

    #[test]
    fn a_range_that_leaves_its_segment_is_not_in_it() {
        let start = &raw const HERE as usize;
        assert!(find(|module| module.contains(&(start..usize::MAX), Access::Read).then_some(())).is_none());
    }

    #[test]
    fn each_library_that_the_program_was_linked_with_is_loaded() {
        let needed = find(|program| Some(program.needed().map(OsStr::to_owned).collect::<Vec<_>>())).unwrap();
        for name in &needed {
            assert!(find(|module| module.has_name(name).then_some(())).is_some(), "{name:?}");
        }
    }
}
