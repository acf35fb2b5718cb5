use super::super::codec::{Codec, Decoder, Encoder};
use super::super::exchange::Exchange;
use super::*;

const LARGE: usize = SHARED_MIN / 8;
const CODECS: [Codec; 2] = [Codec::Fast, Codec::SelfDescribing];

fn is_shared<T>(array: &SharedArray<T>) -> bool {
    matches!(&*array.0, Storage::Shared { .. })
}

#[test]
fn a_large_array_goes_to_a_region_and_comes_back_as_a_mapping() {
    let memory = Memory::new(1, 1 << 30);
    for codec in CODECS {
        let small: SharedArray<u16> = (0..1000).collect();
        let large: SharedArray<f64> = (0..LARGE as u32).map(f64::from).collect();
        let mut encoder = Encoder::new(codec, Some(&memory));
        encoder.write(&(&small, vec![Some(&large), None, Some(&large)], "text")).unwrap();
        // The same array again makes no second copy.
        let ids = encoder.regions().iter().map(Region::id).collect::<Vec<_>>();
        assert!(ids.len() == 2 && ids[0] == ids[1]);
        let (bytes, regions) = encoder.finish();
        assert!((2000..2400).contains(&bytes.len()));
        type Read = (SharedArray<u16>, Vec<Option<SharedArray<f64>>>, String);
        let (small_back, list, text): Read = Decoder::new(codec, &bytes, &regions).read().unwrap();
        assert_eq!((&small_back, list[0].as_ref(), &*text), (&small, Some(&large), "text"));
        let back = list.into_iter().flatten().next_back().unwrap();
        assert_eq!(back.as_ptr().addr(), regions[0].as_ptr().addr());
        assert!(is_shared(&back) && !is_shared(&small_back));
        // An array that lies in a region is sent on without a copy.
        let mut encoder = Encoder::new(codec, Some(&memory));
        encoder.write(&back).unwrap();
        assert_eq!(encoder.regions()[0].id(), ids[0]);
        let (again, _) = encoder.finish();
        // The decoded array keeps its region. Decoding without the region or as another type is
        // refused.
        assert!(Decoder::new(codec, &again, &[]).read::<SharedArray<f64>>().is_err());
        let short = [memory.allocate(LARGE * 8 - 1).unwrap().freeze()];
        assert!(Decoder::new(codec, &again, &short).read::<SharedArray<f64>>().is_err());
        assert!(Decoder::new(codec, &again, &regions).read::<SharedArray<[u8; 3]>>().is_err());
        drop((regions, short));
        assert_eq!(back, large);
        assert_eq!(back.into_vec(), large.to_vec());
    }
    assert_eq!(memory.used_bytes(), 0);
}

#[test]
fn the_copy_in_shared_memory_lives_as_long_as_it_is_used() {
    let memory = Memory::new(1, 1 << 30);
    let mut array: SharedArray<f64> = SharedArray::from(vec![1.0; LARGE]);
    let region = |array: &SharedArray<f64>| {
        let mut encoder = Encoder::new(Codec::Fast, Some(&memory));
        encoder.write(array).unwrap();
        encoder.finish().1.remove(0)
    };
    let first = region(&array);
    assert_eq!(region(&array.clone()).as_ptr(), first.as_ptr());
    array.make_mut()[0] = 2.0;
    let second = region(&array);
    assert_ne!(second.id(), first.id());
    assert_eq!(bytemuck::cast_slice::<u8, f64>(&second)[..2], [2.0, 1.0]);
    assert_eq!(bytemuck::cast_slice::<u8, f64>(&first)[0], 1.0);
    drop((first, second));
    assert_eq!(memory.used_bytes(), 0);
}

#[test]
fn a_large_array_is_made_in_the_memory_that_the_thread_has_entered() {
    let memory = Memory::new(1, 1 << 20);
    let make = |len| SharedArray::with_len(len, |slice: &mut [u64]| slice[len / 2] = 5);
    assert!(!is_shared(&make(LARGE)));
    let entered = memory.enter();
    let array = make(LARGE);
    assert!(is_shared(&array) && !is_shared(&make(LARGE - 1)));
    assert_eq!((array[0], array[LARGE / 2], array.len()), (0, 5, LARGE));
    let mut encoder = Encoder::new(Codec::Fast, Some(&memory));
    encoder.write(&array).unwrap();
    assert_eq!(encoder.regions()[0].as_ptr().addr(), array.as_ptr().addr());
    drop((encoder, array));
    // The memory is reused, and is zero again.
    assert_eq!(make(LARGE).iter().sum::<u64>(), 5);
    assert!(std::panic::catch_unwind(|| SharedArray::with_len(LARGE, |_: &mut [u64]| panic!("as asked"))).is_err());
    assert_eq!(memory.used_bytes(), 0);
    // An array for which there is no room is made on the heap.
    let huge = make(1 << 18);
    assert!(!is_shared(&huge));
    assert!(Encoder::new(Codec::Fast, Some(&memory)).write(&huge).is_err());
    drop(entered);
    let full = Memory::new(2, 0);
    let mut encoder = Encoder::new(Codec::Fast, Some(&full));
    encoder.write(&make(LARGE)).unwrap();
    assert!(encoder.len() > LARGE * 8 && encoder.regions().is_empty());
}

