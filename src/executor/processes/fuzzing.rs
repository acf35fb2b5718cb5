//! Reads messages from any bytes; see [`crate::fuzzing`].

#![allow(missing_docs, reason = "not part of the crate's API")]

use super::protocol::{CallBatch, Payload, ResourceUpdate, ToParent, ToWorker};
use crate::executor::remote::call::{
    ByteString, Call, CallInput, CallOutcome, CallReader, CallResult, CallWriter, Encoding, Ran,
};
use crate::portable::exchange::RegionRef;

/// Reads the bytes as messages of both sides, and as the calls and results in them.
pub fn read_messages(bytes: &[u8]) {
    if let Ok(ToParent::Results { num_results, results, .. }) = postcard::from_bytes(bytes) {
        read_results(&results.into_bytes(), num_results);
    }
    if let Ok(ToWorker::Batch(work)) = postcard::from_bytes(bytes) {
        read_calls(&work.calls.into_bytes(), work.num_calls);
    }
    let bytes = ByteString(bytes.to_vec());
    read_results(&bytes, u32::MAX);
    read_calls(&bytes, u32::MAX);
}

fn read_results(bytes: &ByteString, count: u32) {
    let mut reader = CallReader::new(bytes);
    for _ in 0..count {
        let Ok(result) = reader.result() else { return };
        let mut writer = CallWriter::default();
        writer.result(&result);
        assert_eq!(CallReader::new(&writer.finish()).result().as_ref(), Ok(&result));
    }
}

fn read_calls(bytes: &ByteString, count: u32) {
    let mut reader = CallReader::new(bytes);
    for _ in 0..count {
        let Ok(call) = reader.call() else { return };
        let mut writer = CallWriter::default();
        writer.whole_call(&call);
        assert_eq!(CallReader::new(&writer.finish()).call().as_ref(), Ok(&call));
    }
}

pub fn message_seeds() -> Vec<Vec<u8>> {
    let encoding =
        |bytes| Encoding { bytes, regions: vec![RegionRef { id: 1 << 32, len: 10 }, RegionRef { id: 2, len: 3 }] };
    let inputs = vec![
        CallInput::Earlier { index: 7, takes_error: false },
        CallInput::Earlier { index: 7, takes_error: true },
        CallInput::Failed(b"error"),
        CallInput::Kept(8),
        CallInput::Value { code: 2, keep: 5, value: encoding(b"value") },
    ];
    let (mut calls, mut results) = (CallWriter::default(), CallWriter::default());
    calls.whole_call(&Call { code: 3, name: Some("load"), ship: true, keep: 9, inputs, args: encoding(b"args") });
    let outcomes = [
        CallOutcome::Value(Some(encoding(b"value"))),
        CallOutcome::Value(None),
        CallOutcome::Returned(vec!["outer".into(), "inner".into()]),
        CallOutcome::Panicked("oh".into()),
        CallOutcome::NotPortable("no".into()),
        CallOutcome::Skipped,
        CallOutcome::LacksInput(1, "not this".into()),
    ];
    let num_results = outcomes.len() as u32;
    for (index, outcome) in (0..).zip(outcomes) {
        results.result(&CallResult { index, ran: Ran { started_ns: 3, ns: 17 }, kept: index < 1, outcome });
    }
    let (calls, results) = (calls.finish(), results.finish());
    let update = || ResourceUpdate {
        released: vec![(1, 2)],
        forgotten: vec![3],
        dropped: vec![4],
        ended: vec![5],
        ..ResourceUpdate::default()
    };
    let up = ToParent::Results {
        batch: 1,
        is_last: true,
        num_results,
        results: Payload::Inline(results.clone()),
        update: update(),
    };
    let down = ToWorker::Batch(CallBatch {
        batch: 1,
        run: 2,
        task_context: None,
        codes: Vec::new(),
        num_calls: 1,
        calls: Payload::Inline(calls.clone()),
        update: update(),
    });
    let body = || Payload::Inline(ByteString(b"a request".to_vec()));
    let message = "a message";
    vec![
        calls.0,
        results.0,
        postcard::to_stdvec(&up).expect(message),
        postcard::to_stdvec(&down).expect(message),
        postcard::to_stdvec(&ToParent::Resources(update())).expect(message),
        postcard::to_stdvec(&ToParent::Ready(Err("no".into()))).expect(message),
        postcard::to_stdvec(&ToParent::Request { number: 1, batch: 2, index: 3, body: body() }).expect(message),
        postcard::to_stdvec(&ToWorker::Response { number: 1, is_rest_revoked: true, body: Some(body()) })
            .expect(message),
    ]
}
