//! What reads messages, given any bytes; see [`crate::fuzzing`].

#![allow(missing_docs, reason = "no part of what the crate offers")]

use super::protocol::{
    Bytes, Call, CallBatch, CallInput, CallReader, CallResult, CallWriter, Encoding, Payload, Ran, ResourceUpdate,
    ToParent, ToWorker,
};
use crate::executor::remote::call::CallOutcome;
use crate::portable::exchange::RegionRef;

/// As messages of both sides, and as the calls and results in them.
pub fn read_messages(bytes: &[u8]) {
    if let Ok(ToParent::Results { num_results, results, .. }) = postcard::from_bytes(bytes) {
        read_results(&results.into_bytes(), num_results);
    }
    if let Ok(ToWorker::Batch(work)) = postcard::from_bytes(bytes) {
        read_calls(&work.calls.into_bytes(), work.num_calls);
    }
    let bytes = Bytes(bytes.to_vec());
    read_results(&bytes, u32::MAX);
    read_calls(&bytes, u32::MAX);
}

fn read_results(bytes: &Bytes, count: u32) {
    let mut reader = CallReader::new(bytes);
    for _ in 0..count {
        let Ok(mut result) = reader.result() else { return };
        if matches!(result.outcome, CallOutcome::NotPortable(_) | CallOutcome::Skipped | CallOutcome::LacksInput(..)) {
            // A call that has not run is written without a time.
            result.ran = Ran::default();
        }
        let mut writer = CallWriter::default();
        write_result(&mut writer, &result);
        assert_eq!(CallReader::new(&writer.finish()).result().as_ref(), Ok(&result));
    }
}

fn read_calls(bytes: &Bytes, count: u32) {
    let mut reader = CallReader::new(bytes);
    for _ in 0..count {
        let Ok(call) = reader.call() else { return };
        let mut writer = CallWriter::default();
        write_call(&mut writer, &call);
        assert_eq!(CallReader::new(&writer.finish()).call().as_ref(), Ok(&call));
    }
}

fn write_encoding(writer: &mut CallWriter, encoding: &Encoding<'_>) {
    writer.encoding(encoding.bytes, encoding.regions.iter().copied());
}

fn write_call(writer: &mut CallWriter, call: &Call<'_>) {
    let place = writer.call(call.code, call.name, call.keep, call.inputs.len() as u32);
    for input in &call.inputs {
        match input {
            CallInput::Earlier(index) => writer.input_earlier(*index),
            CallInput::Kept(key) => writer.input_kept(*key),
            CallInput::Value { code, keep, value } => {
                writer.input_value(*code, *keep);
                write_encoding(writer, value);
            }
        }
    }
    write_encoding(writer, &call.args);
    writer.ship(place, call.ship);
}

fn write_result(writer: &mut CallWriter, result: &CallResult<'_>) {
    let CallResult { index, ran, kept, ref outcome } = *result;
    match outcome {
        CallOutcome::Value(Some(value)) => {
            writer.result_value(index, ran, kept);
            write_encoding(writer, value);
        }
        CallOutcome::Value(None) => writer.result_unsent(index, ran, kept),
        CallOutcome::Returned(texts) => {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            writer.result_returned(index, ran, &texts);
        }
        CallOutcome::Panicked(message) => writer.result_panicked(index, ran, message),
        CallOutcome::NotPortable(message) => writer.result_not_portable(index, message),
        CallOutcome::Skipped => writer.result_skipped(index),
        CallOutcome::LacksInput(input, message) => writer.result_lacks_input(index, *input, message),
    }
}

pub fn message_seeds() -> Vec<Vec<u8>> {
    let encoding =
        |bytes| Encoding { bytes, regions: vec![RegionRef { id: 1 << 32, len: 10 }, RegionRef { id: 2, len: 3 }] };
    let inputs = vec![
        CallInput::Earlier(7),
        CallInput::Kept(8),
        CallInput::Value { code: 2, keep: 5, value: encoding(b"value") },
    ];
    let (mut calls, mut results) = (CallWriter::default(), CallWriter::default());
    write_call(&mut calls, &Call { code: 3, name: Some("load"), ship: true, keep: 9, inputs, args: encoding(b"args") });
    let outcomes = [
        CallOutcome::Value(Some(encoding(b"value"))),
        CallOutcome::Value(None),
        CallOutcome::Returned(vec!["outer", "inner"]),
        CallOutcome::Panicked("oh"),
        CallOutcome::NotPortable("no"),
        CallOutcome::Skipped,
        CallOutcome::LacksInput(1, "not this"),
    ];
    let num_results = outcomes.len() as u32;
    for (index, outcome) in (0..).zip(outcomes) {
        write_result(&mut results, &CallResult { index, ran: Ran { started_ns: 3, ns: 17 }, kept: index < 2, outcome });
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
    let body = || Payload::Inline(Bytes(b"what is asked".to_vec()));
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
