//! Large pages for large arrays.
//!
//! The first access to a page costs more than a small task: 0.4 to 0.5 ns per byte, so 15 ns for a
//! task's cell alone. With pages of 2 MiB, which Linux gives on request, it costs 0.06 ns per byte.
//! The first plan and run of a chain of a million tasks took 36 ns per task with large pages and 55
//! ns without (2 cores of a shared AMD EPYC VM, November 2026, medians of 16).

#![cfg_attr(all(target_os = "linux", not(miri)), expect(unsafe_code, reason = "`madvise` is a call on raw memory"))]

/// An empty vector with room for `capacity` items, on large pages if it is large.
pub(crate) fn vec_with_capacity<T>(capacity: usize) -> Vec<T> {
    let mut vec = Vec::<T>::with_capacity(capacity);
    system::ask_for_large_pages(vec.spare_capacity_mut());
    vec
}

/// Makes room for `additional` more items, on large pages if the vector is large.
#[inline]
pub(super) fn reserve<T>(vec: &mut Vec<T>, additional: usize) {
    if vec.capacity() - vec.len() < additional {
        grow(vec, additional);
    }
}

#[cold]
fn grow<T>(vec: &mut Vec<T>, additional: usize) {
    let mut larger = vec_with_capacity((2 * vec.capacity()).max(vec.len() + additional));
    larger.append(vec);
    *vec = larger;
}

#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use rustix::mm::{Advice, madvise};
    use std::mem::MaybeUninit;

    const LARGE_PAGE: usize = 2 << 20;
    /// Below this size the gain is not worth the call and the unused memory at the ends.
    const WORTH_ASKING: usize = 2 * LARGE_PAGE;

    pub(super) fn ask_for_large_pages<T>(memory: &mut [MaybeUninit<T>]) {
        let bytes = size_of_val(memory);
        if bytes < WORTH_ASKING {
            return;
        }
        let start = memory.as_mut_ptr().cast::<u8>();
        let skipped = start.align_offset(LARGE_PAGE);
        let whole = (bytes - skipped) / LARGE_PAGE * LARGE_PAGE;
        // SAFETY: the range lies within `memory`, and the advice does not change its contents. The
        // result is ignored, since the memory can be used whether the system follows the advice or
        // not.
        let _ = unsafe { madvise(start.add(skipped).cast(), whole, Advice::LinuxHugepage) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    pub(super) fn ask_for_large_pages<T>(_: &mut [std::mem::MaybeUninit<T>]) {}
}
