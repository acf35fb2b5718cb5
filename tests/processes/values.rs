//! Arguments and values that cross to workers and back.

use crate::watchdog::watched;
use crate::{new_pool, pool};
use serde::{Deserialize, Serialize};
use sprang::{
    Delayed, ErrorKind, Refs, SharedArray, compute_each, compute_with, config, delayed, lit, persist, prepare,
    try_delayed,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

fn number(n: i64) -> Delayed<i64> {
    delayed(|n: i64| n, (n,))
}

fn text(n: u32) -> Delayed<String> {
    delayed(|n: u32| n.to_string(), (n,))
}

/// The value of a task that must run in another process.
fn there<T: Clone + Send + Sync + 'static>(task: &Delayed<T>) -> T {
    let pid = delayed(std::process::id, ()).after(task);
    let (value, pid) = compute_with(pool(), (task, &pid)).unwrap();
    assert_ne!(pid, std::process::id());
    value
}

#[test]
fn every_way_to_give_an_argument_gives_the_right_value_in_another_process() {
    watched("arguments of every kind", || {
        let (a, b, c) = (text(1), text(20), text(300));
        assert_eq!(there(&delayed(|text: &String| text.len(), (&c,))), 3, "borrowed");
        assert_eq!(there(&delayed(|text: String| text + "!", (b.clone(),))), "20!", "owned");
        let all = [a.clone(), b.clone(), c.clone()];
        let join = |texts: Refs<'_, String>| texts.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        assert_eq!(there(&delayed(join, (&all,))), "1,20,300", "a borrowed array");
        assert_eq!(there(&delayed(join, (&all[1..],))), "20,300", "a borrowed slice");
        assert_eq!(there(&delayed(join, (&all.to_vec(),))), "1,20,300", "a borrowed vector");
        assert_eq!(there(&delayed(join, (&Vec::<Delayed<String>>::new(),))), "", "an empty vector");
        assert_eq!(there(&delayed(|texts: Vec<String>| texts.concat(), (all.to_vec(),))), "120300", "an owned vector");
        let owned_array = delayed(|[a, b]: [String; 2]| a + &b, ([c.clone(), a.clone()],));
        assert_eq!(there(&owned_array), "3001", "an owned array");
        let some = delayed(|text: Option<&String>| text.cloned(), (Some(&a),));
        assert_eq!(there(&some), Some("1".to_owned()), "some");
        let none = delayed(|text: Option<&String>| text.cloned(), (None::<&Delayed<String>>,));
        assert_eq!(there(&none), None, "none");
        let nested = delayed(
            |(a, rest): (&String, (String, [Option<&String>; 2])), lists: Vec<Vec<&String>>, _: ()| {
                let lists: Vec<usize> = lists.iter().map(Vec::len).collect();
                format!("{a} {} {:?} {lists:?}", rest.0, rest.1)
            },
            ((&a, (b.clone(), [None, Some(&c)])), vec![vec![&a, &a], vec![], vec![&c]], ()),
        );
        assert_eq!(there(&nested), r#"1 20 [None, Some("300")] [2, 0, 1]"#, "nested");
    });
}

#[test]
fn plain_values_of_every_kind_arrive_as_they_were() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(i8, String),
        Struct { x: f64, y: Option<Box<Shape>> },
    }
    watched("plain values", || {
        let numbers = delayed(
            |a: bool, b: char, c: i8, d: u128, e: i128, f: f32, g: u64| format!("{a} {b} {c} {d} {e} {f} {g}"),
            (true, '\u{1f600}', i8::MIN, u128::MAX, i128::MIN, f32::MIN_POSITIVE, u64::MAX),
        );
        let expected = format!("true \u{1f600} -128 {} {} {} {}", u128::MAX, i128::MIN, f32::MIN_POSITIVE, u64::MAX);
        assert_eq!(there(&numbers), expected);
        assert_eq!(there(&delayed(|a: &str, b: String| format!("{a}{b}"), ("static", "own".to_owned()))), "staticown");
        let literal = lit(vec![(1_u8, "one".to_owned())]);
        assert_eq!(there(&delayed(|pairs: &Vec<(u8, String)>| pairs.clone(), (literal,))), [(1, "one".to_owned())]);
        let shapes = vec![
            Shape::Unit,
            Shape::New(255),
            Shape::Tuple(-1, "\u{e4}\0".to_owned()),
            Shape::Struct { x: -0.0, y: Some(Box::new(Shape::Struct { x: f64::MAX, y: None })) },
        ];
        let echo = delayed(|shapes: &Vec<Shape>| shapes.clone(), (lit(shapes.clone()),));
        assert_eq!(there(&echo), shapes);
        let map: BTreeMap<String, Option<Vec<u16>>> =
            [("a".into(), None), (String::new(), Some(vec![1, 2]))].into_iter().collect();
        assert_eq!(there(&delayed(|map: &BTreeMap<String, Option<Vec<u16>>>| map.clone(), (lit(map.clone()),))), map);
        let nan = there(&delayed(|| f64::from_bits(0x7ff8_0000_dead_beef), ()));
        assert_eq!(nan.to_bits(), 0x7ff8_0000_dead_beef);
        there(&delayed(|| (), ()));
    });
}

