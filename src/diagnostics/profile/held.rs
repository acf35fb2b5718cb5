//! The values that a run held, their lifetimes, and their readers.
//!
//! A value lives from the end of its task to the end of its last reader, and both are recorded.

use super::data::{Outcome, RunProfile};
use super::encode;
use crate::sorted::sort_items;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The moment at which the values of a run took the most memory. See [`RunProfile::peak`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Peak {
    /// The time of the peak.
    #[serde(rename = "at_s", serialize_with = "encode::write_time")]
    pub at: Duration,
    /// The number of values.
    pub num_values: usize,
    /// The known bytes of these values.
    pub bytes: u64,
    /// The values by name, the name with the most bytes first.
    pub held: Vec<HeldValues>,
}

/// Values of one name that are held at one moment. See [`Peak::held`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HeldValues {
    /// The name of their tasks, with `#` in place of each number.
    #[serde(serialize_with = "encode::write_name")]
    pub name: Arc<str>,
    /// The number of values.
    pub count: usize,
    /// The known bytes of these values.
    pub bytes: u64,
    /// The name of the tasks that will read most of these values; `None` for outputs.
    #[serde(serialize_with = "encode::write_name_option")]
    pub held_for: Option<Arc<str>>,
}

/// The lifetime of a value, from the end of its task to the end of its last reader.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    id: u32,
    from_ns: u64,
    to_ns: u64,
    bytes: u64,
}

impl RunProfile {
    /// The number of live values, at each moment that it changes. A value lives from the end of
    /// its task to the end of its last reader; an output lives to the end of the run.
    ///
    /// In a sample, only recorded tasks count.
    pub fn live_values(&self) -> Vec<(Duration, usize)> {
        steps(&self.lifetimes(), |_| 1).into_iter().map(|(at, count)| (at, count as usize)).collect()
    }

    /// The bytes of live values, at each moment that they change. A value counts with its
    /// [`TaskRecord::value`](super::TaskRecord::value).
    pub fn live_bytes(&self) -> Vec<(Duration, u64)> {
        steps(&self.lifetimes(), |lifetime| lifetime.bytes)
    }

    /// Whether of some value only the size of the type is known, and not what the value owns.
    pub(super) fn has_unknown_sizes(&self) -> bool {
        self.records.iter().any(|record| record.value().is_some_and(|size| !size.is_whole))
    }

    /// The moment at which the values of the run took the most memory, and the values held then.
    /// `None` if no value was held.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Refs, delayed};
    ///
    /// let part = |i: u64| delayed(|i| i, (i,)).name(format!("part {i}"));
    /// let parts: Vec<_> = (0..5).map(part).collect();
    /// let sum = delayed(|parts: Refs<u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum");
    /// let (_, profile) = sprang::profile(|| sum.compute());
    /// let peak = profile.runs()[0].peak().unwrap();
    /// assert_eq!((peak.num_values, peak.bytes), (6, 48)); // the parts and the sum
    /// let parts = &peak.held[0];
    /// assert_eq!((&*parts.name, parts.count, parts.bytes), ("part #", 5, 40));
    /// assert_eq!(parts.held_for.as_deref(), Some("sum"));
    /// ```
    pub fn peak(&self) -> Option<Peak> {
        let lifetimes = self.lifetimes();
        let highest = |steps: Vec<(Duration, u64)>| steps.into_iter().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let (at, bytes) = highest(steps(&lifetimes, |lifetime| lifetime.bytes))?;
        let at_ns = at.as_nanos() as u64;
        // Values that begin or end at this moment are both alive.
        let held: Vec<Lifetime> =
            lifetimes.into_iter().filter(|lifetime| lifetime.from_ns <= at_ns && at_ns <= lifetime.to_ns).collect();
        let held_for = self.readers_after(at_ns, &held);
        let mut by_family: Vec<(usize, u64, HashMap<u32, usize>)> = Vec::new();
        by_family.resize_with(self.graph.num_families(), Default::default);
        for lifetime in &held {
            let (count, bytes, readers) = &mut by_family[self.graph.family(lifetime.id) as usize];
            *count += 1;
            *bytes += lifetime.bytes;
            if let Some(&reader) = held_for.get(&lifetime.id) {
                *readers.entry(reader).or_default() += 1;
            }
        }
        let name = |family: u32| Arc::clone(self.graph.family_name(family));
        let mut rows: Vec<HeldValues> = by_family
            .into_iter()
            .zip(0..)
            .filter(|((count, ..), _)| *count > 0)
            .map(|((count, bytes, readers), family)| {
                let most = readers.into_iter().max_by_key(|&(reader, count)| (count, std::cmp::Reverse(reader)));
                HeldValues { name: name(family), count, bytes, held_for: most.map(|(reader, _)| name(reader)) }
            })
            .collect();
        sort_items(&mut rows, |a, b| (b.bytes, b.count).cmp(&(a.bytes, a.count)));
        Some(Peak { at, num_values: held.len(), bytes, held: rows })
    }

