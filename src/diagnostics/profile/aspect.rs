//! The graph of a run, in colours that say what was measured.

use super::{Outcome, RunProfile};
use crate::diagnostics::picture::{Color, Drawn, Picture, Sort, Tint};
use crate::diagnostics::units;
use std::sync::Arc;
use std::time::Duration;

/// What the colours of a run's [picture](RunProfile::picture_of) say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aspect {
    /// How long tasks took.
    #[default]
    Time,
    /// How large their values were.
    Memory,
    /// What became of them.
    State,
}

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Finished,
    /// At a later attempt than the first.
    Retried,
    Failed,
    Cancelled,
    NotCalled,
    /// It is a value, or not in the sample.
    Unknown,
}

impl State {
    /// The gravest last: a group looks like the worst of its tasks.
    const ALL: [State; 6] =
        [State::Unknown, State::Finished, State::Retried, State::NotCalled, State::Cancelled, State::Failed];

    fn word(self) -> &'static str {
        match self {
            State::Finished => "finished",
            State::Retried => "tried again",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::NotCalled => "not called",
            State::Unknown => "",
        }
    }

    fn color(self) -> Color {
        match self {
            State::Finished => Color::rgb(0xb9, 0xe2, 0xb6),
            State::Retried => Color::rgb(0xf7, 0xdf, 0x8c),
            State::Failed => Color::rgb(0xe5, 0x62, 0x55),
            State::Cancelled => Color::rgb(0xd3, 0xc1, 0xee),
            State::NotCalled => Color::rgb(0xd8, 0xdc, 0xe1),
            State::Unknown => Color::rgb(0xee, 0xf1, 0xf5),
        }
    }
}

impl RunProfile {
    /// Draws the graph, in colours and with notes that say how long each task took, and with the critical path by time.
    pub fn picture(&self) -> Picture {
        self.picture_of(Aspect::Time)
    }

    /// Draws the graph in colours that say what became of its tasks, or how large their values were. The critical path is that by time.
    ///
    /// # Examples
    /// ```
    /// use sprang::profile::Aspect;
    /// use sprang::{compute_each, delayed, try_delayed};
    ///
    /// let bad = try_delayed(|text: &str| text.parse::<i32>(), ("x",)).name("bad");
    /// let reader = delayed(|n: &i32| *n, (&bad,)).name("reader");
    /// let (_, profile) = sprang::profile(|| compute_each(&[&reader]));
    /// let svg = profile.runs()[0].picture_of(Aspect::State).to_svg();
    /// assert!(svg.contains("failed") && svg.contains("not called"));
    /// ```
    pub fn picture_of(&self, aspect: Aspect) -> Picture {
        let times: Arc<[f64]> = self.times_ns().into();
        let weights = Arc::clone(&times);
        let picture = Picture::of_graph(Arc::clone(&self.graph)).weights(move |id| weights[id]);
        match aspect {
            Aspect::Time => {
                picture.color_with(shares(times, |time| units::duration(Duration::from_nanos(time as u64))))
            }
            Aspect::Memory => {
                let mut sizes = vec![0.0; self.num_tasks()];
                for record in &self.records {
                    sizes[record.id as usize] = record.value().map_or(0.0, |size| size.bytes as f64);
                }
                picture.color_with(shares(sizes.into(), |bytes| match bytes > 0.0 {
                    true => units::bytes(bytes as u64),
                    false => String::new(),
                }))
            }
            Aspect::State => {
                let states = self.states();
                picture.color_with(move |drawn: &Drawn<'_>| {
                    let count = |state: State| drawn.tasks().filter(|&id| states[id] == state).count() as u64;
                    let counts: Vec<(State, u64)> = State::ALL.iter().map(|&it| (it, count(it))).collect();
                    let there = || counts.iter().filter(|(_, count)| *count > 0);
                    let worst = there().next_back().map_or(State::Unknown, |&(state, _)| state);
                    let words: Vec<String> = match there().count() {
                        1 => vec![worst.word().to_owned()],
                        _ => {
                            there().rev().map(|(it, count)| format!("{} {}", units::count(*count), it.word())).collect()
                        }
                    };
                    Tint::from(worst.color()).note(words.join(", ").trim())
                })
            }
        }
    }

    fn states(&self) -> Vec<State> {
        // In a sample nothing is known of the others.
        let unrecorded = if self.is_sample { State::Unknown } else { State::NotCalled };
        let is_value = |id: usize| self.graph.sort(id as u32) == Sort::Value;
        let mut states: Vec<State> =
            (0..self.num_tasks()).map(|id| if is_value(id) { State::Unknown } else { unrecorded }).collect();
        let mut last = vec![0; self.num_tasks()];
        for record in &self.records {
            let id = record.id as usize;
            if record.attempt >= last[id] {
                last[id] = record.attempt;
                states[id] = match record.outcome {
                    Outcome::Finished if record.attempt > 1 => State::Retried,
                    Outcome::Finished => State::Finished,
                    Outcome::Failed => State::Failed,
                    Outcome::Retried => State::Retried,
                    Outcome::Cancelled => State::Cancelled,
                };
            }
        }
        states
    }
}

/// A task alone is as dark as its share of the largest, a group as its share of all.
fn shares(
    weights: Arc<[f64]>,
    note: impl Fn(f64) -> String + Send + Sync,
) -> impl Fn(&Drawn<'_>) -> Tint + Send + Sync {
    let largest = weights.iter().copied().fold(0.0, f64::max).max(1.0);
    let total = weights.iter().sum::<f64>().max(1.0);
    move |drawn: &Drawn<'_>| {
        let weight: f64 = drawn.tasks().map(|id| weights[id]).sum();
        let place = if drawn.tasks().len() == 1 { weight / largest } else { weight / total };
        Tint::from(Color::scale(place.sqrt())).note(note(weight))
    }
}