#[test]
fn values_that_were_persisted_are_sent_to_workers() {
    watched("persisted values", || {
        let base = text(7);
        let (small, large) =
            config::with("scheduler", pool(), || persist((&base, &delayed(|| vec![3_u64; 100_000], ()))).unwrap())
                .unwrap();
        let sum =
            delayed(|small: &String, large: &Vec<u64>| (small.clone(), large.iter().sum::<u64>()), (&small, &large));
        assert_eq!(there(&sum), ("7".to_owned(), 300_000));
        assert_eq!(compute_with("threads", (&sum,)).unwrap().0, there(&sum));
    });
}

/// Byte `i` of every text.
fn letter(i: usize) -> u8 {
    b'a' + (i.wrapping_mul(2_654_435_761) >> 7) as u8 % 26
}

#[test]
fn values_of_every_size_go_both_ways() {
    watched("values of many sizes", || {
        let sizes = [0, 1, 100, 4095, 4096, 4097, 65_535, 65_536, 65_537, 200_000, (1 << 20) + 3, 9 << 20];
        for size in sizes {
            let value: Vec<u8> = (0..size).map(letter).collect();
            let value = String::from_utf8(value).unwrap();
            let echo = delayed(|value: &String| value.clone(), (lit(value.clone()),));
            let through = delayed(|a: &String, b: String| a == &b, (&echo, echo.clone()));
            let (back, same) = compute_with(pool(), (&echo, &through)).unwrap();
            assert!(back == value && same, "a text of {size} bytes");
        }
        for size in [0, 1, 4096, 70_000, 1 << 20] {
            let value: Vec<u8> = (0..size).map(letter).collect();
            let echo = delayed(|value: Vec<u8>| value, (delayed(Vec::clone, (lit(value.clone()),)),));
            assert!(there(&echo) == value, "{size} bytes one by one");
        }
    });
}

#[test]
fn a_value_of_256_mb_goes_both_ways() {
    watched("a value of 256 MB", || {
        const SIZE: usize = 256 << 20;
        let own = new_pool(1);
        let text = "0123456789abcdef".repeat(SIZE / 16);
        let echo = delayed(|text: &String| text.clone(), (lit(text),));
        let back = echo.compute_with(Arc::clone(&own)).unwrap();
        assert_eq!(back.len(), SIZE);
        assert!(back.as_bytes().chunks(16).all(|chunk| chunk == b"0123456789abcdef"));
    });
}

#[test]
fn an_array_of_256_mb_goes_both_ways() {
    watched("an array of 256 MB", || {
        const LEN: usize = 32 << 20;
        let array: SharedArray<u64> = vec![7_u64; LEN].into();
        let own = new_pool(1);
        let echo = delayed(
            |array: &SharedArray<u64>| {
                let slice: &[u64] = array;
                SharedArray::with_len(slice.len(), |new: &mut [u64]| new.copy_from_slice(slice))
            },
            (lit(array),),
        );
        let back = echo.compute_with(own).unwrap();
        assert_eq!(back.len(), LEN);
        assert!(back.as_slice().chunks(1024).all(|chunk| chunk == [7; 1024]));
    });
}

