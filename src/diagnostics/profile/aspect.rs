//! Pictures of a run: the graph, coloured by a measurement.

use super::data::{Outcome, RunProfile};
use crate::diagnostics::picture::{Color, Picture, TaskBox, TaskKind, Tint};
use crate::diagnostics::units;
use std::sync::Arc;
use std::time::Duration;

/// The meaning of the colours in a run's [picture](RunProfile::picture_of).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aspect {
    /// The duration of tasks.
    #[default]
    Time,
    /// The size of their values.
    Memory,
    /// The final state of tasks.
    State,
}

/// The final state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskState {
    Finished,
    /// Finished at a later attempt than the first, or its last known attempt was retried.
    Retried,
    Failed,
    Cancelled,
    NotCalled,
    /// A value, or a task that is not in the sample.
    Unknown,
}

impl TaskState {
    /// The worst last: a group has the colour of its worst task.
    const ALL: [TaskState; 6] = [
        TaskState::Unknown,
        TaskState::Finished,
        TaskState::Retried,
        TaskState::NotCalled,
        TaskState::Cancelled,
        TaskState::Failed,
    ];

    fn word(self) -> &'static str {
        match self {
            TaskState::Finished => "finished",
            TaskState::Retried => "retried",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
            TaskState::NotCalled => "not called",
            TaskState::Unknown => "",
        }
    }

    fn color(self) -> Color {
        match self {
            TaskState::Finished => Color::rgb(0xb9, 0xe2, 0xb6),
            TaskState::Retried => Color::rgb(0xf7, 0xdf, 0x8c),
            TaskState::Failed => Color::rgb(0xe5, 0x62, 0x55),
            TaskState::Cancelled => Color::rgb(0xd3, 0xc1, 0xee),
            TaskState::NotCalled => Color::rgb(0xd8, 0xdc, 0xe1),
            TaskState::Unknown => Color::rgb(0xee, 0xf1, 0xf5),
        }
    }
}

impl RunProfile {
    /// Draws the graph with the duration of each task, as its colour and as a note. The critical
    /// path is the longest by time.
    pub fn picture(&self) -> Picture {
        self.picture_of(Aspect::Time)
    }

    /// Draws the graph, coloured by this aspect of its tasks. The critical path is the longest by
    /// time.
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
                picture.color_with(move |task_box: &TaskBox<'_>| {
                    let count = |state: TaskState| task_box.tasks().filter(|&id| states[id] == state).count() as u64;
                    let counts: Vec<(TaskState, u64)> = TaskState::ALL.iter().map(|&it| (it, count(it))).collect();
                    let there = || counts.iter().filter(|(_, count)| *count > 0);
                    let worst = there().next_back().map_or(TaskState::Unknown, |&(state, _)| state);
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

    fn states(&self) -> Vec<TaskState> {
        // In a sample, a task without a record may have run.
        let unrecorded = if self.is_sample { TaskState::Unknown } else { TaskState::NotCalled };
        let is_value = |id: usize| self.graph.kind(id as u32) == TaskKind::Value;
        let mut states: Vec<TaskState> =
            (0..self.num_tasks()).map(|id| if is_value(id) { TaskState::Unknown } else { unrecorded }).collect();
        let mut last = vec![0; self.num_tasks()];
        for record in &self.records {
            let id = record.id as usize;
            if record.attempt >= last[id] {
                last[id] = record.attempt;
                states[id] = match record.outcome {
                    Outcome::Finished if record.attempt > 1 => TaskState::Retried,
                    Outcome::Finished => TaskState::Finished,
                    Outcome::Failed => TaskState::Failed,
                    Outcome::Retried => TaskState::Retried,
                    Outcome::Cancelled => TaskState::Cancelled,
                };
            }
        }
        states
    }
}

/// Colours a single task by its share of the largest weight, and a group by its share of the sum.
fn shares(
    weights: Arc<[f64]>,
    note: impl Fn(f64) -> String + Send + Sync,
) -> impl Fn(&TaskBox<'_>) -> Tint + Send + Sync {
    let largest = weights.iter().copied().fold(0.0, f64::max).max(1.0);
    let total = weights.iter().sum::<f64>().max(1.0);
    move |task_box: &TaskBox<'_>| {
        let weight: f64 = task_box.tasks().map(|id| weights[id]).sum();
        let place = if task_box.tasks().len() == 1 { weight / largest } else { weight / total };
        Tint::from(Color::scale(place.sqrt())).note(note(weight))
    }
}
