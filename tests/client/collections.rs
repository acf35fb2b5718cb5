//! Types of a program's own that are computed as a whole.

use crate::{on_each, on_threads};
use sprang::collection::{Form, HandleList, Parts};
use sprang::{
    Collection, Delayed, ErrorKind, Result, TaskFuture, compute, compute_each, compute_with, delayed, delayed_local,
    persist, prepare, try_delayed,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Numbers in blocks, and what they are called; computed, they are one vector and the name.
struct Blocks {
    name: Delayed<String>,
    blocks: Vec<Delayed<Vec<u64>>>,
}

impl<F: Form> Collection<F> for Blocks
where
    (Delayed<String>, Vec<Delayed<Vec<u64>>>): Collection<F>,
    for<'a> (&'a Delayed<String>, &'a Vec<Delayed<Vec<u64>>>): Collection<F>,
{
    type Shape = F::Finished<(String, Vec<u64>), Blocks>;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        handles.add(&self.name);
        self.blocks.iter().for_each(|block| handles.add(block));
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape> {
        let inner = (&self.name, &self.blocks);
        F::finish(parts, &inner, |(name, blocks)| (name, blocks.concat()), |(name, blocks)| Blocks { name, blocks })
    }
}

fn block(start: u64) -> Result<Vec<u64>, String> {
    if start < 100 { Ok((start..start + 3).collect()) } else { Err(format!("{start} is too large")) }
}

fn blocks(starts: &[u64]) -> Blocks {
    let name = delayed(|| "numbers".to_string(), ());
    Blocks { name, blocks: starts.iter().map(|&start| try_delayed(block, (start,))).collect() }
}

fn numbers(up_to: u64) -> (String, Vec<u64>) {
    ("numbers".to_string(), (0..up_to).collect())
}

#[test]
fn a_type_of_ones_own_is_computed_as_one_value() {
    let six = blocks(&[0, 3]);
    assert_eq!(compute(&six).unwrap(), numbers(6));
    assert_eq!(compute_with("sync", &six).unwrap(), numbers(6));
    assert_eq!(prepare(&six).unwrap().compute().unwrap(), numbers(6));
    let (many, [last], none) = compute((vec![&six, &six], [&six.blocks[1]], None::<&Blocks>)).unwrap();
    assert_eq!((many, last, none.is_none()), (vec![numbers(6), numbers(6)], vec![3, 4, 5], true));
}

#[test]
fn a_type_of_ones_own_fails_as_a_whole() {
    let bad = blocks(&[0, 100, 200]);
    assert_eq!(compute(&bad).unwrap_err().message(), "100 is too large");
    let (bad, three, first) = compute_each((&bad, &blocks(&[0]), &bad.blocks[0])).unwrap();
    assert_eq!((bad.unwrap_err().message(), three.unwrap()), ("100 is too large", numbers(3)));
    assert_eq!(first.unwrap(), [0, 1, 2]);
}

#[test]
fn a_type_of_ones_own_is_persisted_with_new_handles() {
    let nine = persist(&blocks(&[0, 3, 6])).unwrap();
    assert_eq!(compute(&nine).unwrap(), numbers(9));
    assert_eq!(prepare(&nine.blocks[2]).unwrap().num_tasks(), 1, "the value is there");
    on_each("a_type_of_ones_own_is_persisted", |client| {
        let (nine, text) = client.persist((&blocks(&[0, 3, 6]), &delayed(|| "a".to_string(), ())));
        assert_eq!(client.gather(&nine).unwrap(), numbers(9));
        assert_eq!(client.gather((&nine, &text)).unwrap(), (numbers(9), "a".into()));
        assert_eq!(compute(&nine).unwrap(), numbers(9));
        let sum = delayed(|block: &Vec<u64>| block.iter().sum::<u64>(), (&nine.blocks[2],));
        assert_eq!(client.compute(&sum).result().unwrap(), 21);
    });
}

#[test]
fn a_client_computes_a_type_of_ones_own_to_one_future() {
    on_each("a_client_computes_a_type_of_ones_own", |client| {
        let six: TaskFuture<_> = client.compute(&blocks(&[0, 3]));
        assert_eq!(six.result().unwrap(), numbers(6));
        let (six, [three, bad], alone) =
            client.compute((blocks(&[0, 3]), [&blocks(&[0]), &blocks(&[0, 100])], &delayed(|x: u64| x + 1, (1_u64,))));
        assert_eq!(client.gather((&six, &three, &alone)).unwrap(), (numbers(6), numbers(3), 2));
        let error = bad.error().unwrap();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Failed, "100 is too large"));
        let persisted = client.persist(&blocks(&[0, 3]));
        assert_eq!(client.compute(&persisted).result().unwrap(), numbers(6));
    });
}