#[test]
fn a_value_may_be_an_input_of_many_tasks_and_an_output_asked_for_twice() {
    watched("shared values", || {
        for size in [10, 100_000] {
            let source = delayed(|size: usize| "x".repeat(size), (size,));
            let lengths: Vec<_> =
                (0..500_usize).map(|i| delayed(|s: &String, i: usize| s.len() + i, (&source, i))).collect();
            let owned: Vec<_> = (0..20).map(|_| delayed(|s: String| s.len(), (source.clone(),))).collect();
            let sum = delayed(|lengths: Refs<'_, usize>| lengths.iter().sum::<usize>(), (&lengths,));
            let (first, again, sum, lengths, owned) =
                compute_with(pool(), (&source, &source, &sum, &lengths, &owned)).unwrap();
            assert_eq!((first.len(), again.len()), (size, size));
            assert_eq!(lengths, (size..size + 500).collect::<Vec<_>>());
            assert_eq!(sum, lengths.iter().sum::<usize>());
            assert_eq!(owned, vec![size; 20]);
        }
    });
}

#[test]
fn a_task_may_be_given_one_value_borrowed_and_owned() {
    watched("a value given twice to one task", || {
        // Many alike, so that a task and its dependency go to a worker in one batch.
        let tasks: Vec<_> = (0..300_u32)
            .map(|i| {
                let text = delayed(|i: u32| i.to_string().repeat(10), (i,));
                let use_both = |before: &String, again: &String, mut text: String| {
                    text.replace_range(.., "changed");
                    drop(text);
                    let other = "other".repeat(before.len());
                    (before.clone(), again.clone(), other.len())
                };
                delayed(use_both, (&text, &text, text.clone()))
            })
            .collect();
        for _ in 0..5 {
            for (i, (before, again, _)) in compute_with(pool(), &tasks).unwrap().into_iter().enumerate() {
                assert_eq!(before, i.to_string().repeat(10));
                assert_eq!(again, before);
            }
        }
    });
}

#[test]
fn a_task_one_of_whose_inputs_has_failed_is_never_sent_with_another_value_in_its_place() {
    watched("inputs that have failed", || {
        let source = |i: i64| if i % 2 == 0 { Ok(i) } else { Err("odd") };
        let sources: Vec<_> = (0..20_i64).map(|i| try_delayed(source, (i,)).name(format!("source {i}"))).collect();
        // Its second input is made after the first has failed, usually in the same batch.
        let tasks: Vec<_> = (0..400_usize)
            .map(|i| {
                let late = delayed(|n: &i64| n.to_string(), (&number(i as i64),));
                delayed(|source: &i64, late: &String| format!("{source} {late}"), (&sources[i % 20], &late))
            })
            .collect();
        for _ in 0..5 {
            let outcomes = config::with("scheduler", pool(), || compute_each(&tasks)).unwrap().unwrap();
            for (i, outcome) in outcomes.into_iter().enumerate() {
                match i % 2 {
                    0 => assert_eq!(outcome.unwrap(), format!("{} {i}", i % 20)),
                    _ => assert_eq!(outcome.unwrap_err().task(), Some(format!("source {}", i % 20).as_str())),
                }
            }
        }
    });
}

#[test]
fn a_task_that_is_tried_again_gets_its_inputs_again() {
    watched("retries", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        for round in 0..3 {
            let tasks: Vec<_> = (0..100_u32)
                .map(|i| {
                    let text = delayed(|i: u32| i.to_string().repeat(10), (i,));
                    let other = delayed(|text: &String| text.len(), (&text,));
                    // Fails the first time.
                    let recovers = |text: &String, file: String| match std::fs::File::create_new(file) {
                        Ok(_) => Err("not yet"),
                        Err(_) => Ok(text.clone()),
                    };
                    let file = format!("{path}/{round}-{i}");
                    let recovered = try_delayed(recovers, (&text, file)).retries(1);
                    delayed(|a: &String, b: &usize, c: &String| (a.clone(), *b, c.clone()), (&recovered, &other, &text))
                })
                .collect();
            for (i, (a, b, c)) in compute_with(pool(), &tasks).unwrap().into_iter().enumerate() {
                assert_eq!((&a, b), (&i.to_string().repeat(10), a.len()));
                assert_eq!(a, c);
            }
        }
    });
}

