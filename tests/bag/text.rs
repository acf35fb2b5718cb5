//! Lines of files, wherever the blocks are cut.

use crate::SCHEDULERS;
use crate::warnings;
use crate::watchdog::watched;
use proptest::prelude::*;
use sprang::ErrorKind;
use sprang::bag::{TextFiles, read_text};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder with these files, named in their order.
fn files<B: AsRef<[u8]>>(contents: impl IntoIterator<Item = B>) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(i, content): (usize, B)| {
        let path = folder.path().join(format!("{i:03}.txt"));
        fs::write(&path, content).unwrap();
        path
    };
    let paths = contents.into_iter().enumerate().map(write).collect();
    (folder, paths)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(String::from).collect()
}

#[test]
fn a_file_cut_at_any_byte_has_the_same_lines() {
    let texts = [
        "",
        "\n",
        "\r\n",
        "\n\n",
        "a",
        "a\n",
        "a\r\n",
        "\na",
        "a\nb",
        "a\r\n\r\nb\r\n",
        "\r",
        "a\rb\r",
        "a\r\r\nb",
        "é\nü\r\n漢字\n\n",
        "one\ntwo\r\n\n\nthree is longer than the others\nfour\r\n",
        "no end",
        "\u{FEFF}bom\n",
    ];
    for text in texts {
        let (_folder, paths) = files([text]);
        for block_bytes in 1..=text.len() + 2 {
            let bag = TextFiles::new(&paths).block_bytes(block_bytes).read().unwrap();
            assert_eq!(bag.num_partitions(), text.len().div_ceil(block_bytes).max(1));
            assert_eq!(bag.compute_with("sync").unwrap(), lines(text), "{text:?} in blocks of {block_bytes}");
        }
    }
}

#[test]
fn a_long_line_belongs_to_one_block() {
    let long = "x".repeat(100_000);
    let text = format!("a\n{long}\nb\n{long}");
    let (_folder, paths) = files([&text]);
    for block_bytes in [1_000, 4_096, 50_001, 100_002, 100_003, 100_004] {
        let bag = TextFiles::new(&paths).block_bytes(block_bytes).read().unwrap();
        assert_eq!(bag.compute_with("threads").unwrap(), lines(&text), "in blocks of {block_bytes}");
    }
}

#[test]
fn any_files_in_any_blocks_have_the_lines_of_the_files_in_turn() {
    watched("any_files", || {
        let piece = prop::sample::select(vec!["a", "bc", "\n", "\n", "\r\n", "\r", "é", "漢", " "]);
        let text = prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
        let texts = prop::collection::vec(text, 1..5);
        let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(texts in texts, block_bytes in 1..60_usize)| {
            let (_folder, paths) = files(&texts);
            let expected: Vec<_> = texts.iter().flat_map(|text| lines(text)).collect();
            let bag = TextFiles::new(&paths).block_bytes(block_bytes).read().unwrap();
            for scheduler in SCHEDULERS {
                prop_assert_eq!(&bag.compute_with(scheduler).unwrap(), &expected);
            }
            let skipping = TextFiles::new(&paths).block_bytes(block_bytes).skip_bad(true).read().unwrap();
            prop_assert_eq!(&skipping.compute_with("sync").unwrap(), &expected);
        });
    });
}

#[test]
fn pieces_of_lines_are_borrowed() {
    let (_folder, paths) = files(["  to be, or\n\nnot  \n", "to be\n"]);
    let words = read_text(&paths).unwrap().map_str(str::trim).flat_map_str(|line, emit| line.split(' ').for_each(emit));
    let words = words.filter(|word| !word.is_empty()).filter_map_str(|word| word.strip_suffix(',').or(Some(word)));
    for scheduler in SCHEDULERS {
        assert_eq!(words.compute_with(scheduler).unwrap(), ["to", "be", "or", "not", "to", "be"]);
        let counts = [("to", 2), ("be", 2), ("or", 1), ("not", 1)].map(|(word, n)| (word.to_owned(), n));
        assert_eq!(words.frequencies().compute_with(scheduler).unwrap(), counts);
        assert_eq!(words.map(str::len).sum().compute_with(scheduler).unwrap(), 13);
        assert_eq!(words.max().compute_with(scheduler).unwrap(), Some("to".to_owned()));
        assert_eq!(words.take(2).compute_with(scheduler).unwrap(), ["to", "be"]);
        assert!(words.any(|word| word == "or").compute_with(scheduler).unwrap());
    }
}