/// Blocks of blocks.
struct Grid(Vec<Blocks>);

impl<F: Form> Collection<F> for Grid
where
    Vec<Blocks>: Collection<F>,
{
    type Shape = F::Finished<usize, Grid>;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        self.0.list(handles);
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape> {
        F::finish(parts, &self.0, |rows| rows.iter().map(|(_, row)| row.len()).sum(), Grid)
    }
}

#[test]
fn types_of_ones_own_are_made_of_others() {
    let grid = Grid(vec![blocks(&[0, 3]), blocks(&[6])]);
    assert_eq!(compute(&grid).unwrap(), 9);
    assert_eq!(compute(&persist(&grid).unwrap()).unwrap(), 9);
    on_threads("types_of_ones_own_are_made_of_others", |client| {
        assert_eq!(client.compute((&grid, &grid.0[1])).0.result().unwrap(), 9);
        let persisted = client.persist(&grid);
        assert_eq!(client.gather(&persisted).unwrap(), 9);
        assert_eq!(client.gather(&persisted.0[0]).unwrap(), numbers(6));
    });
}

#[test]
fn a_future_that_is_computed_is_the_same_future() {
    on_threads("a_future_that_is_computed", |client| {
        let future = client.submit(|| 7_u8, ());
        assert_eq!(client.compute(&future).id(), future.id());
        let persisted = client.persist(&future);
        assert_eq!(client.compute((&persisted, &future)).0.id(), future.id());
        assert_eq!((client.compute(&persisted).result().unwrap(), persisted.compute().unwrap()), (7, 7));
    });
}

#[test]
fn a_single_handle_of_any_value_is_computed() {
    struct NotClone(u8);
    on_threads("a_single_handle_of_any_value", |client| {
        let future = client.compute(&delayed_local(|| NotClone(7), ()));
        assert_eq!(future.result_ref().unwrap().0, 7);
        assert_eq!(client.compute(future.as_delayed()).id(), future.id());
    });
}

/// Lists other handles than it rebuilds.
struct Confused(Delayed<u64>, Delayed<u64>);

impl<F: Form> Collection<F> for Confused
where
    Delayed<u64>: Collection<F>,
{
    type Shape = <Delayed<u64> as Collection<F>>::Shape;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        handles.add(&self.0);
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape> {
        self.1.rebuild(parts)
    }
}

#[test]
fn a_type_that_takes_what_it_has_not_listed_panics() {
    let confused = Confused(delayed(|| 1, ()), delayed(|| 2, ()));
    let panic = catch_unwind(AssertUnwindSafe(|| compute(&confused))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("in another order")));
    let pair = Confused(confused.0.clone(), confused.0.clone());
    assert_eq!(compute(&pair).unwrap(), 1);
}

#[cfg(feature = "progress")]
#[test]
fn the_progress_of_a_type_of_ones_own_is_that_of_its_futures() {
    on_threads("the_progress_of_a_type_of_ones_own", |client| {
        let six = client.persist(&blocks(&[0, 3]));
        sprang::progress_of(&six);
        assert_eq!(client.num_pending(), 0);
        assert_eq!(client.gather(&six).unwrap(), numbers(6));
        let whole = client.compute(&blocks(&[0, 3]));
        sprang::progress_of((&whole, &six));
        assert!(whole.is_done());
    });
}
