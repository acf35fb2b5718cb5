//! A closure that borrows cannot be mapped. The compiler advises `move`; see `map_captures`.

use sprang::Client;

fn main() {
    let client = Client::threads(1).unwrap();
    let base = 10;
    client.map(|x| x + base, 0..3_i64);
}