#[test]
fn a_sent_array_is_returned_when_it_is_dropped() {
    let memory = Memory::new(1, 1 << 20);
    let (mut here, mut there) = (Exchange::new(), Exchange::new());
    let mut encoder = Encoder::new(Codec::Fast, Some(&memory));
    encoder.write(&SharedArray::from(vec![7_i32; 50_000])).unwrap();
    let (bytes, regions) = encoder.finish();
    let received = regions.iter().map(|region| {
        let (reference, handle) = here.send(region);
        there.receive(reference, handle).unwrap()
    });
    let received = received.collect::<Vec<_>>();
    drop(regions);
    let array: SharedArray<i32> = Decoder::new(Codec::Fast, &bytes, &received).read().unwrap();
    drop(received);
    assert!(!there.has_released());
    let kept = array.clone();
    drop(array);
    assert!(!there.has_released() && kept.iter().all(|item| *item == 7));
    drop(kept);
    assert!(there.has_released() && memory.used_bytes() > 0);
    here.on_released(&there.take_released()).unwrap();
    assert_eq!(memory.used_bytes(), 0);
}

#[test]
fn an_array_of_any_plain_element_can_be_sent() {
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Serialize, Deserialize)]
    #[repr(C)]
    struct Point {
        x: f32,
        y: f32,
    }
    use serde::{Deserialize, Serialize};

    fn check<T: Pod + PartialEq + fmt::Debug + Serialize + serde::de::DeserializeOwned>(item: T, memory: &Memory) {
        for codec in CODECS {
            for memory in [None, Some(memory)] {
                let array = SharedArray::from(vec![item; 20_000]);
                let mut encoder = Encoder::new(codec, memory);
                encoder.write(&array).unwrap();
                let (bytes, regions) = encoder.finish();
                let back: SharedArray<T> = Decoder::new(codec, &bytes, &regions).read().unwrap();
                assert!(back == array);
            }
        }
        let array = SharedArray::from(vec![item; 3]);
        let json = serde_json::to_string(&array).unwrap();
        assert_eq!(json, serde_json::to_string(&[item; 3]).unwrap());
        assert_eq!(serde_json::from_str::<SharedArray<T>>(&json).unwrap(), array);
        let bytes = postcard::to_stdvec(&array).unwrap();
        assert_eq!(postcard::from_bytes::<SharedArray<T>>(&bytes).unwrap(), array);
    }
    let memory = Memory::new(1, 1 << 30);
    check(-5_i8, &memory);
    check(u128::MAX, &memory);
    check(1.5_f32, &memory);
    check([1.0_f64, 2.0, 3.0], &memory);
    check((), &memory);
    check([0_u8; 0], &memory);
    check(Point { x: 1.0, y: -1.0 }, &memory);
    assert_eq!(memory.used_bytes(), 0);
}

#[test]
fn a_foreign_serializer_within_ours_sees_a_sequence() {
    struct AsJson(SharedArray<u32>);

    impl Serialize for AsJson {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&serde_json::to_string(&self.0).map_err(ser::Error::custom)?)
        }
    }

    let memory = Memory::new(1, 1 << 30);
    for codec in CODECS {
        let mut encoder = Encoder::new(codec, Some(&memory));
        encoder.write(&AsJson(SharedArray::from(vec![1; 40_000]))).unwrap();
        assert_eq!(encoder.regions().len(), 0);
        let (bytes, _) = encoder.finish();
        let json: String = Decoder::new(codec, &bytes, &[]).read().unwrap();
        assert_eq!(serde_json::from_str::<SharedArray<u32>>(&json).unwrap().len(), 40_000);
    }
}

#[test]
fn an_array_is_made_from_and_converted_to_slices_and_vectors() {
    let array: SharedArray<u8> = (1..=20).collect();
    assert_eq!(format!("{:?}", SharedArray::from([1.5, 2.0])), "SharedArray<f64>(2) [1.5, 2.0]");
    assert_eq!(format!("{array:?}"), "SharedArray<u8>(20) [1, 2, 3, 4, 5, 6, 7, 8, ..]");
    assert_eq!(SharedArray::<i64>::default().len(), 0);
    assert_eq!(SharedArray::from(&[1, 2][..]), SharedArray::from([1, 2]));
    assert_ne!(SharedArray::from([1, 2]), SharedArray::from([1, 3]));
    assert_eq!(array.as_ref().len(), (&array).into_iter().count());
    assert_eq!(Vec::from(array.clone())[19], 20);
    let mut own = SharedArray::from(vec![1, 2, 3]);
    let place = own.as_ptr();
    own.make_mut()[1] = 9;
    assert_eq!((own.as_ptr(), &own[..]), (place, &[1, 9, 3][..]));
}