#[test]
fn small_files_are_read_together_and_large_ones_in_blocks() {
    let (folder, paths) = files(["aaa\n"; 10].iter().map(|text| text.to_string()).chain(["b\n".repeat(50)]));
    let of = |block_bytes| TextFiles::new(&paths).block_bytes(block_bytes).read().unwrap();
    assert_eq!(of(1 << 20).num_partitions(), 1);
    assert_eq!(of(20).num_partitions(), 2 + 5);
    assert_eq!(of(20).count().compute().unwrap(), 60);
    let pattern = folder.path().join("00[0-4].txt").display().to_string();
    assert_eq!(read_text(pattern).unwrap().count().compute().unwrap(), 5);
    fs::create_dir(folder.path().join("folder.txt")).unwrap();
    let pattern = folder.path().join("*.txt").display().to_string();
    assert_eq!(read_text(&pattern).unwrap().compute().unwrap().len(), 60, "a folder is no file");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    let (folder, mut paths) = files(["a\nb\n", "c\nd\n"]);
    let missing = folder.path().join("missing.txt");
    let error = read_text([&paths[0], &missing]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotLoaded);
    assert!(error.message().starts_with(&format!("{missing:?}: ")), "{error}");
    let pattern = folder.path().join("*.csv").display().to_string();
    assert_eq!(read_text(&pattern).unwrap_err().message(), format!("the pattern {pattern:?}: no file matches it"));
    assert_eq!(read_text("a[").unwrap_err().kind(), ErrorKind::NotLoaded);

    for scheduler in SCHEDULERS {
        fs::write(&paths[1], "c\nd\n").unwrap();
        let bag = TextFiles::new(&paths).block_bytes(4).read().unwrap();
        let skipping = TextFiles::new(&paths).block_bytes(4).skip_bad(true).read().unwrap();
        fs::write(&paths[1], "c").unwrap();
        let error = bag.compute_with(scheduler).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let expected = format!("{:?}: the file had 4 bytes or more and now has 1", paths[1]);
        assert_eq!(error.message(), expected);
        fs::remove_file(&paths[1]).unwrap();
        let error = bag.compute_with(scheduler).unwrap_err();
        assert!(error.message().starts_with(&format!("{:?}: ", paths[1])), "{error}");
        assert_eq!(skipping.compute_with(scheduler).unwrap(), ["a", "b"]);
    }
    paths.push(folder.path().to_owned());
    paths.remove(1);
    let error = read_text(&paths).unwrap().compute().unwrap_err();
    assert!(error.message().starts_with(&format!("{:?}: ", folder.path())), "{error}");
}

#[test]
fn bytes_that_are_not_utf_8_are_an_error_that_names_the_line() {
    let (_folder, paths) = files([&b"one\ntwo\nthr\xFFee\r\nfour\n\xC3\nsix"[..]]);
    for scheduler in SCHEDULERS {
        for block_bytes in [1 << 20, 9, 3] {
            let bag = TextFiles::new(&paths).block_bytes(block_bytes).read().unwrap();
            let error = bag.count().compute_with(scheduler).unwrap_err();
            // Of several bad blocks any may fail first.
            let of = |place: &str| format!("{:?}, {place}: not UTF-8", paths[0]);
            let places = ["line 3, byte 11", "line 5, byte 21"].map(of);
            assert!(places.iter().any(|place| place == error.message()), "{error} in blocks of {block_bytes}");
            assert!(block_bytes < 1 << 20 || error.message() == places[0]);
            let skipping = TextFiles::new(&paths).block_bytes(block_bytes).skip_bad(true).read().unwrap();
            assert_eq!(skipping.compute_with(scheduler).unwrap(), ["one", "two", "four", "six"]);
        }
    }
}

#[test]
fn what_is_left_out_is_reported() {
    warnings::keep();
    let (folder, mut paths) = files([&b"a\nb\xFF\nc\nd\xFF\xFF\n"[..]]);
    paths.push(folder.path().join("missing"));
    let bag = TextFiles::new(&paths).skip_bad(true).read().unwrap();
    assert_eq!(bag.compute_with("threads").unwrap(), ["a", "c"]);
    let of_lines = format!("lines that are not UTF-8 are left out: 2, the first in {:?}, line 2, byte 3", paths[0]);
    let of_file = format!("the file {:?} is left out, because it cannot be read: ", paths[1]);
    let seen = warnings::all();
    assert!(seen.contains(&of_lines), "{seen:?}");
    assert!(seen.iter().any(|warning| warning.starts_with(&of_file)), "{seen:?}");
}

#[test]
fn a_bad_line_is_named_by_file_line_and_byte() {
    let text = "10\n20\nx\n30\n".repeat(3);
    let (_folder, paths) = files(["1\n2\n", &text]);
    for scheduler in SCHEDULERS {
        for block_bytes in [2, 7, 1 << 20] {
            let numbers =
                TextFiles::new(&paths).block_bytes(block_bytes).read().unwrap().try_map(|line| line.parse::<u32>());
            let error = numbers.sum().compute_with(scheduler).unwrap_err();
            let message = error.message();
            let places = [(3, 6), (7, 17), (11, 28)];
            let of = |(line, byte)| format!("{:?}, line {line}, byte {byte}: invalid digit found in string", paths[1]);
            assert!(places.map(of).iter().any(|place| place == message), "{message} in blocks of {block_bytes}");
        }
    }
}
