//! Heat that spreads over a plate. The field is divided into tiles. For each tile and each time
//! step there is a task, which needs the tile and its neighbours from the step before. The tasks
//! are many and small, and no step waits for all tasks of the step before.
//!
//! ```text
//! cargo run --release --example heat_stencil -- --scheduler processes --report heat.html
//! ```
//!
//! The result is compared, bit by bit, with the result of a plain loop over the whole field.
//! `options/mod.rs` has the options.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "../options/mod.rs"]
mod options;

use options::{Options, OwnOption, Value};
use serde::{Deserialize, Serialize};
use sprang::{Delayed, delayed, prepare};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{error, fs, io};

/// The rate at which heat spreads to the neighbours. From 0.25 on, the steps would be too large.
const DIFFUSION: f64 = 0.2;

/// A square part of the field, row by row.
#[derive(Clone, Serialize, Deserialize)]
struct Tile {
    side: usize,
    cells: Vec<f64>,
}

/// The field at the start: cold, with a hot ring and a warm bar that has a cold hole.
fn heat_at(row: usize, column: usize, size: usize) -> f64 {
    let (y, x) = (row as f64 / size as f64, column as f64 / size as f64);
    let from_centre = ((y - 0.4).powi(2) + (x - 0.45).powi(2)).sqrt();
    match () {
        () if (0.2..0.27).contains(&from_centre) => 1.0,
        () if (0.78..0.9).contains(&y) && (0.15..0.85).contains(&x) && !(0.45..0.55).contains(&x) => 0.8,
        () => 0.0,
    }
}

fn step(here: f64, above: f64, below: f64, left: f64, right: f64) -> f64 {
    here + DIFFUSION * (above + below + left + right - 4.0 * here)
}

// The tasks.

fn start(row: usize, column: usize, side: usize, size: usize) -> Tile {
    let cells = (0..side * side).map(|i| heat_at(row * side + i / side, column * side + i % side, size)).collect();
    Tile { side, cells }
}

/// One step of a tile. Beyond the edge of the field it is cold.
fn spread(here: &Tile, above: Option<&Tile>, below: Option<&Tile>, left: Option<&Tile>, right: Option<&Tile>) -> Tile {
    let side = here.side;
    let of = |tile: Option<&Tile>, row: usize, column: usize| tile.map_or(0.0, |tile| tile.cells[row * side + column]);
    let mut cells = Vec::with_capacity(side * side);
    for row in 0..side {
        for column in 0..side {
            let at = row * side + column;
            cells.push(step(
                here.cells[at],
                if row > 0 { here.cells[at - side] } else { of(above, side - 1, column) },
                if row + 1 < side { here.cells[at + side] } else { of(below, 0, column) },
                if column > 0 { here.cells[at - 1] } else { of(left, row, side - 1) },
                if column + 1 < side { here.cells[at + 1] } else { of(right, row, 0) },
            ));
        }
    }
    Tile { side, cells }
}

/// The tiles of the field after `steps` steps, row by row.
fn graph(num_tiles: usize, side: usize, steps: usize) -> Vec<Delayed<Tile>> {
    let size = num_tiles * side;
    let mut field: Vec<Delayed<Tile>> = (0..num_tiles * num_tiles)
        .map(|i| delayed(start, (i / num_tiles, i % num_tiles, side, size)).name(format!("start {i}")))
        .collect();
    for time in 1..=steps {
        let next = |i: usize| {
            let (row, column) = (i / num_tiles, i % num_tiles);
            let above = (row > 0).then(|| &field[i - num_tiles]);
            let below = (row + 1 < num_tiles).then(|| &field[i + num_tiles]);
            let left = (column > 0).then(|| &field[i - 1]);
            let right = (column + 1 < num_tiles).then(|| &field[i + 1]);
            delayed(spread, (&field[i], above, below, left, right)).name(format!("spread {i} at {time}"))
        };
        field = (0..field.len()).map(next).collect();
    }
    field
}

