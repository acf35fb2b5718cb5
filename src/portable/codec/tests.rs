use super::super::array::SharedArray;
use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

const CODECS: [Codec; 2] = [Codec::Fast, Codec::SelfDescribing];

fn encoded<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Vec<u8> {
    let mut encoder = Encoder::new(codec, None);
    encoder.write(value).unwrap();
    encoder.finish().0
}

fn round_trip<T: Serialize + DeserializeOwned>(codec: Codec, value: &T) -> Result<T, CodecError> {
    let mut encoder = Encoder::new(codec, None);
    encoder.write(value)?;
    let (bytes, regions) = encoder.finish();
    let mut decoder = Decoder::new(codec, &bytes, &regions);
    let back = decoder.read()?;
    decoder.finish()?;
    Ok(back)
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    for codec in CODECS {
        assert_eq!(round_trip(codec, &value).unwrap(), value, "{codec}");
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Box<Tree>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Wrapped(Wrapped),
    Pair(Box<Tree>, u8),
    Node { name: String, children: Vec<Tree>, option: Option<Option<()>> },
    Numbers(Vec<f64>, i128, u128, (i8, u16, i32), [f32; 2], char, bool),
    Units(Vec<()>, BTreeMap<Vec<u8>, Unit>, Unit),
}

fn trees() -> impl Strategy<Value = Tree> {
    let numbers = (prop::collection::vec(-1e300..1e300_f64, 0..20), any::<(i128, u128, (i8, u16, i32), char, bool)>());
    let leaf = prop_oneof![
        Just(Tree::Leaf),
        numbers.prop_map(|(list, (a, b, c, d, e))| Tree::Numbers(list, a, b, c, [0.5, f32::MIN], d, e)),
        (0..30_usize, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..4)).prop_map(
            |(units, keys)| { Tree::Units(vec![(); units], keys.into_iter().map(|key| (key, Unit)).collect(), Unit) }
        ),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Wrapped(Wrapped(Box::new(tree)))),
            (inner.clone(), any::<u8>()).prop_map(|(tree, number)| Tree::Pair(Box::new(tree), number)),
            (".{0,12}", prop::collection::vec(inner, 0..6), any::<Option<Option<()>>>())
                .prop_map(|(name, children, option)| Tree::Node { name, children, option }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nested_values_come_back(tree in trees()) {
        comes_back(tree);
    }

    #[test]
    fn a_value_that_is_cut_short_or_has_bytes_after_it_is_refused(tree in trees(), at in any::<prop::sample::Index>()) {
        for codec in CODECS {
            let mut bytes = encoded(codec, &tree);
            prop_assert!(Decoder::new(codec, &bytes[..at.index(bytes.len())], &[]).read::<Tree>().is_err());
            let len = bytes.len() as u64 - 8 + 1;
            bytes.push(0);
            bytes[..8].copy_from_slice(&len.to_le_bytes());
            prop_assert!(Decoder::new(codec, &bytes, &[]).read::<Tree>().is_err());
        }
    }

    #[test]
    fn changed_bytes_decode_to_a_value_or_to_an_error(
        tree in trees(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for codec in CODECS {
            let mut bytes = encoded(codec, &tree);
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _any = Decoder::new(codec, &bytes, &[]).read::<Tree>();
            let _another = Decoder::new(codec, &bytes, &[]).read::<HashMap<String, Vec<Option<SharedArray<u16>>>>>();
        }
    }
}

#[test]
fn all_of_serdes_types_come_back() {
    comes_back((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN));
    comes_back((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX));
    comes_back((f32::MIN_POSITIVE, f64::NEG_INFINITY, true, false, 'ß', '\u{10ffff}'));
    comes_back(("ä".repeat(200), String::new(), ()));
    comes_back((Some(Some(())), Some(None::<()>), None::<Option<()>>));
    comes_back((vec![(); 1000], vec![Unit; 3], Vec::<()>::new()));
    comes_back((BTreeMap::from([((), ())]), BTreeMap::from([(1, "one".to_owned()), (2, String::new())])));
    comes_back(Ok::<_, String>([1_u8, 2, 3]));
    assert!(
        round_trip(Codec::Fast, &f64::from_bits(0x7ff8_0000_dead_beef)).unwrap().to_bits() == 0x7ff8_0000_dead_beef
    );
}

#[test]
fn values_follow_one_another_and_a_value_that_cannot_be_read_is_skipped() {
    for codec in CODECS {
        let mut encoder = Encoder::new(codec, None);
        assert!(encoder.is_empty());
        encoder.write(&1_i64).unwrap();
        encoder.write("two").unwrap();
        encoder.write(&vec![3.0, 4.0]).unwrap();
        let len = encoder.len();
        let (bytes, regions) = encoder.take();
        assert_eq!((bytes.len(), regions.len(), encoder.is_empty()), (len, 0, true));
        let mut decoder = Decoder::new(codec, &bytes, &regions);
        assert_eq!(decoder.read::<i64>().unwrap(), 1);
        decoder.read::<(f64, f64, f64, f64)>().unwrap_err();
        assert!(!decoder.is_at_end());
        assert!(Decoder::new(codec, decoder.bytes, &[]).finish().is_err());
        assert_eq!(decoder.read::<Vec<f64>>().unwrap(), [3.0, 4.0]);
        assert!(decoder.is_at_end());
        decoder.finish().unwrap();
        encoder.write(&true).unwrap();
        assert_eq!(encoder.len(), encoded(codec, &true).len());
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Array(SharedArray<f64>),
    Number(i64),
    Text(String),
    Struct { inner: Option<bool> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    rest: FlatRest,
    #[serde(flatten)]
    others: BTreeMap<String, Untagged>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FlatRest {
    kind: Shape,
    array: SharedArray<i16>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    One,
    Two(u8),
    Three { x: char },
    Four(u8, i64),
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first: Option<u8>,
    second: u16,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tag")]
enum Tagged {
    A { array: SharedArray<u8>, n: i32 },
    B,
}

#[test]
fn a_type_that_asks_what_comes_next_works_self_describing_and_the_fast_codec_names_the_setting() {
    fn check<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
        assert_eq!(round_trip(Codec::SelfDescribing, &value).unwrap(), value);
        let error = round_trip(Codec::Fast, &value).unwrap_err().to_string();
        assert!(error.contains("processes.codec = \"self-describing\""), "{error}");
    }
    check(Untagged::Array(SharedArray::from([1.5, 2.5])));
    check(vec![Untagged::Number(-3), Untagged::Text("x".into()), Untagged::Struct { inner: Some(true) }]);
    for kind in [Shape::One, Shape::Two(2), Shape::Three { x: 'x' }, Shape::Four(1, -1)] {
        let others =
            BTreeMap::from([("more".to_owned(), Untagged::Number(7)), ("most".to_owned(), Untagged::Text("y".into()))]);
        check(Flat { a: 1, rest: FlatRest { kind, array: SharedArray::from([-1_i16, 2]) }, others });
    }
    check(Tagged::A { array: SharedArray::from([1_u8, 2]), n: -1 });
    check(Tagged::B);
    check(serde_json::json!({"a": [1, 2.5, null, "text", {"b": true}], "c": {}}));
    check(Skipping { first: None, second: 2 });
    comes_back(Skipping { first: Some(1), second: 2 });
    // A reader that knows fewer fields, and other ones.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Newer {
        second: u16,
        #[serde(default)]
        third: Vec<u8>,
    }
    let bytes = encoded(Codec::SelfDescribing, &Skipping { first: Some(1), second: 2 });
    let newer: Newer = Decoder::new(Codec::SelfDescribing, &bytes, &[]).read().unwrap();
    assert_eq!(newer, Newer { second: 2, third: vec![] });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List(Option<Box<List>>);

fn list(len: u32) -> List {
    (1..len).fold(List(None), |list, _| List(Some(Box::new(list))))
}

#[test]
fn a_value_nested_too_deep_is_refused_before_the_stack_overflows() {
    comes_back(list(200));
    for codec in CODECS {
        let error = round_trip(codec, &list(2000)).unwrap_err().to_string();
        assert!(error.contains("512 levels"), "{error}");
        let mut bytes = vec![format::tag::SOME; 1 << 20];
        bytes[..8].copy_from_slice(&((1_u64 << 20) - 8).to_le_bytes());
        let error = Decoder::new(codec, &bytes, &[]).read::<List>().unwrap_err().to_string();
        assert!(error.contains("512 levels"), "{error}");
    }
}

#[test]
fn a_value_that_is_encoded_near_the_limit_of_nesting_can_be_decoded() {
    // The frames of a debug build at the limit do not fit into the 2 MiB of a test's thread.
    let thread = std::thread::Builder::new().stack_size(16 << 20);
    thread.spawn(decode_near_the_limit_of_nesting).unwrap().join().unwrap();
}

fn decode_near_the_limit_of_nesting() {
    type Nest = fn(Tree) -> Tree;
    let nests: [Nest; 3] = [
        |tree| Tree::Pair(Box::new(tree), 1),
        |tree| Tree::Wrapped(Wrapped(Box::new(tree))),
        |tree| Tree::Node { name: String::new(), children: vec![tree], option: None },
    ];
    let inner = || [Tree::Leaf, Tree::Units(vec![()], BTreeMap::new(), Unit)];
    for (codec, nest) in CODECS.into_iter().flat_map(|codec| nests.map(|nest| (codec, nest))) {
        for mut tree in inner() {
            loop {
                let mut encoder = Encoder::new(codec, None);
                if encoder.write(&tree).is_err() {
                    break;
                }
                let (bytes, regions) = encoder.finish();
                assert!(Decoder::new(codec, &bytes, &regions).read::<Tree>().is_ok(), "{codec}");
                tree = nest(tree);
            }
        }
    }
}

struct FailsAfter<'a>(&'a [u64], bool);

impl Serialize for FailsAfter<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeSeq};
        let mut seq = serializer.serialize_seq(None)?;
        self.0.iter().try_for_each(|number| seq.serialize_element(number))?;
        seq.serialize_element(&SharedArray::from(vec![0_u64; 20_000]))?;
        assert!(!self.1, "as asked");
        Err(S::Error::custom("as asked"))
    }
}

#[test]
fn after_an_error_or_a_panic_the_encoder_is_unchanged() {
    let memory = Memory::new(1, 1 << 30);
    for codec in CODECS {
        let mut encoder = Encoder::new(codec, Some(&memory));
        encoder.write(&(1, SharedArray::from(vec![1_u64; 20_000]))).unwrap();
        for panics in [false, true] {
            let mut write = || encoder.write(&FailsAfter(&[1, 2, 3], panics));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut write));
            match result {
                Ok(result) => assert_eq!(result.unwrap_err().to_string(), "as asked"),
                Err(payload) => assert!(panics && payload.is::<&str>()),
            }
        }
        encoder.write(&2).unwrap();
        let (bytes, regions) = encoder.finish();
        assert_eq!(regions.len(), 1);
        let mut decoder = Decoder::new(codec, &bytes, &regions);
        assert_eq!(decoder.read::<(i32, SharedArray<u64>)>().unwrap().1[..], vec![1; 20_000]);
        assert_eq!(decoder.read::<i32>().unwrap(), 2);
        decoder.finish().unwrap();
    }
    assert_eq!(memory.used_bytes(), 0);
}

