//! A closure that captures cannot be mapped. `cargo check` does not see it; `cargo build` does.

use sprang::Client;

fn main() {
    let client = Client::threads(1).unwrap();
    let base = 10;
    client.map(move |x| x + base, 0..3_i64);
}
