//! Does a bag count words as fast as a loop that is written by hand for rayon?
//!
//! Unit: the time for the word counts of a text file of 50 MB, read from the cache of the system,
//! with 100 000 different words whose frequencies fall as in natural text. *bag* is
//! `read_text(..).flat_map_str(..).frequencies()` on the threads of the default pool. *rayon* reads
//! the file, cuts it at line ends into as many blocks, and merges one table per block; its keys are
//! texts, or borrowed until the end of a block. *loop* is one table and one thread. The lengths of
//! long words need no tables: there reading and the loop itself count most. The mark is 1.1 times
//! *rayon*.
//!
//! It does not show: shuffles, or worker processes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use sprang::bag;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

const TEXT_BYTES: usize = 50_000_000;
const BLOCK_BYTES: usize = 8 << 20;
const NUM_WORDS: u64 = 100_000;

/// Lines of ten words.
fn text() -> String {
    let mut text = String::with_capacity(TEXT_BYTES + 100);
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1_u64 << 31) as f64
    };
    while text.len() < TEXT_BYTES {
        for _ in 0..10 {
            // The logarithm of the rank is uniform, so a word of rank r has a share of about 1 / r.
            let rank = (NUM_WORDS as f64).powf(random()) as u64;
            text += &format!("w{:x} ", rank.wrapping_mul(0x9E37_79B9) & 0xFFF_FFFF);
        }
        text.push('\n');
    }
    text
}

type Counts = FxHashMap<String, u64>;

fn by_loop(path: &Path) -> Counts {
    let text = fs::read_to_string(path).unwrap();
    let mut counts: FxHashMap<&str, u64> = FxHashMap::default();
    for word in text.lines().flat_map(|line| line.split_ascii_whitespace()) {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

/// The text in blocks of whole lines.
fn blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.len().min(BLOCK_BYTES);
        let end = rest.as_bytes()[end..].iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| end + at + 1);
        let (block, after) = rest.split_at(end);
        blocks.push(block);
        rest = after;
    }
    blocks
}

fn by_rayon(path: &Path) -> Counts {
    let text = fs::read_to_string(path).unwrap();
    let count = |block: &&'_ str| {
        let mut counts: FxHashMap<String, u64> = FxHashMap::default();
        for word in block.lines().flat_map(|line| line.split_ascii_whitespace()) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => _ = counts.insert(word.to_owned(), 1),
            }
        }
        counts
    };
    let merge = |a: Counts, b: Counts| {
        let (mut large, small) = if a.len() >= b.len() { (a, b) } else { (b, a) };
        for (word, count) in small {
            *large.entry(word).or_insert(0) += count;
        }
        large
    };
    blocks(&text).par_iter().map(count).reduce(Counts::default, merge)
}

/// As [`by_rayon`], with words that are borrowed until the end.
fn by_rayon_borrowed(path: &Path) -> Counts {
    let text = fs::read_to_string(path).unwrap();
    let count = |block: &&'_ str| {
        let mut counts: FxHashMap<&str, u64> = FxHashMap::default();
        // The lifetime of the text, not of the list of blocks.
        for word in block.lines().flat_map(|line| line.split_ascii_whitespace()) {
            *counts.entry(word).or_insert(0) += 1;
        }
        counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect::<Vec<_>>()
    };
    let parts: Vec<_> = blocks(&text).par_iter().map(count).collect();
    let mut counts = Counts::default();
    for (word, count) in parts.into_iter().flatten() {
        *counts.entry(word).or_insert(0) += count;
    }
    counts
}

fn by_bag(path: &Path) -> Vec<(String, u64)> {
    let lines = bag::TextFiles::new([path]).block_bytes(BLOCK_BYTES).read().unwrap();
    let words = lines.flat_map_str(|line, emit| line.split_ascii_whitespace().for_each(emit));
    words.frequencies().compute_with("threads").unwrap()
}

fn sum_by_rayon(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let words = |block: &&'_ str| {
        let words = block.lines().flat_map(|line| line.split_ascii_whitespace());
        words.filter(|word| word.len() > 6).map(|word| word.len() as u64).sum::<u64>()
    };
    blocks(&text).par_iter().map(words).sum()
}

fn sum_by_bag(path: &Path) -> u64 {
    let lines = bag::TextFiles::new([path]).block_bytes(BLOCK_BYTES).read().unwrap();
    let words = lines.flat_map_str(|line, emit| line.split_ascii_whitespace().for_each(emit));
    words.filter(|word| word.len() > 6).map(|word| word.len() as u64).sum().compute_with("threads").unwrap()
}

fn bags(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = &folder.path().join("words.txt");
    fs::write(path, text()).unwrap();
    let expected = by_loop(path);
    assert!(by_rayon(path) == expected && by_rayon_borrowed(path) == expected);
    assert!(by_bag(path).into_iter().collect::<Counts>() == expected);
    assert_eq!(sum_by_bag(path), sum_by_rayon(path));

    let mut words = criterion.benchmark_group("word counts");
    words.throughput(Throughput::Bytes(TEXT_BYTES as u64)).sample_size(10).measurement_time(Duration::from_secs(8));
    words.bench_function("bag", |bencher| bencher.iter(|| black_box(by_bag(path))));
    words.bench_function("rayon", |bencher| bencher.iter(|| black_box(by_rayon(path))));
    words.bench_function("rayon, borrowed", |bencher| bencher.iter(|| black_box(by_rayon_borrowed(path))));
    words.bench_function("loop", |bencher| bencher.iter(|| black_box(by_loop(path))));
    words.finish();

    let mut sums = criterion.benchmark_group("lengths of long words");
    sums.throughput(Throughput::Bytes(TEXT_BYTES as u64)).sample_size(10).measurement_time(Duration::from_secs(5));
    sums.bench_function("bag", |bencher| bencher.iter(|| black_box(sum_by_bag(path))));
    sums.bench_function("rayon", |bencher| bencher.iter(|| black_box(sum_by_rayon(path))));
    sums.finish();
}

criterion_group!(benches, bags);
criterion_main!(benches);