/// Announces another length than it has.
struct WrongLength;

impl Serialize for WrongLength {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut seq = serializer.serialize_seq(Some(7))?;
        seq.serialize_element(&1_u8)?;
        seq.serialize_element(&2_u8)?;
        seq.end()
    }
}

#[test]
fn a_sequence_that_announces_a_wrong_length_is_written_with_the_right_one() {
    for codec in CODECS {
        assert_eq!(Decoder::new(codec, &encoded(codec, &WrongLength), &[]).read::<Vec<u8>>().unwrap(), [1, 2]);
    }
}

/// Longer each time it is looked at.
struct Growing(Rc<Cell<usize>>);

impl Serialize for Growing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.set(self.0.get() + 1);
        vec![1_u64; INLINE_MAX / 8 + self.0.get()].serialize(serializer)
    }
}

#[test]
fn a_large_value_goes_to_a_region_as_a_whole() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Large {
        name: String,
        numbers: Vec<u32>,
        array: SharedArray<f32>,
        words: Vec<String>,
    }
    let memory = Memory::new(1, 1 << 30);
    for codec in CODECS {
        let large = Large {
            name: "large".into(),
            numbers: (0..INLINE_MAX as u32).collect(),
            array: (0..50_000_u16).map(f32::from).collect(),
            words: vec!["word".into(); 1000],
        };
        let mut encoder = Encoder::new(codec, Some(&memory));
        encoder.write(&1_u8).unwrap();
        encoder.write(&large).unwrap();
        encoder.write(&2_u8).unwrap();
        assert!(encoder.len() < 100);
        assert_eq!(encoder.regions().len(), 2);
        let (bytes, regions) = encoder.finish();
        let mut decoder = Decoder::new(codec, &bytes, &regions);
        assert_eq!(decoder.read::<u8>().unwrap(), 1);
        assert_eq!(decoder.read::<Large>().unwrap(), large);
        assert_eq!(decoder.read::<u8>().unwrap(), 2);
        assert!(Decoder::new(codec, &bytes, &regions[..1]).read::<u8>().is_ok());
        let mut decoder = Decoder::new(codec, &bytes, &regions[..1]);
        assert_eq!(decoder.read::<u8>().unwrap(), 1);
        decoder.read::<Large>().unwrap_err();

        let mut encoder = Encoder::new(codec, Some(&memory));
        let error = encoder.write(&Growing(Rc::default())).unwrap_err().to_string();
        assert!(error.contains("not the same"), "{error}");
        assert!(encoder.is_empty() && encoder.regions().is_empty());
    }
    assert_eq!(memory.used_bytes(), 0);
    let small = Memory::new(2, 1 << 20);
    let error = Encoder::new(Codec::Fast, Some(&small)).write(&vec![0_u64; 1 << 18]).unwrap_err().to_string();
    assert!(error.contains("processes.shared_memory_limit"), "{error}");
}

