//! A value whose type is no argument by itself.

use sprang::delayed;

struct Options {
    width: usize,
}

fn render(options: &Options) -> usize {
    options.width
}

fn total(values: &[f64; 2]) -> f64 {
    values.iter().sum()
}

fn main() {
    delayed(render, (Options { width: 80 },));
    delayed(render, (&Options { width: 80 },));
    delayed(total, (&[1.0, 2.0],));
}
