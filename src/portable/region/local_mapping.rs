//! Memory of this process alone: where there are no worker processes, and under Miri.

use super::PAGE;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const REFUSAL: &str = "shared memory cannot be sent on this platform";

#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

#[derive(Debug)]
pub(super) struct Mapping(Vec<Page>);

impl Mapping {
    #[expect(clippy::unnecessary_wraps, reason = "the shared mapping can fail")]
    pub(super) fn allocate(len: usize) -> Result<Self, String> {
        Ok(Mapping(vec![Page([0; PAGE]); len.div_ceil(PAGE)]))
    }

    pub(super) fn bytes(&mut self) -> (*mut u8, usize) {
        (self.0.as_mut_ptr().cast(), self.0.len() * PAGE)
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as for the shared mapping")]
    pub(super) fn make_read_only(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl Serialize for Mapping {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(REFUSAL))
    }
}

impl<'de> Deserialize<'de> for Mapping {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(REFUSAL))
    }
}
