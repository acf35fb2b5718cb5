use sprang::bag;

fn main() {
    let _counts = bag::from_sequence([0.5, 1.5], 2).frequencies();
}