/// The same, without tiles and tasks.
fn plain_loop(size: usize, steps: usize) -> Vec<f64> {
    let mut field: Vec<f64> = (0..size * size).map(|i| heat_at(i / size, i % size, size)).collect();
    for _ in 0..steps {
        let cell = |row: Option<usize>, column: Option<usize>| match (row, column) {
            (Some(row), Some(column)) if row < size && column < size => field[row * size + column],
            _ => 0.0,
        };
        let next = |i: usize| {
            let (row, column) = (i / size, i % size);
            let (above, left) = (cell(row.checked_sub(1), Some(column)), cell(Some(row), column.checked_sub(1)));
            step(field[i], above, cell(Some(row + 1), Some(column)), left, cell(Some(row), Some(column + 1)))
        };
        field = (0..size * size).map(next).collect();
    }
    field
}

/// The whole field.
fn joined(tiles: &[Tile], num_tiles: usize) -> Vec<f64> {
    let side = tiles[0].side;
    let size = num_tiles * side;
    let cell = |i: usize| {
        let (row, column) = (i / size, i % size);
        tiles[row / side * num_tiles + column / side].cells[row % side * side + column % side]
    };
    (0..size * size).map(cell).collect()
}

/// A colour from black through red and yellow to white.
fn glow(heat: f64, hottest: f64) -> [u8; 3] {
    let heat = (heat / hottest.max(1e-12)).clamp(0.0, 1.0).sqrt() * 3.0;
    [0.0, 1.0, 2.0].map(|below| ((heat - below).clamp(0.0, 1.0) * 255.0) as u8)
}

fn save_picture(path: &Path, field: &[f64], size: usize) -> io::Result<()> {
    let mut encoder = png::Encoder::new(io::BufWriter::new(fs::File::create(path)?), size as u32, size as u32);
    encoder.set_color(png::ColorType::Rgb);
    let hottest = field.iter().copied().fold(0.0, f64::max);
    let pixels: Vec<u8> = field.iter().flat_map(|&heat| glow(heat, hottest)).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).map_err(io::Error::from)
}

fn main() -> ExitCode {
    options::exit_code(run())
}

fn run() -> Result<(), Box<dyn error::Error>> {
    let (mut size, mut num_tiles, mut steps) = (192, 6, 60);
    let mut picture: PathBuf = std::env::temp_dir().join("sprang-heat.png");
    let options = Options::parse(&mut [
        OwnOption { name: "--size", help: "cells along each side of the field", value: Value::Number(&mut size, 2) },
        OwnOption {
            name: "--tiles",
            help: "tiles along each side of the field",
            value: Value::Number(&mut num_tiles, 1),
        },
        OwnOption { name: "--steps", help: "steps of time", value: Value::Number(&mut steps, 1) },
        OwnOption {
            name: "--picture",
            help: "the file for a picture of the field, as a PNG",
            value: Value::File(&mut picture),
        },
    ]);
    if !size.is_multiple_of(num_tiles) {
        return Err(format!("a field of {size} cells cannot be divided into {num_tiles} tiles of one size").into());
    }
    let field = prepare(graph(num_tiles, size / num_tiles, steps))?;
    let ((tiles, took), _) = options.watch(|| {
        let start = Instant::now();
        (field.compute(), start.elapsed())
    })?;
    let tiles = tiles?;
    println!("{} tasks on {options}: {:.3} s", field.num_tasks(), took.as_secs_f64());

    let field = joined(&tiles, num_tiles);
    let start = Instant::now();
    let expected = plain_loop(size, steps);
    println!("the plain loop: {:.3} s", start.elapsed().as_secs_f64());
    if field != expected {
        return Err("the tiles and the plain loop differ".into());
    }
    println!("both results are equal, with {:.3} of heat left", field.iter().sum::<f64>());
    save_picture(&picture, &field, size).map_err(|error| format!("cannot write {}: {error}", picture.display()))?;
    println!("see {}", picture.display());
    Ok(())
}