    /// For each of these values, the family of its last reader, unless that reader ended before.
    fn readers_after(&self, at_ns: u64, held: &[Lifetime]) -> HashMap<u32, u32> {
        let ended = self.ended_ns();
        let mut last: HashMap<u32, (u64, u32)> = held.iter().map(|lifetime| (lifetime.id, (0, u32::MAX))).collect();
        for id in 0..self.num_tasks() as u32 {
            let at = ended[id as usize].unwrap_or(u64::MAX);
            for input in self.graph.inputs(id).0 {
                if let Some(last) = last.get_mut(input).filter(|last| at >= at_ns && at >= last.0) {
                    *last = (at, self.graph.family(id));
                }
            }
        }
        last.into_iter().filter(|(_, (_, reader))| *reader != u32::MAX).map(|(id, (_, reader))| (id, reader)).collect()
    }

    /// When each task returned its value, if that is recorded.
    pub(super) fn ended_ns(&self) -> Vec<Option<u64>> {
        let mut ended = vec![None; self.num_tasks()];
        for record in self.records.iter().filter(|record| record.outcome == Outcome::Finished) {
            ended[record.id as usize] = Some(record.started_ns + record.ran_ns);
        }
        ended
    }

    /// The values that a task or the caller reads.
    fn lifetimes(&self) -> Vec<Lifetime> {
        let ended = self.ended_ns();
        let mut dropped: Vec<Option<u64>> = vec![None; self.num_tasks()];
        for id in 0..self.num_tasks() as u32 {
            for &input in self.graph.inputs(id).0 {
                let last = &mut dropped[input as usize];
                *last = (*last).max(ended[id as usize]);
            }
        }
        let end = self.ended.map(|ended| ended.as_nanos() as u64);
        self.graph.outputs().iter().for_each(|&id| dropped[id as usize] = end);
        let finished = self.records.iter().filter(|record| record.outcome == Outcome::Finished);
        let lifetimes = finished.filter_map(|record| {
            let from_ns = record.started_ns + record.ran_ns;
            let bytes = record.value().map_or(0, |size| size.bytes);
            dropped[record.id as usize].map(|to_ns| Lifetime {
                id: record.id,
                from_ns,
                to_ns: to_ns.max(from_ns),
                bytes,
            })
        });
        lifetimes.collect()
    }
}

/// The sum over all live values, at each moment that it changes.
fn steps(lifetimes: &[Lifetime], weight: fn(&Lifetime) -> u64) -> Vec<(Duration, u64)> {
    let mut changes: Vec<(u64, i64)> = Vec::with_capacity(2 * lifetimes.len());
    for lifetime in lifetimes {
        let weight = weight(lifetime) as i64;
        changes.extend([(lifetime.from_ns, weight), (lifetime.to_ns, -weight)]);
    }
    // A value begins before the values that it is made of end.
    changes.sort_unstable_by_key(|&(at, change)| (at, -change));
    let mut sum = 0;
    let step = |(at, change): (u64, i64)| {
        sum += change;
        (Duration::from_nanos(at), sum as u64)
    };
    changes.into_iter().map(step).collect()
}
