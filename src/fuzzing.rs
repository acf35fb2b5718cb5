//! Entry points of the fuzz targets in `fuzz/`, with `--cfg fuzzing` only. They read any bytes as
//! if another process had sent them.
//!
//! Nothing may panic, and each value that was read must be read again after it is written.

#![allow(missing_docs, reason = "not part of the crate's API")]

use crate::SharedArray;
use crate::portable::codec::{Codec, Decoder, Encoder};
use crate::portable::region::{Memory, Region};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

pub use crate::executor::processes::fuzzing::{message_seeds, read_messages};

/// A type with every kind of part that a value can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Wrapped(Box<Tree>),
    Pair(Box<Tree>, u8),
    Node { name: String, children: Vec<Tree>, option: Option<Option<()>> },
    Numbers(Vec<i64>, i128, (i8, u16), [u32; 2], char, bool),
    Units(Vec<()>, BTreeMap<Vec<u8>, ()>),
    Array(SharedArray<u16>, SharedArray<[i32; 2]>),
}

/// A type whose decoder asks for the type of the next value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<Any>),
    Map(BTreeMap<String, Any>),
}

const CODECS: [Codec; 2] = [Codec::Fast, Codec::SelfDescribing];

/// More than any sensible input needs.
const MEMORY_BYTES: u64 = 1 << 24;

/// Regions that bytes may refer to.
fn regions(memory: &Memory) -> Vec<Region> {
    let filled = |len: usize| {
        let mut region = memory.allocate(len).expect("there is enough");
        region.iter_mut().zip(0_u8..).for_each(|(byte, value)| *byte = value % 3);
        region.freeze()
    };
    vec![filled(0), filled(24), filled(200)]
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(codec: Codec, bytes: &[u8], regions: &[Region]) {
    let Ok(value) = Decoder::new(codec, bytes, regions).read::<T>() else { return };
    let mut encoder = Encoder::new(codec, None);
    encoder.write(&value).expect("what was decoded can be encoded");
    let (bytes, regions) = encoder.finish();
    let mut decoder = Decoder::new(codec, &bytes, &regions);
    assert_eq!(decoder.read::<T>().expect("what was encoded can be decoded"), value);
    assert!(decoder.is_at_end());
}

/// Reads a value. The first byte selects the encoding.
pub fn read_value(bytes: &[u8]) {
    thread_local! {
        static REGIONS: Vec<Region> = regions(&Memory::new(7, MEMORY_BYTES));
    }
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let codec = CODECS[usize::from(first) % CODECS.len()];
    REGIONS.with(|regions| {
        check::<Tree>(codec, bytes, regions);
        check::<SharedArray<u64>>(codec, bytes, regions);
        check::<BTreeMap<String, Vec<Option<SharedArray<u8>>>>>(codec, bytes, regions);
        if codec == Codec::SelfDescribing {
            check::<Any>(codec, bytes, regions);
        }
    });
}

pub fn value_seeds() -> Vec<Vec<u8>> {
    let leaf = || Box::new(Tree::Leaf);
    let node =
        Tree::Node { name: "name".into(), children: vec![Tree::Leaf, Tree::Wrapped(leaf())], option: Some(None) };
    let trees = [
        Tree::Leaf,
        Tree::Pair(Box::new(node), 9),
        Tree::Numbers(vec![1, -2], 3, (4, 5), [6, 7], 'ß', true),
        Tree::Units(vec![(); 3], BTreeMap::from([(vec![1, 2], ())])),
        Tree::Array(vec![1, 2, 3].into(), vec![[4, 5]].into()),
    ];
    let any = Any::Map(BTreeMap::from([("key".to_owned(), Any::List(vec![Any::Number(1), Any::Text("text".into())]))]));
    let mut seeds = Vec::new();
    for (first, codec) in (0_u8..).zip(CODECS) {
        let mut add = |write: &dyn Fn(&mut Encoder<'_>)| {
            let mut encoder = Encoder::new(codec, None);
            write(&mut encoder);
            seeds.push([vec![first], encoder.finish().0].concat());
        };
        trees.iter().for_each(|tree| add(&|encoder| encoder.write(tree).expect("a tree")));
        add(&|encoder| encoder.write(&SharedArray::from(vec![1_u64, 2])).expect("an array"));
        add(&|encoder| encoder.write(&any).expect("anything"));
        // 24 bytes of the second region, as a value, and as an array.
        seeds.push([&[first][..], &(1 << 63 | 24_u64).to_le_bytes(), &1_u32.to_le_bytes()].concat());
        seeds.push(
            [&[first][..], &20_u64.to_le_bytes(), &2_u64.to_le_bytes(), &[1, 0, 0, 0], &24_u64.to_le_bytes()].concat(),
        );
    }
    seeds
}
