//! Tasks that write to file descriptors that are not their own.

use crate::deeds::{open_files, write_to};
use crate::room::*;
use sprang::{ErrorKind, compute_with, config, delayed, lit};
use std::sync::Arc;

/// The bytes to write.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
enum Junk {
    /// This many arbitrary bytes.
    Noise(usize),
    /// This many bytes in the frame that ipc-channel expects, with a true or a false length.
    Framed(usize, bool),
    /// A valid message that only the parent may send: `ToParent::WakeForEnd`.
    Impostor,
    /// Results of the first batch: its call was skipped, and a call that does not exist has a
    /// result.
    OneTooMany,
    /// Results of the first batch: its call has run, without the value that was asked for.
    WithoutValue,
}

/// `ToParent::Results` of the first batch, with an empty resource update.
fn results(is_last: bool, results: &[(u32, u8)]) -> Vec<u8> {
    // The index, the start and the time of the call, and how it ended.
    let bodies: Vec<u8> =
        results.iter().flat_map(|(index, tag)| [&index.to_le_bytes()[..], &[0; 16], &[*tag]].concat()).collect();
    [&[1, 1, u8::from(is_last), results.len() as u8, 0, bodies.len() as u8][..], &bodies, &[0; 5]].concat()
}

impl Junk {
    fn bytes(self) -> Vec<u8> {
        let noise = |len: usize| {
            let mut dice = Dice(len as u64);
            (0..len).map(|_| dice.below(256) as u8).collect::<Vec<u8>>()
        };
        let framed = |content: &[u8], len: usize| {
            [&(16 + content.len() as u64).to_ne_bytes(), &(len as u64).to_ne_bytes(), content].concat()
        };
        match self {
            Junk::Noise(len) => noise(len),
            Junk::Framed(len, is_true) => framed(&noise(len), if is_true { len } else { usize::MAX / 4 }),
            Junk::Impostor => framed(&[4], 1),
            Junk::OneTooMany => {
                let content = results(false, &[(0, 7), (9, 7)]);
                framed(&content, content.len())
            }
            Junk::WithoutValue => {
                let content = results(true, &[(0, 2)]);
                framed(&content, content.len())
            }
        }
    }
}

/// Writes junk to all sockets of the process. Returns how many accepted it.
fn scribble(junk: Junk) -> usize {
    let bytes = junk.bytes();
    let sockets = open_files().into_iter().filter(|(_, target)| target.starts_with("socket:"));
    sockets.filter(|&(number, _)| write_to(number, &bytes)).count()
}

#[test]
fn a_task_that_writes_to_the_channels_of_its_worker_costs_the_worker() {
    let noise = [1, 17, 60_000].map(Junk::Noise);
    let framed = [(1, true), (8, true), (500, true), (8, false)].map(|(len, is_true)| Junk::Framed(len, is_true));
    for junk in noise.into_iter().chain(framed).chain([Junk::Impostor, Junk::OneTooMany, Junk::WithoutValue]) {
        let room = Room::new();
        faults(&format!("{junk:?}"), 2, attempts(3), |executor| {
            let task = delayed(
                |room: String, junk: &Junk| {
                    if note_attempt(&room) == 0 {
                        assert!(scribble(*junk) > 0);
                    }
                    std::process::id()
                },
                (room.name(), lit(junk)),
            );
            let others: Vec<_> = (0..200_u64).map(|n| delayed(|n: u64| 2 * n, (n,))).collect();
            let _scope = config::scoped("errors", "collect").unwrap();
            let (pid, others) = compute_with(Arc::clone(executor), (task, others)).unwrap();
            assert!(others.into_iter().enumerate().all(|(n, value)| value == 2 * n as u64));
            // The worker of the task is gone, at the latest when the next run looks for it.
            assert_eq!(pid, room.pid("attempt-1"));
            wait_until_gone(room.pid("attempt-0"));
            assert!(delayed(std::process::id, ()).compute_with(Arc::clone(executor)).is_ok());
        });
    }
}

/// The error says what is wrong with the message, so each message is valid apart from that.
#[test]
fn results_that_fit_no_call_are_refused_for_what_they_are() {
    for (junk, problem) in [
        (Junk::OneTooMany, "a result of call 9, which it was not asked for"),
        (Junk::WithoutValue, "a result of call 0 without the value"),
    ] {
        faults(&format!("{junk:?}"), 1, attempts(1), |executor| {
            let forge = |junk: &Junk| -> u32 {
                assert!(scribble(*junk) > 0);
                hold()
            };
            let error = delayed(forge, (lit(junk),)).compute_with(Arc::clone(executor)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerDied, "{error}");
            assert!(error.to_string().contains(problem), "{error}");
        });
    }
}
