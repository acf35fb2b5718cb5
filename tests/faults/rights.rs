//! A program that gives up rights: its workers give them up too, or are replaced.
//!
//! The tests need to be run as root, and say so if they are not.

#![expect(unsafe_code, reason = "the ids of all threads of a process are changed by the C library")]

use crate::room::*;
use rustix::process::{getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, no_new_privs, set_capabilities, set_no_new_privs};
use sprang::{Delayed, ErrorKind, ProcessExecutor, compute_with, delayed};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const NOBODY: u32 = 65534;

/// Runs the calling test as root in a process of its own, or says that it is skipped.
fn as_root<F: FnOnce()>(body: F) {
    match geteuid().is_root() {
        true => alone(body),
        false => say("skipped: only root can give up its rights"),
    }
}

/// Lets all users make files in the folder for temporary files.
fn share_temporary_files() {
    let folder = std::env::temp_dir();
    for folder in [folder.parent().unwrap(), &folder] {
        fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
    }
}

/// Makes this process, with all its threads, one of nobody.
fn become_nobody() {
    // SAFETY: the calls have no conditions; the list of groups is empty.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setgid(NOBODY), 0);
        assert_eq!(libc::setuid(NOBODY), 0);
    }
}

/// Users, groups and the number of further groups.
type Ids = (Vec<u32>, Vec<u32>, usize);

fn ids() -> Delayed<Ids> {
    delayed(
        || {
            let users = [getuid(), geteuid()].map(|id| id.as_raw()).to_vec();
            (users, [getgid(), getegid()].map(|id| id.as_raw()).to_vec(), getgroups().unwrap().len())
        },
        (),
    )
}

/// The ids of each of some tasks, which are slow enough for all workers to run some.
fn all_ids(executor: &Arc<ProcessExecutor>) -> Vec<Ids> {
    let slow = |ids: &Ids| {
        thread::sleep(Duration::from_millis(10));
        ids.clone()
    };
    compute_with(Arc::clone(executor), (0..8).map(|_| delayed(slow, (&ids(),))).collect::<Vec<_>>()).unwrap()
}

#[test]
fn workers_of_root_run_nothing_once_the_program_is_nobody() {
    as_root(|| {
        share_temporary_files();
        faults("nobody", 2, attempts(1), |executor| {
            assert!(all_ids(executor).iter().all(|ids| ids.0 == [0, 0]));
            become_nobody();
            let expected = (vec![NOBODY; 2], vec![NOBODY; 2], 0);
            assert_eq!(all_ids(executor), vec![expected; 8]);
        });
        assert!(children().is_empty());
    });
}

#[test]
fn a_task_that_may_not_be_killed_any_more_ends_at_its_timeout() {
    as_root(|| {
        share_temporary_files();
        let room = Room::new();
        fs::set_permissions(room.path(""), Permissions::from_mode(0o777)).unwrap();
        let hangs = |room: String| -> u32 {
            fs::write(Path::new(&room).join("begun"), "").unwrap();
            loop {
                thread::park();
            }
        };
        faults("timeout", 1, attempts(1), |executor| {
            let task = delayed(hangs, (room.name(),)).timeout(Duration::from_millis(500));
            let task = thread::scope(|scope| {
                let run = scope.spawn(|| task.compute_with(Arc::clone(executor)));
                wait_for(&room.path("begun"));
                become_nobody();
                run.join().unwrap()
            });
            assert_eq!(task.unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(ids().compute_with(Arc::clone(executor)).unwrap().0, [NOBODY; 2]);
        });
        assert!(children().is_empty());
    });
}

#[test]
fn a_program_that_is_nobody_for_a_while_has_workers_of_nobody_for_a_while() {
    as_root(|| {
        share_temporary_files();
        faults("for a while", 1, attempts(1), |executor| {
            let effective = || ids().compute_with(Arc::clone(executor)).unwrap().0[1];
            assert_eq!(effective(), 0);
            for user in [NOBODY, 0, NOBODY] {
                // SAFETY: the call has no conditions.
                assert_eq!(unsafe { libc::seteuid(user) }, 0);
                assert_eq!(effective(), user);
            }
        });
        assert!(children().is_empty());
    });
}

fn permitted() -> Delayed<u64> {
    delayed(|| capabilities(None).unwrap().permitted.bits(), ())
}

#[test]
fn capabilities_that_the_thread_gave_up_are_given_up_by_workers() {
    as_root(|| {
        faults("capabilities", 1, attempts(1), |executor| {
            let before = permitted().compute_with(Arc::clone(executor)).unwrap();
            assert_eq!(before, capabilities(None).unwrap().permitted.bits());
            // On this thread alone. The system gives a program of root all of them at its start.
            let left = CapabilitySet::from_bits_retain(before) & CapabilitySet::CHOWN;
            let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
            set_capabilities(None, sets).unwrap();
            assert_eq!(permitted().compute_with(Arc::clone(executor)).unwrap(), left.bits());
            // Another thread has them still.
            let other = thread::scope(|scope| {
                let executor = Arc::clone(executor);
                scope.spawn(move || permitted().compute_with(executor)).join().unwrap()
            });
            assert_eq!(other.unwrap(), left.bits(), "a thread inherits what its maker has left");
        });
    });
}

#[test]
fn a_program_whose_programs_gain_nothing_has_such_workers() {
    alone(|| {
        faults("no new privileges", 1, attempts(1), |executor| {
            let is_final = || delayed(|| no_new_privs().unwrap(), ()).compute_with(Arc::clone(executor)).unwrap();
            assert_eq!(is_final(), no_new_privs().unwrap());
            set_no_new_privs(true).unwrap();
            assert!(is_final());
        });
    });
}
