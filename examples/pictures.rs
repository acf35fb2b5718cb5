//! `visualize` draws a graph: as an SVG for people, as DOT for Graphviz, as Mermaid for Markdown.
//!
//! The pictures go to a folder among the system's temporary files.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]
#![expect(clippy::ptr_arg, reason = "a task lends what its dependency returned, a `Vec`")]

use sprang::picture::{Color, ColorBy, Direction, Tint};
use sprang::{Refs, delayed, prepare};
use std::error::Error;

fn load(month: u32) -> Vec<f64> {
    (0..30).map(|day| f64::from(month * 30 + day)).collect()
}

fn clean(mut days: Vec<f64>) -> Vec<f64> {
    days.retain(|day| day.fract() == 0.0);
    days
}

fn mean(days: &Vec<f64>) -> f64 {
    days.iter().sum::<f64>() / days.len() as f64
}

fn report(means: Refs<'_, f64>) -> String {
    format!("{} means, up to {}", means.len(), means.iter().copied().fold(0.0, f64::max))
}

fn main() -> Result<(), Box<dyn Error>> {
    let means: Vec<_> = (1..=4_u32)
        .map(|month| {
            let raw = delayed(load, (month,)).name(format!("load month {month}"));
            delayed(mean, (&delayed(clean, (raw,)),))
        })
        .collect();
    let report = delayed(report, (&means,)).name("report");

    // No task has run. Each task is a box, and data flows along the edges.
    let folder = std::env::temp_dir().join("sprang-pictures");
    std::fs::create_dir_all(&folder)?;
    let picture = report.visualize()?.title("The first four months of a year").arguments(true);
    picture.save(folder.join("report.svg"))?;
    picture.save(folder.join("report.dot"))?;
    picture.save(folder.join("report.mmd"))?;
    assert_eq!((picture.num_tasks(), picture.is_collapsed()), (13, false));

    // Colours by the order in which a single worker would run the tasks: it finishes each month
    // before it loads the next one.
    picture.color_by(ColorBy::Rank).direction(Direction::Right).save(folder.join("order.svg"))?;

    // Any colours and notes, by the ids of the tasks; here, invented durations.
    let plan = prepare(&report)?;
    let millis = |id: usize| (id * 37 % 100) as f64;
    let measured = plan.visualize().weights(millis).color_with(move |task_box| {
        let sum: f64 = task_box.tasks().map(millis).sum();
        Tint::from(Color::scale(sum / 100.0)).note(format!("{sum} ms"))
    });
    measured.save(folder.join("measured.svg"))?;
    assert!(measured.to_svg().contains("heaviest path"));

    // A large graph shows groups with their numbers.
    let many: Vec<_> =
        (0..5_000_u32).map(|month| delayed(mean, (&delayed(clean, (delayed(load, (month,)),)),))).collect();
    let large = sprang::visualize(&many)?;
    large.save(folder.join("large.svg"))?;
    assert!(large.is_collapsed() && large.to_dot().contains("load\\n5\u{202f}000 tasks"));

    println!("look into {}", folder.display());
    Ok(())
}
