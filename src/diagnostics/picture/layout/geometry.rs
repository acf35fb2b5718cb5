//! The inputs and the measures of a layout.

/// A point, or an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) across: f64,
    pub(crate) along: f64,
}

impl Point {
    pub(crate) fn new(across: f64, along: f64) -> Self {
        Point { across, along }
    }
}

/// An edge to be drawn from one box to another, or to itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The extent of its label.
    pub(crate) label: Option<Point>,
}

/// How far a loop goes from its box.
pub(super) const LOOP_REACH: f64 = 24.0;

/// The room of a vertex: before and after its centre, and along the flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    pub(super) before: f64,
    pub(super) after: f64,
    pub(super) along: f64,
}

impl Extent {
    pub(super) fn of(size: Point, of_loop: Option<Point>) -> Extent {
        let half = size.across / 2.0;
        let loop_reach = of_loop.map_or(0.0, |label| LOOP_REACH + label.across);
        Extent { before: half, after: half + loop_reach, along: size.along }
    }
}

/// For each number below `count`, the ascending list of its indices in `numbers`, as one row.
pub(crate) fn rows(count: usize, numbers: impl Iterator<Item = u32> + Clone) -> (Vec<usize>, Vec<u32>) {
    let mut starts = vec![0; count + 2];
    for number in numbers.clone() {
        starts[number as usize + 2] += 1;
    }
    for i in 2..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut places = vec![0; starts[count + 1]];
    for (place, number) in (0..).zip(numbers) {
        let next = &mut starts[number as usize + 1];
        places[*next] = place;
        *next += 1;
    }
    starts.pop();
    (starts, places)
}
