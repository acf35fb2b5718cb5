use sprang::{Bag, bag};

struct Input {
    numbers: Bag<u64>,
}

fn main() {
    let _input = Input { numbers: bag::from_sequence(0..10_u64, 2).map(|x| x + 1) };
}
