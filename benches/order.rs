//! What does it cost to order a graph, by its shape?
//!
//! Unit: ns per task; criterion's throughput counts tasks. The graph is numbered, as a plan gathers
//! it. The bench makes and drops the sequence. It does not show gathering, or renumbering by the
//! sequence.

#[allow(dead_code, unused_imports, unreachable_pub, reason = "a crate-private module is measured by itself")]
#[path = "../src/graph/order.rs"]
mod order;
#[allow(dead_code, unreachable_pub, clippy::duplicate_mod, reason = "shared with the tests, which use more of it")]
mod shapes;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use order::{Csr, memory_order};
use std::hint::black_box;

fn order(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("order");
    group.sample_size(10);
    for shape in shapes::large() {
        let shape = shape().numbered();
        let graph = Csr { row: &shape.row, pred: &shape.pred, outputs: &shape.outputs, priority: &[] };
        group.throughput(Throughput::Elements(shape.num_tasks() as u64));
        group.bench_function(&shape.name, |bencher| bencher.iter(|| memory_order(black_box(&graph))));
    }
    group.finish();
}

criterion_group!(benches, order);
criterion_main!(benches);