/// Counts how often it is decoded. Counting allocations instead would count those of other tests
/// too.
#[derive(Debug)]
struct Counted;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        COUNT.set(COUNT.get() + 1);
        <()>::deserialize(deserializer).map(|()| Counted)
    }
}

#[test]
fn a_length_beyond_the_bytes_is_refused_at_once_even_for_elements_without_bytes() {
    for (codec, prefix) in [(Codec::Fast, vec![]), (Codec::SelfDescribing, vec![24])] {
        for len in [101_u64, 1 << 40, u64::MAX] {
            let mut bytes = (prefix.len() as u64 + 8 + 100).to_le_bytes().to_vec();
            bytes.extend(&prefix);
            bytes.extend(len.to_le_bytes());
            bytes.extend([16; 100]);
            Decoder::new(codec, &bytes, &[]).read::<Vec<()>>().unwrap_err();
            Decoder::new(codec, &bytes, &[]).read::<Vec<Counted>>().unwrap_err();
            assert_eq!(COUNT.take(), 0);
        }
    }
    let huge = u64::MAX.to_le_bytes();
    for codec in CODECS {
        Decoder::new(codec, &huge, &[]).read::<String>().unwrap_err();
        Decoder::new(codec, &[], &[]).read::<()>().unwrap_err();
    }
}

