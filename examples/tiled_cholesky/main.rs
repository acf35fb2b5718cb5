//! The Cholesky factorization A = L Lᵀ in tiles: a graph whose tasks differ in size and in their
//! dependencies. At the start nearly all tasks wait for one tile, in the middle there is work for
//! many workers, and at the end one tile is left.
//!
//! ```text
//! cargo run --release --example tiled_cholesky -- --report cholesky.html --report cholesky.json
//! ```
//!
//! The report, and the trace for ui.perfetto.dev, show the critical path: `factor`, `solve`,
//! `square`, `factor` and so on down the diagonal. `options/mod.rs` has the options.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "../options/mod.rs"]
mod options;

use options::{Options, OwnOption, Value};
use serde::{Deserialize, Serialize};
use sprang::{Delayed, compute, delayed, try_delayed, visualize};
use std::collections::BTreeMap;
use std::error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// A square part of a matrix, row by row.
#[derive(Clone, Serialize, Deserialize)]
struct Tile {
    side: usize,
    cells: Vec<f64>,
}

impl Tile {
    fn row(&self, row: usize) -> &[f64] {
        &self.cells[row * self.side..][..self.side]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// An entry of a symmetric matrix that has a factor: a pseudo-random number, and a larger one on
/// the diagonal.
fn entry(row: usize, column: usize, size: usize) -> f64 {
    let (low, high) = (row.min(column) as u64, row.max(column) as u64);
    let mixed = (high << 32 | low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let any = (mixed ^ mixed >> 31) as u32 as f64 / f64::from(u32::MAX) - 0.5;
    if row == column { any + size as f64 } else { any }
}

// The tasks. They take a tile that they update as `Tile`, so its last reader changes it in place.
// They take other tiles by reference.

fn make(row: usize, column: usize, side: usize, size: usize) -> Tile {
    let cells = (0..side * side).map(|i| entry(row * side + i / side, column * side + i % side, size)).collect();
    Tile { side, cells }
}

/// The factor L of a tile on the diagonal.
fn factor(mut a: Tile) -> Result<Tile, String> {
    let side = a.side;
    for column in 0..side {
        let rest = a.cells[column * side + column] - dot(&a.row(column)[..column], &a.row(column)[..column]);
        if rest <= 0.0 {
            return Err(format!("the matrix is not positive definite: {rest} in column {column} of a tile"));
        }
        let pivot = rest.sqrt();
        a.cells[column * side + column] = pivot;
        for row in column + 1..side {
            let done = dot(&a.row(row)[..column], &a.row(column)[..column]);
            a.cells[row * side + column] = (a.cells[row * side + column] - done) / pivot;
        }
        a.cells[column * side + column + 1..(column + 1) * side].fill(0.0);
    }
    Ok(a)
}

/// The X for which X Lᵀ is the tile below the diagonal.
fn solve(mut a: Tile, l: &Tile) -> Tile {
    let side = a.side;
    for row in 0..side {
        for column in 0..side {
            let done = dot(&a.row(row)[..column], &l.row(column)[..column]);
            let pivot = l.cells[column * side + column];
            a.cells[row * side + column] = (a.cells[row * side + column] - done) / pivot;
        }
    }
    a
}

/// A tile minus X Yᵀ.
fn update(mut a: Tile, x: &Tile, y: &Tile) -> Tile {
    let side = a.side;
    for row in 0..side {
        for column in 0..side {
            a.cells[row * side + column] -= dot(x.row(row), y.row(column));
        }
    }
    a
}

/// A tile on the diagonal minus X Xᵀ.
fn square(a: Tile, x: &Tile) -> Tile {
    update(a, x, x)
}

type Tiles = BTreeMap<(usize, usize), Delayed<Tile>>;

/// The tiles of L on and below the diagonal.
fn graph(num_tiles: usize, side: usize) -> Tiles {
    let size = num_tiles * side;
    let mut tiles: Tiles = (0..num_tiles)
        .flat_map(|row| (0..=row).map(move |column| (row, column)))
        .map(|(row, column)| {
            ((row, column), delayed(make, (row, column, side, size)).name(format!("make {row},{column}")))
        })
        .collect();
    for k in 0..num_tiles {
        let mut take = |at| tiles.remove(&at).expect("every tile is put back");
        let diagonal = try_delayed(factor, (take((k, k)),)).name(format!("factor {k}"));
        let column: Vec<Delayed<Tile>> = (k + 1..num_tiles)
            .map(|row| delayed(solve, (take((row, k)), &diagonal)).name(format!("solve {row},{k}")))
            .collect();
        for (i, x) in column.iter().enumerate() {
            let row = k + 1 + i;
            let a = tiles.remove(&(row, row)).expect("every tile is put back");
            tiles.insert((row, row), delayed(square, (a, x)).name(format!("square {row} by {k}")));
            for (j, y) in column[..i].iter().enumerate() {
                let at = (row, k + 1 + j);
                let a = tiles.remove(&at).expect("every tile is put back");
                tiles.insert(at, delayed(update, (a, x, y)).name(format!("update {},{} by {k}", at.0, at.1)));
            }
        }
        tiles.insert((k, k), diagonal);
        tiles.extend(column.into_iter().enumerate().map(|(i, x)| ((k + 1 + i, k), x)));
    }
    tiles
}

/// The largest difference between A and L Lᵀ, divided by the largest number in A.
fn error_of(l: &BTreeMap<(usize, usize), Tile>, num_tiles: usize, side: usize) -> f64 {
    let size = num_tiles * side;
    let mut rows = vec![vec![0.0; size]; size];
    for (&(row, column), tile) in l {
        for i in 0..side {
            rows[row * side + i][column * side..][..side].copy_from_slice(tile.row(i));
        }
    }
    let (mut worst, mut largest): (f64, f64) = (0.0, 0.0);
    for row in 0..size {
        for column in 0..=row {
            let expected = entry(row, column, size);
            let found = dot(&rows[row][..=column], &rows[column][..=column]);
            worst = worst.max((found - expected).abs());
            largest = largest.max(expected.abs());
        }
    }
    worst / largest
}

fn main() -> ExitCode {
    options::exit_code(run())
}

fn run() -> Result<(), Box<dyn error::Error>> {
    let (mut num_tiles, mut side) = (10, 40);
    let mut picture: PathBuf = std::env::temp_dir().join("sprang-cholesky.svg");
    let options = Options::parse(&mut [
        OwnOption {
            name: "--tiles",
            help: "tiles along each side of the matrix",
            value: Value::Number(&mut num_tiles, 1),
        },
        OwnOption { name: "--side", help: "numbers along each side of a tile", value: Value::Number(&mut side, 1) },
        OwnOption {
            name: "--graph",
            help: "the file for a picture: .svg, .dot or .mmd",
            value: Value::File(&mut picture),
        },
    ]);
    let tiles = graph(num_tiles, side);
    let picture_of = visualize(&tiles)?.title(format!("Cholesky factorization of {num_tiles} by {num_tiles} tiles"));
    picture_of.save(&picture)?;
    println!("{} tasks, see {}", picture_of.num_tasks(), picture.display());
    let ((l, took), profile) = options.watch(|| {
        let start = Instant::now();
        (compute(&tiles), start.elapsed())
    })?;
    let l = l?;
    let size = num_tiles * side;
    println!("a matrix of {size} by {size} on {options}: {:.3} s", took.as_secs_f64());
    if let Some(run) = profile.as_ref().and_then(|profile| profile.runs().first()) {
        let path: Vec<String> = run.critical_path().iter().map(|task| task.name.to_string()).collect();
        println!("the critical path: {} tasks, {} ...", path.len(), path[..path.len().min(6)].join(", "));
    }
    let error = error_of(&l, num_tiles, side);
    if error.is_nan() || error > 1e-12 {
        return Err(format!("L Lᵀ differs from A by {error:e}").into());
    }
    println!("L Lᵀ equals A, with an error of {error:.0e} of its largest number");
    Ok(())
}
