//! A grid search with cross-validation: which classifier, with which parameters, reads handwritten
//! digits best?
//!
//! ```text
//! cargo run --release -p digits_sweep [-- threads|processes [WORKERS]]
//! ```
//!
//! There is one task for each setting and each fold. Two folds of every setting have a higher
//! priority and run first. Settings that are far behind in these are cancelled, so their other
//! tasks do not run. The results of the others are shown as they arrive.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod digits;
mod models;

use digits::{Digits, NUM_FOLDS};
use models::{Metric, Model};
use serde::{Deserialize, Serialize};
use sprang::{Client, LocalCluster, Status, TaskFuture, as_completed, delayed, lit};
use std::process::ExitCode;
use std::time::Instant;

/// The number of folds after which a setting may be cancelled.
const NUM_HEATS: usize = 2;
/// A setting that is this far behind the best of the same folds is cancelled.
const HOPELESS: f64 = 0.03;

/// The result of one task.
#[derive(Clone, Serialize, Deserialize)]
struct Score {
    setting: usize,
    fold: usize,
    accuracy: f64,
}

fn score(digits: &Digits, model: &Model, setting: usize, fold: usize) -> Score {
    Score { setting, fold, accuracy: model.accuracy(digits, fold) }
}

/// The results of one setting.
struct Setting {
    model: Model,
    futures: Vec<TaskFuture<Score>>,
    accuracies: [Option<f64>; NUM_FOLDS],
    num_cancelled: usize,
}

impl Setting {
    /// The mean accuracy over the finished folds.
    fn mean(&self) -> f64 {
        let known = self.accuracies.iter().flatten();
        known.clone().sum::<f64>() / known.count() as f64
    }

    fn is_complete(&self) -> bool {
        self.accuracies.iter().all(Option::is_some)
    }

    /// Whether it is far behind the best in the same folds.
    fn is_hopeless(&self, best_of_fold: &[f64; NUM_FOLDS]) -> bool {
        let behind = self.accuracies.iter().zip(best_of_fold).filter_map(|(own, best)| own.map(|own| best - own));
        behind.clone().count() >= NUM_HEATS && behind.clone().sum::<f64>() / behind.count() as f64 > HOPELESS
    }
}

fn grid() -> Vec<Model> {
    let mut models = Vec::new();
    for num_neighbours in [1, 3, 5, 9, 21, 101] {
        models
            .extend([Metric::Euclidean, Metric::Manhattan].map(|metric| Model::Neighbours { num_neighbours, metric }));
    }
    for rate in [0.0001, 0.01, 0.03, 0.1, 0.3, 3.0] {
        models.extend([0.0, 0.0001, 0.001, 0.1].map(|decay| Model::Softmax { rate, decay }));
    }
    models
}

/// Returns the best model, with its accuracy.
fn search(client: &Client) -> sprang::Result<(Model, f64)> {
    let start = Instant::now();
    let digits = Digits::load();
    let models = grid();
    println!("{} digits; {} settings in {NUM_FOLDS} folds each, on {client}", digits.len(), models.len());

    let digits = client.scatter(digits); // sent to each worker once
    let submit = |setting: usize, model: Model| {
        let task = |fold: usize| {
            let task = delayed(score, (&digits, lit(model), setting, fold));
            client.compute(&task.name(format!("{model}, fold {fold}")).priority(i32::from(fold < NUM_HEATS)))
        };
        Setting { model, futures: (0..NUM_FOLDS).map(task).collect(), accuracies: [None; NUM_FOLDS], num_cancelled: 0 }
    };
    let mut settings: Vec<Setting> = models.into_iter().enumerate().map(|(i, model)| submit(i, model)).collect();

    let mut best_of_fold = [0.0; NUM_FOLDS];
    let mut best: Option<(Model, f64)> = None;
    for future in as_completed(settings.iter().flat_map(|setting| setting.futures.clone())) {
        if future.status() == Status::Cancelled {
            continue;
        }
        let Score { setting, fold, accuracy } = future.result()?;
        settings[setting].accuracies[fold] = Some(accuracy);
        best_of_fold[fold] = accuracy.max(best_of_fold[fold]);
        for setting in settings.iter_mut().filter(|setting| setting.is_hopeless(&best_of_fold)) {
            setting.num_cancelled += client.cancel(&setting.futures);
        }
        let setting = &settings[setting];
        if setting.is_complete() && best.is_none_or(|(_, so_far)| setting.mean() > so_far) {
            println!("{:6.2} s  {:.4}  {}", start.elapsed().as_secs_f64(), setting.mean(), setting.model);
            best = Some((setting.model, setting.mean()));
        }
    }

    let num_cancelled: usize = settings.iter().map(|setting| setting.num_cancelled).sum();
    let num_losers = settings.iter().filter(|setting| setting.num_cancelled > 0).count();
    println!("{num_losers} settings were hopeless: {num_cancelled} of {} tasks cancelled", settings.len() * NUM_FOLDS);
    settings.retain(Setting::is_complete);
    // The sort is stable: of two equal settings the first in the grid wins.
    settings.sort_by(|a, b| b.mean().total_cmp(&a.mean()));
    for (i, setting) in settings.iter().take(5).enumerate() {
        println!("{:>6}.    {:.4}  {}", i + 1, setting.mean(), setting.model);
    }
    println!("{:6.2} s in all", start.elapsed().as_secs_f64());
    let first = settings.first().expect("the best is never hopeless");
    Ok((first.model, first.mean()))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let processes = match arguments.first().map_or("threads", String::as_str) {
        "threads" => false,
        "processes" => true,
        other => {
            eprintln!("\"{other}\" is neither \"threads\" nor \"processes\"");
            return ExitCode::FAILURE;
        }
    };
    let mut cluster = LocalCluster::builder().threads_per_worker(1).processes(processes);
    if let Some(num_workers) = arguments.get(1) {
        match num_workers.parse() {
            Ok(num_workers) => cluster = cluster.workers(num_workers),
            Err(error) => {
                eprintln!("\"{num_workers}\" is not a number of workers: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    match cluster.build().and_then(|cluster| search(&Client::new(&cluster))) {
        Ok((_, accuracy)) => {
            assert!(accuracy > 0.95, "the grid has classifiers that read nineteen digits of twenty");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
