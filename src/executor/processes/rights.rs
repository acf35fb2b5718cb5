//! The rights of a thread: its ids, groups and capabilities.
//!
//! A worker must not have more of them than the thread that computes. It would have more in these
//! ways: it was started before the program gave some up; the program gave them up on one thread
//! alone; or the system gave them back at the start of the worker, because its user is root, or
//! because the executable has capabilities or the set-user-ID bit. So a worker
//! [gives up](Rights::take_over) what its parent's thread does not have, and workers with other
//! rights are replaced.
//!
//! The bounding set of capabilities and the secure bits are not compared: they matter to programs
//! that a task starts, and a worker inherits them from the thread of its slot.

use parking_lot::Mutex;
use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, no_new_privs, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use std::fmt;
use std::io;
use std::sync::Arc;

/// See the [module](self). `Display` and [`parse`](Rights::parse) carry it to another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// Real and effective.
    users: [u32; 2],
    groups: [u32; 2],
    more_groups: Vec<u32>,
    /// Permitted, effective and inheritable, if the system tells them.
    capabilities: Option<[u64; 3]>,
    /// Programs that it starts gain none.
    is_final: bool,
}

impl Rights {
    /// Seven calls of the system, half a microsecond.
    pub(super) fn of_this_thread() -> Rights {
        let more_groups = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
        Rights {
            users: [getuid().as_raw(), geteuid().as_raw()],
            groups: [getgid().as_raw(), getegid().as_raw()],
            more_groups,
            capabilities: capabilities(None)
                .ok()
                .map(|sets| [sets.permitted, sets.effective, sets.inheritable].map(|set| set.bits())),
            is_final: no_new_privs().unwrap_or(false),
        }
    }

    /// Gives up what these rights do not have. For a process with one thread.
    ///
    /// # Errors
    /// If the system refuses one of the changes.
    pub(super) fn take_over(&self) -> io::Result<()> {
        let own = Rights::of_this_thread();
        if own == *self {
            return Ok(());
        }
        // Groups first: a process that is no longer root cannot change them.
        if own.more_groups != self.more_groups {
            set_thread_groups(&self.more_groups.iter().map(|&group| Gid::from_raw(group)).collect::<Vec<_>>())?;
        }
        if own.groups != self.groups {
            let [real, effective] = self.groups.map(Gid::from_raw);
            set_thread_res_gid(real, effective, effective)?;
        }
        if own.users != self.users {
            let [real, effective] = self.users.map(Uid::from_raw);
            set_thread_res_uid(real, effective, effective)?;
        }
        // The change of the user may have taken some already.
        if let (Some(wanted), Some(own)) = (self.capabilities, Rights::of_this_thread().capabilities) {
            let [permitted, effective, inheritable] =
                std::array::from_fn(|set| CapabilitySet::from_bits_retain(own[set] & wanted[set]));
            if [permitted, effective, inheritable].map(|set| set.bits()) != own {
                set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
            }
        }
        if self.is_final {
            set_no_new_privs(true)?;
        }
        Ok(())
    }

    /// Reads the text that `Display` writes.
    pub(super) fn parse(text: &str) -> Option<Rights> {
        let mut parts = text.split(',');
        let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
        let mut id = || number(10)?.try_into().ok();
        let (users, groups) = ([id()?, id()?], [id()?, id()?]);
        let is_final = number(10)? != 0;
        let capabilities = match number(10)? {
            0 => None,
            _ => Some([number(16)?, number(16)?, number(16)?]),
        };
        let more_groups = parts.map(|group| group.parse().ok()).collect::<Option<_>>()?;
        Some(Rights { users, groups, more_groups, capabilities, is_final })
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [[user, effective_user], [group, effective_group]] = [self.users, self.groups];
        write!(f, "{user},{effective_user},{group},{effective_group},{}", u8::from(self.is_final))?;
        match self.capabilities {
            None => f.write_str(",0")?,
            Some([permitted, effective, inheritable]) => {
                write!(f, ",1,{permitted:x},{effective:x},{inheritable:x}")?;
            }
        }
        self.more_groups.iter().try_for_each(|group| write!(f, ",{group}"))
    }
}

/// The rights that the runs of a pool had, each with a number. A program has few.
#[derive(Debug, Default)]
pub(super) struct KnownRights(Mutex<Vec<Arc<Rights>>>);

impl KnownRights {
    /// The number of the rights of this thread.
    pub(super) fn number_here(&self) -> u32 {
        let here = Rights::of_this_thread();
        let mut known = self.0.lock();
        let number = known.iter().position(|rights| **rights == here).unwrap_or_else(|| {
            known.push(Arc::new(here));
            known.len() - 1
        });
        number as u32
    }

    pub(super) fn get(&self, number: u32) -> Arc<Rights> {
        Arc::clone(&self.0.lock()[number as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_cross_as_text() {
        let here = Rights::of_this_thread();
        let others = [
            Rights::default(),
            Rights { users: [0, u32::MAX], more_groups: vec![1, 2, 3], ..Rights::default() },
            Rights { capabilities: Some([u64::MAX, 1, 0]), is_final: true, more_groups: vec![7], ..Rights::default() },
        ];
        for rights in others.iter().chain([&here]) {
            let text = rights.to_string();
            assert!(!text.contains(':'), "{text}");
            assert_eq!(Rights::parse(&text).as_ref(), Some(rights), "{text}");
        }
        for wrong in ["", "1", "1,2,3,4,0", "1,2,3,4,0,1,2", "1,2,3,4,0,0,x", "4294967296,0,0,0,0,0", "-1,0,0,0,0,0"] {
            assert_eq!(Rights::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn rights_have_one_number() {
        let known = KnownRights::default();
        assert_eq!((known.number_here(), known.number_here()), (0, 0));
        assert_eq!(*known.get(0), Rights::of_this_thread());
    }
}
