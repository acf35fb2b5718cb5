//! The decoder, as safe as its C allows: no wrapper can undo the harm that C does to its process.

use serde::{Deserialize, Serialize};
use std::ffi::{CStr, c_char, c_int};
use std::{ptr, slice};

/// A task returns it, so it can be encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    pub width: u16,
    pub height: u16,
    pub num_shown: u32,
    pub pixels: Vec<u8>,
}

/// `struct tiny_picture` of `tiny.h`.
#[repr(C)]
struct RawPicture {
    width: u16,
    height: u16,
    num_shown: u32,
    pixels: *mut u8,
}

unsafe extern "C" {
    fn tiny_decode(data: *const u8, size: usize, picture: *mut RawPicture) -> c_int;
    fn tiny_message(status: c_int) -> *const c_char;
    fn tiny_free(pixels: *mut u8);
}

/// Decodes a TINY file.
#[expect(clippy::ptr_arg, reason = "`lit` lends what it holds, and that is a vector")]
pub fn decode(file: &Vec<u8>) -> Result<Picture, String> {
    let mut raw = RawPicture { width: 0, height: 0, num_shown: 0, pixels: ptr::null_mut() };
    // SAFETY: the pointers are to `len` bytes of the file and to room for a picture. Whether the C
    // stays within them is the subject of this program.
    let status = unsafe { tiny_decode(file.as_ptr(), file.len(), &mut raw) };
    if status != 0 {
        // SAFETY: it takes any status and returns a static C string.
        let message = unsafe { CStr::from_ptr(tiny_message(status)) };
        return Err(message.to_string_lossy().into_owned());
    }
    let num_pixels = usize::from(raw.width) * usize::from(raw.height);
    // SAFETY: after success the C has written this number of pixels, and has given them to the
    // caller.
    let pixels = unsafe { slice::from_raw_parts(raw.pixels, num_pixels) }.to_vec();
    // SAFETY: the pixels come from `tiny_decode`, and nothing uses them any more.
    unsafe { tiny_free(raw.pixels) };
    Ok(Picture { width: raw.width, height: raw.height, num_shown: raw.num_shown, pixels })
}