#[test]
fn a_prepared_graph_can_be_run_many_times() {
    watched("a prepared graph", || {
        let middle: Vec<_> = (0..30).map(|i| delayed(|n: &i64| n * 2, (&number(i),))).collect();
        let sum = delayed(|all: Refs<'_, i64>| all.iter().sum::<i64>(), (&middle,));
        let plan = prepare((&sum, &middle[3])).unwrap();
        for _ in 0..50 {
            assert_eq!(plan.compute_with(pool()).unwrap(), (870, 6));
        }
        assert_eq!(plan.compute_with("sync").unwrap(), (870, 6));
    });
}

#[test]
fn threads_compute_at_the_same_time_on_one_executor_and_on_several() {
    watched("concurrent computes", || {
        let pools = [pool(), pool(), new_pool(1)];
        thread::scope(|scope| {
            for t in 0..8_i64 {
                let pools = &pools;
                scope.spawn(move || {
                    for round in 0..15 {
                        let parts: Vec<_> = (0..20).map(|i| number(t * 1000 + round * 20 + i)).collect();
                        let texts: Vec<_> =
                            parts.iter().map(|part| delayed(|n: &i64| n.to_string(), (part,))).collect();
                        let sum = delayed(|all: Refs<'_, i64>| all.iter().sum::<i64>(), (&parts,));
                        let pool = Arc::clone(&pools[((t + round) % 3) as usize]);
                        let (sum, texts) = compute_with(pool, (&sum, &texts)).unwrap();
                        let expected = t * 1000 + round * 20..t * 1000 + round * 20 + 20;
                        assert_eq!(sum, expected.clone().sum::<i64>());
                        assert_eq!(texts, expected.map(|n| n.to_string()).collect::<Vec<_>>());
                    }
                });
            }
        });
    });
}

/// Can be encoded or decoded in one direction only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
struct OneWay(u32);

impl From<OneWay> for u32 {
    fn from(it: OneWay) -> u32 {
        it.0
    }
}

impl TryFrom<u32> for OneWay {
    type Error = &'static str;

    fn try_from(_: u32) -> Result<Self, Self::Error> {
        Err("there is no way back")
    }
}

#[derive(Clone, Debug, Deserialize)]
struct NoWay(u32);

impl Serialize for NoWay {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("there is no way"))
    }
}

#[test]
fn an_error_names_the_task_place_and_type_of_a_value_that_cannot_be_sent() {
    watched("values that do not cross", || {
        let problem = |task: &Delayed<u32>| {
            let error = task.compute_with(pool()).unwrap_err();
            assert_eq!((error.kind(), error.task()), (ErrorKind::NotPortable, Some("user")), "{error}");
            error.message().to_owned()
        };
        let (one, maker) = (text(1), delayed(OneWay, (1_u32,)).name("maker"));
        let user = delayed(|_: &String, value: &NoWay| value.0, (&one, lit(NoWay(1)))).name("user");
        assert_eq!(problem(&user), "cannot encode argument 2: a `processes::values::NoWay`: there is no way");
        let user = delayed(|_: &String, value: &OneWay| value.0, (&one, lit(OneWay(1)))).name("user");
        assert_eq!(problem(&user), "cannot decode argument 2: a `processes::values::OneWay`: there is no way back");
        let user = delayed(|_: u32, _: &String, value: &OneWay| value.0, (1_u32, &one, &maker)).name("user");
        let of_maker =
            "cannot use the value of \"maker\": cannot decode a `processes::values::OneWay`: there is no way back";
        assert_eq!(problem(&user), of_maker);
        let listed = delayed(|values: Refs<'_, OneWay>| values[0].0, (&vec![maker],)).name("user");
        assert_eq!(problem(&listed), of_maker);
        for (made, verb) in [
            (delayed(NoWay, (1_u32,)).name("made").compute_with(pool()).map(drop), "encode"),
            (delayed(OneWay, (1_u32,)).name("made").compute_with(pool()).map(drop), "decode"),
        ] {
            let error = made.unwrap_err();
            assert_eq!((error.kind(), error.task()), (ErrorKind::NotPortable, Some("made")), "{error}");
            assert!(
                error.message().starts_with(&format!("cannot {verb} its value, a `processes::values::")),
                "{error}"
            );
        }
    });
}
