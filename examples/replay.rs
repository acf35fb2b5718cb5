//! One task of many fails, and is called again alone, with the same inputs, so that a debugger can
//! stop in it.
//!
//! `cargo run --example replay`, or `SPRANG_SCHEDULER=processes cargo run --example replay`

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Delayed, ErrorKind, Refs, Replayed, config, delayed, try_delayed};

/// Every reading but one is a number.
fn read(sensor: usize) -> Vec<String> {
    (0..4).map(|i| if (sensor, i) == (17, 2) { "n/a".to_owned() } else { format!("{sensor}.{i}") }).collect()
}

fn mean(readings: Vec<String>) -> Result<f64, String> {
    let mut sum = 0.0;
    for (i, reading) in readings.iter().enumerate() {
        // The replay reaches a breakpoint here with the readings of the failing sensor only.
        sum += reading.parse::<f64>().map_err(|error| format!("reading {i} is {reading:?}: {error}"))?;
    }
    Ok(sum / readings.len() as f64)
}

fn largest(means: Refs<'_, f64>) -> f64 {
    means.iter().copied().fold(f64::MIN, f64::max)
}

fn main() -> sprang::Result<()> {
    let means: Vec<Delayed<f64>> = (0..100_usize)
        .map(|sensor| try_delayed(mean, (delayed(read, (sensor,)),)).name(format!("mean of sensor {sensor}")))
        .collect();
    let largest = delayed(largest, (&means,)).name("largest");

    let error = config::with("on_failure", "keep_inputs", || largest.compute())?.unwrap_err();
    println!("the run: {error}");
    assert_eq!(error.task(), Some("mean of sensor 17"));

    // This thread calls `mean` once, with the value of `read(17)`.
    match error.replay()? {
        Replayed::Failed(again) => {
            println!("again:   {again}");
            assert_eq!((again.kind(), again.message()), (ErrorKind::Failed, error.message()));
        }
        Replayed::Finished => println!("this time it finished"),
    }
    Ok(())
}