/// A small generator, so that the rounds are the same each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn random_bytes_decode_to_a_value_or_to_an_error() {
    let memory = Memory::new(1, 1 << 20);
    let region = memory.allocate(100).unwrap().freeze();
    let regions = [region];
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut num_values = 0;
    for _ in 0..60_000 {
        let len = (random(&mut state) % 64) as usize;
        let mut bytes = (len as u64).to_le_bytes().to_vec();
        for _ in 0..len {
            // Small numbers are often tags, counts and variants.
            let byte = random(&mut state);
            let limit = [256, 32, 32, 3, 1, 1, 1, 1][(byte >> 8) as usize % 8];
            bytes.push((byte % 256 % limit) as u8);
        }
        if random(&mut state).is_multiple_of(8) {
            bytes.truncate((random(&mut state) % (len as u64 + 8)) as usize);
        }
        for codec in CODECS {
            let mut read = 0;
            read += usize::from(Decoder::new(codec, &bytes, &regions).read::<Tree>().is_ok());
            read += usize::from(Decoder::new(codec, &bytes, &regions).read::<Flat>().is_ok());
            read += usize::from(Decoder::new(codec, &bytes, &regions).read::<Vec<Option<SharedArray<u32>>>>().is_ok());
            read += usize::from(Decoder::new(codec, &bytes, &regions).read::<HashMap<(), Vec<()>>>().is_ok());
            read += usize::from(Decoder::new(codec, &bytes, &regions).read::<serde_json::Value>().is_ok());
            num_values += read;
        }
    }
    // With fewer, the bytes would hardly test the decoder.
    assert!(num_values > 500, "{num_values}");
}

#[test]
fn each_codec_is_displayed_as_the_value_of_its_setting() {
    for codec in CODECS {
        let name = serde_json::to_string(&codec).unwrap();
        assert_eq!(name, format!("\"{codec}\""));
        assert_eq!(serde_json::from_str::<Codec>(&name).unwrap(), codec);
    }
}
